//! The machine that runs the tests: the paths of caches, the required tools, the path of the product's .deb.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

/// `target/roots` of the checkout: everything here may be deleted at any time (`make clean` does).
pub fn roots_dir() -> PathBuf {
    let dir = workspace().join("target/roots");
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// The checkout.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("tests/ lies in the workspace").to_owned()
}

/// The directory of this machine's cargo with its settings and downloads.
pub fn cargo_home() -> PathBuf {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    home.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").expect("HOME")).join(".cargo"))
}

/// The product under test: `DKMS_DEB`, or the newest `dist/dkms-rs_*.deb`.
pub fn product_deb() -> PathBuf {
    product("DKMS_DEB", "dkms-rs_", ".deb")
}

/// The product under test as an rpm: `DKMS_RPM`, or the newest `dist/dkms-rs-*.rpm`.
pub fn product_rpm() -> PathBuf {
    product("DKMS_RPM", "dkms-rs-", ".rpm")
}

fn product(variable: &str, begins: &str, ends: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return path.into();
    }
    let dist = workspace().join("dist");
    let entries = std::fs::read_dir(&dist).map(|d| d.flatten().map(|e| e.path()).collect::<Vec<_>>());
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(begins) && name.ends_with(ends)
    };
    let modified = |path: &PathBuf| path.metadata().and_then(|m| m.modified()).ok();
    let newest = entries.unwrap_or_default().into_iter().filter(is_ours).max_by_key(modified);
    newest.unwrap_or_else(|| panic!("no dist/{begins}*{ends}: run `make packages`, or set {variable}"))
}

/// Whether the product is the shell DKMS: the harness itself is proven against it, the product's promises are not.
pub fn product_is_shell_dkms() -> bool {
    let name = product_deb().file_name().unwrap_or_default().to_string_lossy().into_owned();
    name.starts_with("dkms_")
}

/// Installs the Debian packages of missing tools. One row: tool, package.
pub fn need_tools(rows: &[(&str, &str)]) {
    let missing = |tool: &str| {
        let dirs = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"];
        !dirs.iter().any(|dir| Path::new(dir).join(tool).exists())
    };
    let packages: Vec<&str> =
        rows.iter().filter(|(tool, _)| missing(tool)).map(|(_, package)| *package).collect();
    if packages.is_empty() {
        return;
    }
    let _lock = lock("host-apt");
    eprintln!("installing packages: {}", packages.join(" "));
    let shell = format!(
        "apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=600 --no-install-recommends install {}",
        packages.join(" ")
    );
    run_host(&shell);
}

/// Runs a shell command on the host; panics with its output when it fails.
pub fn run_host(shell: &str) -> String {
    let raw = Command::new("bash").args(["-euo", "pipefail", "-c", shell]).output().expect("bash");
    crate::Output::new(shell, &raw).ok().stdout
}

/// An exclusive lock among all test processes of this checkout; released when the value is dropped or the process dies.
pub fn lock(name: &str) -> File {
    let file = lock_file(name);
    flock(&file, FlockOperation::LockExclusive).unwrap();
    file
}

/// A shared lock: many readers, no builder.
pub fn lock_shared(name: &str) -> File {
    let file = lock_file(name);
    flock(&file, FlockOperation::LockShared).unwrap();
    file
}

/// An exclusive lock, if it is free.
pub fn try_lock(name: &str) -> Option<File> {
    let file = lock_file(name);
    flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok().then_some(file)
}

fn lock_file(name: &str) -> File {
    let dir = roots_dir().join("locks");
    std::fs::create_dir_all(&dir).unwrap();
    OpenOptions::new().create(true).truncate(false).write(true).open(dir.join(name)).unwrap()
}

/// The first 12 hex digits of the SHA-256 of these parts: a short key for a cache.
pub fn key(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex(&hash.finalize())[..12].to_owned()
}

/// SHA-256 of some bytes, in hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A clock tick of /proc, which is a hundredth of a second on every Linux that Debian ships.
const TICK: Duration = Duration::from_millis(10);

/// Processor times in a `/proc/PID/stat`: that of the process, and that of its ended children, each including user and
/// kernel mode. The program's name may contain any character.
pub fn cpu_in(stat: &str) -> [Duration; 2] {
    let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ');
    let ticks: Vec<u32> = fields.skip(11).take(4).filter_map(|field| field.parse().ok()).collect();
    [0, 2].map(|from| TICK * ticks.iter().skip(from).take(2).sum())
}

#[cfg(test)]
mod tests {
    use super::cpu_in;
    use std::time::Duration;

    #[test]
    fn own_time_and_that_of_children() {
        let stat = "42 (a ) name) Z 1 42 42 0 -1 4 10 20 0 0 100 20 3000 400 20 0 1 0 7 0 0";
        assert_eq!(cpu_in(stat), [1_200, 34_000].map(Duration::from_millis));
        assert_eq!(cpu_in(""), [Duration::ZERO; 2]);
    }
}
