//! How the processes of a confined command ended, as recorded by the kernel: acct(2), for the command's PID namespace
//! only. A log can contain any text.
//!
//! A record has 64 bytes (`struct acct_v3` of the kernel's `acct.h`) and is written when a process ends, before its
//! parent is notified: records of parents follow those of their children.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::Result;
use rustix::fs::{Mode, OFlags, openat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
};
use serde::{Deserialize, Serialize};

/// A process that failed, and whose failure was passed on by each process between it and the command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Its name, of at most 15 characters; a process can set it.
    pub program: String,
    /// Its wait status, see wait(2).
    pub status: i32,
}

impl Failed {
    /// The signal that killed it.
    pub fn signal(&self) -> Option<i32> {
        Some(self.status & 0x7f).filter(|signal| *signal != 0)
    }

    /// Its exit code.
    pub fn code(&self) -> Option<i32> {
        self.signal().is_none().then_some(self.status >> 8 & 0xff)
    }
}

/// More records than a build creates. The kernel stops writing when a file system is almost full.
const ROOM: usize = 16 << 20;
/// The maximum number of processes that are examined.
const MOST: usize = 256;
const RECORD: usize = 64;
/// The version of the record that contains process ids.
const VERSION: u8 = 3;

/// The kernel's record of a PID namespace, in an unnamed file in memory.
pub(super) struct Account {
    records: File,
    _memory: OwnedFd,
}

impl Account {
    /// Begins recording for the namespace in which this process is the first. `None` if the kernel or a container does
    /// not allow this.
    pub(super) fn begin() -> Option<Self> {
        if std::process::id() != 1 {
            return None;
        }
        let memory = memory().ok()?;
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
        let records = openat(&memory, "records", flags, Mode::RUSR | Mode::WUSR).ok()?;
        let path = format!("/proc/self/fd/{}/records", memory.as_raw_fd());
        nix::unistd::acct::enable(path.as_str()).ok()?;
        Some(Self { records: records.into(), _memory: memory })
    }

    /// The processes through which the command failed. `None` if the record is incomplete.
    pub(super) fn failed(mut self, command: u32) -> Option<Vec<Failed>> {
        let mut content = Vec::new();
        self.records.rewind().ok()?;
        self.records.read_to_end(&mut content).ok()?;
        if content.len() > ROOM * 9 / 10 {
            return None;
        }
        failed(&content, command)
    }
}

fn memory() -> Result<OwnedFd> {
    let tmpfs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&tmpfs, "size", ROOM.to_string())?;
    fsconfig_create(&tmpfs)?;
    Ok(fsmount(&tmpfs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
}

/// From the end, so that a parent is known before its children. `None` if the records have another format.
fn failed(content: &[u8], command: u32) -> Option<Vec<Failed>> {
    let mut chain = BTreeSet::from([command]);
    let mut failed = Vec::new();
    for record in content.rchunks_exact(RECORD) {
        let number = |at: usize| record.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
        if record[1] & 0x7f != VERSION {
            return None;
        }
        let (status, pid, parent) = (number(4)?, number(16)?, number(20)?);
        if status == 0 || !(pid == command || chain.contains(&parent)) || failed.len() == MOST {
            continue;
        }
        chain.insert(pid);
        let name = record[48..].split(|byte| *byte == 0).next().unwrap_or_default();
        failed.push(Failed { program: String::from_utf8_lossy(name).into_owned(), status: status as i32 });
    }
    Some(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(program: &str, pid: u32, parent: u32, status: u32) -> Vec<u8> {
        let mut record = vec![0; RECORD];
        record[1] = VERSION;
        for (at, number) in [(4, status), (16, pid), (20, parent)] {
            record[at..at + 4].copy_from_slice(&number.to_ne_bytes());
        }
        record[48..48 + program.len()].copy_from_slice(program.as_bytes());
        record
    }

    #[test]
    fn only_a_failure_that_was_passed_on_counts() {
        let records: Vec<u8> = [
            // A program that a script expected to crash.
            record("conftest", 9, 8, 11),
            record("sh", 8, 2, 0),
            record("ld", 7, 6, 9),
            record("sh", 6, 5, 137 << 8),
            record("cc1", 12, 5, 0),
            record("make", 5, 2, 2 << 8),
            // An orphaned process.
            record("sleep", 20, 1, 9),
            record("bash", 2, 1, 2 << 8),
        ]
        .concat();
        let failed = failed(&records, 2).unwrap();
        let programs: Vec<&str> = failed.iter().map(|failed| failed.program.as_str()).collect();
        assert_eq!(programs, ["bash", "make", "sh", "ld"]);
        assert_eq!((failed[3].signal(), failed[3].code()), (Some(9), None));
        assert_eq!((failed[2].signal(), failed[2].code()), (None, Some(137)));
    }

    #[test]
    fn records_of_another_layout_say_nothing() {
        let mut other = record("ld", 7, 2, 9);
        other[1] = 2;
        assert_eq!(failed(&other, 2), None);
        assert_eq!(failed(&[], 2), Some(Vec::new()));
        assert_eq!(failed(&[0; 30], 2), Some(Vec::new()));
    }
}
