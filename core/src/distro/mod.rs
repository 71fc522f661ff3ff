//! The differences between distributions, as one table. A new distribution is a new row. [`managers`] has the same for
//! package managers.

pub mod headers;
pub mod managers;

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use self::headers::{DNF, DPKG, Database, HeadersPackage, NONE, PACMAN, ZYPPER};
use crate::layout::Layout;
use crate::types::Target;

/// The properties of one distribution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribution {
    /// `ID` (or the first of `ID_LIKE`) in os-release.
    pub id: &'static str,
    /// The directory of modules, which overrides their dkms.conf. `None`: as in the dkms.conf.
    pub destination: Option<&'static str>,
    /// The package of a kernel's headers, if the package database does not know the kernel; `{kernel}`, `{series}`,
    /// `{flavour}`, `{minor}` and `{pkgbase}` are replaced. Empty if no package has them.
    pub headers_package: &'static str,
    /// The package of a kernel, if its name ends with `{kernel}`; else empty.
    pub image_package: &'static str,
    /// How the package database says which package owns a kernel, and what installs its headers.
    pub database: Database,
    /// Program, arguments: a program of ours that does all of this.
    pub ask_headers_package: &'static [&'static str],
    /// Paths of the signing program, tried in this order before the one in the headers; a name without a slash is
    /// searched in `PATH`.
    pub sign_files: &'static [&'static str],
    /// The key pair for signing modules: private key, certificate in DER; below the DKMS tree unless absolute.
    pub mok: (&'static str, &'static str),
    /// A file below `/etc` that may set the key pair, with the names of both settings.
    pub mok_settings: Option<(&'static str, &'static str, &'static str)>,
    /// Modules are signed with the key that the kernel was built with, if it is there.
    pub kernels_key: bool,
    /// The key pair is generated if it is missing. Otherwise modules are signed only if the admin has generated or
    /// configured one.
    pub makes_key: bool,
    /// Program, arguments: generates the key pair, with this variable set. Empty: dkms generates it.
    pub new_key: (&'static [&'static str], (&'static str, &'static str)),
    /// Commands that enroll the certificate, the first whose program exists is used; `{certificate}` is replaced.
    pub enroll: &'static [&'static [&'static str]],
    /// Programs with arguments that offer modules to compatible kernels, and withdraw them; they read file names from
    /// standard input. Empty if the distribution's kernels have no stable ABI.
    pub weak_modules: (&'static [&'static str], &'static [&'static str]),
    /// The command that installs these packages; `{packages}` is replaced.
    pub install: &'static str,
    /// Files of our package that start dkms in a package transaction.
    pub hooks: &'static [&'static str],
    /// The command that installs packages again that are installed; `{packages}` is replaced.
    pub reinstall: &'static str,
    /// Its option that also restores deleted files of the configuration.
    pub restoring: &'static str,
    /// The command, or the setting, that holds back these packages; `{packages}` is replaced, `{packages,}` by a list with commas.
    pub keep_back: &'static str,
    /// The format of its packages, if `dkms mkpackage` writes it.
    pub packages: Option<PackageFormat>,
    /// The packages of which one has a kernel, for the dependencies of its modules' packages.
    pub image_packages: &'static [&'static str],
    /// Program, arguments: prints the package that has a file of kernel `{kernel}`, and its version, as the last two words.
    pub ask_image_version: &'static [&'static str],
    /// The package manager runs depmod after each transaction that changes the modules of a kernel.
    pub runs_depmod: bool,
    /// What the package of a module provides; `{module}`, `{alias}`, `{symbol}` and `{crc}` are replaced.
    pub module_provides: &'static [&'static str],
    /// Names of packages that a build for a new kernel needs, or that have the source of a module.
    pub building: &'static [&'static str],
    /// Names of the packages that belong to one kernel: with its release instead of `{kernel}`, or with its release as their
    /// version.
    pub kernel_packages: &'static [&'static str],
    /// The package manager answers questions while a transaction of it runs. The others wait for its end.
    pub answers_meanwhile: bool,
    /// The package of a new kernel replaces that of the old one.
    pub kernel_replaced: bool,
    /// Program, arguments: lists the files of an initramfs; the image follows.
    pub list_initramfs: &'static [&'static str],
    /// Program, arguments: regenerates the initramfs `{image}` of `{kernel}`; some take its `{pkgbase}`. Without an
    /// explicit path, the program's choice depends on the boot loader that it detects.
    pub make_initramfs: &'static [&'static str],
    /// After a module's source was installed, the package manager regenerates every initramfs.
    pub sources_regenerate_initramfs: bool,
    /// Program, arguments: prints the state of the package that owns kernel `{kernel}`. The texts are those in its
    /// output that mean that the package manager will generate the initramfs later.
    pub image_state: (&'static [&'static str], &'static [&'static str]),
    /// Programs, arguments: prints the default boot image, and sets `{image}` as the default. If such a program exists,
    /// the boot loader's files are not edited.
    pub default_kernel: (&'static [&'static str], &'static [&'static str]),
    /// A file below `/etc` that regenerates the boot menu after dkms when a kernel is installed or removed.
    pub menu_hook: Option<&'static str>,
    /// Program, arguments: a tool that copies kernels to boot partitions and writes the menus there. The file below `/etc` that
    /// runs it after dkms when a kernel is installed or removed.
    pub boot_tool: (&'static [&'static str], &'static str),
    /// How users and programs learn that a restart is due.
    pub restart_flag: Option<RestartFlag>,
}

/// The format of packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PackageFormat {
    /// Debian, Ubuntu
    Deb,
    /// Fedora, RHEL, openSUSE
    Rpm,
    /// Arch
    Pacman,
    /// systemd-sysext
    Sysext,
}

/// The name of our package.
const OUR_PACKAGE: &str = "dkms-rs";

/// A file that requests a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartFlag {
    /// The file, below `/run`.
    pub file: &'static str,
    /// A file with the packages that need it, below `/run`, one name a line.
    pub list: Option<&'static str>,
    /// The content of the first file.
    pub text: &'static str,
}

/// A generator of the initramfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generator {
    /// What the names of its images begin with; empty if that is not the name of another generator.
    pub prefix: &'static str,
    /// Program, arguments: lists the files of an image, which follows.
    pub list: &'static [&'static str],
    /// Program, arguments: regenerates an image.
    pub make: &'static [&'static str],
}

/// A generator that users may choose instead of their distribution's. Its hooks make images when a kernel is installed.
const BOOSTER: Generator = Generator {
    prefix: "booster-",
    list: &["booster", "ls"],
    make: &["booster", "build", "--force", "--kernel-version", "{kernel}", "{image}"],
};

const MOK: (&str, &str) = ("mok.key", "mok.pub");
const MOKUTIL: &[&str] = &["mokutil", "--import", "{certificate}"];

/// A distribution that is not in the table: the dkms.conf applies. The other rows contain only what differs from this one.
const OTHER: Distribution = Distribution {
    id: "other",
    destination: None,
    headers_package: "the kernel headers package for {kernel}",
    image_package: "",
    database: NONE,
    ask_headers_package: &[],
    sign_files: &[],
    mok: MOK,
    mok_settings: None,
    kernels_key: false,
    makes_key: true,
    new_key: (&[], ("", "")),
    enroll: &[MOKUTIL],
    weak_modules: (&[], &[]),
    install: "install {packages} with your package manager",
    hooks: &[],
    reinstall: "reinstall {packages} with your package manager",
    restoring: "",
    keep_back: "hold {packages} with your package manager",
    packages: None,
    image_packages: &[],
    ask_image_version: &[],
    runs_depmod: false,
    module_provides: &[],
    building: &["*-dkms", "dkms-*"],
    kernel_packages: &[],
    answers_meanwhile: false,
    kernel_replaced: false,
    list_initramfs: &[],
    make_initramfs: &[],
    sources_regenerate_initramfs: false,
    image_state: (&[], &[]),
    default_kernel: (&[], &[]),
    menu_hook: None,
    boot_tool: (&[], ""),
    restart_flag: None,
};

const DEBIAN: Distribution = Distribution {
    id: "debian",
    destination: Some("/updates/dkms"),
    headers_package: "linux-headers-{kernel}",
    image_package: "linux-image-{kernel}",
    database: DPKG,
    answers_meanwhile: true,
    sign_files: &["/usr/lib/linux-kbuild-{series}/scripts/sign-file"],
    install: "apt install {packages}",
    hooks: &[
        "/etc/apt/apt.conf.d/05dkms",
        "/etc/kernel/header_postinst.d/dkms",
        "/etc/kernel/postinst.d/dkms",
        "/etc/kernel/preinst.d/dkms",
        "/etc/kernel/prerm.d/dkms",
    ],
    reinstall: "apt-get install --reinstall {packages}",
    // The hooks are conffiles: deleted ones stay deleted.
    restoring: "-o Dpkg::Options::=--force-confmiss",
    keep_back: "apt-mark hold {packages}",
    packages: Some(PackageFormat::Deb),
    image_packages: &["linux-image-{kernel}", "linux-image-{kernel}-unsigned"],
    building: &["*-dkms", "linux-compiler-*", "linux-headers-*", "linux-kbuild-*"],
    kernel_packages: &["linux-*-{kernel}", "linux-*-{kernel}-unsigned", "linux-*-{kernel}-dbg*"],
    list_initramfs: &["lsinitramfs"],
    make_initramfs: &["update-initramfs", "-u", "-k", "{kernel}"],
    image_state: (
        &[
            "dpkg-query",
            "-W",
            "-f=${db:Status-Status}\\n",
            "linux-image-{kernel}",
            "linux-image-{kernel}-unsigned",
        ],
        &["unpacked", "half-configured", "half-installed", "triggers-awaited"],
    ),
    menu_hook: Some("kernel/postinst.d/zz-update-grub"),
    // Proxmox's, whose os-release is Debian's.
    boot_tool: (&["proxmox-boot-tool", "refresh"], "kernel/postinst.d/zz-proxmox-boot"),
    restart_flag: Some(RestartFlag {
        file: "reboot-required",
        list: Some("reboot-required.pkgs"),
        text: "*** System restart required ***\n",
    }),
    ..OTHER
};

const FEDORA: Distribution = Distribution {
    id: "fedora",
    destination: Some("/extra"),
    headers_package: "'kernel-devel-uname-r = {kernel}'",
    database: DNF,
    install: "dnf install {packages}",
    hooks: &["/usr/lib/kernel/install.d/40-dkms.install"],
    reinstall: "dnf reinstall {packages}",
    keep_back: "dnf versionlock add {packages}",
    packages: Some(PackageFormat::Rpm),
    image_packages: &["kernel-uname-r = {kernel}"],
    module_provides: &["kmod({module}.ko)", "modalias({alias})", "ksym({symbol}) = 0x{crc}"],
    building: &["*-dkms", "dkms-*", "kernel*-devel", "kernel*-devel-matched"],
    kernel_packages: &["kernel", "kernel-*"],
    list_initramfs: &["lsinitrd"],
    make_initramfs: &["dracut", "-f", "{image}", "{kernel}"],
    default_kernel: (&["grubby", "--default-kernel"], &["grubby", "--set-default={image}"]),
    ..OTHER
};

const TABLE: &[Distribution] = &[
    DEBIAN,
    Distribution {
        id: "ubuntu",
        sign_files: &["kmodsign", "/usr/src/linux-headers-{kernel}/scripts/sign-file"],
        mok: ("/var/lib/shim-signed/mok/MOK.priv", "/var/lib/shim-signed/mok/MOK.der"),
        // Without the variable it would run the package manager's triggers, and those would run dkms.
        new_key: (&["update-secureboot-policy", "--new-key"], ("SHIM_NOTRIGGER", "y")),
        enroll: &[&["update-secureboot-policy", "--enroll-key"], MOKUTIL],
        image_packages: &["linux-image-{kernel}", "linux-image-unsigned-{kernel}"],
        image_state: (
            &[
                "dpkg-query",
                "-W",
                "-f=${db:Status-Status}\\n",
                "linux-image-{kernel}",
                "linux-image-unsigned-{kernel}",
            ],
            DEBIAN.image_state.1,
        ),
        ..DEBIAN
    },
    // Like openEuler below, it has no ID_LIKE, and so its dkms installs to the directories of the dkms.conf.
    Distribution { id: "deepin", destination: None, ..DEBIAN },
    FEDORA,
    Distribution {
        id: "rhel",
        // The initramfs is regenerated by dkms.
        weak_modules: (
            &["/usr/sbin/weak-modules", "--no-initramfs", "--add-modules"],
            &["/usr/sbin/weak-modules", "--no-initramfs", "--remove-modules"],
        ),
        ..FEDORA
    },
    Distribution { id: "openEuler", destination: None, ..FEDORA },
    Distribution {
        id: "suse",
        destination: Some("/updates"),
        headers_package: "kernel-{flavour}-devel",
        database: ZYPPER,
        weak_modules: (
            &["/usr/lib/module-init-tools/weak-modules2", "--add-kernel-modules", "{kernel}"],
            &["/usr/lib/module-init-tools/weak-modules2", "--remove-kernel-modules", "{kernel}"],
        ),
        install: "zypper install {packages}",
        hooks: FEDORA.hooks,
        reinstall: "zypper install --force {packages}",
        keep_back: "zypper addlock {packages}",
        packages: Some(PackageFormat::Rpm),
        // A kernel's package provides its own name also with the version in the kernel's release, which lacks the last number.
        image_packages: &["kernel-{flavour} = {unflavoured}"],
        module_provides: &[
            "kmod({module}.ko)",
            "modalias(kernel-{flavour}:{alias})",
            "ksym({flavour}:{symbol}) = {crc}",
        ],
        building: &["*-dkms", "dkms-*", "kernel-*-devel", "kernel-devel", "kernel-macros"],
        kernel_packages: FEDORA.kernel_packages,
        list_initramfs: &["lsinitrd"],
        make_initramfs: &["dracut", "-f", "{image}", "{kernel}"],
        restart_flag: Some(RestartFlag { file: "reboot-needed", list: None, text: "" }),
        ..OTHER
    },
    Distribution {
        id: "arch",
        destination: Some("/updates/dkms"),
        headers_package: "{pkgbase}-headers",
        ask_headers_package: &["/usr/lib/dkms/alpm-headers", "{kernel}"],
        database: PACMAN,
        makes_key: false,
        install: "pacman -S {packages}",
        hooks: &[
            "/usr/share/libalpm/hooks/00-dkms-incoming.hook",
            "/usr/share/libalpm/hooks/70-dkms-install.hook",
            "/usr/share/libalpm/hooks/70-dkms-upgrade.hook",
            "/usr/share/libalpm/hooks/71-dkms-remove.hook",
        ],
        reinstall: "pacman -S {packages}",
        keep_back: "pacman -Syu --ignore {packages,}",
        packages: Some(PackageFormat::Pacman),
        ask_image_version: &["pacman", "-Qo", "/usr/lib/modules/{kernel}/pkgbase"],
        runs_depmod: true,
        building: &["*-dkms", "linux*-headers"],
        kernel_replaced: true,
        list_initramfs: &["lsinitcpio"],
        make_initramfs: &["mkinitcpio", "-p", "{pkgbase}"],
        sources_regenerate_initramfs: true,
        ..OTHER
    },
    Distribution {
        id: "gentoo",
        // The directory in which a kernel was built is all that there is, also of a distribution kernel.
        headers_package: "",
        sign_files: &["/usr/src/linux-{kernel}/scripts/sign-file"],
        mok_settings: Some(("portage/make.conf", "MODULES_SIGN_KEY", "MODULES_SIGN_CERT")),
        kernels_key: true,
        install: "emerge {packages}",
        reinstall: "emerge {packages}",
        ..OTHER
    },
    Distribution {
        id: "void",
        headers_package: "linux{minor}-headers",
        install: "xbps-install -S {packages}",
        reinstall: "xbps-install -f {packages}",
        keep_back: "xbps-pkgdb -m hold {packages}",
        list_initramfs: &["lsinitrd"],
        make_initramfs: FEDORA.make_initramfs,
        ..OTHER
    },
    Distribution {
        id: "alpine",
        headers_package: "linux-{flavour}-dev",
        install: "apk add {packages}",
        reinstall: "apk fix --reinstall {packages}",
        ..OTHER
    },
];

/// Identities that have the row of another one, and do not say so in `ID_LIKE`.
const ALIASES: &[(&str, &str)] = &[
    ("Deepin", "deepin"),
    ("manjaro-arm", "arch"),
    ("centos", "rhel"),
    // Its ID_LIKE is fedora.
    ("ol", "rhel"),
    ("opensuse", "suse"),
    ("sles", "suse"),
];

impl Generator {
    /// Whether an image is one of its own, by its name.
    pub fn made(&self, image: &Path) -> bool {
        let name = image.file_name().unwrap_or_default().to_string_lossy();
        self.prefix == if name.starts_with(BOOSTER.prefix) { BOOSTER.prefix } else { "" }
    }
}

impl Distribution {
    /// The row of the system, from the os-release of the layout.
    pub fn detect(layout: &Layout) -> Self {
        let text = layout.os_release().iter().find_map(|path| crate::sys::file::text(path).ok());
        Self::from_os_release(&text.unwrap_or_default())
    }

    /// The row for an os-release text: ID first, then ID_LIKE.
    pub fn from_os_release(text: &str) -> Self {
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_default().trim_matches(['"', '\'']).to_owned()
        };
        let ids = format!("{} {}", value("ID"), value("ID_LIKE"));
        let row_of = |id: &str| {
            let id = ALIASES.iter().find(|(alias, _)| *alias == id).map_or(id, |(_, id)| id);
            TABLE.iter().find(|row| id == row.id)
        };
        ids.split_whitespace().find_map(row_of).unwrap_or(&OTHER).clone()
    }

    /// The first row whose packages have this format.
    pub fn of_format(format: PackageFormat) -> Self {
        TABLE.iter().find(|row| row.packages == Some(format)).unwrap_or(&OTHER).clone()
    }

    /// What usually installs a kernel's headers.
    pub fn headers_package(&self, target: &Target, pkgbase: Option<&str>) -> HeadersPackage {
        match self.headers_package {
            "" => HeadersPackage::Unpackaged,
            name => HeadersPackage::install(fill(name, target, pkgbase)),
        }
    }

    /// What installs the headers of the kernel in a package that is not installed, by its name and version.
    pub fn headers_of(&self, image: &str, version: &str) -> Option<HeadersPackage> {
        // An epoch is in the name of no package.
        let version = version.rsplit(':').next().unwrap_or(version);
        self.database.headers_of(image, version).map(HeadersPackage::install)
    }

    /// The command that installs packages, separated by spaces.
    pub fn install(&self, packages: &str) -> String {
        self.install.replace("{packages}", packages)
    }

    /// The same as a part of a sentence.
    pub fn advise_install(&self, packages: &str) -> String {
        self.advise(self.install(packages))
    }

    /// The command that installs installed packages again.
    pub fn reinstall(&self, packages: &str) -> String {
        self.reinstall.replace("{packages}", packages)
    }

    /// The same as a part of a sentence.
    pub fn advise_reinstall(&self, packages: &str) -> String {
        self.advise(self.reinstall(packages))
    }

    /// The command that restores the files of our package, deleted hooks included.
    pub fn restore_hooks(&self) -> String {
        self.reinstall(format!("{} {OUR_PACKAGE}", self.restoring).trim_start())
    }

    /// A command as a part of a sentence; where the package manager is not known, it is a sentence already.
    fn advise(&self, command: String) -> String {
        if self.install == OTHER.install { command } else { format!("run `{command}`") }
    }

    /// The generators of the initramfs that its machines may have.
    pub fn generators(&self) -> [Generator; 2] {
        [Generator { prefix: "", list: self.list_initramfs, make: self.make_initramfs }, BOOSTER]
    }

    /// The command that enrolls a certificate, for a user to run. `exists` tests for a program; if none exists, the
    /// last one is returned, so that the message names it.
    pub fn enroll(&self, certificate: &Path, exists: impl Fn(&str) -> bool) -> String {
        let usable = self.enroll.iter().find(|words| words.first().is_some_and(|program| exists(program)));
        let words = usable.or(self.enroll.last()).copied().unwrap_or_default();
        words.join(" ").replace("{certificate}", &certificate.display().to_string())
    }

    /// Paths of the signing program, most specific last.
    pub fn sign_file(&self, target: &Target, headers: &Path) -> Vec<PathBuf> {
        let mut places: Vec<_> =
            self.sign_files.iter().map(|place| fill(place, target, None).into()).collect();
        places.push(headers.join("scripts/sign-file"));
        places
    }
}

/// Parts of the releases of kernels whose distribution lets them trust all keys of shim and the firmware for modules, and
/// not only for kexec. Upstream kernels do not; a configuration does not show it.
const PLATFORM_KEYS: [&str; 6] = [".fc", ".el", "+deb", "-generic", "-lowlatency", "-default"];

/// Whether a kernel of this package (`LINUX_PACKAGE_ID`) rejects a module with CRCs that lacks that of one symbol. Debian's
/// are patched; upstream kernels let it go.
pub fn needs_every_version(package: &str) -> bool {
    package.trim_start().starts_with("Debian ")
}

/// Whether a kernel is known to use the platform keyring for modules.
pub fn uses_platform_keys(release: &str) -> bool {
    PLATFORM_KEYS.iter().any(|part| release.contains(part))
}

/// Replaces `{kernel}`, `{series}` (the release without its last dot-separated part), `{flavour}` (the part after its
/// last dash, which some package names contain), `{unflavoured}` (the part before it), `{minor}` (its first two numbers) and `{pkgbase}` (from the kernel's
/// package; else the usual one) in a text of a row.
pub fn fill(text: &str, target: &Target, pkgbase: Option<&str>) -> String {
    let kernel = target.kernel.as_str();
    let series = kernel.rsplit_once('.').map_or(kernel, |(series, _)| series);
    let (unflavoured, flavour) = kernel.rsplit_once('-').unwrap_or((kernel, "default"));
    let numbers: Vec<&str> = kernel.splitn(3, '.').take(2).collect();
    let text = text.replace("{kernel}", kernel).replace("{series}", series).replace("{flavour}", flavour);
    let text = text.replace("{unflavoured}", unflavoured);
    let text = text.replace("{minor}", &numbers.join("."));
    text.replace("{pkgbase}", pkgbase.unwrap_or("linux"))
}

#[cfg(test)]
mod tests;
