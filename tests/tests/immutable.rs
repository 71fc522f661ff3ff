//! Trees on read-only file systems: a package's script goes on with one line, a person gets an error that says what to do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_tests::dressed::{self, Kind, Package};
use dkms_tests::modules::Sources;
use dkms_tests::photograph::Photograph;
use dkms_tests::rpm::{self, Family};
use dkms_tests::{Output, Root, Suite, stage};

const KERNEL: &str = "6.17.1-300.fc43.x86_64";
const PACKAGES: [Package; 2] = [
    (Kind::Image, "kernel-core", "6.17.1-300.fc43", ""),
    (Kind::Headers, "kernel-devel", "6.17.1-300.fc43", ""),
];

/// The sandbox of rpm-ostree for the scripts of packages: `/usr` and `/etc` are those of the new system, `/var` is read-only,
/// processes above are not visible, few capabilities are left.
const SANDBOX: &str = "bwrap --dev /dev --proc /proc --dir /run --dir /tmp --chdir / --die-with-parent \
    --unshare-pid --unshare-uts --unshare-ipc --unshare-cgroup-try --unshare-net --cap-drop ALL \
    --cap-add cap_chown --cap-add cap_dac_override --cap-add cap_fowner --cap-add cap_fsetid --cap-add cap_kill \
    --cap-add cap_setgid --cap-add cap_setuid --cap-add cap_setpcap --cap-add cap_sys_chroot --cap-add cap_setfcap \
    --symlink usr/bin /bin --symlink usr/sbin /sbin --symlink usr/lib /lib --symlink usr/lib64 /lib64 \
    --bind /usr /usr --bind /etc /etc --ro-bind /var /var --tmpfs /var/tmp --ro-bind /opt /opt --tmpfs /run \
    --ro-bind /dev/null /run/ostree-booted --clearenv --setenv LANG C --setenv SYSTEMD_OFFLINE 1 \
    --setenv PATH /usr/local/bin:/usr/bin:/usr/local/sbin:/usr/sbin /bin/sh";

/// What scripts of packages and our own hooks call.
const CALLS: &[&str] = &[
    "dkms add -m fine -v 1.0 --rpm_safe_upgrade",
    "dkms add -m fine/1.0",
    "dkms build -m fine -v 1.0 -k KERNEL",
    "dkms install -m fine -v 1.0 -k KERNEL --force",
    "dkms autoinstall -k KERNEL",
    "dkms remove -m fine -v 1.0 --all --rpm_safe_upgrade",
    "dkms kernel_postinst -k KERNEL",
    "/usr/lib/dkms/common.postinst fine 1.0",
    "echo /usr/src/fine-1.0/dkms.conf | /usr/lib/dkms/rpm-trigger sources-added",
    "echo /usr/src/fine-1.0/dkms.conf | /usr/lib/dkms/rpm-trigger transaction-end",
    "echo /usr/lib/modules/KERNEL/vmlinuz | /usr/lib/dkms/rpm-trigger files-leave 0",
    "/usr/lib/kernel/install.d/40-dkms.install add KERNEL /boot /usr/lib/modules/KERNEL/vmlinuz",
];

fn layered() -> Root {
    let sources = Sources::new("fine", "1.0");
    let layer = rpm::bare(Family::Fedora).prepared("layered", &format!("{:?}", sources.files()), |root| {
        root.apt_install(&["bubblewrap"]).ok();
        sources.unpack_at(root, "/usr/src/fine-1.0");
        dressed::rpms(root, &PACKAGES, KERNEL, "/opt/repo");
        root.run("rpm -i --nosignature --noscripts --notriggers /opt/repo/x86_64/kernel-*.rpm").ok();
    });
    Root::on(&layer)
}

/// Runs a script as rpm-ostree does.
fn scriptlet(root: &Root, script: &str) -> Output {
    root.write("/opt/scriptlet", script.replace("KERNEL", KERNEL));
    root.run(&format!("{SANDBOX} /opt/scriptlet 1"))
}

#[test]
fn scripts_of_packages_that_rpm_ostree_layers() {
    let root = layered();
    // rpm writes when it is asked, too.
    let before = Photograph::of(&root, &["/opt", "/var/lib/rpm"]);
    for call in CALLS {
        root.note(call);
        let said = scriptlet(&root, call).ok().says(&["skipped: /var/lib/dkms is read-only"]);
        assert_eq!(said.all().lines().count(), 1, "one line\n{said}");
    }
    // What a script can ask.
    scriptlet(&root, "dkms status -m fine -v 1.0; dkms --version").ok();
    // Our own scripts.
    for script in ["post", "posttrans"] {
        let text = root
            .run(&format!("rpm -q --qf '%{{{script}{}}}' dkms-rs", if script == "post" { "in" } else { "" }));
        let said = scriptlet(&root, &text.ok().stdout).ok();
        assert_eq!(said.all(), "", "{said}");
    }
    before.expect_same(&Photograph::of(&root, &["/opt", "/var/lib/rpm"]));
}

/// rpm-ostree rejects packages with triggers on other packages.
#[test]
fn our_package_has_only_triggers_that_rpm_ostree_supports() {
    let root = layered();
    let triggers = root.run("rpm -q --triggers dkms-rs").ok().stdout;
    assert!(triggers.lines().all(|line| !line.starts_with("trigger")), "{triggers}");
}

/// What a trigger on the package did before: a file trigger notices dnf4, whichever Python it is for.
#[test]
fn dnf4_gets_its_plugin_when_it_is_installed_later() {
    let root = layered();
    let python = "/usr/lib/python3.99/site-packages";
    root.write(
        "/opt/dnf.spec",
        format!(
            "Name: python3-dnf\nVersion: 4\nRelease: 1\nSummary: dnf\nLicense: GPL\nBuildArch: noarch\nAutoReqProv: no\n\
             %description\ndnf.\n%install\nmkdir -p %{{buildroot}}{python}/dnf\ntouch %{{buildroot}}{python}/dnf/__init__.py\n\
             %files\n{python}/dnf\n"
        ),
    );
    root.run(
        "rpmbuild -bb --quiet --define '_topdir /opt/top' --define '_rpmdir /opt/out' /opt/dnf.spec && \
         rpm -i --nosignature /opt/out/noarch/python3-dnf-4-1.noarch.rpm",
    )
    .ok();
    assert_eq!(root.run(&format!("readlink {python}/dnf-plugins/dkms.py")).stdout, "/usr/lib/dkms/dnf4.py\n");
}

/// Executes a command while a directory is read-only.
fn while_read_only(root: &Root, dir: &str, command: &str) -> Output {
    root.run(&format!(
        "unshare -m sh -c 'mount --bind {dir} {dir} && mount -o remount,ro,bind {dir} && {command}'"
    ))
}

#[test]
fn a_person_with_a_read_only_var() {
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    let root = Root::on(&layer);
    Sources::new("fine", "1.0").unpack(&root);
    Sources::new("other", "1.0").unpack(&root);
    root.run(&format!("dkms install fine/1.0 -k {}", kernel.release)).ok();
    let before = Photograph::of(&root, &[]);
    let k = &kernel.release;
    for command in [
        "dkms add other/1.0".to_owned(),
        format!("dkms build fine/1.0 -k {k} --force"),
        format!("dkms install other/1.0 -k {k}"),
        format!("dkms uninstall fine/1.0 -k {k}"),
        "dkms remove fine/1.0 --all".to_owned(),
        format!("dkms autoinstall -k {k}"),
        "dkms generate_mok".to_owned(),
    ] {
        while_read_only(&root, "/var", &command).exits(1).says(&[
            "/var/lib/dkms is read-only: nothing can be registered or built",
            "mount its file system writable, then run dkms again",
        ]);
    }
    let status = while_read_only(&root, "/var", "dkms status").ok();
    assert!(status.stdout.contains(&format!("fine/1.0, {k}, x86_64: installed")), "{status}");
    before.expect_same(&Photograph::of(&root, &[]));
}

#[test]
fn a_running_system_whose_usr_is_an_image() {
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    let root = Root::on(&layer);
    let k = &kernel.release;
    Sources::new("fine", "1.0").unpack(&root);
    root.run("dkms add fine/1.0 && touch /run/ostree-booted").ok();
    let advice = [
        "/lib/modules is read-only: no module can be installed",
        "where the image is built",
        "run `ostree admin unlock` first",
    ];
    let before = Photograph::of(&root, &[]);
    while_read_only(&root, "/usr", &format!("dkms install fine/1.0 -k {k}")).exits(1).says(&advice);
    while_read_only(&root, "/usr", "dkms status").ok().says(&["fine/1.0: added"]).says(&advice);
    // As the service does at each start.
    let said = while_read_only(&root, "/usr", &format!("dkms autoinstall -k {k} --at-boot")).ok();
    assert_eq!(
        said.all(),
        "dkms: autoinstall skipped: /lib/modules is read-only: no module can be installed\n"
    );
    before.expect_same(&Photograph::of(&root, &[]));
    // The DKMS tree is writable.
    while_read_only(&root, "/usr", &format!("dkms build fine/1.0 -k {k}")).ok();
    root.run(&format!("dkms install fine/1.0 -k {k}")).ok();
    root.expect_installed(&["fine/1.0"], k);
}

#[test]
fn a_transaction_of_apt_with_a_read_only_registry() {
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    let root = Root::on(&layer);
    let package = Sources::new("fine", "1.0").package(&root);
    root.run("mount --bind /var/lib/dkms /var/lib/dkms && mount -o remount,ro,bind /var/lib/dkms").ok();
    root.apt_install(&[&package]).ok().says(&["dkms: skipped: /var/lib/dkms is read-only"]);
    root.expect_clean_dpkg();
    // The kernel's removal calls the hooks, too.
    root.run(&format!("apt-get -q -y remove {}", kernel.image())).ok();
    root.expect_clean_dpkg();
    root.run("apt-get -q -y remove fine-dkms").ok();
    root.expect_clean_dpkg();
}
