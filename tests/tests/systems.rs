//! Other systems than Debian: os-release, the names, versions and layout of packages, and hooks are theirs; the kernel, whose release
//! is theirs, and the compiler are Debian's. One transaction or one image with a module that is built and installed for each.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests stop at the first surprise

use dkms_tests::dressed::{self, Kind, MACHINES, MORE_MACHINES, MORE_RPMS, Machine, PACMANS, RPMS, Rpm};
use dkms_tests::image::{self, IMAGE};
use dkms_tests::modules::Sources;
use dkms_tests::rpm;
use dkms_tests::{Root, Suite, host, pacman, stage};

/// Requires that the module is installed for a kernel, in this directory, and says that it is for that kernel.
#[track_caller]
fn expect_built(root: &Root, kernel: &str, directory: &str) {
    root.expect_installed(&["fine/1.0"], kernel);
    let files = root.find(&format!("/usr/lib/modules/{kernel}"), "-name 'fine.ko*'");
    let [file] = &files[..] else { panic!("one module file: {files:?}") };
    assert_eq!(file.rsplit_once('/').unwrap().0, format!("/usr/lib/modules/{kernel}/{directory}"));
    let vermagic = root.run(&format!("modinfo -F vermagic {file}")).ok().stdout;
    assert_eq!(vermagic.split(' ').next(), Some(kernel));
    root.run(&format!("grep '^{directory}/fine.ko' /usr/lib/modules/{kernel}/modules.dep")).ok();
}

/// Nothing of the module remains for a kernel.
#[track_caller]
fn expect_gone(root: &Root, kernel: &str) {
    assert_eq!(root.state_of("fine/1.0", kernel), "none");
    assert_eq!(root.find(&format!("/usr/lib/modules/{kernel}"), "-name 'fine.ko*'"), [""; 0]);
}

fn with_apt(machine: &Machine) {
    let root = Root::on(&dressed::debian());
    dressed::add_kernel(&root);
    root.run("rm -f /etc/os-release").ok();
    root.write("/etc/os-release", machine.os_release);
    dressed::debs(&root, machine.packages, machine.kernel);
    let of = |kind| machine.packages.iter().filter(move |package| package.0 == kind).map(|package| package.1);
    let mut packages: Vec<&str> = vec![machine.installed];
    packages.extend(of(Kind::Headers));
    root.apt_install(&packages).ok();
    // Deepin's os-release names no relative, so that the dkms.conf decides.
    let directory = if machine.os_release.starts_with("ID=deepin") { "updates" } else { "updates/dkms" };
    expect_built(&root, machine.kernel, directory);
    root.expect_clean_dpkg();
    let images: Vec<&str> = of(Kind::Image).chain(of(Kind::Board)).collect();
    root.run(&format!("apt-get -q -y purge {}", images.join(" "))).ok();
    expect_gone(&root, machine.kernel);
    root.expect_clean_dpkg();
}

#[test]
fn proxmox_and_raspberry_pi() {
    MACHINES[1..3].iter().for_each(with_apt);
}

#[test]
#[ignore = "long: the same as the others with other names"]
fn armbian_and_other_relatives_of_debian() {
    MACHINES[3..].iter().chain(MORE_MACHINES).for_each(with_apt);
}

fn with_rpm(machine: &Rpm) {
    let Rpm { manager, os_release, kernel, packages, .. } = machine;
    let root = Root::on(&rpm::bare(manager.family()));
    dressed::add_kernel(&root);
    Sources::new("fine", "1.0").unpack_at(&root, "/usr/src/fine-1.0");
    root.write("/etc/os-release", os_release);
    root.run("dkms add fine/1.0").ok();
    dressed::rpms(&root, packages, kernel, "/opt/repo");
    let names = packages.map(|package| package.1);
    manager.install(&root, &names).ok();
    let of_the_conf = os_release.contains("openEuler");
    expect_built(&root, kernel, if of_the_conf { "updates" } else { manager.family().destination() });
    manager.remove(&root, &names).ok();
    expect_gone(&root, kernel);
}

#[test]
#[ignore = "long: rpm_transactions has Fedora and openSUSE"]
fn fedora_rhel_amazon_oracle_openeuler_and_suse() {
    RPMS.iter().chain(MORE_RPMS).for_each(with_rpm);
}

#[test]
#[ignore = "long: pacman.rs has a kernel of Arch"]
fn relatives_of_arch() {
    for (os_release, package, kernel) in PACMANS {
        let machine = pacman::machine();
        let root = &machine.root;
        dressed::add_kernel(root);
        root.write("/etc/os-release", os_release);
        Sources::new("fine", "1.0").unpack(root);
        root.run("dkms add fine/1.0").ok();
        dressed::pacmans(&machine, package, kernel);
        root.run(&format!("pacman -Sy --noconfirm {package} {package}-headers 2>&1")).ok();
        expect_built(root, kernel, "updates/dkms");
        machine.remove(&format!("{package} {package}-headers")).ok();
        expect_gone(root, kernel);
    }
}

/// A system without packages of ours: an image of it is prepared in a directory of a machine with Debian.
struct Image {
    os_release: &'static str,
    kernel: &'static str,
    /// The headers.
    headers: &'static str,
    /// The kernel's image.
    boot: &'static str,
}

const GENTOO: Image = Image {
    os_release: "NAME=Gentoo\nID=gentoo\n",
    kernel: "6.12.58-gentoo-dist",
    headers: "/usr/src/linux-6.12.58-gentoo-dist",
    boot: "/usr/src/linux-6.12.58-gentoo-dist/arch/x86/boot/bzImage",
};
const VOID: Image = Image {
    os_release: "NAME=\"Void\"\nID=\"void\"\n",
    kernel: "6.12.58_1",
    headers: "/usr/src/kernel-headers-6.12.58_1",
    boot: "/boot/vmlinuz-6.12.58_1",
};
const ALPINE: Image = Image {
    os_release: "NAME=\"Alpine Linux\"\nID=alpine\nVERSION_ID=3.23.2\n",
    kernel: "6.18.1-0-lts",
    headers: "/usr/src/linux-headers-6.18.1-0-lts",
    boot: "/boot/vmlinuz-lts",
};

impl Image {
    /// The image, with its kernel as that system's package manager unpacks it, and a registered module.
    fn unpacked(&self) -> Root {
        let root = Root::on(&stage::product(Suite::trixie()));
        dressed::add_kernel(&root);
        image::mount(&root);
        let Self { kernel, headers, boot, .. } = self;
        let modules = format!("/usr/lib/modules/{kernel}");
        root.run(&format!(
            "mount -t proc proc {IMAGE}/proc && cd {IMAGE} && rm -rf etc/os-release etc/kernel/*/initramfs-tools && \
             bash /opt/real.sh image .{modules} {kernel} && bash /opt/real.sh headers .{headers} {kernel} && \
             ln -s {headers} .{modules}/build && ln -s {headers} .{modules}/source && \
             mkdir -p $(dirname .{boot}) && mv .{modules}/vmlinuz .{boot} && touch .{headers}/System.map && depmod -b . {kernel}"
        ))
        .ok();
        root.write(&format!("{IMAGE}/etc/os-release"), self.os_release);
        Sources::new("fine", "1.0").unpack_at(&root, &format!("{IMAGE}/usr/src/fine-1.0"));
        image::inside(&root, "dkms add fine/1.0").ok();
        root
    }

    /// Installs an example of the documentation in the image.
    fn hook(root: &Root, example: &str, place: &str) {
        let text =
            std::fs::read_to_string(host::workspace().join("docs/examples/hooks").join(example)).unwrap();
        root.write_script(&format!("{IMAGE}{place}"), &text);
    }

    /// Requires that the module is installed where its dkms.conf says; returns its signer.
    #[track_caller]
    fn expect_built(&self, root: &Root) -> String {
        let kernel = self.kernel;
        let status = image::inside(root, "dkms status").ok().stdout;
        assert_eq!(status, format!("fine/1.0, {kernel}, x86_64: installed\n"));
        let files = root.find(&format!("{IMAGE}/usr/lib/modules/{kernel}/updates"), "-name 'fine.ko*'");
        let [file] = &files[..] else { panic!("one module file: {files:?}") };
        let vermagic = root.run(&format!("modinfo -F vermagic {file}")).ok().stdout;
        assert_eq!(vermagic.split(' ').next(), Some(kernel));
        image::expect_clean(root);
        root.run(&format!("modinfo -F signer {file}")).ok().stdout.trim().to_owned()
    }

    #[track_caller]
    fn expect_gone(&self, root: &Root) {
        assert_eq!(image::inside(root, "dkms status").ok().stdout, "fine/1.0: added\n");
        assert_eq!(root.find(&format!("{IMAGE}/usr/lib/modules"), "-name 'fine.ko*'"), [""; 0]);
    }
}

/// Gentoo's installkernel is derived from Debian's; its dkms has the same hooks.
#[test]
fn gentoo_signs_with_the_key_of_its_kernels() {
    let root = GENTOO.unpacked();
    let (kernel, sources) = (GENTOO.kernel, GENTOO.headers);
    // Keys are lent to the builder of an image.
    let pair = "mkdir -p /opt/keys/$1 IMAGE$2 && openssl req -new -x509 -nodes -days 9 -newkey rsa:2048 -subj /CN=$1 \
                -keyout /opt/keys/$1/signing_key.pem -out /opt/cert.pem 2>/dev/null && \
                cat /opt/cert.pem >>/opt/keys/$1/signing_key.pem && mount --bind /opt/keys/$1 IMAGE$2";
    let lend = |name: &str, place: &str| {
        root.run(&format!("set -- {name} {place}; {}", pair.replace("IMAGE", IMAGE))).ok();
    };
    lend("admin", "/etc/portage/keys");
    root.write(
        &format!("{IMAGE}/etc/portage/make.conf"),
        "USE=\"modules-sign\"\nMODULES_SIGN_KEY=\"/etc/portage/keys/signing_key.pem\"\n",
    );
    image::inside(&root, &format!("installkernel {kernel} {} {sources}/System.map /boot", GENTOO.boot)).ok();
    assert_eq!(GENTOO.expect_built(&root), "admin");
    // Without one, the key that the kernel was built with, if it is still there.
    root.run(&format!(
        "rm {IMAGE}/etc/portage/make.conf && cd {IMAGE}{sources} && \
         sed -i 's,^CONFIG_MODULE_SIG_KEY=.*,CONFIG_MODULE_SIG_KEY=\"certs/signing_key.pem\",' include/config/auto.conf .config && \
         grep CONFIG_MODULE_SIG_KEY= include/config/auto.conf"
    ))
    .ok()
    .says(&["certs/signing_key.pem"]);
    lend("kernel", &format!("{sources}/certs"));
    image::inside(&root, &format!("dkms install fine/1.0 --force -k {kernel}")).ok();
    assert_eq!(GENTOO.expect_built(&root), "kernel");
    image::inside(&root, &format!("run-parts --arg={kernel} /etc/kernel/prerm.d")).ok();
    GENTOO.expect_gone(&root);
}

#[test]
fn void_calls_its_hooks_with_package_and_version() {
    let root = VOID.unpacked();
    let kernel = VOID.kernel;
    Image::hook(&root, "void/post-install/10-dkms", "/etc/kernel.d/post-install/10-dkms");
    Image::hook(&root, "void/pre-remove/10-dkms", "/etc/kernel.d/pre-remove/10-dkms");
    let hook =
        |event: &str| image::inside(&root, &format!("/etc/kernel.d/{event}/10-dkms linux6.12 {kernel}")).ok();
    hook("post-install");
    assert_eq!(VOID.expect_built(&root), "", "an image has no key");
    hook("pre-remove");
    VOID.expect_gone(&root);
    // The commands of the hook in Void's own package of dkms.
    let of = format!("-m fine -v 1.0 -k {kernel}");
    image::inside(&root, &format!("dkms status {of}")).ok().never_says(&[": built"]);
    image::inside(&root, &format!("dkms build -q {of} -a x86_64")).ok();
    image::inside(&root, &format!("dkms status {of}")).ok().says(&[": built"]).never_says(&[": installed"]);
    image::inside(&root, &format!("dkms install -q {of} -a x86_64")).ok();
    VOID.expect_built(&root);
}

/// Every program of the image that busybox has, too, except for those of kmod.
const BUSYBOX: &str = "for name in $(busybox --list); do
    case $name in busybox | depmod | insmod | lsmod | modinfo | modprobe | rmmod | ar | strings) continue ;; esac
    for dir in usr/bin usr/sbin; do [ ! -e IMAGE/$dir/$name ] || ln -sf /usr/bin/busybox IMAGE/$dir/$name; done
done";

#[test]
fn alpine_with_the_programs_of_busybox() {
    let root = ALPINE.unpacked();
    let kernel = ALPINE.kernel;
    root.apt_install(&["busybox-static"]).ok();
    root.run(&format!("cp /usr/bin/busybox {IMAGE}/usr/bin/ && {}", BUSYBOX.replace("IMAGE", IMAGE))).ok();
    for program in ["sh", "find", "mktemp", "sed", "awk", "install", "xargs"] {
        let real = image::inside(&root, &format!("readlink -f /usr/bin/{program}")).ok().stdout;
        assert_eq!(real, "/usr/bin/busybox\n", "{program}");
    }
    Image::hook(&root, "alpine/dkms.hook", "/etc/kernel-hooks.d/50-dkms.hook");
    root.write(&format!("{IMAGE}/usr/share/kernel/lts/kernel.release"), format!("{kernel}\n"));
    let (version, hook) = ("6.18.1-0", "/etc/kernel-hooks.d/50-dkms.hook lts");
    image::inside(&root, &format!("{hook} {version} ''")).ok();
    assert_eq!(ALPINE.expect_built(&root), "");
    image::inside(&root, &format!("{hook} '' {version}")).ok();
    ALPINE.expect_gone(&root);
}
