use super::*;

#[test]
fn derivatives_get_their_parents_row() {
    for (text, id) in [
        ("ID=debian\n", "debian"),
        ("ID=ubuntu\nID_LIKE=debian\n", "ubuntu"),
        ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", "ubuntu"),
        ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", "rhel"),
        ("ID=\"rhel\"\nID_LIKE=\"fedora\"\n", "rhel"),
        ("ID=\"ol\"\nID_LIKE=\"fedora\"\n", "rhel"),
        ("ID=fedora\n", "fedora"),
        ("ID=opensuse-tumbleweed\nID_LIKE=\"opensuse suse\"\n", "suse"),
        ("ID=endeavouros\nID_LIKE=arch\n", "arch"),
        ("ID=nixos\n", "other"),
        ("", "other"),
    ] {
        assert_eq!(Distribution::from_os_release(text).id, id, "{text}");
    }
}

#[test]
fn ubuntus_key_belongs_to_shim() {
    let row = Distribution::from_os_release("ID=ubuntu\nID_LIKE=debian\n");
    let target = Target { kernel: "6.8.0-60-generic".parse().unwrap(), arch: "x86_64".parse().unwrap() };
    let places = row.sign_file(&target, Path::new("/h"));
    let places: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
    let in_headers = "/usr/src/linux-headers-6.8.0-60-generic/scripts/sign-file";
    assert_eq!(places, ["kmodsign", in_headers, "/h/scripts/sign-file"]);
    assert!(row.image_state.0.contains(&"linux-image-unsigned-{kernel}"));
    assert_eq!((row.destination, row.make_initramfs), (DEBIAN.destination, DEBIAN.make_initramfs));
}

#[test]
fn arch_calls_a_kernel_by_its_package() {
    let row = Distribution::from_os_release("ID=arch\n");
    let target = Target { kernel: "6.12.58-1-lts".parse().unwrap(), arch: "x86_64".parse().unwrap() };
    let install = |name: &str| HeadersPackage::install(name);
    assert_eq!(row.headers_package(&target, Some("linux-lts")), install("linux-lts-headers"));
    assert_eq!(row.headers_package(&target, None), install("linux-headers"));
    assert_eq!(fill(row.make_initramfs[2], &target, Some("linux-lts")), "linux-lts");
    assert!(!row.makes_key && DEBIAN.makes_key);
}

#[test]
fn packages_are_installed_again_by_a_command_of_each_manager() {
    for (id, reinstall, hooks) in [
        (
            "debian",
            "apt-get install --reinstall p",
            "apt-get install --reinstall -o Dpkg::Options::=--force-confmiss dkms-rs",
        ),
        ("fedora", "dnf reinstall p", "dnf reinstall dkms-rs"),
        ("sles", "zypper install --force p", "zypper install --force dkms-rs"),
        ("arch", "pacman -S p", "pacman -S dkms-rs"),
        ("alpine", "apk fix --reinstall p", "apk fix --reinstall dkms-rs"),
        ("void", "xbps-install -f p", "xbps-install -f dkms-rs"),
        ("other", "reinstall p with your package manager", "reinstall dkms-rs with your package manager"),
    ] {
        let row = Distribution::from_os_release(&format!("ID={id}\n"));
        assert_eq!((row.reinstall("p"), row.restore_hooks()), (reinstall.into(), hooks.into()), "{id}");
    }
}

#[test]
fn suse_calls_headers_by_the_kernels_flavour() {
    let row = Distribution::from_os_release("ID=\"sles\"\nID_LIKE=\"suse\"\n");
    for (kernel, package) in [
        ("6.4.0-150600.23-default", "kernel-default-devel"),
        ("6.4.0-150600.23-azure", "kernel-azure-devel"),
        ("6.17.3-1-longterm", "kernel-longterm-devel"),
        ("6.17.3", "kernel-default-devel"),
    ] {
        let target = Target { kernel: kernel.parse().unwrap(), arch: "x86_64".parse().unwrap() };
        let expected = HeadersPackage::install(package);
        assert_eq!(row.headers_package(&target, None), expected, "{kernel}");
    }
}

#[test]
fn the_command_that_enrols_is_one_that_exists() {
    let (ubuntu, debian) =
        (Distribution::from_os_release("ID=ubuntu"), Distribution::from_os_release("ID=debian"));
    for (row, programs, expected) in [
        (&ubuntu, &["mokutil", "update-secureboot-policy"][..], "update-secureboot-policy --enroll-key"),
        (&ubuntu, &["mokutil"], "mokutil --import /c"),
        (&ubuntu, &[], "mokutil --import /c"),
        // Debian's program of this name does not enroll our certificate.
        (&debian, &["mokutil", "update-secureboot-policy"], "mokutil --import /c"),
    ] {
        let command = row.enroll(Path::new("/c"), |program| programs.contains(&program));
        assert_eq!(command, expected, "{} {programs:?}", row.id);
    }
}

/// One system: its os-release, one of its kernels, and what dkms does and advises there.
struct System {
    os_release: &'static str,
    row: &'static str,
    kernel: &'static str,
    /// Without a package database that knows the kernel.
    headers: &'static str,
    /// Of shell DKMS there: the directory of modules.
    destination: Option<&'static str>,
    key: &'static str,
}

const OWN: &str = "mok.key";
const SHIM: &str = "/var/lib/shim-signed/mok/MOK.priv";
const UPDATES: Option<&str> = Some("/updates/dkms");
const EXTRA: Option<&str> = Some("/extra");

/// os-release as the distributions publish it, without what dkms does not read.
const SYSTEMS: &[System] = &[
    System {
        os_release: "NAME=\"Ubuntu\"\nVERSION_ID=\"26.04\"\nID=ubuntu\nID_LIKE=debian\n",
        row: "ubuntu",
        kernel: "7.0.0-14-generic",
        headers: "apt install linux-headers-7.0.0-14-generic",
        destination: UPDATES,
        key: SHIM,
    },
    System {
        os_release: "NAME=\"Linux Mint\"\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\nVERSION_ID=\"22\"\n",
        row: "ubuntu",
        kernel: "6.8.0-60-generic",
        headers: "apt install linux-headers-6.8.0-60-generic",
        destination: UPDATES,
        key: SHIM,
    },
    // The edition of Linux Mint that is based on Debian.
    System {
        os_release: "NAME=\"LMDE\"\nVERSION_ID=\"6\"\nID=linuxmint\nID_LIKE=debian\n",
        row: "debian",
        kernel: "6.1.0-18-amd64",
        headers: "apt install linux-headers-6.1.0-18-amd64",
        destination: UPDATES,
        key: OWN,
    },
    System {
        os_release: "NAME=\"Pop!_OS\"\nID=pop\nID_LIKE=\"ubuntu debian\"\nVERSION_ID=\"22.04\"\n",
        row: "ubuntu",
        kernel: "6.9.3-76060903-generic",
        headers: "apt install linux-headers-6.9.3-76060903-generic",
        destination: UPDATES,
        key: SHIM,
    },
    // Also Proxmox VE, Raspberry Pi OS with 64 bits, and Armbian: their os-release has this ID.
    System {
        os_release: "NAME=\"Debian GNU/Linux\"\nVERSION_ID=\"13\"\nID=debian\n",
        row: "debian",
        kernel: "6.12.57+deb13-amd64",
        headers: "apt install linux-headers-6.12.57+deb13-amd64",
        destination: UPDATES,
        key: OWN,
    },
    System {
        os_release: "NAME=\"Raspbian GNU/Linux\"\nVERSION_ID=\"12\"\nID=raspbian\nID_LIKE=debian\n",
        row: "debian",
        kernel: "6.12.47+rpt-rpi-v7",
        headers: "apt install linux-headers-6.12.47+rpt-rpi-v7",
        destination: UPDATES,
        key: OWN,
    },
    System {
        os_release: "NAME=\"Kali GNU/Linux\"\nID=kali\nVERSION_ID=\"2019.4\"\nID_LIKE=debian\n",
        row: "debian",
        kernel: "6.16.8+kali-amd64",
        headers: "apt install linux-headers-6.16.8+kali-amd64",
        destination: UPDATES,
        key: OWN,
    },
    System {
        os_release: "NAME=\"Deepin\"\nVERSION_ID=\"20.9\"\nID=Deepin\n",
        row: "deepin",
        kernel: "6.6.40-amd64-desktop-hwe",
        headers: "apt install linux-headers-6.6.40-amd64-desktop-hwe",
        destination: None,
        key: OWN,
    },
    System {
        os_release: "NAME=\"Fedora Linux\"\nID=fedora\nVERSION_ID=40\nVARIANT_ID=silverblue\n",
        row: "fedora",
        kernel: "6.8.5-301.fc40.x86_64",
        headers: "dnf install 'kernel-devel-uname-r = 6.8.5-301.fc40.x86_64'",
        destination: EXTRA,
        key: OWN,
    },
    System {
        os_release: "NAME=\"AlmaLinux\"\nID=\"almalinux\"\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=\"10.0\"\n",
        row: "rhel",
        kernel: "6.12.0-55.el10_0.x86_64+rt",
        headers: "dnf install 'kernel-devel-uname-r = 6.12.0-55.el10_0.x86_64+rt'",
        destination: EXTRA,
        key: OWN,
    },
    System {
        os_release: "NAME=\"Rocky Linux\"\nID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=\"10.0\"\n",
        row: "rhel",
        kernel: "6.12.0-55.el10_0.aarch64+64k",
        headers: "dnf install 'kernel-devel-uname-r = 6.12.0-55.el10_0.aarch64+64k'",
        destination: EXTRA,
        key: OWN,
    },
    System {
        os_release: "NAME=\"Oracle Linux Server\"\nID=\"ol\"\nID_LIKE=\"fedora\"\nVERSION_ID=\"9.5\"\n",
        row: "rhel",
        kernel: "5.14.0-503.el9.x86_64",
        headers: "dnf install 'kernel-devel-uname-r = 5.14.0-503.el9.x86_64'",
        destination: EXTRA,
        key: OWN,
    },
    System {
        os_release: "NAME=\"Amazon Linux\"\nID=\"amzn\"\nID_LIKE=\"fedora\"\nVERSION_ID=\"2023\"\n",
        row: "fedora",
        kernel: "6.1.147-172.266.amzn2023.x86_64",
        headers: "dnf install 'kernel-devel-uname-r = 6.1.147-172.266.amzn2023.x86_64'",
        destination: EXTRA,
        key: OWN,
    },
    System {
        os_release: "NAME=\"openEuler\"\nID=\"openEuler\"\nVERSION_ID=\"24.03\"\n",
        row: "openEuler",
        kernel: "6.6.0-28.0.0.34.oe2403.x86_64",
        headers: "dnf install 'kernel-devel-uname-r = 6.6.0-28.0.0.34.oe2403.x86_64'",
        destination: None,
        key: OWN,
    },
    System {
        os_release: "NAME=\"openSUSE Leap\"\nID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\nVERSION_ID=\"16.0\"\n",
        row: "suse",
        kernel: "6.12.0-160000.5-rt",
        headers: "zypper install kernel-rt-devel",
        destination: Some("/updates"),
        key: OWN,
    },
    System {
        os_release: "NAME=\"CachyOS Linux\"\nID=cachyos\nID_LIKE=arch\n",
        row: "arch",
        kernel: "6.17.8-2-cachyos",
        headers: "pacman -S linux-cachyos-headers",
        destination: UPDATES,
        key: OWN,
    },
    System {
        os_release: "NAME=\"Manjaro Linux\"\nID=manjaro\nID_LIKE=arch\n",
        row: "arch",
        kernel: "6.12.58-1-MANJARO",
        headers: "pacman -S linux612-headers",
        destination: UPDATES,
        key: OWN,
    },
    System {
        os_release: "NAME=EndeavourOS\nID=endeavouros\nID_LIKE=arch\n",
        row: "arch",
        kernel: "6.17.8-arch1-1",
        headers: "pacman -S linux-headers",
        destination: UPDATES,
        key: OWN,
    },
    System {
        os_release: "NAME=Gentoo\nID=gentoo\n",
        row: "gentoo",
        kernel: "6.12.58-gentoo-dist",
        headers: "no package has them: /lib/modules/6.12.58-gentoo-dist/build must be the directory in which the \
                  kernel was built",
        destination: None,
        key: OWN,
    },
    System {
        os_release: "NAME=\"Void\"\nID=\"void\"\n",
        row: "void",
        kernel: "6.12.58_1",
        headers: "xbps-install -S linux6.12-headers",
        destination: None,
        key: OWN,
    },
    System {
        os_release: "NAME=\"Alpine Linux\"\nID=alpine\nVERSION_ID=3.23.2\n",
        row: "alpine",
        kernel: "6.18.1-0-lts",
        headers: "apk add linux-lts-dev",
        destination: None,
        key: OWN,
    },
    System {
        os_release: "NAME=NixOS\nID=nixos\n",
        row: "other",
        kernel: "6.12.58",
        headers: "install the kernel headers package for 6.12.58 with your package manager",
        destination: None,
        key: OWN,
    },
];

#[test]
fn what_each_system_calls_things() {
    // As `/lib/modules/KERNEL/pkgbase` has it there.
    let pkgbase = |kernel: &str| match kernel {
        "6.17.8-2-cachyos" => Some("linux-cachyos"),
        "6.12.58-1-MANJARO" => Some("linux612"),
        "6.17.8-arch1-1" => Some("linux"),
        _ => None,
    };
    for system in SYSTEMS {
        let row = Distribution::from_os_release(system.os_release);
        let kernel = system.kernel.parse().unwrap();
        let target = Target { kernel, arch: "x86_64".parse().unwrap() };
        let headers = row.headers_package(&target, pkgbase(system.kernel)).command(&row, &target.kernel);
        let found = (row.id, headers.as_str(), row.destination, row.mok.0);
        assert_eq!(
            found,
            (system.row, system.headers, system.destination, system.key),
            "{}",
            system.os_release
        );
    }
}

#[test]
fn gentoo_signs_with_its_own_program_and_key() {
    let row = Distribution::from_os_release("NAME=Gentoo\nID=gentoo\n");
    let target = Target { kernel: "6.12.58-gentoo".parse().unwrap(), arch: "x86_64".parse().unwrap() };
    let places = row.sign_file(&target, Path::new("/h"));
    assert_eq!(places[0], Path::new("/usr/src/linux-6.12.58-gentoo/scripts/sign-file"));
    assert_eq!(row.mok_settings, Some(("portage/make.conf", "MODULES_SIGN_KEY", "MODULES_SIGN_CERT")));
    assert!(row.kernels_key && row.makes_key && !DEBIAN.kernels_key);
}
