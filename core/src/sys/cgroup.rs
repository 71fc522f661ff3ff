//! Memory limits and counters of the control group (version 2).

use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";

/// Bytes until the tightest limit of our group or its parents is reached. `None` without a limit.
pub fn memory_left() -> Option<u64> {
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    left(Path::new(ROOT), &own)
}

/// The number of processes that the kernel has killed for lack of memory since it was started.
pub fn killed_for_memory() -> u64 {
    let counters = std::fs::read_to_string("/proc/vmstat").unwrap_or_default();
    let count = counters.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok());
    count.unwrap_or(0)
}

/// The same for a hierarchy mounted at `root` and the text of /proc/PID/cgroup.
fn left(root: &Path, own: &str) -> Option<u64> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mut group: PathBuf = root.join(path.trim_start_matches('/'));
    let mut tightest: Option<u64> = None;
    loop {
        let number = |name: &str| std::fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
        if let Some(limit) = number("memory.max") {
            // The page cache counts as used and can be dropped.
            let files = std::fs::read_to_string(group.join("memory.stat"))
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
    use crate::sys::file::write_atomic;

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
}
