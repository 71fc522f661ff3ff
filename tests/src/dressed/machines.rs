//! Machines of other distributions: os-release, and a kernel's packages with their names and versions as published.

use super::Kind::{Board, Headers, Image, Meta};
use super::Package;
use crate::rpm::Manager;

/// A machine with dpkg.
#[derive(Debug)]
pub struct Machine {
    /// Its os-release.
    pub os_release: &'static str,
    /// The release of its kernel.
    pub kernel: &'static str,
    /// What its repository has.
    pub packages: &'static [Package],
    /// The packages that are installed first.
    pub installed: &'static str,
    /// What the summary says.
    pub advice: &'static str,
}

/// Also of Proxmox VE, Raspberry Pi OS with 64 bits and Armbian.
pub const DEBIAN: &str = "ID=debian\nVERSION_ID=\"13\"\n";

/// Debian, Proxmox VE, Raspberry Pi OS, Armbian.
pub const MACHINES: &[Machine] = &[
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

/// Other relatives of Debian, and older versions of these.
pub const MORE_MACHINES: &[Machine] = &[
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

/// A machine with rpm: kernel, its two packages, and what the summary says after `install`.
#[derive(Debug)]
pub struct Rpm {
    /// What installs.
    pub manager: Manager,
    /// Its os-release.
    pub os_release: &'static str,
    /// The release of its kernel.
    pub kernel: &'static str,
    /// The kernel and its headers.
    pub packages: [Package; 2],
    /// The packages that are advised.
    pub advice: &'static str,
}

/// Fedora.
pub const FEDORA: &str = "ID=fedora\nVERSION_ID=43\n";
/// RHEL.
pub const RHEL: &str = "ID=\"rhel\"\nID_LIKE=\"fedora\"\nVERSION_ID=\"9.6\"\n";
/// Amazon Linux.
pub const AMAZON: &str = "ID=\"amzn\"\nID_LIKE=\"fedora\"\nVERSION_ID=\"2023\"\n";
/// openSUSE Leap.
pub const SUSE: &str = "ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\nVERSION_ID=\"15.6\"\n";

/// Fedora, RHEL with the kernel for real time, openSUSE.
pub const RPMS: &[Rpm] = &[
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

/// Other flavours and relatives.
pub const MORE_RPMS: &[Rpm] = &[
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

/// A relative of Arch: its os-release, the package of its kernel, and the kernel's release.
pub const PACMANS: &[(&str, &str, &str)] = &[
    ("ID=cachyos\nID_LIKE=arch\n", "linux-cachyos", "6.17.8-2-cachyos"),
    ("ID=manjaro\nID_LIKE=arch\n", "linux612", "6.12.58-1-MANJARO"),
    ("ID=endeavouros\nID_LIKE=arch\n", "linux-zen", "6.17.8-zen1-1-zen"),
];
