//! Directories as text, in both directions.
//!
//! One entry per line: `path/` is a directory, `path -> target` a link, `path = text` a file with that text, `path` an
//! empty file. `$ROOT` stands for the directory itself. Missing parent directories are created.
#![allow(dead_code)] // each test program uses its own part

pub mod schemas;
pub mod tar;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dkms_core::layout::Layout;

/// A temporary system: `lib`, `src`, `modules` and `etc` are its DKMS tree, sources, kernels and configuration.
pub struct Root {
    dir: tempfile::TempDir,
}

impl Root {
    /// Creates the entries.
    pub fn new(entries: &str) -> Self {
        let root = Self { dir: tempfile::tempdir().unwrap() };
        for dir in ["lib", "src", "modules", "etc"] {
            fs::create_dir(root.path().join(dir)).unwrap();
        }
        root.add(entries);
        root
    }

    /// Creates more entries.
    pub fn add(&self, entries: &str) {
        for line in entries.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let line = line.replace("$ROOT", self.path().to_str().unwrap());
            let file = line.split_once(" = ").or_else(|| Some((line.strip_suffix(" =")?, "")));
            let (path, what) = match file {
                Some((path, text)) => (path, Some(text)),
                None => (line.split_once(" -> ").map_or(line.as_str(), |(path, _)| path), None),
            };
            let path = self.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match (what, line.split_once(" -> ")) {
                (Some(text), _) => fs::write(&path, text.replace("\\n", "\n")).unwrap(),
                (None, Some((_, target))) => std::os::unix::fs::symlink(target, &path).unwrap(),
                (None, None) if line.ends_with('/') => fs::create_dir_all(&path).unwrap(),
                (None, None) => fs::write(&path, "").unwrap(),
            }
        }
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A path in it.
    pub fn join(&self, path: &str) -> PathBuf {
        self.path().join(path)
    }

    /// The layout for the product.
    pub fn layout(&self) -> Layout {
        Layout {
            dkms_tree: self.join("lib"),
            keys: self.join("lib"),
            source_tree: self.join("src"),
            install_tree: self.join("modules"),
            etc: self.join("etc"),
            sys: self.join("sys"),
            ..Layout::default()
        }
    }

    /// The content of one of its directories in the notation above, sorted; without our own directory.
    pub fn list(&self, dir: &str) -> String {
        let mut lines = Vec::new();
        self.walk(&self.join(dir), &mut lines);
        lines.sort();
        lines.join("\n")
    }

    fn walk(&self, dir: &Path, lines: &mut Vec<String>) {
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(self.path()).unwrap().display().to_string();
            if name.ends_with("/.dkms-rs") {
                continue;
            }
            if let Ok(target) = fs::read_link(&path) {
                lines.push(format!("{name} -> {}", self.text(&target.display().to_string())));
            } else if path.is_dir() {
                let before = lines.len();
                self.walk(&path, lines);
                if before == lines.len() {
                    lines.push(format!("{name}/"));
                }
            } else {
                let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
                let text = self.text(text.trim_end()).replace('\n', "\\n");
                lines.push(if text.is_empty() { name } else { format!("{name} = {text}") });
            }
        }
    }

    /// Text without the directory's own path.
    pub fn text(&self, text: &str) -> String {
        text.replace(self.path().to_str().unwrap(), "$ROOT")
    }

    /// Runs our dkms on it. Commands of modules are not sandboxed: these tests need no privileges.
    pub fn dkms(&self, args: &[&str]) -> Run {
        Run::new(self, &self.command(args).output().unwrap())
    }

    /// The same, not started yet.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dkms"));
        // Builds get the variables of the caller: those of a test are the same everywhere.
        command
            .env_clear()
            .envs(std::env::vars().filter(|(name, _)| ["PATH", "HOME", "TMPDIR"].contains(&&**name)));
        command
            .args(args)
            .arg("--dkmstree")
            .arg(self.join("lib"))
            .arg("--sourcetree")
            .arg(self.join("src"))
            .arg("--installtree")
            .arg(self.join("modules"))
            .env("DKMS_UNCONFINED", "1")
            .env_remove("DPKG_MAINTSCRIPT_NAME")
            .env_remove("DEBIAN_HAS_FRONTEND")
            .env_remove("DEBCONF_REDIR")
            .env_remove("DEB_MAINT_PARAMS");
        command
    }
}

/// The output and exit code of a command.
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// Converts the output of a process.
    pub fn new(root: &Root, output: &Output) -> Self {
        let text = |bytes: &[u8]| root.text(&String::from_utf8_lossy(bytes));
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    /// Standard output of a command that must succeed.
    pub fn ok(&self) -> &str {
        assert_eq!(self.code, 0, "{}{}", self.stdout, self.stderr);
        &self.stdout
    }
}

/// A kernel module that contains no code: metadata, an empty symbol table, and a place for the kernel's `struct module`.
#[allow(dead_code)] // not every test that shares this file needs one
pub fn module(kernel: &str, version: &str) -> Vec<u8> {
    let info = format!("license=GPL\0version={version}\0vermagic={kernel} SMP mod_unload \0");
    let names = "\0.modinfo\0.shstrtab\0.symtab\0.gnu.linkonce.this_module\0";
    let name = |name: &str| names.find(&format!("\0{name}\0")).unwrap() as u32 + 1;
    // Name, type, flags, link, content.
    let sections: [(u32, u32, u64, u32, &[u8]); 5] = [
        (0, 0, 0, 0, b""),
        (name(".modinfo"), 1, 2, 0, info.as_bytes()),
        (name(".shstrtab"), 3, 0, 0, names.as_bytes()),
        (name(".symtab"), 2, 0, 2, &[0; 24]),
        (name(".gnu.linkonce.this_module"), 1, 3, 0, &[0; 64]),
    ];
    let mut places = Vec::new();
    let mut content = Vec::new();
    for (.., bytes) in &sections {
        places.push((64 + content.len() as u64, bytes.len() as u64));
        content.extend(*bytes);
        content.resize(content.len().next_multiple_of(8), 0);
    }
    places[0] = (0, 0);
    let mut elf = Vec::from(*b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    for half in [1_u16, 62] {
        elf.extend(half.to_le_bytes()); // relocatable, x86_64
    }
    elf.extend(1_u32.to_le_bytes());
    for long in [0, 0, 64 + content.len() as u64] {
        elf.extend(long.to_le_bytes());
    }
    elf.extend(0_u32.to_le_bytes());
    for half in [64_u16, 0, 0, 64, sections.len() as u16, 2] {
        elf.extend(half.to_le_bytes());
    }
    elf.extend(content);
    for ((name, kind, flags, link, _), (at, size)) in sections.into_iter().zip(places) {
        elf.extend(name.to_le_bytes());
        elf.extend(kind.to_le_bytes());
        for long in [flags, 0, at, size] {
            elf.extend(long.to_le_bytes());
        }
        elf.extend(link.to_le_bytes());
        elf.extend(0_u32.to_le_bytes());
        for long in [u64::from(kind != 0), 0] {
            elf.extend(long.to_le_bytes());
        }
    }
    elf
}
