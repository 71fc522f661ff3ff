//! Kernels in a root's apt index: the newest of the suite's series.

use crate::{Output, Root, host};

/// The variant of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// Small: no media, few drivers. For all tests that do not need them.
    Cloud,
    /// The standard kernel.
    Plain,
    /// The small one for 64-bit ARM.
    CloudArm64,
    /// The same with the patches for real time: a second kernel with all drivers.
    RealTime,
}

impl Flavour {
    fn suffix(self) -> &'static str {
        match self {
            Self::Cloud => "-cloud-amd64",
            Self::CloudArm64 => "-cloud-arm64",
            Self::Plain => "-amd64",
            Self::RealTime => "-rt-amd64",
        }
    }
}

/// One kernel that apt can install.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// `uname -r` of it.
    pub release: String,
}

impl Kernel {
    /// The newest kernel of this flavour in the root's index.
    pub fn newest(root: &Root, flavour: Flavour, series: &str) -> Self {
        let names = root.run("apt-cache pkgnames linux-image- | sort -V").ok();
        let release = pick(&names.stdout, flavour, series);
        Self { release: release.unwrap_or_else(|| panic!("no {series}* kernel\n{names}")) }
    }

    /// The newest of this flavour but one: a further kernel for a root that has the newest.
    pub fn newest_but_one(root: &Root, flavour: Flavour, series: &str) -> Self {
        let newest = Self::newest(root, flavour, series);
        let names = root.run("apt-cache pkgnames linux-image- | sort -V").ok().stdout;
        let others: Vec<&str> = names.lines().filter(|name| *name != newest.image()).collect();
        let release = pick(&others.join("\n"), flavour, series);
        Self { release: release.unwrap_or_else(|| panic!("no second {series}* kernel\n{names}")) }
    }

    /// The image package.
    pub fn image(&self) -> String {
        format!("linux-image-{}", self.release)
    }

    /// The headers package.
    pub fn headers(&self) -> String {
        format!("linux-headers-{}", self.release)
    }

    /// The modules directory, with the path that is valid in both suites.
    pub fn modules_dir(&self) -> String {
        format!("/usr/lib/modules/{}", self.release)
    }

    /// The directory of our modules according to Debian's policy.
    pub fn dkms_dir(&self) -> String {
        format!("{}/updates/dkms", self.modules_dir())
    }

    /// Installs image and headers in one transaction.
    pub fn install(&self, root: &Root) -> Output {
        root.apt_install(&[&self.image(), &self.headers()])
    }

    /// Our module files for this kernel: path and SHA-256, sorted.
    pub fn module_files(&self, root: &Root) -> Vec<(String, String)> {
        let paths = root.find(&self.dkms_dir(), "-name '*.ko*'");
        paths.into_iter().map(|path| (path.clone(), host::sha256(&root.read_bytes(&path)))).collect()
    }

    /// `modinfo -F vermagic`, first word, of one of our modules.
    pub fn vermagic_of(&self, root: &Root, file: &str) -> String {
        let text = root.run(&format!("modinfo -F vermagic {file}")).ok().stdout;
        text.split_whitespace().next().unwrap_or_default().to_owned()
    }

    /// Requires the first word of every one of our modules' vermagic to be this release.
    #[track_caller]
    pub fn expect_vermagic(&self, root: &Root) {
        let files = self.module_files(root);
        assert!(!files.is_empty(), "no module of ours in {}", self.dkms_dir());
        for (file, _) in files {
            assert_eq!(self.vermagic_of(root, &file), self.release, "vermagic of {file}");
        }
    }
}

impl std::fmt::Display for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.release)
    }
}

/// The last name in version order that is `linux-image-SERIES…SUFFIX`, without debug, unsigned or rt variants.
fn pick(sorted_names: &str, flavour: Flavour, series: &str) -> Option<String> {
    let release = |name: &str| {
        let release = name.strip_prefix("linux-image-")?;
        let version = release.strip_suffix(flavour.suffix())?;
        let plain = version.starts_with(series) && !version.ends_with("-cloud") && !version.ends_with("-rt");
        (plain && !version.contains("~bpo")).then(|| release.to_owned())
    };
    sorted_names.lines().rev().find_map(release)
}

#[cfg(test)]
mod tests {
    use super::{Flavour, pick};

    const NAMES: &str = "linux-image-6.12.9+deb13-amd64\nlinux-image-6.12.48+deb13-amd64\nlinux-image-6.12.48+deb13-amd64-dbg\n\
                         linux-image-6.12.48+deb13-cloud-amd64\nlinux-image-6.12.48+deb13-cloud-amd64-unsigned\n\
                         linux-image-6.12.48+deb13-rt-amd64\nlinux-image-6.17.3+deb13-amd64\nlinux-image-amd64\n";

    #[test]
    fn the_newest_of_the_series_and_flavour() {
        let pick = |flavour, series| pick(NAMES, flavour, series);
        assert_eq!(pick(Flavour::Plain, "6.12.").unwrap(), "6.12.48+deb13-amd64");
        assert_eq!(pick(Flavour::Cloud, "6.12.").unwrap(), "6.12.48+deb13-cloud-amd64");
        assert_eq!(pick(Flavour::RealTime, "6.12.").unwrap(), "6.12.48+deb13-rt-amd64");
        assert_eq!(pick(Flavour::Cloud, "6.1."), None);
    }
}
