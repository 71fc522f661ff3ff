//! Every dkms.conf that Debian ships: downloaded once from the machine's mirror, kept below `target/roots/corpus`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use crate::host::{lock, roots_dir, run_host};
use crate::mirror::Mirror;

/// The suites whose packages are examined.
const SUITES: [&str; 4] = ["bullseye", "bookworm", "trixie", "sid"];

/// All suites if `DKMS_CORPUS=all`, else the current one: the others are a much larger download.
pub fn suites() -> Vec<&'static str> {
    let all = std::env::var("DKMS_CORPUS").is_ok_and(|which| which == "all");
    SUITES.into_iter().filter(|suite| all || *suite == "trixie").collect()
}

const COMPONENTS: &str = "main contrib non-free non-free-firmware";

/// sid changes: an older list of packages is downloaded again.
const FRESH: Duration = Duration::from_secs(7 * 24 * 3600);

/// A `*-dkms` package of a suite.
#[derive(Debug, Clone)]
pub struct Package {
    /// Its suite.
    pub suite: String,
    /// `NAME_VERSION_ARCH`, from its file name.
    pub name: String,
    /// Every dkms.conf in it, in the order of their paths; may be none.
    pub confs: Vec<PathBuf>,
}

/// All packages. Downloads missing ones: all suites are about 800 MB, of which 1 MB is kept.
pub fn packages() -> Vec<Package> {
    let dir = roots_dir().join("corpus");
    fs::create_dir_all(&dir).unwrap();
    let _alone = lock("corpus");
    let list = list(&dir);
    // One package may be in two suites.
    let missing: BTreeMap<&String, &Entry> =
        list.iter().filter(|entry| !entry.kept(&dir).exists()).map(|entry| (&entry.sha256, entry)).collect();
    let queue: Vec<&Entry> = missing.into_values().collect();
    if !queue.is_empty() {
        eprintln!("fetching {} packages for their dkms.conf", queue.len());
    }
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(entry) = queue.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(why) = entry.fetch(&dir) {
                        failed.lock().unwrap().push(why);
                    }
                }
            });
        }
    });
    assert_eq!(failed.into_inner().unwrap(), [""; 0]);
    list.iter()
        .map(|entry| Package {
            suite: entry.suite.clone(),
            name: entry.name(),
            confs: confs(&entry.kept(&dir)),
        })
        .collect()
}

/// A line of the list: the location of a package.
struct Entry {
    suite: String,
    uri: String,
    sha256: String,
}

impl Entry {
    fn name(&self) -> String {
        self.uri.rsplit('/').next().unwrap_or_default().trim_end_matches(".deb").to_owned()
    }

    /// The directory with the files that were kept of it.
    fn kept(&self, dir: &Path) -> PathBuf {
        dir.join(&self.sha256)
    }

    fn fetch(&self, dir: &Path) -> Result<(), String> {
        let (deb, tree) =
            (dir.join(format!("{}.deb", self.sha256)), dir.join(format!("{}.part", self.sha256)));
        let shell = format!(
            "set -e -o pipefail; rm -rf '{tree}'; mkdir '{tree}'
             /usr/lib/apt/apt-helper download-file '{}' '{deb}' 'SHA256:{}'
             dpkg-deb --fsys-tarfile '{deb}' >'{deb}.tar'
             tar -xf '{deb}.tar' -C '{tree}' --no-same-owner --wildcards '*/dkms.conf' || ! tar -tf '{deb}.tar' | grep -q '/dkms\\.conf$'
             rm '{deb}' '{deb}.tar'",
            self.uri,
            self.sha256,
            deb = deb.display(),
            tree = tree.display(),
        );
        let done = Command::new("bash").args(["-c", &shell]).output().unwrap();
        if !done.status.success() {
            return Err(format!("{}: {}", self.name(), String::from_utf8_lossy(&done.stderr)));
        }
        fs::rename(&tree, self.kept(dir)).map_err(|error| format!("{}: {error}", self.name()))
    }
}

/// The list of packages, from apt's own, verified indices.
fn list(dir: &Path) -> Vec<Entry> {
    let file = dir.join(format!("list-{}", suites().join("-")));
    let age = fs::metadata(&file)
        .and_then(|meta| meta.modified())
        .map(|time| SystemTime::now().duration_since(time));
    if !age.is_ok_and(|age| age.unwrap_or_default() < FRESH) {
        fs::write(&file, indices(dir)).unwrap();
    }
    let text = fs::read_to_string(&file).unwrap();
    let entry = |line: &str| {
        let [suite, uri, sha256] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        Entry { suite: suite.to_owned(), uri: uri.to_owned(), sha256: sha256.to_owned() }
    };
    text.lines().map(entry).collect()
}

/// Makes apt download the indices into a separate directory, and selects the packages.
fn indices(dir: &Path) -> String {
    let mirror = Mirror::of_host();
    let apt = dir.join("apt");
    fs::create_dir_all(apt.join("lists/partial")).unwrap();
    let sources: Vec<String> =
        suites().iter().map(|suite| format!("deb {} {suite} {COMPONENTS}\n", mirror.main)).collect();
    fs::write(apt.join("sources.list"), sources.concat()).unwrap();
    let own = format!(
        "Dir::Etc::main \"/dev/null\";\nDir::Etc::parts \"/dev/null\";\nDir::Etc::sourcelist \"{0}/sources.list\";\nDir::Etc::sourceparts \"-\";\nDir::State::lists \"{0}/lists\";\n\
         Acquire::GzipIndexes \"false\";\nAcquire::Languages \"none\";\nAcquire::IndexTargets::deb::Contents-deb::DefaultEnabled \"false\";\n{1}",
        apt.display(),
        mirror.apt_conf
    );
    fs::write(apt.join("apt.conf"), own).unwrap();
    run_host(&format!("APT_CONFIG='{}' apt-get -q update", apt.join("apt.conf").display()));
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(apt.join("lists")).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        let Some(suite) = suites().into_iter().find(|suite| name.contains(&format!("_dists_{suite}_")))
        else {
            continue;
        };
        if name.ends_with("_Packages") {
            let text = String::from_utf8_lossy(&fs::read(entry.path()).unwrap()).into_owned();
            for (file, sha256) in text.split("\n\n").filter_map(module_package) {
                found.insert(format!("{suite} {}/{file}", mirror.main), sha256.to_owned());
            }
        }
    }
    assert!(!found.is_empty(), "no module packages in {}", apt.display());
    fs::remove_dir_all(&apt).unwrap();
    found.iter().map(|(place, sha256)| format!("{place} {sha256}\n")).collect()
}

/// File and hash of a stanza, if it is a module package.
fn module_package(stanza: &str) -> Option<(&str, &str)> {
    let field = |name: &str| stanza.lines().find_map(|line| line.strip_prefix(name));
    field("Package: ").filter(|name| name.ends_with("-dkms"))?;
    Some((field("Filename: ")?, field("SHA256: ")?))
}

fn confs(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            } else if entry.file_type().unwrap().is_file() {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found
}
