//! Process numbers. /proc may belong to an outer process namespace, as in a chroot that `unshare --pid` starts after /proc was
//! mounted: the numbers in it are then not those that this process and the system calls use.

use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::sys::file;

/// This process, as /proc shows it.
pub fn own() -> u32 {
    let shown = std::fs::read_link("/proc/self").ok();
    let shown = shown.and_then(|link| link.to_str()?.parse().ok());
    shown.unwrap_or_else(std::process::id)
}

/// The number that a process has in our namespace, if it is visible there. `shown`: its number in /proc.
pub fn here(shown: u32) -> Option<u32> {
    let status = |pid: u32| file::text(format!("/proc/{pid}/status")).unwrap_or_default();
    translated(&status(own()), &status(shown), shown)
}

/// A process has a number in each namespace, outer ones first. Before Linux 4.1, they are not listed.
fn translated(own: &str, status: &str, shown: u32) -> Option<u32> {
    let numbers = |status: &str| -> Option<Vec<u32>> {
        let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
        line.split_whitespace().map(|number| number.parse().ok()).collect()
    };
    match numbers(own) {
        Some(ours) => numbers(status)?.get(ours.len().checked_sub(1)?).copied(),
        None => Some(shown),
    }
}

/// The children of this process or of one of its children, with their numbers in our namespace. `pid`: the same, of a process
/// that has one thread.
pub fn children(pid: u32) -> Vec<u32> {
    let shown = if pid == std::process::id() { Some(own()) } else { child(pid) };
    let children = shown.map(|shown| listed(&PathBuf::from(format!("/proc/{shown}/task/{shown}"))));
    children.unwrap_or_default().into_iter().filter_map(here).collect()
}

/// A child of this process, as /proc shows it.
fn child(pid: u32) -> Option<u32> {
    let threads = file::sorted_entries(Path::new("/proc/self/task"));
    threads.iter().flat_map(|thread| listed(thread)).find(|shown| here(*shown) == Some(pid))
}

fn listed(thread: &Path) -> Vec<u32> {
    let text = file::text(thread.join("children")).unwrap_or_default();
    text.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// Whether a process with this number in our namespace exists.
pub fn exists(pid: &str) -> bool {
    let Some(pid) = pid.parse().ok().filter(|pid| *pid > 0).and_then(Pid::from_raw) else { return false };
    // Only its user and root may send it a signal.
    !test_kill_process(pid).is_err_and(|errno| errno == Errno::SRCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_that_of_the_namespace_of_this_process() {
        let list = |numbers: &str| format!("Name:\tsh\nPid:\t77\nNSpid:\t{numbers}\nNSsid:\t1\n");
        for (own, status, expected) in [
            // The same namespace as that of /proc.
            (list("40"), list("77"), Some(77)),
            (list("40"), list("77\t5"), Some(77)),
            // /proc is that of an outer one.
            (list("40\t2"), list("77\t5"), Some(5)),
            (list("40\t2"), list("77\t5\t1"), Some(5)),
            (list("40\t2"), list("77"), None),
            // It ended, or the kernel does not list them.
            (list("40\t2"), String::new(), None),
            (String::new(), String::new(), Some(77)),
        ] {
            assert_eq!(translated(&own, &status, 77), expected, "{own:?} {status:?}");
        }
    }

    #[test]
    fn this_process_exists_and_has_itself_as_parent_of_its_children() {
        let me = std::process::id();
        assert_eq!(here(own()), Some(me));
        for (pid, expected) in
            [(me.to_string(), true), ("1".into(), true), ("4000001".into(), false), ("x".into(), false)]
        {
            assert_eq!(exists(&pid), expected, "{pid}");
        }
        assert!(!exists("0") && !exists("-1") && !exists(""));
    }
}
