//! What dkms advises where a kernel's headers are missing is a command that installs them: each machine is dressed like a
//! distribution, its package manager installs the kernel, and the advised command is executed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_tests::dressed::Kind::{Board, Headers, Image, Meta};
use dkms_tests::dressed::{self, Package};
use dkms_tests::modules::Sources;
use dkms_tests::pacman;
use dkms_tests::roots::Layer;
use dkms_tests::rpm::{self, Family, Manager};
use dkms_tests::{Root, Suite, stage};

/// A machine with dpkg.
struct Machine {
    os_release: &'static str,
    kernel: &'static str,
    packages: &'static [Package],
    /// The packages that are installed first.
    installed: &'static str,
    /// What the summary says.
    advice: &'static str,
}

const DEBIAN: &str = "ID=debian\nVERSION_ID=\"13\"\n";

const MACHINES: &[Machine] = &[
    Machine {
        os_release: DEBIAN,
        kernel: "6.12.57+deb13-amd64",
        packages: &[
            (Image, "linux-image-6.12.57+deb13-amd64", "6.12.57-1", ""),
            (Headers, "linux-headers-6.12.57+deb13-amd64", "6.12.57-1", ""),
            (Meta, "linux-image-amd64", "6.12.57-1", "linux-image-6.12.57+deb13-amd64 (= 6.12.57-1)"),
            (Meta, "linux-headers-amd64", "6.12.57-1", "linux-headers-6.12.57+deb13-amd64 (= 6.12.57-1)"),
        ],
        installed: "linux-image-amd64",
        advice: "run `apt install linux-headers-6.12.57+deb13-amd64 linux-headers-amd64`",
    },
    // Proxmox VE: os-release is Debian's.
    Machine {
        os_release: DEBIAN,
        kernel: "6.8.12-4-pve",
        packages: &[
            (Image, "proxmox-kernel-6.8.12-4-pve-signed", "6.8.12-4", ""),
            (Headers, "proxmox-headers-6.8.12-4-pve", "6.8.12-4", ""),
            (
                Meta,
                "proxmox-kernel-6.8",
                "6.8.12-4",
                "proxmox-kernel-6.8.12-4-pve-signed | proxmox-kernel-6.8.12-4-pve",
            ),
            (Meta, "proxmox-headers-6.8", "6.8.12-4", "proxmox-headers-6.8.12-4-pve"),
            (Meta, "proxmox-default-kernel", "1.1.0", "proxmox-kernel-6.8"),
            (Meta, "proxmox-default-headers", "1.1.0", "proxmox-headers-6.8"),
        ],
        installed: "proxmox-default-kernel",
        advice: "run `apt install proxmox-headers-6.8.12-4-pve proxmox-default-headers`",
    },
    // Raspberry Pi OS, bookworm and newer.
    Machine {
        os_release: DEBIAN,
        kernel: "6.12.47+rpt-rpi-v8",
        packages: &[
            (Image, "linux-image-6.12.47+rpt-rpi-v8", "1:6.12.47-1+rpt1", ""),
            (Headers, "linux-headers-6.12.47+rpt-rpi-v8", "1:6.12.47-1+rpt1", ""),
            (Meta, "linux-image-rpi-v8", "1:6.12.47-1+rpt1", "linux-image-6.12.47+rpt-rpi-v8"),
            (Meta, "linux-headers-rpi-v8", "1:6.12.47-1+rpt1", "linux-headers-6.12.47+rpt-rpi-v8"),
        ],
        installed: "linux-image-rpi-v8",
        advice: "run `apt install linux-headers-6.12.47+rpt-rpi-v8 linux-headers-rpi-v8`",
    },
    // Armbian: the packages' names have no release.
    Machine {
        os_release: DEBIAN,
        kernel: "6.6.62-current-rockchip64",
        packages: &[
            (Image, "linux-image-current-rockchip64", "24.11.1", ""),
            (Headers, "linux-headers-current-rockchip64", "24.11.1", ""),
        ],
        installed: "linux-image-current-rockchip64",
        advice: "run `apt install linux-image-current-rockchip64 linux-headers-current-rockchip64`",
    },
];

const MORE_MACHINES: &[Machine] = &[
    Machine {
        os_release: "ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"26.04\"\n",
        kernel: "7.0.0-14-generic",
        packages: &[
            (Image, "linux-image-7.0.0-14-generic", "7.0.0-14.14", ""),
            (Headers, "linux-headers-7.0.0-14-generic", "7.0.0-14.14", ""),
            (Meta, "linux-image-generic", "7.0.0-14.14", "linux-image-7.0.0-14-generic"),
            (Meta, "linux-headers-generic", "7.0.0-14.14", "linux-headers-7.0.0-14-generic"),
        ],
        installed: "linux-image-generic",
        advice: "run `apt install linux-headers-7.0.0-14-generic linux-headers-generic`",
    },
    // Linux Mint, with a kernel of Ubuntu's mainline builds.
    Machine {
        os_release: "ID=linuxmint\nID_LIKE=\"ubuntu debian\"\nVERSION_ID=\"22\"\n",
        kernel: "6.11.0-061100-generic",
        packages: &[
            (Image, "linux-image-unsigned-6.11.0-061100-generic", "6.11.0-061100.202409151536", ""),
            (Headers, "linux-headers-6.11.0-061100-generic", "6.11.0-061100.202409151536", ""),
        ],
        installed: "linux-image-unsigned-6.11.0-061100-generic",
        advice: "run `apt install linux-headers-6.11.0-061100-generic`",
    },
    // Proxmox VE 7.
    Machine {
        os_release: "ID=debian\nVERSION_ID=\"11\"\n",
        kernel: "5.15.158-2-pve",
        packages: &[
            (Image, "pve-kernel-5.15.158-2-pve", "5.15.158-2", ""),
            (Headers, "pve-headers-5.15.158-2-pve", "5.15.158-2", ""),
            (Meta, "pve-kernel-5.15", "7.4-15", "pve-kernel-5.15.158-2-pve"),
            (Meta, "pve-headers-5.15", "7.4-15", "pve-headers-5.15.158-2-pve"),
        ],
        installed: "pve-kernel-5.15",
        advice: "run `apt install pve-headers-5.15.158-2-pve pve-headers-5.15`",
    },
    // Raspberry Pi OS until bullseye: /boot/kernel8.img.
    Machine {
        os_release: "ID=raspbian\nID_LIKE=debian\nVERSION_ID=\"11\"\n",
        kernel: "6.1.21-v8+",
        packages: &[
            (Board, "raspberrypi-kernel", "1:1.20230405-1", ""),
            (Headers, "raspberrypi-kernel-headers", "1:1.20230405-1", ""),
        ],
        installed: "raspberrypi-kernel",
        advice: "run `apt install raspberrypi-kernel raspberrypi-kernel-headers`",
    },
    // NVIDIA's Jetson boards: /boot/Image.
    Machine {
        os_release: "ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"22.04\"\n",
        kernel: "5.15.148-tegra",
        packages: &[
            (Board, "nvidia-l4t-kernel", "5.15.148-tegra-36.4.3-20250107174145", ""),
            (Headers, "nvidia-l4t-kernel-headers", "5.15.148-tegra-36.4.3-20250107174145", ""),
        ],
        installed: "nvidia-l4t-kernel",
        advice: "run `apt install nvidia-l4t-kernel-headers`",
    },
    Machine {
        os_release: "ID=kali\nID_LIKE=debian\n",
        kernel: "6.16.8+kali-amd64",
        packages: &[
            (Image, "linux-image-6.16.8+kali-amd64", "6.16.8-1kali1", ""),
            (Headers, "linux-headers-6.16.8+kali-amd64", "6.16.8-1kali1", ""),
            (Meta, "linux-image-amd64", "6.16.8-1kali1", "linux-image-6.16.8+kali-amd64 (= 6.16.8-1kali1)"),
            (
                Meta,
                "linux-headers-amd64",
                "6.16.8-1kali1",
                "linux-headers-6.16.8+kali-amd64 (= 6.16.8-1kali1)",
            ),
        ],
        installed: "linux-image-amd64",
        advice: "run `apt install linux-headers-6.16.8+kali-amd64 linux-headers-amd64`",
    },
    Machine {
        os_release: "ID=pop\nID_LIKE=\"ubuntu debian\"\nVERSION_ID=\"22.04\"\n",
        kernel: "6.9.3-76060903-generic",
        packages: &[
            (Image, "linux-image-6.9.3-76060903-generic", "6.9.3-76060903.202405300957", ""),
            (Headers, "linux-headers-6.9.3-76060903-generic", "6.9.3-76060903.202405300957", ""),
        ],
        installed: "linux-image-6.9.3-76060903-generic",
        advice: "run `apt install linux-headers-6.9.3-76060903-generic`",
    },
    Machine {
        os_release: DEBIAN,
        kernel: "6.12.10-x64v3-xanmod1",
        packages: &[
            (Image, "linux-image-6.12.10-x64v3-xanmod1", "6.12.10-x64v3-xanmod1-0", ""),
            (Headers, "linux-headers-6.12.10-x64v3-xanmod1", "6.12.10-x64v3-xanmod1-0", ""),
        ],
        installed: "linux-image-6.12.10-x64v3-xanmod1",
        advice: "run `apt install linux-headers-6.12.10-x64v3-xanmod1`",
    },
    Machine {
        os_release: DEBIAN,
        kernel: "6.12.8-2-liquorix-amd64",
        packages: &[
            (Image, "linux-image-6.12.8-2-liquorix-amd64", "6.12-9.1~trixie", ""),
            (Headers, "linux-headers-6.12.8-2-liquorix-amd64", "6.12-9.1~trixie", ""),
            (Meta, "linux-image-liquorix-amd64", "6.12-9.1~trixie", "linux-image-6.12.8-2-liquorix-amd64"),
            (
                Meta,
                "linux-headers-liquorix-amd64",
                "6.12-9.1~trixie",
                "linux-headers-6.12.8-2-liquorix-amd64",
            ),
        ],
        installed: "linux-image-liquorix-amd64",
        advice: "run `apt install linux-headers-6.12.8-2-liquorix-amd64 linux-headers-liquorix-amd64`",
    },
    Machine {
        os_release: "ID=deepin\nVERSION_ID=\"23\"\n",
        kernel: "6.6.40-amd64-desktop-hwe",
        packages: &[
            (Image, "linux-image-6.6.40-amd64-desktop-hwe", "23.01.01.05", ""),
            (Headers, "linux-headers-6.6.40-amd64-desktop-hwe", "23.01.01.05", ""),
        ],
        installed: "linux-image-6.6.40-amd64-desktop-hwe",
        advice: "run `apt install linux-headers-6.6.40-amd64-desktop-hwe`",
    },
];

/// The product and a module's package, with no kernel, and no hooks but ours for new ones.
fn debian() -> Layer {
    let sources = Sources::new("fine", "1.0");
    let key = format!("{:?}", sources.files());
    stage::product(Suite::trixie()).prepared("headers-advice", &key, |root| {
        let package = sources.package(root);
        root.apt_install(&[&package]).ok();
        root.run("find /etc/kernel -type f ! -name dkms -delete").ok();
    })
}

fn dress(machine: &Machine) -> Root {
    let root = Root::on(&debian());
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

/// A machine with rpm: kernel, its two packages, and what the summary says after `install`.
struct Rpm {
    manager: Manager,
    os_release: &'static str,
    kernel: &'static str,
    packages: [Package; 2],
    advice: &'static str,
}

const FEDORA: &str = "ID=fedora\nVERSION_ID=43\n";
const RHEL: &str = "ID=\"rhel\"\nID_LIKE=\"fedora\"\nVERSION_ID=\"9.6\"\n";
const AMAZON: &str = "ID=\"amzn\"\nID_LIKE=\"fedora\"\nVERSION_ID=\"2023\"\n";
const SUSE: &str = "ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\nVERSION_ID=\"15.6\"\n";

const RPMS: &[Rpm] = &[
    Rpm {
        manager: Manager::Dnf5,
        os_release: FEDORA,
        kernel: "6.17.1-300.fc43.x86_64",
        packages: [
            (Image, "kernel-core", "6.17.1-300.fc43", ""),
            (Headers, "kernel-devel", "6.17.1-300.fc43", "kernel-devel-uname-r = 6.17.1-300.fc43.x86_64"),
        ],
        advice: "kernel-devel-6.17.1-300.fc43.x86_64",
    },
    Rpm {
        manager: Manager::Dnf4,
        os_release: RHEL,
        kernel: "5.14.0-570.12.1.el9_6.x86_64+rt",
        packages: [
            (Image, "kernel-rt-core", "5.14.0-570.12.1.el9_6", ""),
            (
                Headers,
                "kernel-rt-devel",
                "5.14.0-570.12.1.el9_6",
                "kernel-devel-uname-r = 5.14.0-570.12.1.el9_6.x86_64+rt",
            ),
        ],
        advice: "kernel-rt-devel-5.14.0-570.12.1.el9_6.x86_64",
    },
    // The package's version has the number of rebuilds, the kernel's release has not.
    Rpm {
        manager: Manager::Zypper,
        os_release: SUSE,
        kernel: "6.4.0-150600.23.25-default",
        packages: [
            (Image, "kernel-default", "6.4.0-150600.23.25.1", ""),
            (Headers, "kernel-default-devel", "6.4.0-150600.23.25.1", ""),
        ],
        advice: "kernel-default-devel=6.4.0-150600.23.25.1",
    },
];

const MORE_RPMS: &[Rpm] = &[
    Rpm {
        manager: Manager::Dnf5,
        os_release: FEDORA,
        kernel: "6.17.1-300.fc43.x86_64+16k",
        packages: [
            (Image, "kernel-16k-core", "6.17.1-300.fc43", ""),
            (
                Headers,
                "kernel-16k-devel",
                "6.17.1-300.fc43",
                "kernel-devel-uname-r = 6.17.1-300.fc43.x86_64+16k",
            ),
        ],
        advice: "kernel-16k-devel-6.17.1-300.fc43.x86_64",
    },
    Rpm {
        manager: Manager::Dnf5,
        os_release: FEDORA,
        kernel: "6.17.1-300.fc43.x86_64+debug",
        packages: [
            (Image, "kernel-debug-core", "6.17.1-300.fc43", ""),
            (Headers, "kernel-debug-devel", "6.17.1-300.fc43", ""),
        ],
        advice: "kernel-debug-devel-6.17.1-300.fc43.x86_64",
    },
    // A second kernel, whose packages have the series in their names.
    Rpm {
        manager: Manager::Dnf4,
        os_release: AMAZON,
        kernel: "6.12.37-61.105.amzn2023.x86_64",
        packages: [
            (Image, "kernel6.12", "6.12.37-61.105.amzn2023", ""),
            (Headers, "kernel6.12-devel", "6.12.37-61.105.amzn2023", ""),
        ],
        advice: "kernel6.12-devel-6.12.37-61.105.amzn2023.x86_64",
    },
    Rpm {
        manager: Manager::Dnf4,
        os_release: AMAZON,
        kernel: "6.1.147-172.266.amzn2023.x86_64",
        packages: [
            (Image, "kernel", "6.1.147-172.266.amzn2023", ""),
            (Headers, "kernel-devel", "6.1.147-172.266.amzn2023", ""),
        ],
        advice: "kernel-devel-6.1.147-172.266.amzn2023.x86_64",
    },
    Rpm {
        manager: Manager::Dnf4,
        os_release: "ID=\"ol\"\nID_LIKE=\"fedora\"\nVERSION_ID=\"9.5\"\n",
        kernel: "5.15.0-306.177.4.el9uek.x86_64",
        packages: [
            (Image, "kernel-uek-core", "5.15.0-306.177.4.el9uek", ""),
            (
                Headers,
                "kernel-uek-devel",
                "5.15.0-306.177.4.el9uek",
                "kernel-uek-devel-uname-r = 5.15.0-306.177.4.el9uek.x86_64",
            ),
        ],
        advice: "kernel-uek-devel-5.15.0-306.177.4.el9uek.x86_64",
    },
    Rpm {
        manager: Manager::Dnf4,
        os_release: "ID=\"openEuler\"\nVERSION_ID=\"24.03\"\n",
        kernel: "6.6.0-28.0.0.34.oe2403.x86_64",
        packages: [
            (Image, "kernel", "6.6.0-28.0.0.34.oe2403", ""),
            (Headers, "kernel-devel", "6.6.0-28.0.0.34.oe2403", ""),
        ],
        advice: "kernel-devel-6.6.0-28.0.0.34.oe2403.x86_64",
    },
    Rpm {
        manager: Manager::Zypper,
        os_release: SUSE,
        kernel: "6.4.0-150600.10.17-rt",
        packages: [
            (Image, "kernel-rt", "6.4.0-150600.10.17.1", ""),
            (Headers, "kernel-rt-devel", "6.4.0-150600.10.17.1", ""),
        ],
        advice: "kernel-rt-devel=6.4.0-150600.10.17.1",
    },
];

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

/// A relative of Arch: its os-release, the package of its kernel, and the kernel's release.
const PACMANS: &[(&str, &str, &str)] = &[
    ("ID=cachyos\nID_LIKE=arch\n", "linux-cachyos", "6.17.8-2-cachyos"),
    ("ID=manjaro\nID_LIKE=arch\n", "linux612", "6.12.58-1-MANJARO"),
    ("ID=endeavouros\nID_LIKE=arch\n", "linux-zen", "6.17.8-zen1-1-zen"),
];

#[test]
#[ignore = "long: pacman.rs has a kernel of Arch"]
fn relatives_of_arch() {
    for (os_release, package, kernel) in PACMANS {
        let machine = pacman::machine();
        let root = &machine.root;
        root.write("/etc/os-release", os_release);
        Sources::new("fine", "1.0").unpack(root);
        root.run("dkms add fine/1.0").ok();
        let modules = format!("usr/lib/modules/{kernel}");
        root.write(&format!("/opt/dressed/image/{modules}/vmlinuz"), "image");
        root.write(&format!("/opt/dressed/image/{modules}/pkgbase"), package);
        root.write(
            &format!("/opt/dressed/headers/{modules}/build/include/config/auto.conf"),
            "CONFIG_MODULES=y",
        );
        let base = format!("pkgbase={package}");
        machine.make(package, "6", &base, "/opt/dressed/image");
        machine.make(&format!("{package}-headers"), "6", &base, "/opt/dressed/headers");
        root.run("cd /opt/repo && repo-add -q here.db.tar.gz linux*-6-1-any.pkg.tar").ok();
        let install = |packages: &str| root.run(&format!("pacman -Sy --noconfirm {packages} 2>&1"));
        let said = install(package).ok().says(&[&format!("run `pacman -S {package}-headers`")]);
        let headers = dressed::advised(&said).replacen("pacman -S ", "", 1);
        install(&headers).ok();
        expect_headers(root, kernel);
    }
}
