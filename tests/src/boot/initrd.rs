//! An initramfs with only busybox and the files for a test.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::{Root, host};

/// The directory in the root where it is assembled.
const WORK: &str = "/opt/boot";

/// An initramfs under construction in a root.
#[derive(Debug)]
pub struct Initrd<'a> {
    root: &'a Root,
}

impl<'a> Initrd<'a> {
    /// With busybox, and mount points for its `/init`.
    pub fn new(root: &'a Root) -> Self {
        let busybox = root.download(&["busybox-static"]).remove(0);
        let archive = busybox.file_name().unwrap().to_string_lossy().into_owned();
        root.run(&format!(
            "rm -rf {WORK}; mkdir -p {WORK}/initrd/{{bin,m,proc,sys,dev,etc,tmp}} {WORK}/busybox && \
             dpkg-deb -x /var/cache/apt/archives/{archive} {WORK}/busybox && \
             cp $(find {WORK}/busybox -path '*bin/busybox') {WORK}/initrd/bin/busybox && ln -s busybox {WORK}/initrd/bin/sh"
        ))
        .ok();
        Self { root }
    }

    /// A path in it, as seen from the root.
    pub fn inside(&self, path: &str) -> String {
        format!("{WORK}/initrd{path}")
    }

    /// Adds a file.
    pub fn add(&self, path: &str, content: &[u8]) {
        self.root.write(&self.inside(path), content);
    }

    /// Adds a program of the root, with its libraries.
    pub fn add_program(&self, program: &str) {
        self.root
            .run(&format!(
                "for f in {program} $(ldd {program} | grep -o '/[^ ]*'); do \
                 mkdir -p {WORK}/initrd${{f%/*}} && cp -L $f {WORK}/initrd$f; done"
            ))
            .ok();
    }

    /// Packs it; returns the archive's path on the host.
    pub fn pack(&self, init: &str) -> PathBuf {
        self.add("/init", init.as_bytes());
        let dir = self.root.path(&self.inside(""));
        fs::set_permissions(dir.join("init"), fs::Permissions::from_mode(0o755)).unwrap();
        let packed = self.root.path(&format!("{WORK}/initrd.gz"));
        pack(&dir, &packed);
        packed
    }
}

fn pack(dir: &Path, to: &Path) {
    host::need_tools(&[("cpio", "cpio")]);
    host::run_host(&format!(
        "cd '{}' && find . | cpio --quiet -o -H newc | gzip -1 > '{}'",
        dir.display(),
        to.display()
    ));
}
