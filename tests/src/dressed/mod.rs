//! Packages with the names, versions and layout of distributions' kernels, made on the spot. Nothing in them can run or be built
//! with, unless [`add_kernel`] has put Debian's kernel there: then it is theirs, with their releases.

mod machines;

pub use machines::*;

use crate::modules::Sources;
use crate::roots::Layer;
use crate::{Output, Root, Suite, pacman, stage};

const DEB: &str = include_str!("deb.sh");
const RPM: &str = include_str!("rpm.sh");
const TREE: &str = include_str!("tree.sh");
const REAL: &str = include_str!("real.sh");

/// The repository of such packages in a root.
pub const REPOSITORY: &str = "/opt/dressed";

/// What a package has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The image and the module directory.
    Image,
    /// The same; the image is called otherwise, as the firmware of a board wants it.
    Board,
    /// What modules are built with.
    Headers,
    /// Nothing but dependencies.
    Meta,
}

/// One package: what it has, name, version, and its relation (deb: what it depends on; rpm: what it provides).
pub type Package = (Kind, &'static str, &'static str, &'static str);

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Image => "image",
        Kind::Board => "board",
        Kind::Headers => "headers",
        Kind::Meta => "meta",
    }
}

fn make(root: &Root, script: &str, packages: &[Package], kernel: &str) {
    root.write("/opt/dressed.sh", script);
    for (kind, name, version, relation) in packages {
        let kind = word(*kind);
        root.run(&format!("bash /opt/dressed.sh {kind} {name} {version} '{relation}' {kernel} {REPOSITORY}"))
            .ok();
    }
}

/// The product and a package of the module `fine/1.0`, with no kernel, and no hooks but ours for new ones.
pub fn debian() -> Layer {
    let sources = Sources::new("fine", "1.0");
    let key = format!("{:?}", sources.files());
    stage::product(Suite::trixie()).prepared("headers-advice", &key, |root| {
        let package = sources.package(root);
        root.apt_install(&[&package]).ok();
        root.run("find /etc/kernel -type f ! -name dkms -delete").ok();
    })
}

/// Puts Debian's small kernel in a root, for dressed packages, and the library that the programs of its headers need.
pub fn add_kernel(root: &Root) {
    let kernel = stage::cloud_kernel(Suite::trixie());
    let made = Suite::trixie().base().prepared("kernel-tree", &format!("{TREE}{kernel}"), |root| {
        root.write("/opt/tree.sh", TREE);
        root.run(&format!("bash /opt/tree.sh {kernel} /opt/kernel.tar")).ok();
    });
    root.copy_in(&Root::on(&made).path("/opt/kernel.tar"), "/opt/kernel.tar");
    root.write("/opt/real.sh", REAL);
    root.run("ls /usr/lib/*/libelf.so.1 || apt-get -q -y install libelf1t64").ok();
}

/// Makes .debs of a kernel, and lets apt know nothing else.
pub fn debs(root: &Root, packages: &[Package], kernel: &str) {
    make(root, DEB, packages, kernel);
    index_debs(root);
}

/// Lets apt know what is in the repository now, and nothing else.
pub fn index_debs(root: &Root) {
    root.run(&format!(
        "rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* /var/lib/apt/lists/* && \
         echo 'deb [trusted=yes] file:{REPOSITORY} ./' >/etc/apt/sources.list && \
         cd {REPOSITORY} && dpkg-scanpackages -m . >Packages 2>/dev/null && apt-get -q update"
    ))
    .ok();
}

/// Makes rpms of a kernel in the machine's repository.
pub fn rpms(root: &Root, packages: &[Package], kernel: &str, repository: &str) {
    root.write("/opt/dressed.sh", RPM);
    for (kind, name, version, provides) in packages {
        let kind = word(*kind);
        root.run(&format!("bash /opt/dressed.sh {kind} {name} {version} '{provides}' {kernel} {repository}"))
            .ok();
    }
    // It cannot rename what is in a lower layer.
    root.run(&format!("rm -rf {repository}/repodata && createrepo_c -q {repository}")).ok();
}

/// Makes two packages of a kernel, the second with its headers, in the repository of a machine with pacman.
pub fn pacmans(machine: &pacman::Machine, package: &str, kernel: &str) {
    let root = &machine.root;
    let [image, headers] = ["image", "headers"].map(|part| format!("/opt/dressed/{part}"));
    let modules = format!("usr/lib/modules/{kernel}");
    root.write(&format!("{image}/{modules}/vmlinuz"), "image");
    root.write(&format!("{headers}/{modules}/build/include/config/auto.conf"), "CONFIG_MODULES=y");
    root.run(&format!(
        "[ ! -e /opt/kernel.tar ] || {{ bash /opt/real.sh image {image}/{modules} {kernel} && \
         bash /opt/real.sh headers {headers}/{modules}/build {kernel}; }}"
    ))
    .ok();
    root.write(&format!("{image}/{modules}/pkgbase"), package);
    let base = format!("pkgbase={package}");
    machine.make(package, "6", &base, &image);
    machine.make(&format!("{package}-headers"), "6", &base, &headers);
    root.run("cd /opt/repo && repo-add -q here.db.tar.gz linux*-6-1-any.pkg.tar").ok();
}

/// The command that the output advises: what is between the first backticks.
#[track_caller]
pub fn advised(output: &Output) -> String {
    let all = output.all();
    let command = all.split("run `").nth(1).and_then(|rest| rest.split('`').next());
    command.unwrap_or_else(|| panic!("no command is advised\n{output}")).to_owned()
}
