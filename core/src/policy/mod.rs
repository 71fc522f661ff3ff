//! The settings of distributions and admins, as data.

pub mod admin;
pub mod framework;

use std::collections::BTreeSet;

use crate::distro::Distribution;
use crate::layout::Layout;
use crate::types::ModuleName;

pub use admin::Admin;
pub use framework::{Framework, TrySign};

/// The variable that lists modules that may fail in this transaction.
pub const ALLOW: &str = "DKMS_ALLOW";

/// Everything that determines decisions, apart from the state of the machine.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The distribution's row.
    pub distribution: Distribution,
    /// framework.conf.
    pub framework: Framework,
    /// policy.toml.
    pub admin: Admin,
    /// The distribution's packages can force kernel modules: `NAME` is installed despite all checks,
    /// `NAME_version-override` over newer versions.
    forced: BTreeSet<String>,
}

impl Policy {
    /// Reads the distribution's row and the admin's settings. `framework` is read before, because it can move the
    /// layout. `allowed` is the value of the variable [`ALLOW`].
    pub fn load(layout: &Layout, framework: Framework, allowed: &str) -> Self {
        let distribution = Distribution::detect(layout);
        Self {
            framework: framework.with_settings_of(&distribution, layout),
            distribution,
            admin: Admin::load(&layout.policy()).allowing(allowed),
            forced: forced(&layout.forced_modules()),
        }
    }

    /// The directory of all modules below a kernel's directory, if it is not that of their dkms.conf.
    pub fn destination(&self) -> Option<&str> {
        self.framework.addon_modules().or(self.distribution.destination)
    }

    /// Whether a module is installed despite all checks.
    pub fn forces(&self, module: &ModuleName) -> bool {
        self.forced.contains(module.as_str())
    }

    /// Whether a module is installed over newer versions of the kernel.
    pub fn overrides_versions(&self, module: &ModuleName) -> bool {
        self.forces(module) || self.forced.contains(&format!("{module}_version-override"))
    }
}

/// The words in all files of a directory.
fn forced(dir: &std::path::Path) -> BTreeSet<String> {
    let texts = crate::sys::file::sorted_entries(dir)
        .into_iter()
        .filter_map(|path| crate::sys::file::content(path).ok());
    let texts = texts.map(|text| String::from_utf8_lossy(&text).into_owned());
    texts.flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_may_force_modules() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            crate::sys::file::write_atomic(&dir.path().join(name), text.as_bytes(), 0o644)
        };
        put("one", "a\nb_version-override\n").unwrap();
        put("two", "c").unwrap();
        let layout = Layout { etc: dir.path().join("etc"), ..Layout::default() };
        let policy = Policy { forced: forced(dir.path()), ..Policy::load(&layout, Framework::default(), "") };
        for (name, all, versions) in
            [("a", true, true), ("b", false, true), ("c", true, true), ("d", false, false)]
        {
            let name: ModuleName = name.parse().unwrap();
            assert_eq!((policy.forces(&name), policy.overrides_versions(&name)), (all, versions), "{name}");
        }
    }
}
