//! An image is prepared in a directory of a machine with another kernel: the machine's kernel and keys are not the image's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_tests::image::{self, IMAGE, expect_clean, inside as in_image, running};
use dkms_tests::kernels::Flavour;
use dkms_tests::modules::Sources;
use dkms_tests::{Kernel, Root, Suite, boot, stage};

/// A machine with a kernel, and an image that has the same product and kernel; in both, a module's package can be installed.
fn machine() -> (Root, Kernel, String) {
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    let root = Root::on(&layer);
    let package = Sources::new("fine", "1.0").package(&root);
    image::mount(&root);
    (root, kernel, package)
}

fn prepared(mounts: &str) {
    let (root, kernel, package) = machine();
    root.run(mounts).ok();
    in_image(&root, &format!("apt-get -q -y install {package}")).ok();
    let status = in_image(&root, "dkms status").ok().stdout;
    assert_eq!(status, format!("fine/1.0, {}, x86_64: installed\n", kernel.release));
    expect_clean(&root);
    // The machine itself has not noticed.
    assert_eq!(root.run("dkms status").ok().stdout, "");
}

#[test]
fn a_chroot_with_proc() {
    prepared(&format!("mount -t proc proc {IMAGE}/proc"));
}

#[test]
fn a_chroot_without_proc() {
    prepared("true");
}

/// Programs that build images give it a process namespace: process 1 has the root directory of the image, as on a machine.
#[test]
fn an_image_in_a_process_namespace() {
    let (root, kernel, package) = machine();
    root.apt_install(&["bubblewrap"]).ok();
    let unshare =
        format!("unshare -m -p -f sh -c 'mount -t proc proc {IMAGE}/proc && exec chroot {IMAGE} \"$@\"' -");
    let nested = format!(
        "unshare -m -p -f sh -c 'mount -t proc proc {IMAGE}/proc && mount --bind /run {IMAGE}/run && \
                          exec chroot {IMAGE} \"$@\"' -"
    );
    let bwrap = format!("bwrap --bind {IMAGE} / --dev /dev --proc /proc --unshare-pid --cap-add ALL");
    root.run(&format!("{unshare} apt-get -q -y install {package}")).ok();
    let status = format!("fine/1.0, {}, x86_64: installed\n", kernel.release);
    for inside in [unshare, nested, bwrap.clone(), format!("{bwrap} --as-pid-1")] {
        let dkms = |words: &str| root.run(&format!("{inside} dkms {words}"));
        // Without -k: the kernels of the image.
        for words in ["install fine/1.0", "autoinstall"] {
            dkms("uninstall fine/1.0").ok();
            dkms(words).ok();
            assert_eq!(dkms("status").ok().stdout, status, "{inside} {words}");
        }
        expect_clean(&root);
    }
    assert_eq!(root.run("dkms status").ok().stdout, "");
}

/// `/proc` was mounted before the process namespace was made, as `arch-chroot` does it: it shows other numbers than the processes
/// have.
#[test]
fn an_image_whose_proc_shows_an_outer_process_namespace() {
    let (root, kernel, package) = machine();
    root.apt_install(&["arch-install-scripts"]).ok();
    let unshare = format!("mount -t proc proc {IMAGE}/proc; unshare -f -p chroot {IMAGE}");
    let status = format!("fine/1.0, {}, x86_64: installed\n", kernel.release);
    for inside in [unshare, format!("umount {IMAGE}/proc; arch-chroot {IMAGE}")] {
        let said = root.run(&format!("{inside} apt-get -q -y install {package}")).ok();
        said.never_says(&["not sandboxed", "was not run"]);
        assert_eq!(root.run(&format!("{inside} dkms status")).ok().stdout, status, "{inside}");
        root.run(&format!("{inside} apt-get -q -y purge fine-dkms")).ok();
        expect_clean(&root);
    }
}

/// The same with scripts: numbers of processes are those of the inner namespace.
#[test]
fn processes_are_known_where_proc_shows_an_outer_process_namespace() {
    let (root, _, package) = machine();
    root.run(&format!("mount -t proc proc {IMAGE}/proc && dpkg-deb -x {package} {IMAGE}")).ok();
    let source = format!("{IMAGE}/usr/src/fine-1.0");
    root.write_script(&format!("{source}/left"), "#!/bin/sh\nsleep 7777 >/dev/null 2>&1 &\n");
    root.write_script(
        &format!("{source}/nested"),
        "#!/bin/sh\ntimeout 20 dkms autoinstall >/dev/null && echo NESTED >/opt/nested\n",
    );
    root.run(&format!("printf 'PRE_BUILD=left\\nPOST_INSTALL=nested\\n' >>{source}/dkms.conf")).ok();
    // Without a sandbox, what a build leaves behind is ended, and nothing else is.
    let script = "sleep 8888 & dkms install fine/1.0; dkms status; kill -0 $! && echo ALIVE; \
                  grep -sl 7777 /proc/[0-9]*/cmdline; cat /opt/nested";
    let bound = "setpriv --bounding-set -sys_admin";
    root.write_script(&format!("{IMAGE}/opt/script"), &format!("#!/bin/bash\n{script}\n"));
    let said = root.run(&format!("unshare -f -p --kill-child {bound} chroot {IMAGE} /opt/script")).ok();
    said.says(&["not sandboxed", "installed", "ALIVE", "NESTED"]).never_says(&["cmdline"]);
}

/// debootstrap leaves a directory, not a mount point. A mount namespace of a process in it can make no mount private.
#[test]
fn an_image_in_an_ordinary_directory() {
    let (root, kernel, package) = machine();
    let plain = "/opt/plain";
    root.run(&format!(
        "umount {IMAGE} && mkdir {plain} && cd / && \
         tar -c --one-file-system --exclude=usr/share/doc --exclude=usr/share/locale bin sbin lib* usr etc var boot | tar -x -C {plain} && \
         mkdir -p {plain}/proc {plain}/dev {plain}/tmp && dpkg-deb -x {package} {plain} && mkdir {plain}/root"
    ))
    .ok();
    let installed = format!("fine/1.0, {}, x86_64: installed\n", kernel.release);
    // By its name: what builds need is mounted, for them only.
    let image = |words: &str| root.run(&format!("dkms {words} --root={plain}"));
    image("add fine/1.0").ok();
    image("install fine/1.0").ok().never_says(&["not sandboxed"]);
    assert_eq!(image("status").ok().stdout, installed);
    image("remove fine/1.0 --all").ok();
    // As image builders do it: without a sandbox, which is reported with what helps.
    root.run(&format!(
        "rm -r {plain}/var/cache/dkms; mount -t proc proc {plain}/proc && mount --bind /dev {plain}/dev"
    ))
    .ok();
    let inside = |words: &str| root.run(&format!("chroot {plain} dkms {words}"));
    inside("add fine/1.0").ok();
    inside("install fine/1.0").ok().says(&["not sandboxed", "the root directory is not a mount point"]);
    assert_eq!(inside("status").ok().stdout, installed);
    inside("doctor").ok();
    // That does help.
    inside("remove fine/1.0 --all").ok();
    root.run(&format!("umount {plain}/proc {plain}/dev; rm -r {plain}/var/cache/dkms; mount --bind {plain} {plain} && mount -t proc proc {plain}/proc && mount --bind /dev {plain}/dev")).ok();
    inside("add fine/1.0").ok();
    inside("install fine/1.0").ok().never_says(&["not sandboxed"]);
}

/// dpkg without a chroot: scripts run on the machine, for packages of the image.
#[test]
fn scripts_that_run_outside_of_the_image() {
    let (root, kernel, package) = machine();
    let before = root.run("dkms status").ok().stdout;
    let installed = format!("fine/1.0, {}, x86_64: installed\n", kernel.release);
    let dpkg = |words: &str| root.run(&format!("dpkg --root={IMAGE} --force-script-chrootless {words}")).ok();
    dpkg(&format!("-i {package}")).says(&["fine/1.0"]).never_says(&["skipped"]);
    assert_eq!(in_image(&root, "dkms status").ok().stdout, installed);
    assert_eq!(root.run("dkms status").ok().stdout, before);
    expect_clean(&root);
    // The kernel's hook, in the same way.
    in_image(&root, "dkms uninstall fine/1.0").ok();
    root.run(&format!("DPKG_ROOT={IMAGE} /etc/kernel/postinst.d/dkms {}", kernel.release)).ok();
    assert_eq!(root.run(&format!("DPKG_ROOT={IMAGE} dkms status")).ok().stdout, installed);
    dpkg("-r fine-dkms");
    assert_eq!(in_image(&root, "dkms status").ok().stdout, "");
    assert_eq!(root.run("dkms status").ok().stdout, before);
}

#[test]
fn an_image_is_entered_by_its_name() {
    let (root, kernel, package) = machine();
    root.run(&format!("dpkg-deb -x {package} {IMAGE}")).ok();
    let image = |words: &str| root.run(&format!("dkms {words} --root={IMAGE}"));
    let installed = format!("fine/1.0, {}, x86_64: installed\n", kernel.release);
    image("add fine/1.0").ok();
    // Without -k: the kernels of the image. Its /proc is not mounted, and builds are sandboxed nevertheless.
    image("install fine/1.0").ok().never_says(&["not sandboxed"]);
    assert_eq!(image("status").ok().stdout, installed);
    image("doctor").never_says(&["restart", "Secure Boot"]);
    // Another dkms, or none: the machine's program, with the files of the image.
    root.write_script(&format!("{IMAGE}/usr/sbin/dkms"), "#!/bin/sh\nexit 99\n");
    image("remove fine/1.0 --all").ok();
    image("add fine/1.0").ok();
    image("install fine/1.0").ok();
    root.run(&format!("rm {IMAGE}/usr/sbin/dkms")).ok();
    assert_eq!(image("status").ok().stdout, installed);
    expect_clean(&root);
    // What was mounted for the builds is gone, and the machine has not noticed.
    assert_eq!(root.find(&format!("{IMAGE}/proc"), "-mindepth 1"), [""; 0]);
    assert_eq!(root.run("dkms status").ok().stdout, "");
    // The machine's own root directory is not an image.
    root.run("dkms add fine/1.0 --root /").exits(2);
}

#[test]
fn an_image_is_entered_with_few_privileges() {
    let (root, kernel, package) = machine();
    root.run(&format!("dpkg-deb -x {package} {IMAGE}")).ok();
    let few =
        |words: &str| root.run(&format!("setpriv --bounding-set -sys_admin dkms --root {IMAGE} {words}"));
    few("add fine/1.0").ok();
    few("install fine/1.0").ok().says(&["builds are not sandboxed, but run as an unprivileged user"]);
    let installed = format!("fine/1.0, {}, x86_64: installed\n", kernel.release);
    assert_eq!(few("status").ok().stdout, installed);
    few("remove fine/1.0 --all").ok();
    expect_clean(&root);
    // Who may not change the root directory gets no silent success.
    let bare = format!("setpriv --bounding-set -sys_admin,-sys_chroot dkms --root {IMAGE} status");
    root.run(&bare).exits(1).says(&["was not entered", "without privileges"]);
}

/// Where root is the only user, there is none to build as: nothing is run, and the way out is named.
#[test]
fn an_image_is_entered_where_root_is_the_only_user() {
    let (root, kernel, package) = machine();
    root.run(&format!("dpkg-deb -x {package} {IMAGE}")).ok();
    let one = |words: &str| root.run_as_only_user(&format!("dkms {words}"));
    let why = ["this user namespace has no user", "unconfined in policy.toml"];
    // The same in an image without /proc, and with the root's own.
    for image in [format!("--root {IMAGE}"), String::new()] {
        if image.is_empty() {
            root.run(&format!("dpkg-deb -x {package} /")).ok();
        }
        one(&format!("add fine/1.0 {image}")).ok();
        let install = format!("install fine/1.0 -k {} {image}", kernel.release);
        one(&install).exits(10).says(&why).never_says(&["run as an unprivileged user", "could not continue"]);
        // The reason is known afterwards, too, and no repair is promised that fails again.
        one(&format!("why fine {image}")).ok().says(&why).never_says(&["not up to date"]);
        one(&format!("doctor {image}")).says(&why[..1]).never_says(&["--fix repairs"]);
    }
    assert_eq!(root.find(&format!("{IMAGE}/usr/lib/modules"), "-name 'fine.ko*'"), [""; 0]);
    root.write(&format!("{IMAGE}/etc/dkms/policy.toml"), "unconfined = [\"fine\"]\n");
    one(&format!("install fine/1.0 --root {IMAGE}")).ok().never_says(&why);
    let status = one(&format!("status --root {IMAGE}")).ok().stdout;
    assert_eq!(status, format!("fine/1.0, {}, x86_64: installed\n", kernel.release));
    expect_clean(&root);
}

#[test]
fn an_image_for_another_architecture_is_deferred() {
    let (root, _, _) = machine();
    // The header of a program for s390x.
    root.run(r"mkdir -p /opt/other/bin /opt/other/usr/sbin && head -c 4096 /dev/zero >/opt/other/bin/sh && \
               printf '\177ELF\2\2\1\0\0\0\0\0\0\0\0\0\0\2\0\26\0\0\0\1' | dd of=/opt/other/bin/sh conv=notrunc status=none && \
               chmod 755 /opt/other/bin/sh").ok();
    let line = "/opt/other was not entered: its programs are for s390x, which this machine cannot run without qemu-user-static; \
                install that to continue here, or cross-compile a package for it (dkms mkpackage --arch); otherwise its modules \
                are built when it starts";
    root.run("dkms --root /opt/other autoinstall").exits(1).says(&[line]);
    root.run("DPKG_ROOT=/opt/other dkms autoinstall").ok().says(&["skipped", line]);
    root.run("DPKG_ROOT=/opt/other /usr/lib/dkms/common.postinst fine 1.0").ok().says(&["skipped", line]);
    root.run("cp /opt/other/bin/sh /opt/other/usr/sbin/dkms").ok();
    root.run("dkms --root /opt/other status").exits(1).says(&[line]);
    // One whose programs do run here, as with an emulator: it only lacks the product.
    root.run("mkdir -p /opt/runs/bin /opt/runs/proc && cd /opt && printf '_start: movl $1,%%eax\nxorl %%ebx,%%ebx\nint $0x80\n' >sh.s && \
              as --32 sh.s -o sh.o && ld -m elf_i386 -e 0x8049000 sh.o -o runs/bin/sh && runs/bin/sh")
        .ok();
    let line = "/opt/runs was not entered: it has no dkms-rs; install dkms-rs in it";
    root.run("dkms --root /opt/runs status").exits(1).says(&[line]);
    root.run("DPKG_ROOT=/opt/runs dkms autoinstall").ok().says(&["skipped", line]);
    // A directory that is no system.
    root.run("mkdir /opt/empty && dkms --root /opt/empty status").exits(1).says(&["it has no /bin/sh"]);
    root.run("touch /opt/file; mkdir /opt/odd && touch /opt/odd/proc").ok();
    for (name, why) in [
        ("missing", "it does not exist; give the directory"),
        ("file", "it is a regular file, not a directory; give the directory"),
        ("odd", "its /proc is a regular file, not a directory; move that aside"),
    ] {
        let line = format!("/opt/{name} was not entered: {why}");
        let said = root.run(&format!("dkms --root /opt/{name} status")).exits(1).says(&[&line]);
        assert_eq!(said.all().lines().count(), 1, "one line\n{said}");
    }
}

/// Without dkms-rs in it, the machine's program is used there, if that can run.
#[test]
fn an_image_with_other_libraries_is_not_entered_by_the_program_of_the_machine() {
    let (root, _, _) = machine();
    root.apt_install(&["busybox-static"]).ok();
    let line = "was not entered: it has no dkms-rs, and the one that is running needs libraries which it lacks; install dkms-rs in it";
    // Its C library is another one, or too old: then the loader fails.
    let loader = "cp /lib64/ld-linux-x86-64.so.2 lib64/ && touch lib64/libc.so.6";
    for (name, libraries) in [("another", "true"), ("older", loader)] {
        let dir = format!("/opt/{name}");
        root.run(&format!(
            "mkdir -p {dir}/bin {dir}/proc {dir}/lib64 && cd {dir} && cp /bin/busybox bin/sh && {libraries}"
        ))
        .ok();
        let said = root.run(&format!("dkms --root {dir} status")).exits(1).says(&[line]);
        assert_eq!(said.all().trim().lines().count(), 1, "one line\n{said}");
        for script in [
            "dkms autoinstall",
            "/usr/lib/dkms/common.postinst fine 1.0",
            "/etc/kernel/postinst.d/dkms 6.1.0-1-amd64",
        ] {
            let said = root.run(&format!("DPKG_ROOT={dir} {script}")).ok().says(&["skipped", line]);
            assert_eq!(said.all().trim().lines().count(), 1, "one line\n{said}");
        }
    }
}

/// The first start: the module of the image is there, and the machine makes its own key and signs it.
const FIRST_START: &str = "
modprobe fine && grep -o '^fine ' /proc/modules | sed 's/^/LOADED /'
[ -n \"$(modinfo -F signer fine)\" ] || echo UNSIGNED
dkms autoinstall && ls /var/lib/dkms/mok.key
modinfo -F signer fine | sed 's/^./SIGNED &/'
rmmod fine && modprobe fine && grep -o '^fine ' /proc/modules | sed 's/^/AGAIN /'
";

#[test]
#[ignore = "long: run by `make test-long`"]
fn an_image_boots_with_its_module_and_without_a_key() {
    let suite = Suite::trixie();
    let root = Root::on(&stage::product(suite));
    let kernel = Kernel::newest(&root, Flavour::Plain, suite.kernel_series);
    let package = Sources::new("fine", "1.0").package(&root);
    let release = running(&root);
    assert_ne!(release, kernel.release, "the image has another kernel than the machine that builds it");
    // As in the build of a container; it is gone when the image starts.
    root.run("touch /run/.containerenv").ok();
    root.apt_install(&[&package]).ok();
    kernel.install(&root).ok();
    root.expect_installed(&["fine/1.0"], &kernel.release);
    let written = "/etc /var /boot /root /usr/lib/modules /usr/lib/dkms /usr/share/dkms";
    assert_eq!(root.run(&format!("grep -rlF -e '{release}' {written}")).stdout, "");
    assert_eq!(root.run(&format!("grep -rIl 'PRIVATE KEY-----' {written}")).stdout, "");
    assert_eq!(root.find(written, "-name '*.key' -o -name '*.priv'"), [""; 0]);
    let console = boot::machine::run(&root, &kernel, FIRST_START).all();
    let wanted = ["LOADED fine", "UNSIGNED", "/var/lib/dkms/mok.key", "SIGNED DKMS", "AGAIN fine"];
    assert!(wanted.iter().all(|line| console.contains(line)), "{console}");
}
