//! Throwaway Debian roots.
//!
//! A [`Root`] is an overlay over cached read-only [`Layer`]s, mounted in its own mount and PID namespace. The first
//! process of that namespace runs until its stdin is closed, which the test holds: when the test ends, even by a crash,
//! the kernel kills everything in the root and unmounts it. The remaining files are deleted by the next test.

mod base;
mod layer;
mod space;
mod terminal;

use std::cell::RefCell;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub use base::Suite;
pub use layer::Layer;

use crate::Output;
use crate::output::tail;
use crate::status::{self, StatusLine};
use space::Space;

/// The time limit of one command; a hang becomes exit 124 with a transcript.
const LIMIT_SECONDS: u32 = 1500;

/// A running root: commands run in it as root, files are reached through [`Root::path`].
pub struct Root {
    space: Space,
    /// The time limit of one command, in seconds.
    limit: u32,
    transcript: RefCell<String>,
    background: RefCell<Vec<Child>>,
}

impl Root {
    /// A fresh root over a layer.
    pub fn on(layer: &Layer) -> Self {
        // Emulated programs need ten times as long.
        let limit = LIMIT_SECONDS * if layer.suite().foreign.is_some() { 5 } else { 1 };
        let (transcript, background) = (RefCell::default(), RefCell::default());
        Self { space: Space::start(layer), limit, transcript, background }
    }

    /// Runs a shell command (bash) and returns its output; never panics because of its exit code.
    pub fn run(&self, command: &str) -> Output {
        self.run_within(self.limit, command)
    }

    /// The same with another time limit; exit 124 means that it was exceeded.
    pub fn run_within(&self, seconds: u32, command: &str) -> Output {
        let output = self.space.capture(command, self.enter(seconds, command));
        self.transcript.borrow_mut().push_str(&output.to_string());
        output
    }

    /// Runs a command in a user namespace in which root is the only user. The kernel makes none for a process in a chroot, so
    /// it is made before the root is entered.
    pub fn run_as_only_user(&self, command: &str) -> Output {
        let leader = self.space.leader().to_string();
        let mut enter = Command::new("nsenter");
        enter.args(["-t", &leader, "-m", "-p", "--", "unshare", "--user", "--map-root-user", "chroot"]);
        enter.arg(self.space.mounted()).args(["/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]);
        enter.args(["timeout", &self.limit.to_string(), "/bin/bash", "-c", command]).stdin(Stdio::null());
        let output = self.space.capture(command, enter);
        self.transcript.borrow_mut().push_str(&output.to_string());
        output
    }

    /// Starts a command that runs until it ends or the root is dropped; its output is discarded.
    pub fn start(&self, command: &str) {
        let mut enter = self.enter(self.limit, command);
        let child = enter.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("nsenter");
        self.background.borrow_mut().push(child);
        self.transcript.borrow_mut().push_str(&format!("$ {command} &\n"));
    }

    /// Runs a command whose output goes to the terminal; returns its exit code.
    pub fn show(&self, command: &str) -> i32 {
        let mut enter = self.enter(self.limit, command);
        let status = enter.stdout(Stdio::inherit()).stderr(Stdio::inherit()).status().expect("nsenter");
        status.code().unwrap_or(128)
    }

    fn enter(&self, seconds: u32, command: &str) -> Command {
        let mut enter = Command::new("nsenter");
        let leader = self.space.leader().to_string();
        enter.args(["-t", &leader, "-m", "-p", "-r", "-w", "--", "/usr/bin/env", "-i"]);
        enter.args(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "TERM=dumb"]);
        enter.args(["DEBIAN_FRONTEND=noninteractive", "timeout", "-k", "5"]);
        // An additional check: outside of a test root, a command does nothing.
        let guarded = format!("[ -e {} ] || exit 98\n{command}", base::STAMP);
        enter.arg(seconds.to_string()).args(["/bin/bash", "-c", &guarded]);
        enter.stdin(Stdio::null());
        enter
    }

    /// `apt-get install`: package names or paths of .deb files in the root.
    pub fn apt_install(&self, packages: &[&str]) -> Output {
        self.run(&format!("apt-get -q -y install {}", packages.join(" ")))
    }

    /// Downloads .debs into the archive cache without installing them; returns their paths on the host.
    pub fn download(&self, packages: &[&str]) -> Vec<PathBuf> {
        let list = packages.join(" ");
        self.run(&format!("cd /var/cache/apt/archives && apt-get -q download {list}")).ok();
        let fields = |field: &str| {
            let shown =
                self.run(&format!("apt-cache show --no-all-versions {list} | sed -n 's/^{field}: //p'")).ok();
            shown.stdout.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let (versions, arches) = (fields("Version"), fields("Architecture"));
        let file = |((package, version), arch): ((&&str, &String), &String)| {
            let name = format!("{package}_{}_{arch}.deb", version.replace(':', "%3a"));
            self.path(&format!("/var/cache/apt/archives/{name}"))
        };
        packages.iter().zip(&versions).zip(&arches).map(file).collect()
    }

    /// Mounts a directory of the host in the root, until the root is dropped.
    pub fn bind(&self, from: &Path, inside: &str, writable: bool) {
        self.space.bind(from, inside, writable);
    }

    /// A path of the root on the host. Absolute symlinks lead out of the root: avoid them.
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.space.leader()))
    }

    /// Writes a file, making its directory.
    pub fn write(&self, inside: &str, content: impl AsRef<[u8]>) {
        let path = self.path(inside);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap_or_else(|e| panic!("writing {inside}: {e}"));
    }

    /// Writes an executable file.
    pub fn write_script(&self, inside: &str, content: &str) {
        use std::os::unix::fs::PermissionsExt;
        self.write(inside, content);
        std::fs::set_permissions(self.path(inside), std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A file's text, lossily decoded; panics when it cannot be read.
    #[track_caller]
    pub fn read(&self, inside: &str) -> String {
        String::from_utf8_lossy(&self.read_bytes(inside)).into_owned()
    }

    /// A file's bytes; panics when it cannot be read.
    #[track_caller]
    pub fn read_bytes(&self, inside: &str) -> Vec<u8> {
        std::fs::read(self.path(inside)).unwrap_or_else(|e| panic!("reading {inside}: {e}"))
    }

    /// Whether a path exists (a dangling link counts).
    pub fn exists(&self, inside: &str) -> bool {
        self.path(inside).symlink_metadata().is_ok()
    }

    /// Copies a file of the host into the root.
    pub fn copy_in(&self, from: &Path, inside: &str) {
        let to = self.path(inside);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from, &to).unwrap_or_else(|e| panic!("copying {} to {inside}: {e}", from.display()));
    }

    /// Paths below a directory that satisfy `find`'s expression, sorted; a missing directory has none.
    pub fn find(&self, directory: &str, expression: &str) -> Vec<String> {
        let found = self.run(&format!("find {directory} {expression} 2>/dev/null | sort")).stdout;
        found.lines().map(str::to_owned).collect()
    }

    /// `dkms status`, parsed.
    pub fn status(&self) -> Vec<StatusLine> {
        status::parse(&self.run("dkms status").ok().stdout)
    }

    /// The state of one module (`name/version`) for one kernel: `none` if `dkms status` has no such line.
    pub fn state_of(&self, module: &str, kernel: &str) -> String {
        let lines = self.status();
        let found = lines.iter().find(|l| l.module == module && l.kernel.as_deref() == Some(kernel));
        found.map_or_else(|| "none".to_owned(), |l| l.state.clone())
    }

    /// Requires `dkms status` to say `installed` for each module (`name/version`).
    #[track_caller]
    pub fn expect_installed(&self, modules: &[&str], kernel: &str) {
        for module in modules {
            assert_eq!(self.state_of(module, kernel), "installed", "{module} for {kernel}");
        }
    }

    /// Requires that all packages are configured.
    #[track_caller]
    pub fn expect_clean_dpkg(&self) {
        let audit = self.run("dpkg --audit").ok();
        assert!(audit.stdout.trim().is_empty(), "dpkg --audit is not empty\n{audit}");
    }

    /// Requires that the output names a command that prints a log with an error.
    #[track_caller]
    pub fn expect_log(&self, output: &Output) {
        let logs = output.named_logs();
        assert!(!logs.is_empty(), "no log is named\n{output}");
        for command in logs {
            let log = self.run(&command).ok();
            assert!(log.stdout.contains("error"), "{command} tells of no error\n{output}");
        }
    }

    /// Adds a line to the transcript.
    pub fn note(&self, text: &str) {
        self.transcript.borrow_mut().push_str(&format!("# {text}\n"));
    }

    /// Everything that was run so far.
    pub fn transcript(&self) -> String {
        self.transcript.borrow().clone()
    }

    /// Ends the root and keeps its written files as a new layer directory.
    fn into_layer(mut self, name: &str) {
        self.space.keep_as(name);
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Root({})", self.space.leader())
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let name = std::thread::current().name().unwrap_or("test").to_owned();
            eprintln!("==== transcript of {name} (last part)\n{}==== end", tail(&self.transcript(), 40_000));
        }
        self.space.stop();
        for mut child in self.background.borrow_mut().drain(..) {
            child.wait().ok();
        }
    }
}
