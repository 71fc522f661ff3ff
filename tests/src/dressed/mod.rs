//! Packages with the names, versions and layout of distributions' kernels, made on the spot: what dkms advises must be
//! found by their package managers. Nothing in them can run or be built with.

use crate::{Output, Root};

const DEB: &str = include_str!("deb.sh");
const RPM: &str = include_str!("rpm.sh");

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

/// The command that the output advises: what is between the first backticks.
#[track_caller]
pub fn advised(output: &Output) -> String {
    let all = output.all();
    let command = all.split("run `").nth(1).and_then(|rest| rest.split('`').next());
    command.unwrap_or_else(|| panic!("no command is advised\n{output}")).to_owned()
}
