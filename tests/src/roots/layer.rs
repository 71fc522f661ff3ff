//! Read-only directories for overlays: a base, and prepared states over it.

use std::fs;

use super::{Root, Suite};
use crate::host;
use crate::preparing::preparing;

/// A stack of read-only directories, top first, named relative to `target/roots`.
#[derive(Debug, Clone)]
pub struct Layer {
    suite: &'static Suite,
    dirs: Vec<String>,
}

impl Layer {
    /// A base root.
    pub(super) fn bottom(suite: &'static Suite, dir: String) -> Self {
        Self { suite, dirs: vec![dir] }
    }

    /// The release in this layer.
    pub fn suite(&self) -> &'static Suite {
        self.suite
    }

    /// The directories, top first.
    pub fn dirs(&self) -> &[String] {
        &self.dirs
    }

    /// A layer created by running `prepare` once over this one, and kept.
    ///
    /// `key` contains everything that `prepare` depends on besides the layers below; older versions with the same name
    /// are deleted.
    pub fn prepared(&self, name: &str, key: &str, prepare: impl FnOnce(&Root)) -> Self {
        self.prepared_in(name, key, |root| {
            prepare(&root);
            root
        })
    }

    /// The same for a `prepare` that takes ownership of the root and returns it.
    pub fn prepared_in(&self, name: &str, key: &str, prepare: impl FnOnce(Root) -> Root) -> Self {
        let below = self.stamp();
        let prefix = format!("{}-{name}", self.suite.name);
        let dir = format!("layers/{prefix}@{}", host::key(&[key.as_bytes(), below.as_bytes()]));
        let _building = host::lock(&format!("build-{prefix}"));
        if !host::roots_dir().join(&dir).exists() {
            preparing(&prefix, || {
                let root = prepare(Root::on(self));
                forget_older(&prefix);
                root.into_layer(&dir);
            });
        }
        let mut dirs = vec![dir];
        dirs.extend(self.dirs.iter().cloned());
        Self { suite: self.suite, dirs }
    }

    /// Identifies the layers below, including when the base was made.
    fn stamp(&self) -> String {
        let base = host::roots_dir().join(self.dirs.last().unwrap()).join(&super::base::STAMP[1..]);
        let made = fs::metadata(base).and_then(|m| m.modified()).expect("a base root has its stamp");
        format!("{:?} {made:?}", self.dirs)
    }
}

fn forget_older(prefix: &str) {
    let Ok(entries) = fs::read_dir(host::roots_dir().join("layers")) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let same = name.split_once('@').is_some_and(|(p, _)| p == prefix);
        if same && host::try_lock(&format!("layers-{name}")).is_some() {
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}
