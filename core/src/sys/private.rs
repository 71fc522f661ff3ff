//! A private directory that only root can enter, for untrusted data. Deleted when it is dropped.
#![allow(clippy::disallowed_methods)] // this is the place

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use super::{file, hash, mounts, number, run};

/// The directory. Everything in it was created through this value: each name once, never through a link.
#[derive(Debug)]
pub struct Private {
    dir: PathBuf,
    /// Another process created it, and deletes it.
    given: bool,
}

impl Drop for Private {
    fn drop(&mut self) {
        // Deleting mounts would delete the system's own files. A mount that cannot be removed is left to the next run,
        // which is in another namespace and sees an empty directory there.
        if !self.given && let_go(&self.dir) {
            let _ = file::remove_all(&self.dir);
        }
    }
}

/// Unmounts everything below a directory that this process sees; returns whether nothing is left. Unknown counts as not
/// empty.
fn let_go(dir: &Path) -> bool {
    // The mount table contains canonical paths.
    let Ok(dir) = dir.canonicalize() else { return false };
    let dir = dir.as_path();
    let Ok(points) = mounts::below(dir) else { return false };
    for point in points.iter().rev() {
        let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
    }
    mounts::below(dir).is_ok_and(|left| left.is_empty())
}

impl Private {
    /// Creates a new directory below `parent`, and deletes those of dead processes.
    pub fn new(parent: &Path) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let context = || format!("creating a directory in {}", parent.display());
        fs::create_dir_all(parent).with_context(context)?;
        sweep(parent)?;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let dir = parent.join(format!("{pid}-{}-{number}", run::started(number::own()).unwrap_or_default()));
        // A process with our pid must be dead.
        file::remove_all(&dir)?;
        DirBuilder::new().mode(0o700).create(&dir).with_context(context)?;
        Ok(Self { dir, given: false })
    }

    /// Creates a new directory for a user who has no other place. Its name is not known before, and in a directory for temporary
    /// files only its owner can rename it.
    pub fn temporary() -> Result<Self> {
        let random: [u8; 16] = hash::random()?;
        let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let dir = std::env::temp_dir().join(format!("dkms-{name}"));
        let context = || format!("creating {}", dir.display());
        DirBuilder::new().mode(0o700).create(&dir).with_context(context)?;
        Ok(Self { dir, given: false })
    }

    /// A directory that another process created, and deletes.
    pub fn given(dir: PathBuf) -> Self {
        Self { dir, given: true }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Creates a directory, whatever the umask is. An existing name is an error.
    pub fn dir(&self, path: &Path) -> io::Result<()> {
        let path = self.dir.join(path);
        DirBuilder::new().mode(0o700).create(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(0o755))
    }

    /// Writes a file. An existing name, also of a link, is an error. Returns the number of bytes.
    pub fn file(&self, path: &Path, content: &mut dyn Read, executable: bool, mtime: u64) -> io::Result<u64> {
        let path = self.dir.join(path);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let size = io::copy(content, &mut file)?;
        let mode = if executable { 0o755 } else { 0o644 };
        file.set_permissions(Permissions::from_mode(mode))?;
        let time = std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_secs(mtime));
        // An invalid time is ignored.
        let _ = time.map(|time| file.set_modified(time));
        Ok(size)
    }

    /// Copies a file to another name.
    pub fn copy(&self, from: &Path, to: &Path, executable: bool, mtime: u64) -> io::Result<u64> {
        self.file(to, &mut File::open(self.dir.join(from))?, executable, mtime)
    }

    /// Deletes a file, so that another one can have its name.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(self.dir.join(path))
    }

    /// Creates a symbolic link. The caller must have checked the target.
    pub fn link(&self, path: &Path, target: &Path) -> io::Result<()> {
        std::os::unix::fs::symlink(target, self.dir.join(path))
    }

    /// Makes it readable for others, after its content has been checked.
    pub fn open_up(&self) -> io::Result<()> {
        fs::set_permissions(&self.dir, Permissions::from_mode(0o755))
    }
}

/// Deletes the directories of dead processes: their names begin with a pid and the time when that process was started.
pub fn sweep(parent: &Path) -> Result<()> {
    for left in file::sorted_entries(parent) {
        let name = left.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut numbers = name.split('-').map_while(|word| word.parse().ok());
        let process = numbers.next().zip(numbers.next());
        let alive = process.is_some_and(|(pid, time): (u64, u64)| exists(pid, time));
        if !alive {
            file::remove_all(&left)?;
        }
    }
    Ok(())
}

/// Whether a process with this number and start exists. Where /proc does not have our numbers, only the number counts.
fn exists(pid: u64, time: u64) -> bool {
    let started = u32::try_from(pid).ok().and_then(run::started);
    let ours = number::own() == std::process::id();
    number::exists(&pid.to_string()) && (!ours || started.is_none_or(|started| started == time))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only root can mount; for other users there is nothing to test.
    #[test]
    #[allow(deprecated)] // the deprecation is about CLONE_FILES, which is not among our flags
    fn what_is_mounted_in_it_is_not_deleted_with_it() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let parent = tempfile::tempdir().unwrap();
        let system = parent.path().join("system");
        file::write_atomic(&system.join("lib/libc.so"), b"x", 0o644).unwrap();
        // A thread can have a namespace of its own.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                use rustix::mount::{MountPropagationFlags, mount_bind_recursive, mount_change};
                rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNS).unwrap();
                mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE).unwrap();
                let private = Private::new(&parent.path().join("in")).unwrap();
                private.dir(Path::new("under")).unwrap();
                let under = private.path().join("under");
                mount_bind_recursive(&system, &under).unwrap();
                assert!(under.join("lib/libc.so").exists());
                drop(private);
            });
        });
        assert!(system.join("lib/libc.so").exists());
        assert!(file::sorted_entries(&parent.path().join("in")).is_empty());
    }

    #[test]
    fn nothing_is_written_twice_or_through_a_link_and_nothing_stays() {
        let parent = tempfile::tempdir().unwrap();
        let time = run::started(std::process::id()).unwrap();
        let own = format!("{}-{time}-99", std::process::id());
        // Another process had our pid before.
        let reused = format!("{}-{}-0", std::process::id(), time - 1);
        let names = ["4194305-0-0", "4194305-0", &reused, "word", &own].map(|name| parent.path().join(name));
        names.iter().for_each(|name| fs::create_dir(name).unwrap());
        let private = Private::new(parent.path()).unwrap();
        assert_eq!(names.each_ref().map(|name| name.exists()), [false, false, false, false, true]);
        assert_eq!(private.path().metadata().unwrap().permissions().mode() & 0o777, 0o700);
        let (a, link) = (Path::new("a"), Path::new("link"));
        private.file(a, &mut &b"x"[..], true, 1000).unwrap();
        private.link(link, &parent.path().join("outside")).unwrap();
        for taken in [a, link] {
            assert!(private.file(taken, &mut &b"y"[..], false, 0).is_err());
            assert!(private.dir(taken).is_err());
        }
        assert!(!parent.path().join("outside").exists());
        let path = private.path().to_owned();
        drop(private);
        assert!(!path.exists());
    }
}
