//! One package in one fresh root.

use std::collections::BTreeSet;
use std::time::Instant;

use super::packages::Package;
use super::record::{BYTES, IMPORTS, Modinfo, Module, Record};
use crate::{Kernel, Root, host};

/// More than the slowest module needs on a busy machine.
const LIMIT_SECONDS: u32 = 4 * 3600;

/// The same number on both sides and on every machine, because a dkms.conf can read it.
const JOBS: u32 = 2;

/// Lists the DKMS tree. The signing key is next to it.
const REGISTRY: &str = "cd /var/lib/dkms && find . -mindepth 1 \\( -path '*/build' -o -name .dkms-rs -o -name 'mok.*' \\) -prune \
    -o -printf '%y %P %l\\n' | sort";

/// Size of the kernel's `struct module_signature`.
const SIGNATURE_RECORD: usize = 12;

/// Installs the package, then adds, builds and installs each source tree that came with it.
pub fn run(root: &Root, package: &Package, kernel: &Kernel) -> Record {
    let mut record =
        Record { package: package.name.clone(), version: package.version.clone(), ..Record::default() };
    let installed = root.run(&format!("apt-get -q -y install {}={}", package.name, package.version));
    if installed.status != 0 {
        record.unavailable = Some(last_lines(&installed.all(), 12));
        return record;
    }
    let before = module_files(root, kernel);
    let start = Instant::now();
    for source in sources(root, package) {
        record.modules.push(module(root, source, kernel));
    }
    record.seconds = start.elapsed().as_secs_f64();
    let after = module_files(root, kernel);
    record.files = after.difference(&before).map(|f| (f.clone(), modinfo(root, f))).collect();
    record.gone = before.difference(&after).cloned().collect();
    record.status = root.run("dkms status").stdout.lines().map(str::to_owned).collect();
    record.status.sort();
    record.tree = root.run(REGISTRY).ok().stdout.lines().map(str::to_owned).collect();
    record
}

/// Source trees with a dkms.conf: those of dependencies come first, because this package may need them.
fn sources(root: &Root, package: &Package) -> Vec<(String, bool)> {
    let owned = root.run(&format!("dpkg -L {}", package.name)).ok().stdout;
    let own = |dir: &str| owned.lines().any(|l| l == format!("{dir}/dkms.conf"));
    let confs = root.find("/usr/src", "-mindepth 2 -maxdepth 2 -name dkms.conf");
    let dirs = confs.iter().filter_map(|c| c.strip_suffix("/dkms.conf"));
    let mut found: Vec<(String, bool)> = dirs.map(|d| (d.to_owned(), own(d))).collect();
    found.sort_by_key(|(_, own)| *own);
    found
}

fn module(root: &Root, (source, own): (String, bool), kernel: &Kernel) -> Module {
    let mut module = Module { own, source, ..Module::default() };
    let known = ids(root);
    let added = root.run(&format!("dkms add '{}'", module.source));
    module.exits[0] = Some(added.status);
    module.said = added.all();
    let Some(id) = ids(root).difference(&known).next().cloned() else { return module };
    let (name, version) = id.split_once('/').expect("name/version");
    // Quoted: a version may look like a comment.
    let chosen = format!("-m '{name}' -v '{version}' -k {}", kernel.release);
    let built = root.run_within(LIMIT_SECONDS, &format!("dkms build {chosen} -j {JOBS}"));
    module.exits[1] = Some(built.status);
    module.said = built.all();
    if built.status == 0 {
        let installed = root.run_within(LIMIT_SECONDS, &format!("dkms install {chosen}"));
        module.exits[2] = Some(installed.status);
        module.install_said = installed.all();
    }
    module.log = log(root, &id, kernel);
    module.id = id;
    module
}

/// Everything registered, as `name/version`.
fn ids(root: &Root) -> BTreeSet<String> {
    root.run("dkms status").stdout.lines().filter_map(id).collect()
}

fn id(line: &str) -> Option<String> {
    let place = line.rsplit_once(": ")?.0;
    let id = place.split(", ").next()?;
    (id.contains('/') && !id.contains(' ')).then(|| id.to_owned())
}

/// The log of a successful build is next to the modules, that of a failed one in the build directory.
fn log(root: &Root, id: &str, kernel: &Kernel) -> String {
    let tree = format!("/var/lib/dkms/{id}");
    let places = [format!("{tree}/{}/x86_64/log/make.log", kernel.release), format!("{tree}/build/make.log")];
    let found = places.iter().find(|p| root.exists(p));
    found.map_or_else(String::new, |p| last_lines(&root.read(p), 2000))
}

fn module_files(root: &Root, kernel: &Kernel) -> BTreeSet<String> {
    let found = root.run(&format!("find {} -name '*.ko*' ! -type d", kernel.modules_dir())).ok();
    found.stdout.lines().map(str::to_owned).collect()
}

/// All fields except for the file name, and the data that kmod prints in addition.
fn modinfo(root: &Root, file: &str) -> Modinfo {
    let mut fields = Modinfo::new();
    for field in root.run(&format!("modinfo -0 '{file}'")).stdout.split('\0') {
        if let Some((name, value)) = field.split_once('=') {
            fields.entry(name.to_owned()).or_default().push(value.trim().to_owned());
        }
    }
    fields.remove("filename");
    let imports = root.run(&format!("modprobe --dump-modversions '{file}'")).stdout;
    fields.insert(IMPORTS.to_owned(), imports.lines().map(str::to_owned).collect());
    fields.insert(BYTES.to_owned(), vec![host::sha256(unsigned(&plain(root, file)))]);
    fields.values_mut().for_each(|values| values.sort());
    fields
}

/// The file's bytes, decompressed.
fn plain(root: &Root, file: &str) -> Vec<u8> {
    let tool = match file.rsplit('.').next() {
        Some("xz") => "xz -dc",
        Some("zst") => "zstd -dcq",
        Some("gz") => "gzip -dc",
        _ => "cat",
    };
    root.run(&format!("{tool} '{file}' > /tmp/plain.ko"));
    root.read_bytes("/tmp/plain.ko")
}

/// Without the signature appended by sign-file: the marker, before it a record that ends with the signature's length.
fn unsigned(module: &[u8]) -> &[u8] {
    let Some(rest) = module.strip_suffix(b"~Module signature appended~\n") else { return module };
    let Some((_, length)) = rest.split_last_chunk::<4>() else { return module };
    let length = u32::from_be_bytes(*length) as usize + SIGNATURE_RECORD;
    rest.len().checked_sub(length).map_or(module, |end| &rest[..end])
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::{id, unsigned};

    #[test]
    fn a_signature_is_no_content() {
        let signed =
            [b"module".as_slice(), b"SIG", &[0; 8], &[0, 0, 0, 3], b"~Module signature appended~\n"].concat();
        assert_eq!(unsigned(&signed), b"module");
        assert_eq!(unsigned(b"module"), b"module");
    }

    #[test]
    fn ids_of_status_lines() {
        assert_eq!(id("a/1:2: added").as_deref(), Some("a/1:2"));
        assert_eq!(id("b/2, 6.12.1-amd64, x86_64: built").as_deref(), Some("b/2"));
        assert_eq!(id("Error! Nothing here."), None);
    }
}
