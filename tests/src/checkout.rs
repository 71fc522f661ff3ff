//! This tree, copied into a root as a fresh checkout, without build results.

use std::path::{Path, PathBuf};

use crate::{Root, Suite, host};

/// The path of the checkout in the root.
const PLACE: &str = "/root/dkms-rs";

/// The settings that this machine's cargo needs to reach its registry.
const SETTINGS: &str = "/root/settings-of-cargo";

/// A checkout in a root without Rust and without a compiler.
#[derive(Debug)]
pub struct Checkout {
    root: Root,
}

impl Checkout {
    /// Copies the tree into a fresh root of this suite. Results go to `target`, a directory of the host: the roots that
    /// a checkout creates are overlays, which cannot be on the overlay that this root is.
    pub fn on(suite: &'static Suite, target: &Path) -> Self {
        let root = Root::on(&suite.base());
        // The base has a compiler for module builds; a minimal Debian does not.
        root.run("apt-get -q -y purge --autoremove gcc cpp libc6-dev dpkg-dev binutils").ok();
        root.run("! command -v cargo && ! command -v rustc && ! command -v gcc && ! command -v ld").ok();
        root.run(&format!("mkdir {PLACE}")).ok();
        let to = root.path(PLACE);
        host::run_host(&format!(
            "cd '{}' && git ls-files -z --cached --others --exclude-standard | \
             tar --create --ignore-failed-read --null --files-from - | tar --extract --directory '{}'",
            host::workspace().display(),
            to.display()
        ));
        std::fs::create_dir_all(target).unwrap();
        root.bind(target, &format!("{PLACE}/target"), true);
        reach_registry(&root);
        Self { root }
    }

    /// The root that contains it.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// `make` in the checkout, within an hour and a half.
    pub fn make(&self, words: &str) -> crate::Output {
        self.root.run_within(5400, &format!(". {SETTINGS} && cd {PLACE} && make {words} 2>&1"))
    }
}

/// Copies the settings of this machine's cargo into the root. They are read when the test runs, and stay in the root.
fn reach_registry(root: &Root) {
    let home = host::cargo_home();
    let file = ["config.toml", "config"].map(|name| home.join(name)).into_iter().find(|path| path.is_file());
    if let Some(file) = file {
        root.copy_in(&file, "/root/.cargo/config.toml");
    }
    root.write(SETTINGS, exports(std::env::vars()));
}

/// Shell lines that export the variables for reaching a registry.
fn exports(variables: impl Iterator<Item = (String, String)>) -> String {
    const WANTED: [&str; 5] = ["CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR", "CARGO_SOURCE_", "SSL_CERT_"];
    let wanted = |name: &str| {
        WANTED.iter().any(|begin| name.starts_with(begin)) || name.to_lowercase().ends_with("_proxy")
    };
    let quoted = |value: &str| format!("'{}'", value.replace('\'', "'\\''"));
    variables
        .filter(|(name, _)| wanted(name))
        .map(|(name, value)| format!("export {name}={}\n", quoted(&value)))
        .collect()
}

/// Where results of a checkout are kept between two runs of the tests.
pub fn kept() -> PathBuf {
    host::workspace().join("target/stock")
}

#[cfg(test)]
mod tests {
    use super::exports;

    #[test]
    fn only_the_way_to_the_registry_is_taken_along() {
        let given =
            [("HOME", "/x"), ("https_proxy", "http://p:1"), ("CARGO_NET_RETRY", "a'b"), ("CARGO", "/c")];
        let given = given.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(exports(given), "export https_proxy='http://p:1'\nexport CARGO_NET_RETRY='a'\\''b'\n");
    }
}
