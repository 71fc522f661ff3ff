//! What dkms advises where a kernel's headers are missing is a command that installs them: each machine is dressed like a
//! distribution, its package manager installs the kernel, and the advised command is executed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_tests::Root;
use dkms_tests::dressed::Kind::{Headers, Image, Meta};
use dkms_tests::dressed::{
    self, FEDORA, MACHINES, MORE_MACHINES, MORE_RPMS, Machine, PACMANS, Package, RPMS, Rpm,
};
use dkms_tests::modules::Sources;
use dkms_tests::pacman;
use dkms_tests::rpm::{self, Family, Manager};

fn dress(machine: &Machine) -> Root {
    let root = Root::on(&dressed::debian());
    root.run("rm -f /etc/os-release").ok();
    root.write("/etc/os-release", machine.os_release);
    dressed::debs(&root, machine.packages, machine.kernel);
    root
}

fn missing(kernel: &str) -> String {
    format!("kernel headers for {kernel} are not installed")
}

/// The link to them is absolute, and can only be followed in the root.
#[track_caller]
fn expect_headers(root: &Root, kernel: &str) {
    root.run(&format!("test -d /lib/modules/{kernel}/build/include")).ok();
}

/// Deletes the files of the headers' package, which is then still installed.
fn damage(root: &Root, kernel: &str) {
    root.run(&format!("rm -r $(readlink -f /lib/modules/{kernel}/build)/include")).ok();
}

fn damaged(kernel: &str) -> String {
    format!("kernel headers for {kernel} are damaged: their package is installed")
}

fn advice_works(machine: &Machine) {
    let (root, kernel) = (dress(machine), machine.kernel);
    // In the transaction: apt and dpkg hold their locks.
    let said = root.apt_install(&[machine.installed]).ok().says(&[machine.advice]);
    // Later, as doctor says it.
    let command = dressed::advised(&said);
    root.run("dkms doctor").says(&[&missing(kernel), &command]);
    root.run(&format!("{command} -y")).ok();
    expect_headers(&root, kernel);
    root.run(&format!("dkms autoinstall -k {kernel}")).never_says(&[&missing(kernel)]);
    damage(&root, kernel);
    let said = root.run(&format!("dkms autoinstall -k {kernel}")).says(&[&damaged(kernel)]);
    root.run(&format!("{} -y", dressed::advised(&said))).ok();
    expect_headers(&root, kernel);
}

#[test]
fn debian_proxmox_raspberry_pi_and_armbian() {
    MACHINES.iter().for_each(advice_works);
}

#[test]
#[ignore = "long: the pairs of names are in a table test"]
fn other_relatives_of_debian() {
    MORE_MACHINES.iter().for_each(advice_works);
}

/// The repository has newer packages by now, as that of a rolling release.
#[test]
fn headers_that_no_repository_has_any_more() {
    let machine = &MACHINES[0];
    let root = dress(machine);
    root.apt_install(&[machine.installed]).ok();
    let newer = "6.12.63+deb13-amd64";
    root.run(&format!("rm {}/*", dressed::REPOSITORY)).ok();
    let packages: &[Package] = &[
        (Image, "linux-image-6.12.63+deb13-amd64", "6.12.63-1", ""),
        (Headers, "linux-headers-6.12.63+deb13-amd64", "6.12.63-1", ""),
        (Meta, "linux-image-amd64", "6.12.63-1", "linux-image-6.12.63+deb13-amd64 (= 6.12.63-1)"),
        (Meta, "linux-headers-amd64", "6.12.63-1", "linux-headers-6.12.63+deb13-amd64 (= 6.12.63-1)"),
    ];
    dressed::debs(&root, packages, newer);
    let said = root.run(&format!("dkms autoinstall -k {}", machine.kernel)).says(&[
        "no repository has linux-headers-6.12.57+deb13-amd64; for a newer kernel with its headers, \
         run `apt install linux-image-amd64 linux-headers-amd64`",
    ]);
    root.run(&format!("{} -y", dressed::advised(&said))).ok();
    expect_headers(&root, newer);
    // Nor what the usual name would be for a kernel of another system.
    root.run("dkms build fine/1.0 -k 6.99-other")
        .says(&["no repository has linux-headers-6.99-other; add the repository"]);
}

/// The newest image of the board is not installed: its headers alone would be for another kernel.
#[test]
fn a_board_whose_image_is_older_than_the_headers() {
    let machine = &MACHINES[3];
    let root = dress(machine);
    root.apt_install(&[machine.installed]).ok();
    let newer = "6.6.75-current-rockchip64";
    let packages: &[Package] = &[
        (Image, "linux-image-current-rockchip64", "25.2.1", ""),
        (Headers, "linux-headers-current-rockchip64", "25.2.1", ""),
    ];
    dressed::debs(&root, packages, newer);
    let said = root.run(&format!("dkms autoinstall -k {}", machine.kernel)).says(&[machine.advice]);
    root.run(&format!("{} -y", dressed::advised(&said))).ok();
    expect_headers(&root, newer);
    assert!(root.exists(&format!("/boot/vmlinuz-{newer}")));
}

#[test]
fn a_kernel_of_no_package() {
    let root = dress(&MACHINES[0]);
    root.run("mkdir -p /lib/modules/6.18.0-mine && touch /lib/modules/6.18.0-mine/modules.dep /boot/vmlinuz-6.18.0-mine")
        .ok();
    root.run("dkms autoinstall -k 6.18.0-mine")
        .says(&[&missing("6.18.0-mine"), "no package has them: /lib/modules/6.18.0-mine/build must be"])
        .never_says(&["apt install"]);
}

/// A machine with the product and a module's source.
fn with_rpm(family: Family, os_release: &str) -> Root {
    let root = Root::on(&rpm::bare(family));
    Sources::new("fine", "1.0").unpack_at(&root, "/usr/src/fine-1.0");
    root.write("/etc/os-release", os_release);
    root.run("dkms add fine/1.0").ok();
    root
}

fn rpm_advice_works(machine: &Rpm) {
    let Rpm { manager, kernel, advice, .. } = machine;
    let root = with_rpm(manager.family(), machine.os_release);
    dressed::rpms(&root, &machine.packages, kernel, "/opt/repo");
    let command = match manager {
        Manager::Zypper => "zypper install",
        _ => "dnf install",
    };
    let said = manager.install(&root, &[machine.packages[0].1]).says(&[&format!("run `{command} {advice}`")]);
    let packages = dressed::advised(&said).replacen(command, "", 1);
    manager.install(&root, &[packages.trim()]).never_says(&[&missing(kernel)]);
    expect_headers(&root, kernel);
    damage(&root, kernel);
    let said = root.run(&format!("dkms autoinstall -k {kernel}")).says(&[&damaged(kernel)]);
    let advised = dressed::advised(&said);
    let (_, words) = advised.split_once(' ').expect("a command with arguments");
    let program = manager.command(&[]).replace("install ", "");
    root.run(&format!("{program}{words}")).ok();
    expect_headers(&root, kernel);
}

#[test]
fn fedora_rhel_and_suse() {
    RPMS.iter().for_each(rpm_advice_works);
}

#[test]
#[ignore = "long: the pairs of names are in a table test"]
fn other_kernels_of_rpm_systems() {
    MORE_RPMS.iter().for_each(rpm_advice_works);
}

/// What every Fedora-like kernel-devel provides is asked for where no package owns the kernel, for example after its removal.
#[test]
fn a_capability_is_found_by_both_dnfs() {
    for manager in [Manager::Dnf4, Manager::Dnf5] {
        let kernel = "6.17.1-300.fc43.x86_64+debug";
        let root = with_rpm(Family::Fedora, FEDORA);
        let provides = "kernel-devel-uname-r = 6.17.1-300.fc43.x86_64+debug";
        let packages = [(Headers, "kernel-debug-devel", "6.17.1-300.fc43", provides)];
        dressed::rpms(&root, &packages, kernel, "/opt/repo");
        root.run(&format!("mkdir -p /usr/lib/modules/{kernel}")).ok();
        let said = root.run(&format!("dkms autoinstall -k {kernel}"));
        let packages = dressed::advised(&said).replacen("dnf install", "", 1);
        assert_eq!(packages.trim(), format!("'{provides}'"));
        manager.install(&root, &[packages.trim()]).ok();
        expect_headers(&root, kernel);
    }
}

#[test]
#[ignore = "long: pacman.rs has a kernel of Arch"]
fn relatives_of_arch() {
    for (os_release, package, kernel) in PACMANS {
        let machine = pacman::machine();
        let root = &machine.root;
        root.write("/etc/os-release", os_release);
        Sources::new("fine", "1.0").unpack(root);
        root.run("dkms add fine/1.0").ok();
        dressed::pacmans(&machine, package, kernel);
        let install = |packages: &str| root.run(&format!("pacman -Sy --noconfirm {packages} 2>&1"));
        let said = install(package).ok().says(&[&format!("run `pacman -S {package}-headers`")]);
        let headers = dressed::advised(&said).replacen("pacman -S ", "", 1);
        install(&headers).ok();
        expect_headers(root, kernel);
    }
}
