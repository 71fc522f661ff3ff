//! The package that has a kernel's headers. The package database says which package owns the kernel; how the names of
//! the two packages belong together is a table.

use serde::{Deserialize, Serialize};

use super::Distribution;
use crate::types::KernelRelease;

/// How a package database is queried about kernels. Each query only reads, takes no lock, and is answered while a
/// transaction runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Database {
    /// Program, arguments: prints a line for each of the paths that follow and have an owner: `NAME: PATH` or
    /// `NAME VERSION`.
    pub owner: &'static [&'static str],
    /// Program, arguments: prints the packages of kernels with the packages that they require:
    /// `STATE NAME REQUIREMENTS`. Empty if new headers are installed with each new kernel anyway.
    pub requirements: &'static [&'static str],
    /// Program, arguments: prints the names of available packages that begin with the name that follows.
    pub available: &'static [&'static str],
    /// Program, arguments: prints `installed` if the package that follows is; its version may follow its name.
    pub installed: &'static [&'static str],
    /// The name of a kernel's package, and what installs its headers. The first pattern that matches applies. `*` is the
    /// same text on both sides, `{image}` the kernel's package and `{version}` its version.
    pub pairs: &'static [(&'static str, &'static str)],
}

/// A database that is not queried.
pub(super) const NONE: Database =
    Database { owner: &[], requirements: &[], available: &[], installed: &[], pairs: &[] };

/// dpkg's, and apt's list of available packages as the last `apt update` left it.
pub(super) const DPKG: Database = Database {
    owner: &["dpkg-query", "-S"],
    requirements: &[
        "dpkg-query",
        "-W",
        "-f=${db:Status-Status} ${Package} ${Pre-Depends}, ${Depends}\\n",
        "linux-image-*",
        "proxmox-*",
        "pve-kernel-*",
    ],
    available: &["apt-cache", "-o", "APT::Cache::Generate=false", "pkgnames"],
    installed: &["dpkg-query", "-W", "-f=${db:Status-Status}\\n"],
    pairs: &[
        // Ubuntu's and Debian's without a signature.
        ("linux-image-unsigned-*", "linux-headers-*"),
        ("linux-image-*-unsigned", "linux-headers-*"),
        // Debian's since 7.0: the package linux-image-* has no files.
        ("linux-binary-*", "linux-headers-*"),
        // Armbian's names have the branch and the family, not the release: without a new image, new headers would be for
        // another kernel.
        ("linux-image-legacy-*", "{image} linux-headers-legacy-*"),
        ("linux-image-current-*", "{image} linux-headers-current-*"),
        ("linux-image-edge-*", "{image} linux-headers-edge-*"),
        ("linux-image-vendor-*", "{image} linux-headers-vendor-*"),
        // Debian, Ubuntu, Raspberry Pi OS since bookworm, XanMod, Liquorix, Deepin, Pop!_OS, Kali, `make bindeb-pkg`.
        ("linux-image-*", "linux-headers-*"),
        // Proxmox VE since 8.1, and before.
        ("proxmox-default-kernel", "proxmox-default-headers"),
        ("proxmox-kernel-*-signed", "proxmox-headers-*"),
        ("proxmox-kernel-*", "proxmox-headers-*"),
        ("pve-kernel-*-signed", "pve-headers-*"),
        ("pve-kernel-*", "pve-headers-*"),
        // Raspberry Pi OS until bullseye: kernels of all boards in one package.
        ("raspberrypi-kernel", "{image} raspberrypi-kernel-headers"),
        // NVIDIA's Jetson boards.
        ("nvidia-l4t-kernel", "nvidia-l4t-kernel-headers"),
    ],
};

const RPM_INSTALLED: &[&str] = &["rpm", "-q", "--queryformat", "installed\\n"];

/// rpm's with dnf. Fedora, RHEL and relatives, Amazon (`kernel`, `kernel6.12`), Oracle (`kernel-uek-core`); RHEL's and
/// Fedora's flavours `rt`, `16k`, `64k`, `debug`.
pub(super) const DNF: Database = Database {
    owner: &["rpm", "-q", "--queryformat", "%{NAME} %{VERSION}-%{RELEASE}.%{ARCH}\\n", "-f"],
    requirements: &[],
    available: &[],
    installed: RPM_INSTALLED,
    pairs: &[
        // Where a unified kernel image was installed, no package owns a plain one.
        ("kernel*-modules-core", "kernel*-devel-{version}"),
        ("kernel*-core", "kernel*-devel-{version}"),
        ("kernel*", "kernel*-devel-{version}"),
    ],
};

/// rpm's with zypper.
pub(super) const ZYPPER: Database = Database {
    owner: &["rpm", "-q", "--queryformat", "%{NAME} %{VERSION}-%{RELEASE}\\n", "-f"],
    pairs: &[
        // Images of virtual machines: a part of kernel-default, whose version is not that of the headers.
        ("kernel-*-base", "kernel-*-devel"),
        ("kernel-*", "kernel-*-devel={version}"),
    ],
    installed: RPM_INSTALLED,
    ..NONE
};

/// pacman's. The program that asks it about an installed kernel is the adapter's.
pub(super) const PACMAN: Database = Database { pairs: &[("*", "*-headers")], ..NONE };

/// What gives a kernel its headers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HeadersPackage {
    /// These packages, as arguments of the command that installs packages.
    Install {
        /// Those of this kernel.
        packages: String,
        /// One that installs those of each new kernel.
        meta: Option<String>,
    },
    /// The same for packages that are installed, whose files are missing.
    Reinstall(String),
    /// A package that is installed in a version for another kernel.
    Upgrade {
        /// Its name.
        name: String,
        /// Its version.
        installed: String,
        /// The kernel's.
        needed: String,
    },
    /// No repository has its package, as far as the package manager knows.
    Unavailable {
        /// The package.
        name: String,
        /// The packages of the newest kernel and its headers, if a metapackage installs them.
        instead: Option<String>,
    },
    /// The kernel belongs to no package, or its distribution has no packages of headers.
    Unpackaged,
}

/// A package that owns a kernel.
#[derive(Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its name.
    name: String,
    /// Its version, if the database prints it.
    version: String,
}

impl Owner {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// From the answer of the database. Whatever is not a name and one more word is a message.
    pub fn read(answer: &str) -> Option<Self> {
        answer.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            let (name, rest) = (words.next()?, words.next()?);
            let name = name.split(':').next().filter(|name| is_name(name))?.to_owned();
            words.next().is_none().then(|| Self { name, version: rest.to_owned() })
        })
    }
}

/// Whether this can be the name of a package.
fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "+-._".contains(c))
}

impl Database {
    /// What installs the headers of a package's kernel.
    pub fn headers_of(&self, name: &str, version: &str) -> Option<String> {
        self.pairs.iter().find_map(|(image, headers)| {
            let same = match image.split_once('*') {
                Some((start, end)) => name.strip_prefix(start)?.strip_suffix(end)?,
                None => (name == *image).then_some("")?,
            };
            Some(headers.replace('*', same).replace("{image}", name).replace("{version}", version))
        })
    }

    /// The metapackage that installs each new kernel, and that of its headers: of packages that require this one,
    /// directly or not, the last one with a pair.
    fn metapackages(&self, requirements: &str, name: &str) -> Option<(String, String)> {
        let (mut found, mut name) = (None, name);
        // Requirements of packages can be circular.
        for _ in 0..4 {
            let next = requirements.lines().find_map(|line| {
                let (state, rest) = line.split_once(' ')?;
                let (package, required) = rest.split_once(' ')?;
                let requires = |text: &str| {
                    text.split([',', '|'])
                        .filter_map(|one| one.split([' ', '(', ':']).find(|word| !word.is_empty()))
                        .any(|one| one == name)
                };
                let there = !matches!(state, "not-installed" | "config-files");
                (there && package != name && requires(required)).then_some(package)
            });
            let Some(package) = next.filter(|package| is_name(package)) else { break };
            if let Some(headers) = self.headers_of(package, "") {
                found = Some((package.to_owned(), headers));
            }
            name = package;
        }
        found
    }

    /// What installs the missing headers of an owner's kernel. `requirements` is the database's answer, `available` whether a
    /// package of this name is available, `None` if that is not known; `installed` whether a package is installed.
    pub fn resolve(
        &self,
        owner: &Owner,
        requirements: &str,
        available: impl Fn(&str) -> Option<bool>,
        installed: impl Fn(&str) -> bool,
    ) -> Option<HeadersPackage> {
        let headers = self.headers_of(&owner.name, &owner.version)?;
        // Installing what is installed does nothing.
        if headers.split(' ').next_back().is_some_and(|name| installed(&name.replace('=', "-"))) {
            return Some(HeadersPackage::Reinstall(headers));
        }
        let meta = self.metapackages(requirements, &owner.name);
        let meta = meta.filter(|(_, headers)| available(headers) != Some(false));
        let name = headers.rsplit(' ').next().unwrap_or_default();
        if available(name) == Some(false) {
            let instead = meta.map(|(image, headers)| format!("{image} {headers}"));
            return Some(HeadersPackage::Unavailable { name: name.to_owned(), instead });
        }
        let meta = meta.map(|(_, meta)| meta).filter(|meta| *meta != headers);
        Some(HeadersPackage::Install { packages: headers, meta })
    }
}

impl HeadersPackage {
    /// A package that is to be installed.
    pub fn install(packages: impl Into<String>) -> Self {
        Self::Install { packages: packages.into(), meta: None }
    }

    /// The packages that have exactly this kernel's headers, if they only have to be installed. What is not a name may be a
    /// requirement that only a user's shell understands.
    pub fn exact(&self) -> Option<Vec<&str>> {
        let Self::Install { packages, .. } = self else { return None };
        let names: Vec<&str> = packages.split(' ').collect();
        let plain = |name: &&str| name.split('=').all(is_name);
        names.iter().all(plain).then_some(names)
    }

    fn arguments(&self) -> String {
        match self {
            Self::Install { packages, meta: Some(meta) } => format!("{packages} {meta}"),
            Self::Install { packages, meta: None } => packages.clone(),
            _ => String::new(),
        }
    }

    /// What is wrong with the headers.
    pub fn lack(&self, kernel: &KernelRelease) -> String {
        match self {
            Self::Reinstall(_) => {
                format!("kernel headers for {kernel} are damaged: their package is installed")
            }
            _ => format!("kernel headers for {kernel} are not installed"),
        }
    }

    /// What to do, as a part of a sentence.
    pub fn advice(&self, distribution: &Distribution, kernel: &KernelRelease) -> String {
        match self {
            Self::Install { .. } => distribution.advise_install(&self.arguments()),
            Self::Reinstall(packages) => distribution.advise_reinstall(packages),
            Self::Upgrade { name, installed, needed } => {
                format!("upgrade {name} from {installed} to {needed}")
            }
            Self::Unavailable { name, instead: Some(packages) } => format!(
                "no repository has {name}; for a newer kernel with its headers, {}",
                distribution.advise_install(packages)
            ),
            Self::Unavailable { name, instead: None } => {
                format!(
                    "no repository has {name}; add the repository that the kernel comes from, or install that package \
                     from a file"
                )
            }
            Self::Unpackaged => unpackaged(kernel),
        }
    }

    /// The command for this, or the same sentence where no command does it.
    pub fn command(&self, distribution: &Distribution, kernel: &KernelRelease) -> String {
        match self {
            Self::Install { .. } => distribution.install(&self.arguments()),
            Self::Unavailable { instead: Some(packages), .. } => distribution.install(packages),
            Self::Reinstall(packages) => distribution.reinstall(packages),
            Self::Upgrade { name, .. } => distribution.install(name),
            Self::Unavailable { instead: None, .. } | Self::Unpackaged => self.advice(distribution, kernel),
        }
    }
}

fn unpackaged(kernel: &KernelRelease) -> String {
    format!(
        "no package has them: /lib/modules/{kernel}/build must be the directory in which the kernel was built"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(
        database: &Database,
        owner: &str,
        requirements: &str,
        offered: &[&str],
    ) -> Option<HeadersPackage> {
        let known = |name: &str| (!offered.is_empty()).then(|| offered.contains(&name));
        database.resolve(&Owner::read(owner)?, requirements, known, |_| false)
    }

    fn install(packages: &str) -> Option<HeadersPackage> {
        Some(match packages.split_once("; ") {
            Some((packages, meta)) => {
                HeadersPackage::Install { packages: packages.into(), meta: Some(meta.into()) }
            }
            None => HeadersPackage::install(packages),
        })
    }

    #[test]
    fn a_kernels_package_names_that_of_its_headers() {
        let debian = |name: &str| answer(&DPKG, &format!("{name}: /boot/vmlinuz-K"), "", &[]);
        for (image, headers) in [
            ("linux-image-6.12.57+deb13-amd64", "linux-headers-6.12.57+deb13-amd64"),
            ("linux-image-6.12.57+deb13-amd64-unsigned", "linux-headers-6.12.57+deb13-amd64"),
            ("linux-binary-6.19.6+deb14-amd64", "linux-headers-6.19.6+deb14-amd64"),
            ("linux-image-6.8.0-60-generic", "linux-headers-6.8.0-60-generic"),
            ("linux-image-unsigned-6.8.0-60-generic", "linux-headers-6.8.0-60-generic"),
            ("linux-image-6.8.0-1018-raspi", "linux-headers-6.8.0-1018-raspi"),
            ("linux-image-6.9.3-76060903-generic", "linux-headers-6.9.3-76060903-generic"),
            ("proxmox-kernel-6.8.12-4-pve-signed:amd64", "proxmox-headers-6.8.12-4-pve"),
            ("proxmox-kernel-6.8.12-4-pve", "proxmox-headers-6.8.12-4-pve"),
            ("pve-kernel-5.15.158-2-pve", "pve-headers-5.15.158-2-pve"),
            ("linux-image-6.12.47+rpt-rpi-v8", "linux-headers-6.12.47+rpt-rpi-v8"),
            ("raspberrypi-kernel", "raspberrypi-kernel raspberrypi-kernel-headers"),
            (
                "linux-image-current-rockchip64",
                "linux-image-current-rockchip64 linux-headers-current-rockchip64",
            ),
            ("linux-image-vendor-rk35xx", "linux-image-vendor-rk35xx linux-headers-vendor-rk35xx"),
            ("linux-image-6.12.10-x64v3-xanmod1", "linux-headers-6.12.10-x64v3-xanmod1"),
            ("linux-image-6.12.8-2-liquorix-amd64", "linux-headers-6.12.8-2-liquorix-amd64"),
            ("linux-image-6.6.40-amd64-desktop-hwe", "linux-headers-6.6.40-amd64-desktop-hwe"),
            ("linux-image-6.11.2-amd64", "linux-headers-6.11.2-amd64"),
            ("nvidia-l4t-kernel", "nvidia-l4t-kernel-headers"),
        ] {
            assert_eq!(debian(image), install(headers), "{image}");
        }
        assert_eq!(debian("base-files"), None);
        for (database, owner, headers) in [
            (&DNF, "kernel-core 6.17.1-300.fc43.x86_64", "kernel-devel-6.17.1-300.fc43.x86_64"),
            (&DNF, "kernel-rt-core 5.14.0-570.el9.x86_64", "kernel-rt-devel-5.14.0-570.el9.x86_64"),
            (&DNF, "kernel-16k-core 6.17.1-300.fc43.aarch64", "kernel-16k-devel-6.17.1-300.fc43.aarch64"),
            (
                &DNF,
                "kernel-64k-debug-core 5.14.0-570.el9.aarch64",
                "kernel-64k-debug-devel-5.14.0-570.el9.aarch64",
            ),
            (&DNF, "kernel-debug-core 6.17.1-300.fc43.x86_64", "kernel-debug-devel-6.17.1-300.fc43.x86_64"),
            (&DNF, "kernel-modules-core 6.17.1-300.fc43.x86_64", "kernel-devel-6.17.1-300.fc43.x86_64"),
            (&DNF, "kernel-uek-core 6.12.0-100.el10uek.x86_64", "kernel-uek-devel-6.12.0-100.el10uek.x86_64"),
            (&DNF, "kernel 6.1.147-172.el2023.x86_64", "kernel-devel-6.1.147-172.el2023.x86_64"),
            (&DNF, "kernel6.12 6.12.37-61.amzn2023.x86_64", "kernel6.12-devel-6.12.37-61.amzn2023.x86_64"),
            (&DNF, "kernel-ml-core 6.17.1-1.el9.elrepo.x86_64", "kernel-ml-devel-6.17.1-1.el9.elrepo.x86_64"),
            (&ZYPPER, "kernel-default 6.4.0-150600.23.25.1", "kernel-default-devel=6.4.0-150600.23.25.1"),
            (&ZYPPER, "kernel-longterm 6.12.53-1.1", "kernel-longterm-devel=6.12.53-1.1"),
            (&ZYPPER, "kernel-default-base 6.4.0-150600.23.25.1.150600.12.10.2", "kernel-default-devel"),
        ] {
            assert_eq!(answer(database, owner, "", &[]), install(headers), "{owner}");
        }
    }

    #[test]
    fn the_metapackage_that_keeps_them_in_step_is_named_too() {
        let generic = "installed linux-image-generic , linux-image-6.8.0-60-generic, linux-firmware\n\
                       installed linux-image-6.8.0-60-generic , kmod\n";
        let pve = "installed proxmox-kernel-6.8 , pve-firmware, proxmox-kernel-6.8.12-4-pve-signed | proxmox-kernel-6.8.12-4-pve\n\
                   installed proxmox-default-kernel , proxmox-kernel-6.8\n\
                   installed proxmox-ve , proxmox-default-kernel, pve-manager\n";
        let old = "config-files linux-image-amd64 , linux-image-6.12.57+deb13-amd64 (= 6.12.57-1)\n";
        let now = "installed linux-image-amd64 , linux-image-6.12.57+deb13-amd64 (= 6.12.57-1)\n";
        let circle = "installed linux-image-a , linux-image-b\ninstalled linux-image-b , linux-image-a\n";
        for (image, requirements, headers) in [
            (
                "linux-image-6.8.0-60-generic",
                generic,
                "linux-headers-6.8.0-60-generic; linux-headers-generic",
            ),
            (
                "proxmox-kernel-6.8.12-4-pve-signed",
                pve,
                "proxmox-headers-6.8.12-4-pve; proxmox-default-headers",
            ),
            (
                "linux-image-6.12.57+deb13-amd64",
                now,
                "linux-headers-6.12.57+deb13-amd64; linux-headers-amd64",
            ),
            ("linux-image-6.12.57+deb13-amd64", old, "linux-headers-6.12.57+deb13-amd64"),
            ("linux-image-a", circle, "linux-headers-a"),
        ] {
            let owner = format!("{image}: /boot/vmlinuz-K");
            assert_eq!(answer(&DPKG, &owner, requirements, &[]), install(headers), "{image}");
        }
    }

    #[test]
    fn what_is_installed_is_installed_again() {
        let meta = "installed linux-image-amd64 , linux-image-6.1-amd64 (= 6.1-1)\n";
        let suse = "kernel-default 6.4.0-150600.23.25.1";
        for (database, owner, requirements, asked, packages) in [
            (
                &DPKG,
                "linux-image-6.1-amd64: /boot/vmlinuz-K",
                meta,
                "linux-headers-6.1-amd64",
                "linux-headers-6.1-amd64",
            ),
            // Also upgrades what belongs to another kernel.
            (
                &DPKG,
                "raspberrypi-kernel: /boot/kernel8.img",
                "",
                "raspberrypi-kernel-headers",
                "raspberrypi-kernel raspberrypi-kernel-headers",
            ),
            (
                &DNF,
                "kernel-core 6.17.1-300.fc43.x86_64",
                "",
                "kernel-devel-6.17.1-300.fc43.x86_64",
                "kernel-devel-6.17.1-300.fc43.x86_64",
            ),
            // rpm knows no operators.
            (
                &ZYPPER,
                suse,
                "",
                "kernel-default-devel-6.4.0-150600.23.25.1",
                "kernel-default-devel=6.4.0-150600.23.25.1",
            ),
        ] {
            let owner = Owner::read(owner).unwrap();
            let found = database.resolve(&owner, requirements, |_| None, |name| name == asked);
            assert_eq!(found, Some(HeadersPackage::Reinstall(packages.into())), "{owner:?}");
        }
    }

    #[test]
    fn packages_that_no_repository_has_are_not_advised() {
        let now = "installed linux-image-amd64 , linux-image-6.1-amd64 (= 6.1-1)\n";
        let (image, headers) = ("linux-image-6.1-amd64: /boot/vmlinuz-K", "linux-headers-6.1-amd64");
        let gone = |instead: Option<&str>| {
            let (name, instead) = (headers.to_owned(), instead.map(str::to_owned));
            Some(HeadersPackage::Unavailable { name, instead })
        };
        let both = format!("{headers}; linux-headers-amd64");
        for (offered, expected) in [
            (&[headers, "linux-headers-amd64"][..], install(&both)),
            (&[headers], install(headers)),
            (&["linux-headers-amd64"], gone(Some("linux-image-amd64 linux-headers-amd64"))),
            (&["bash"], gone(None)),
        ] {
            assert_eq!(answer(&DPKG, image, now, offered), expected, "{offered:?}");
        }
    }

    #[test]
    fn only_names_of_this_kernels_packages_are_downloaded() {
        let meta = HeadersPackage::Install { packages: "h-6.1".into(), meta: Some("h".into()) };
        for (package, names) in [
            (meta, Some(vec!["h-6.1"])),
            (HeadersPackage::install("image headers"), Some(vec!["image", "headers"])),
            (
                HeadersPackage::install("kernel-default-devel=6.4.0-1.1"),
                Some(vec!["kernel-default-devel=6.4.0-1.1"]),
            ),
            (HeadersPackage::install("'kernel-devel-uname-r = 6.1'"), None),
            (HeadersPackage::install("--option"), None),
            (HeadersPackage::install(""), None),
            (HeadersPackage::Reinstall("h".into()), None),
            (HeadersPackage::Unpackaged, None),
        ] {
            assert_eq!(package.exact(), names, "{package:?}");
        }
    }

    #[test]
    fn messages_of_a_package_database_are_no_packages() {
        for text in [
            "",
            "file /boot/vmlinuz-K is not owned by any package\n",
            "diversion by a from: /boot/vmlinuz-K\n",
            "-rf: /boot\n",
            "a;b: /boot\n",
            "kernel-core\n",
        ] {
            assert_eq!(Owner::read(text), None, "{text}");
        }
        let later = "file /a is not owned by any package\nkernel-core 6.1-1.x86_64\n";
        assert_eq!(Owner::read(later).map(|owner| owner.name), Some("kernel-core".into()));
    }

    #[test]
    fn the_advice_is_a_command_or_an_honest_sentence() {
        let debian = Distribution::from_os_release("ID=debian");
        let kernel = "6.1-amd64".parse().unwrap();
        let gone = |instead: Option<&str>| HeadersPackage::Unavailable {
            name: "h".into(),
            instead: instead.map(str::to_owned),
        };
        for (package, advice, command) in [
            (HeadersPackage::install("a b"), "run `apt install a b`", "apt install a b"),
            (
                HeadersPackage::Install { packages: "a".into(), meta: Some("b".into()) },
                "run `apt install a b`",
                "apt install a b",
            ),
            (
                HeadersPackage::Reinstall("a b".into()),
                "run `apt-get install --reinstall a b`",
                "apt-get install --reinstall a b",
            ),
            (
                gone(Some("i j")),
                "no repository has h; for a newer kernel with its headers, run `apt install i j`",
                "apt install i j",
            ),
        ] {
            assert_eq!(package.advice(&debian, &kernel), advice);
            assert_eq!(package.command(&debian, &kernel), command);
        }
        for package in [gone(None), HeadersPackage::Unpackaged] {
            assert_eq!(package.command(&debian, &kernel), package.advice(&debian, &kernel));
        }
    }
}
