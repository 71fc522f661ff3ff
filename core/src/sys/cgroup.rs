//! Memory limits and counters of the control group (version 2).

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::file;

const ROOT: &str = "/sys/fs/cgroup";

/// Marks a group as delegated: systemd sets both for a unit with `Delegate=yes` (CGROUP_DELEGATION).
const MARKS: [&str; 2] = ["trusted.delegate", "user.delegate"];
/// What limits a build.
const CONTROLLERS: [&str; 2] = ["memory", "pids"];
/// The group of dkms itself: a group with limited groups below it has no processes.
const LEAF: &str = "dkms";
/// Processes and threads of one sandboxed command. A build of a hundred jobs has a few hundred.
const PROCESSES: u64 = 4096;
/// Memory that the system keeps: an eighth, and at least this.
const RESERVE: u64 = 256 << 20;
/// How long the kernel may take to end the remaining processes of a build.
const PATIENCE: Duration = Duration::from_secs(2);

/// The control group that the service manager delegated to this process.
#[derive(Debug)]
pub struct Delegated {
    dir: PathBuf,
}

/// The delegated group, prepared once: this process is moved to a group below it. `None` if the group is not delegated, or
/// has another process: then nothing is changed.
pub fn delegated() -> Option<&'static Delegated> {
    static FOUND: OnceLock<Option<Delegated>> = OnceLock::new();
    FOUND
        .get_or_init(|| {
            let own = file::text("/proc/self/cgroup").ok()?;
            Delegated::take(Path::new(ROOT), &own)
        })
        .as_ref()
}

impl Delegated {
    fn take(root: &Path, own: &str) -> Option<Self> {
        let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
        let dir = root.join(path.trim_start_matches('/'));
        let has = file::text(dir.join("cgroup.controllers")).ok()?;
        let has = |name: &&str| has.split_whitespace().any(|known| known == *name);
        if !MARKS.iter().any(|mark| marked(&dir, mark)) || !CONTROLLERS.iter().all(has) {
            return None;
        }
        let leaf = dir.join(LEAF);
        file::make_dirs(&leaf).ok()?;
        let enabled = enter(&leaf).and_then(|()| put(&dir.join("cgroup.subtree_control"), "+memory +pids"));
        if enabled.is_err() {
            let _ = enter(&dir);
            let _ = rustix::fs::rmdir(&leaf);
            return None;
        }
        Some(Self { dir })
    }

    /// A group with limits for one sandboxed command. `None` if it could not be created or limited.
    pub fn group(&self) -> Option<Group> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = self.dir.join(format!("build-{}-{number}", std::process::id()));
        file::make_dirs(&dir).ok()?;
        let group = Group { dir };
        put(&group.dir.join("pids.max"), &PROCESSES.to_string()).ok()?;
        put(&group.dir.join("memory.max"), &limit(total()).to_string()).ok()?;
        Some(group)
    }
}

#[allow(clippy::unnecessary_cast, clippy::useless_conversion)] // narrower on some architectures
fn total() -> u64 {
    let memory = rustix::system::sysinfo();
    (memory.totalram as u64).saturating_mul(u64::from(memory.mem_unit))
}

/// The memory that one command may use, of this much.
fn limit(total: u64) -> u64 {
    total.saturating_sub(RESERVE.max(total / 8)).max(total / 2)
}

/// The control group of one sandboxed command. When it is dropped, its processes end.
#[derive(Debug)]
pub struct Group {
    dir: PathBuf,
}

impl Group {
    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether the kernel killed a process in it for lack of memory.
    pub fn starved(&self) -> bool {
        let events = file::text(self.dir.join("memory.events")).unwrap_or_default();
        counter(&events, "oom_kill ") > 0
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = put(&self.dir.join("cgroup.kill"), "1");
        let deadline = Instant::now() + PATIENCE;
        let busy = || rustix::fs::rmdir(&self.dir).is_err_and(|errno| errno == Errno::BUSY);
        while busy() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Moves this process into a group.
pub(super) fn enter(group: &Path) -> std::io::Result<()> {
    put(&group.join("cgroup.procs"), "0")
}

fn marked(dir: &Path, mark: &str) -> bool {
    let mut value = [0; 8];
    rustix::fs::getxattr(dir, mark, &mut value).is_ok_and(|length| value.get(..length) == Some(b"1"))
}

/// Writes to a file of the kernel, which takes a value in one call.
#[allow(clippy::disallowed_methods)] // not a file that could be half written
fn put(path: &Path, value: &str) -> std::io::Result<()> {
    std::fs::File::options().write(true).open(path)?.write_all(value.as_bytes())
}

fn counter(text: &str, name: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix(name)?.parse().ok()).unwrap_or(0)
}

/// Bytes until the tightest limit of our group or its parents is reached. `None` without a limit.
pub fn memory_left() -> Option<u64> {
    let own = file::text("/proc/self/cgroup").ok()?;
    left(Path::new(ROOT), &own)
}

/// The number of processes that the kernel has killed for lack of memory since it was started.
pub fn killed_for_memory() -> u64 {
    counter(&file::text("/proc/vmstat").unwrap_or_default(), "oom_kill ")
}

/// The same for a hierarchy mounted at `root` and the text of /proc/PID/cgroup.
fn left(root: &Path, own: &str) -> Option<u64> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mut group: PathBuf = root.join(path.trim_start_matches('/'));
    let mut tightest: Option<u64> = None;
    loop {
        let number = |name: &str| file::text(group.join(name)).ok()?.trim().parse::<u64>().ok();
        if let Some(limit) = number("memory.max") {
            // The page cache counts as used and can be dropped.
            let files = file::text(group.join("memory.stat"))
                .ok()
                .and_then(|text| {
                    text.lines().find_map(|line| line.strip_prefix("inactive_file ")?.parse().ok())
                })
                .unwrap_or(0);
            let used = number("memory.current").unwrap_or(0).saturating_sub(files);
            let here = limit.saturating_sub(used);
            tightest = Some(tightest.map_or(here, |known| known.min(here)));
        }
        if group == root || !group.pop() || !group.starts_with(root) {
            return tightest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use file::write_atomic;

    #[test]
    fn the_tightest_group_on_the_way_up_counts() {
        let dir = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| write_atomic(&dir.path().join(name), text.as_bytes(), 0o644).unwrap();
        assert_eq!(left(dir.path(), "0::/a/b\n"), None);
        write("a/memory.max", "1000\n");
        write("a/memory.current", "700\n");
        write("a/memory.stat", "anon 5\ninactive_file 100\n");
        write("a/b/memory.max", "max\n");
        assert_eq!(left(dir.path(), "0::/a/b\n"), Some(400));
        write("a/b/memory.max", "300\n");
        assert_eq!(left(dir.path(), "0::/a/b\n"), Some(300));
        assert_eq!(left(dir.path(), "1:cpu:/old\n"), None);
    }

    /// A group as its files look, with nothing of the kernel behind them. `None` where files have no such attributes.
    fn group(controllers: &str, delegated: bool) -> Option<tempfile::TempDir> {
        let root = tempfile::tempdir().unwrap();
        for file in ["a/cgroup.subtree_control", "a/cgroup.procs", "a/dkms/cgroup.procs"] {
            write_atomic(&root.path().join(file), b"", 0o644).unwrap();
        }
        write_atomic(&root.path().join("a/cgroup.controllers"), controllers.as_bytes(), 0o644).unwrap();
        if delegated {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(root.path().join("a"), "user.delegate", b"1", flags).ok()?;
        }
        Some(root)
    }

    #[test]
    fn only_a_delegated_group_with_both_controllers_is_used() {
        for (controllers, delegated, expected) in [
            ("cpu memory pids\n", true, true),
            ("cpu memory pids\n", false, false),
            ("cpu memory\n", true, false),
        ] {
            let Some(root) = group(controllers, delegated) else { continue };
            let read = |file: &str| std::fs::read_to_string(root.path().join(file)).unwrap();
            assert_eq!(Delegated::take(root.path(), "0::/a\n").is_some(), expected, "{controllers}");
            assert_eq!(read("a/dkms/cgroup.procs"), if expected { "0" } else { "" });
            assert_eq!(read("a/cgroup.subtree_control"), if expected { "+memory +pids" } else { "" });
        }
    }

    #[test]
    fn the_system_keeps_some_memory() {
        assert_eq!(limit(512 << 20), 256 << 20);
        assert_eq!(limit(8 << 30), 7 << 30);
        assert_eq!(counter("low 0\noom 3\noom_kill 2\n", "oom_kill "), 2);
    }
}
