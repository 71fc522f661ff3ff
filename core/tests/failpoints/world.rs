//! A temporary machine whose commands can be stopped at a failpoint, and the relevant state of its disk.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dkms_core::distro::Distribution;
use dkms_core::layout::Layout;
use dkms_core::sys::file::TEMP_PREFIX;
use dkms_core::sys::hash;

use super::KERNEL;
use super::support::{self, Root};

pub(super) fn module(version: &str) -> Vec<u8> {
    support::module(KERNEL, version)
}

/// The relevant state of the disk: the content of files by path.
pub(super) type State = BTreeMap<String, String>;

/// How a command ended.
pub(super) struct Ended {
    pub(super) code: i32,
    pub(super) stderr: String,
}

pub(super) struct World {
    pub(super) root: Root,
    saved: tempfile::TempDir,
}

impl World {
    /// A kernel with headers that are sufficient for these builds, and the sources of versions 1 and 2: `a.ko` and
    /// `b.ko`, then
    /// `a.ko` and `c.ko`.
    pub(super) fn new() -> Self {
        let root = Root::new(&format!(
            "tree/lib/modules/{KERNEL}/modules.dep =
            tree/lib/modules/{KERNEL}/modules.order =
            tree/lib/modules/{KERNEL}/modules.builtin =
            tree/lib/modules/{KERNEL}/build/include/generated/utsrelease.h = #define UTS_RELEASE \"{KERNEL}\"
            tree/lib/modules/{KERNEL}/build/include/config/auto.conf = CONFIG_MODULES=y\\n"
        ));
        let world = Self { root, saved: tempfile::tempdir().unwrap() };
        world.source("1", ["a", "b"], "1.0");
        world.source("2", ["a", "c"], "2.0");
        world
    }

    /// A source whose build only copies files.
    pub(super) fn source(&self, version: &str, names: [&str; 2], content: &str) {
        let mut conf = format!(
            "PACKAGE_NAME=a\\nPACKAGE_VERSION={version}\\nAUTOINSTALL=yes\\nMAKE=\"cp pre/*.ko .\"\\nCLEAN=true\\n"
        );
        for (index, name) in names.iter().enumerate() {
            conf += &format!(
                "BUILT_MODULE_NAME[{index}]={name}\\nDEST_MODULE_LOCATION[{index}]=/updates/dkms\\nSTRIP[{index}]=no\\n"
            );
            self.put(&format!("src/a-{version}/pre/{name}.ko"), &format!("{content}-{name}"));
        }
        self.root.add(&format!("src/a-{version}/dkms.conf = {conf}"));
    }

    pub(super) fn put(&self, path: &str, version: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, module(version)).unwrap();
    }

    /// Modules of the kernel itself: one in another directory, one at our path.
    pub(super) fn originals(&self) {
        let place =
            Distribution::detect(&Layout::default()).destination.unwrap_or("/updates/dkms").trim_matches('/');
        self.put(&format!("tree/lib/modules/{KERNEL}/kernel/drivers/a.ko"), "0.1-a");
        self.put(&format!("tree/lib/modules/{KERNEL}/{place}/b.ko"), "0.1-b");
        let done = Command::new(dkms_core::sys::run::which("depmod").unwrap())
            .args(["-a", KERNEL, "-b"])
            .arg(self.root.join("tree"))
            .stderr(Stdio::null())
            .status();
        assert!(done.is_ok_and(|status| status.success()), "these tests need depmod");
    }

    /// The result of removing version 1 during a package upgrade: its build.
    pub(super) fn replace(&self) {
        self.root.add("lib/.dkms-rs/kept/a-1 =");
        for gone in ["lib/a/1/source", "lib/a/1/build", "src/a-1"] {
            dkms_core::sys::file::remove_all(&self.root.join(gone)).unwrap();
        }
    }

    pub(super) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dkms"));
        command.args(words);
        for (option, dir) in [("dkmstree", "lib"), ("sourcetree", "src"), ("installtree", "tree/lib/modules")]
        {
            command.arg(format!("--{option}")).arg(self.root.join(dir));
        }
        command.env("DKMS_UNCONFINED", "1").env_remove("DPKG_MAINTSCRIPT_NAME").env_remove("FAILPOINTS");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    pub(super) fn dkms(&self, words: &[&str]) -> Ended {
        Ended::of(self.command(words).spawn().unwrap())
    }

    /// Saves everything, to start again from here.
    pub(super) fn save(&self) {
        copy(self.root.path(), self.saved.path());
    }

    pub(super) fn restore(&self) {
        copy(self.saved.path(), self.root.path());
    }

    /// The state of the disk, without what differs between two successful runs: stored hashes, the history, times.
    pub(super) fn state(&self) -> State {
        let mut state = State::new();
        for dir in ["lib", "tree"] {
            self.walk(&self.root.join(dir), &mut state);
        }
        state.retain(|path, _| {
            // A build without a sandbox leaves its directory.
            let built = path.split('/').nth(3) == Some("build") && path.starts_with("lib/a/");
            !built || path.contains(TEMP_PREFIX)
        });
        state.retain(|path, _| {
            !["lock", "swept", "history", "hashes", "evaluated", "cache"]
                .iter()
                .any(|own| path.starts_with(&format!("lib/.dkms-rs/{own}")) && !path.contains(TEMP_PREFIX))
        });
        state
    }

    pub(super) fn walk(&self, dir: &Path, state: &mut State) {
        for path in dkms_core::sys::file::sorted_entries(dir) {
            let name = path.strip_prefix(self.root.path()).unwrap().display().to_string();
            if let Ok(target) = fs::read_link(&path) {
                state.insert(name, format!("-> {}", target.display()));
            } else if path.is_dir() {
                if dkms_core::sys::file::sorted_entries(&path).is_empty() && !name.contains("/.dkms-rs") {
                    state.insert(format!("{name}/"), String::new());
                }
                self.walk(&path, state);
            } else if !path.is_file() {
                // A jobserver's FIFO: reading it would block.
                state.insert(name, "no file".into());
            } else if name.ends_with("make.log") {
                state.insert(name, "a log".into());
            } else {
                let content = fs::read(&path).unwrap();
                let what = match serde_json::from_slice::<serde_json::Value>(&content) {
                    Ok(mut json) if name.contains("/records/") => {
                        json["seconds"] = 0.into();
                        json.to_string()
                    }
                    _ => hash::hex(&content),
                };
                state.insert(name, what);
            }
        }
    }

    /// A transaction that was killed has written down what it was doing.
    pub(super) fn interrupted(&self) -> bool {
        dkms_core::sys::file::sorted_entries(&self.root.join("lib/.dkms-rs/intent"))
            .iter()
            .any(|path| !path.to_string_lossy().contains(TEMP_PREFIX))
    }

    /// The data that rewriting a file changes.
    pub(super) fn stamps(&self) -> BTreeMap<String, (u64, i64)> {
        let stamp = |path: &String| {
            let meta = self.root.join(path).symlink_metadata().unwrap();
            (path.clone(), (meta.ino(), meta.mtime_nsec()))
        };
        // Some directories are created and deleted.
        self.state().keys().filter(|path| !path.ends_with('/')).map(stamp).collect()
    }

    /// Starts a command and waits until it sleeps at its failpoint; `None` if it ended without reaching it.
    pub(super) fn stop_at(&self, words: &[&str], failpoints: &str) -> Option<Child> {
        let mut child = self.command(words).env("FAILPOINTS", failpoints).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut seen = 0;
        while seen < 2 {
            assert!(Instant::now() < deadline, "{words:?} neither sleeps nor ends");
            if child.try_wait().unwrap().is_some() {
                return None;
            }
            seen = if sleeps(child.id()) { seen + 1 } else { 0 };
            std::thread::sleep(Duration::from_millis(2));
        }
        Some(child)
    }
}

impl Ended {
    pub(super) fn of(child: Child) -> Self {
        let output = child.wait_with_output().unwrap();
        Self {
            code: output.status.code().unwrap_or(-1),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Whether a thread of a process sleeps at its failpoint. If the kernel does not report what a thread waits for: none
/// is running, and none waits for a child.
fn sleeps(pid: u32) -> bool {
    let threads = dkms_core::sys::file::sub_dirs(&Path::new("/proc").join(pid.to_string()).join("task"));
    let read = |thread: &String, name: &str| {
        fs::read_to_string(format!("/proc/{pid}/task/{thread}/{name}")).unwrap_or_default()
    };
    let waits: Vec<String> = threads.iter().map(|thread| read(thread, "wchan")).collect();
    if waits.iter().any(|waits| !matches!(waits.as_str(), "" | "0")) {
        return waits.iter().any(|waits| waits.contains("nanosleep"));
    }
    let idle = |thread: &String| {
        read(thread, "stat").rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('S'))
            && read(thread, "children").is_empty()
    };
    !threads.is_empty() && threads.iter().all(idle)
}

/// Replaces `to` by a copy of `from`.
fn copy(from: &Path, to: &Path) {
    for entry in dkms_core::sys::file::sorted_entries(to) {
        dkms_core::sys::file::remove_all(&entry).unwrap();
    }
    dkms_core::sys::file::copy_tree(from, to, None).unwrap();
}
