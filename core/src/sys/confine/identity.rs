//! The user and group of confined commands: a number that no other user of this machine has, one for each sandbox.
//!
//! Not `nobody`: daemons run as that, and could change what is being built. systemd's UIDS-GIDS lists 65520…65533 as
//! unused, Debian's policy as reserved; SUSE uses the last number for a group. They are below 65536, because containers
//! often map no higher ids.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

/// The candidates.
pub const CANDIDATES: RangeInclusive<u32> = 65520..=65532;

/// The user of this helper's command.
static CHOSEN: OnceLock<u32> = OnceLock::new();
/// How many sandboxes of this process use each user.
static USED: Mutex<BTreeMap<u32, usize>> = Mutex::new(BTreeMap::new());

/// A user for one sandbox. The kernel limits the number of processes of each user: sandboxes that run at the same time get
/// different users while there are enough, so that one cannot stop the others.
#[derive(Debug)]
pub struct Lease(u32);

impl Lease {
    /// The user and group id.
    pub fn id(&self) -> u32 {
        self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut used = USED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = used.get_mut(&self.0) {
            *count -= 1;
        }
    }
}

/// A user that the fewest sandboxes use. An error means that every candidate belongs to someone else.
pub fn lease() -> Result<Lease> {
    static FREE: OnceLock<Vec<u32>> = OnceLock::new();
    let free = FREE.get_or_init(free);
    let mut used = USED.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(id) = free.iter().copied().min_by_key(|id| used.get(id).copied().unwrap_or(0)) else {
        bail!("the user ids 65520 to 65532 all have a user, a group or a process");
    };
    *used.entry(id).or_default() += 1;
    Ok(Lease(id))
}

/// The candidates that no entry and no process has. Containers on the same kernel may build, too, and their processes are not
/// visible here: each process starts with another candidate.
fn free() -> Vec<u32> {
    let read = |path: &str| {
        String::from_utf8_lossy(&crate::sys::file::content(path).unwrap_or_default()).into_owned()
    };
    let mut taken = entries(&read("/etc/passwd"), &[2, 3]);
    taken.extend(entries(&read("/etc/group"), &[2]));
    let mut free: Vec<u32> = CANDIDATES.filter(|id| !taken.contains(id) && !runs(*id)).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.subsec_micros() as usize);
    let start = now % free.len().max(1);
    free.rotate_left(start);
    free
}

/// Why there is no such user: a user namespace has those that its maker gave it, often one.
pub(super) fn missing(id: u32) -> String {
    format!(
        "this user namespace has no user {id} to build as; map more users, or list the module as unconfined in policy.toml"
    )
}

/// The user of this helper's command.
pub(super) fn user() -> Result<u32> {
    CHOSEN.get().copied().context("the user of the sandbox is not known")
}

/// Sets the user that the process waiting for this helper has selected.
pub(super) fn is(user: u32) {
    CHOSEN.get_or_init(|| user);
}

/// The numbers in these fields of passwd or group.
fn entries(text: &str, fields: &[usize]) -> BTreeSet<u32> {
    let numbers = |line: &str| -> Vec<u32> {
        let words: Vec<&str> = line.split(':').collect();
        fields.iter().filter_map(|field| words.get(*field)?.trim().parse().ok()).collect()
    };
    text.lines().flat_map(numbers).collect()
}

/// Whether a process runs as this user or group, which may be defined in any user database.
fn runs(id: u32) -> bool {
    fs::read_dir("/proc").into_iter().flatten().flatten().any(|entry| {
        let process = entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit);
        process && entry.metadata().is_ok_and(|meta| meta.uid() == id || meta.gid() == id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_their_groups_and_groups_take_a_number() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nodd:x:1000:65529::/:/bin/sh\n+::::::\nbroken\n";
        assert_eq!(entries(passwd, &[2, 3]), BTreeSet::from([0, 1000, 65529]));
        assert_eq!(entries("nogroup:x:65533:nobody\n", &[2]), BTreeSet::from([65533]));
    }

    #[test]
    fn sandboxes_at_the_same_time_have_different_users_until_there_are_no_more() {
        let all: Vec<Lease> = CANDIDATES.map(|_| lease().unwrap()).collect();
        let ids: BTreeSet<u32> = all.iter().map(Lease::id).collect();
        let one_more = lease().unwrap();
        assert!(ids.contains(&one_more.id()) && ids.iter().all(|id| CANDIDATES.contains(id)), "{ids:?}");
        // A machine may have given one away.
        assert!(ids.len() > CANDIDATES.count() - 3, "{ids:?}");
        drop(all);
        assert_ne!(lease().unwrap().id(), one_more.id());
    }
}
