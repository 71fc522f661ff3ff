//! The user and group of confined commands: a number that no other user of this machine has.
//!
//! Not `nobody`: daemons run as that, and could change what is being built. systemd's UIDS-GIDS lists 65520…65533 as
//! unused, Debian's policy as reserved; SUSE uses the last number for a group. They are below 65536, because containers
//! often map no higher ids.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

use anyhow::{Result, bail};

/// The number that is used if it is free.
pub const PREFERRED: u32 = 65529;
/// The other candidates, in order.
const OTHERS: [u32; 12] =
    [65528, 65527, 65526, 65525, 65524, 65523, 65522, 65521, 65520, 65530, 65531, 65532];

static CHOSEN: OnceLock<u32> = OnceLock::new();

/// The user of this process's commands, selected once. An error means that every candidate is in use.
pub(super) fn user() -> Result<u32> {
    if let Some(user) = CHOSEN.get() {
        return Ok(*user);
    }
    let read = |path: &str| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    let mut taken = entries(&read("/etc/passwd"), &[2, 3]);
    taken.extend(entries(&read("/etc/group"), &[2]));
    match [PREFERRED].into_iter().chain(OTHERS).find(|id| !taken.contains(id) && !runs(*id)) {
        Some(user) => Ok(*CHOSEN.get_or_init(|| user)),
        None => bail!("the user ids 65520 to 65532 all have a user, a group or a process"),
    }
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
        assert!(!OTHERS.contains(&PREFERRED) && OTHERS.iter().all(|id| (65520..65533).contains(id)));
    }
}
