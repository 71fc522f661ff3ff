//! Names that become paths used by root. A value that exists is safe to join to a directory.

pub mod version;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not a valid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a valid {kind}: {why}")]
pub struct BadName {
    /// The kind of name, for example `module name`.
    pub kind: &'static str,
    /// The rejected text.
    pub text: String,
    /// The violated rule.
    pub why: &'static str,
}

/// The bytes that names may contain. None of them has a meaning in a shell, a makefile, a configuration file or the menu of a
/// boot loader. rpm versions contain `^` and `~`.
pub const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'+' | b'~' | b':' | b'@' | b'^' | b'-')
}

/// The rule for all names: one path component of plain characters that no tool mistakes for an option.
fn check(kind: &'static str, text: &str) -> Result<(), BadName> {
    let why = if text.is_empty() {
        "it is empty"
    } else if text.starts_with('-') {
        "it begins with a dash and would be read as an option"
    } else if text.contains('/') {
        "it contains a slash"
    } else if text == "." || text.contains("..") {
        "it contains \"..\" or is \".\""
    } else if text.starts_with('.') {
        "it begins with a dot, which is reserved for dkms"
    } else if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        "it contains white space or a control character"
    } else if text.contains(',') {
        "it contains a comma, which separates the fields of dkms status"
    } else if text.len() > 200 {
        "it is longer than 200 bytes"
    } else if !text.bytes().all(is_plain) {
        "it contains a character other than letters, digits and . _ + ~ : @ ^ -"
    } else {
        return Ok(());
    };
    Err(BadName { kind, text: text.to_owned(), why })
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(test, derive(schemars::JsonSchema))]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = BadName;
            fn from_str(text: &str) -> Result<Self, BadName> {
                check($kind, text).map(|()| Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $type {
            type Error = BadName;
            fn try_from(text: String) -> Result<Self, BadName> {
                check($kind, &text).map(|()| Self(text))
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// `PACKAGE_NAME` of a dkms.conf, e.g. `v4l2loopback`.
    ModuleName,
    "module name"
);
name!(
    /// `PACKAGE_VERSION` of a dkms.conf, e.g. `0.15.0`.
    ModuleVersion,
    "module version"
);
name!(
    /// A kernel release, as printed by `uname -r` and in the names of directories below the modules tree.
    KernelRelease,
    "kernel release"
);
name!(
    /// A machine architecture, as printed by `uname -m`.
    Arch,
    "architecture"
);

/// A registered module package: `name/version`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ModuleId {
    /// `PACKAGE_NAME`.
    pub name: ModuleName,
    /// `PACKAGE_VERSION`.
    pub version: ModuleVersion,
}

impl fmt::Display for ModuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.version)
    }
}

impl FromStr for ModuleId {
    type Err = BadName;
    /// Reads `name/version`.
    fn from_str(text: &str) -> Result<Self, BadName> {
        let (name, version) = text.split_once('/').ok_or(BadName {
            kind: "module/version pair",
            text: text.to_owned(),
            why: "it has no slash between name and version",
        })?;
        Ok(Self { name: name.parse()?, version: version.parse()? })
    }
}

/// A kernel release and an architecture: what a module is built for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Target {
    /// The kernel release.
    pub kernel: KernelRelease,
    /// The architecture.
    pub arch: Arch,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.kernel, self.arch)
    }
}

/// One module package for one kernel: the subject of surveys, builds, installations and records. Serialized as a pair.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(from = "(ModuleId, Target)", into = "(ModuleId, Target)")]
pub struct Placement {
    /// The module package.
    pub module: ModuleId,
    /// The kernel.
    pub target: Target,
}

impl Placement {
    /// From clones of both.
    pub fn of(module: &ModuleId, target: &Target) -> Self {
        Self { module: module.clone(), target: target.clone() }
    }

    /// Without the version, where any version of the module counts.
    pub fn by_name(&self) -> (ModuleName, Target) {
        (self.module.name.clone(), self.target.clone())
    }
}

impl From<(ModuleId, Target)> for Placement {
    fn from((module, target): (ModuleId, Target)) -> Self {
        Self { module, target }
    }
}

impl From<Placement> for (ModuleId, Target) {
    fn from(Placement { module, target }: Placement) -> Self {
        (module, target)
    }
}

/// The result of an attempt, in two levels: `Err` means that dkms failed or was interrupted, `Ok(Err(_))` is an
/// expected failure, which is a value in the report.
pub type Attempt<T, E> = anyhow::Result<Result<T, E>>;

/// A fingerprint: the SHA-256, in lower-case hex, of everything that can change the result of a build.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Fingerprint(pub String);

impl Fingerprint {
    /// The same for a build that also gets variables of a user's environment, identified by their hash.
    pub fn with_environment(self, hash: &str) -> Self {
        Self(format!("{}+{hash}", self.0))
    }

    /// Whether the inputs are the same, apart from the environment. An existing build is not out of date because dkms
    /// was called with other variables.
    pub fn same_inputs(&self, other: &Self) -> bool {
        self.inputs() == other.inputs()
    }

    /// The same without the environment, for a build whose environment is not known.
    pub fn inputs(&self) -> Self {
        Self(self.0.split('+').next().unwrap_or_default().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_leave_the_tree_are_refused() {
        for (text, why) in [
            ("", "empty"),
            ("..", "\"..\""),
            ("a/b", "slash"),
            ("../etc", "slash"),
            ("a..b", "\"..\""),
            ("-rf", "dash"),
            (".hidden", "dot"),
            ("a\nb", "control"),
            ("a b", "white space"),
            ("a\0b", "control"),
            ("a,b", "comma"),
            ("a'b", "character other than"),
            ("a\"b", "character other than"),
            ("$(id)", "character other than"),
            ("a;id", "character other than"),
            ("a`id`", "character other than"),
            ("a|b", "character other than"),
            ("a&b", "character other than"),
            ("a>b", "character other than"),
            ("a*", "character other than"),
            ("a?", "character other than"),
            ("a[b]", "character other than"),
            ("a{b}", "character other than"),
            ("a\\b", "character other than"),
            ("#a", "character other than"),
            ("a=b", "character other than"),
            ("a%b", "character other than"),
            ("a!b", "character other than"),
            ("é", "character other than"),
            ("a\u{202e}b", "character other than"),
        ] {
            let error = text.parse::<ModuleName>().unwrap_err();
            assert!(error.to_string().contains(why), "{text:?}: {error}");
        }
    }

    #[test]
    fn names_from_real_packages_are_accepted() {
        for text in [
            "v4l2loopback",
            "0~20230205+git",
            "2.6.9-1cvs2004",
            "6.12.117+deb13-amd64",
            "x86_64",
            "1:2.3.4",
            "0.3^20240425git29ec357",
            "r5.g1234",
            "lttng-modules",
            "r8125_v2@1",
            "5.14.0-503.el9.x86_64+rt",
        ] {
            assert_eq!(text.parse::<ModuleVersion>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn a_pair_needs_both_halves() {
        assert_eq!("a/1".parse::<ModuleId>().unwrap().to_string(), "a/1");
        assert!("a".parse::<ModuleId>().is_err());
        assert!("a/1/2".parse::<ModuleId>().is_err());
        assert!("/1".parse::<ModuleId>().is_err());
    }
}
