//! Tarballs from Debian's dkms to ours and back: each loads and installs what the other packed, without compiling.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_tests::count::Counters;
use dkms_tests::modules::Sources;
use dkms_tests::{Kernel, Output, Root, Suite, host, stage};

/// The module in the tarballs.
const ID: &str = "tarry/1.0";
const SRC: &str = "/usr/src/tarry-1.0";
const TREE: &str = "/var/lib/dkms/tarry/1.0";
/// A kernel that is not installed, with a build.
const OTHER: &str = "6.99.0-0-other-amd64";

/// The tarballs that a dkms packs, in every form.
const PACK: &[(&str, &str)] = &[
    ("full.tar.gz", "-k {K}"),
    ("two.tar.xz", "-k {K} -k {O} -a x86_64"),
    ("all.tar", "--all"),
    ("source.tar.gz", "--source-only"),
    ("binaries.tar.gz", "--binaries-only -k {K}"),
];

/// Builds the module with either dkms, packs it in every form, and removes it. Returns the checksum of the build.
fn pack(root: &Root, kernel: &Kernel) -> String {
    Sources::new("tarry", "1.0").unpack(root);
    root.run(&format!("ln -s tarry.c {SRC}/link.c && chmod 755 {SRC}/Makefile && mkdir -p /opt/packed")).ok();
    root.run(&format!("dkms add {ID} && dkms build {ID} -k {}", kernel.release)).ok();
    root.run(&format!("cp -a {TREE}/{} {TREE}/{OTHER}", kernel.release)).ok();
    let built = sum(root, &format!("{TREE}/{}/x86_64/module", kernel.release));
    for (name, words) in PACK {
        let words = words.replace("{K}", &kernel.release).replace("{O}", OTHER);
        root.run(&format!("dkms mktarball {ID} {words} --archive /opt/packed/{name}")).ok();
    }
    // The default name is the same with both.
    root.run(&format!("dkms mktarball {ID} -k {}", kernel.release)).ok();
    let name = format!("{TREE}/tarball/tarry-1.0-kernel{}-x86_64.dkms.tar.gz", kernel.release);
    assert!(root.exists(&name), "{name}");
    root.run(&format!("cp -a {SRC} /opt/packed/source && dkms remove {ID} --all && rm -rf {SRC}")).ok();
    assert!(!root.exists("/var/lib/dkms/tarry"));
    built
}

/// The checksum of the one module file below a directory.
fn sum(root: &Root, dir: &str) -> String {
    let files = root.find(dir, "-name 'tarry.ko*'");
    assert_eq!(files.len(), 1, "{files:?}");
    host::sha256(&root.read_bytes(&files[0]))
}

fn forget(root: &Root) {
    root.run(&format!("dkms remove {ID} --all; rm -rf {SRC}"));
    assert!(!root.exists("/var/lib/dkms/tarry"), "{}", root.transcript());
}

fn load(root: &Root, action: &str, name: &str) -> Output {
    root.run(&format!("dkms {action} /opt/packed/{name}"))
}

/// Loads each form with either dkms, and installs it: nothing is compiled, and the installed file is the one that the
/// other dkms built.
fn unpack(root: &Root, kernel: &Kernel, built: &str, counters: &Counters<'_>) {
    for (action, name) in
        [("ldtarball", "full.tar.gz"), ("add", "two.tar.xz"), ("ldtarball --archive", "all.tar")]
    {
        load(root, action, name).ok();
        assert_eq!(root.state_of(ID, &kernel.release), "built", "{name}");
        root.run(&format!("diff -r {SRC} /opt/packed/source")).ok();
        assert_eq!(sum(root, &format!("{TREE}/{}/x86_64/module", kernel.release)), built, "{name}");
        counters.take();
        root.run(&format!("dkms install {ID} -k {}", kernel.release)).ok();
        assert_eq!(counters.take().builds, 0, "{name}");
        assert_eq!(root.state_of(ID, &kernel.release), "installed", "{name}");
        assert_eq!(sum(root, &kernel.dkms_dir()), built, "{name}");
        load(root, action, name).exits(8);
        forget(root);
    }
    load(root, "add", "source.tar.gz").ok();
    assert!(root.run(&format!("dkms status {ID}")).ok().stdout.contains("tarry/1.0: added"));
    forget(root);

    // Binaries whose source is missing are loaded. Debian's dkms does this, too, and exits with 1.
    let alone = load(root, "ldtarball", "binaries.tar.gz");
    if root.exists("/usr/lib/dkms/apt-hook") {
        alone.ok();
        assert_eq!(root.state_of(ID, &kernel.release), "built");
        root.run(&format!("dkms install {ID} -k {}", kernel.release)).ok();
        assert_eq!(sum(root, &kernel.dkms_dir()), built);
        root.run(&format!("dkms remove {ID} --all")).ok();
    } else {
        alone.exits(1);
    }
    root.run("rm -rf /var/lib/dkms/tarry"); // Debian's leaves a directory there
    root.run(&format!("cp -a /opt/packed/source {SRC}")).ok();
    load(root, "ldtarball", "binaries.tar.gz").ok();
    assert_eq!(root.state_of(ID, &kernel.release), "built");
    forget(root);
}

fn there_and_back(suite: &'static Suite) {
    let (layer, kernel) = stage::debian_dkms(suite);
    let root = Root::on(&layer);
    let built = pack(&root, &kernel);
    stage::install_product(&root).ok();
    assert!(root.exists("/usr/lib/dkms/apt-hook"), "ours is installed");
    let counters = Counters::install(&root);
    unpack(&root, &kernel, &built, &counters);
    root.run("rm -rf /opt/packed").ok();

    let built = pack(&root, &kernel);
    root.apt_install(&["dkms"]).ok();
    assert!(!root.exists("/usr/lib/dkms/apt-hook"), "Debian's is back");
    unpack(&root, &kernel, &built, &counters);
}

#[test]
fn trixie_there_and_back() {
    there_and_back(Suite::trixie());
}

#[test]
fn all_kernels_of_a_tarball_are_loaded_and_none_is_believed() {
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    let root = Root::on(&layer);
    // The build that was packed must not be taken from the cache.
    root.write("/etc/dkms/policy.toml", "cache_mib = 0\n");
    pack(&root, &kernel);
    load(&root, "ldtarball", "all.tar").ok();
    assert_eq!(
        (root.state_of(ID, &kernel.release), root.state_of(ID, OTHER)),
        ("built".into(), "built".into())
    );
    // The other kernel is installed, without headers; its build in the tarball is for this one.
    root.run(&format!("mkdir -p /usr/lib/modules/{OTHER} && touch /usr/lib/modules/{OTHER}/modules.dep"))
        .ok();
    let refused = root.run(&format!("dkms install {ID} -k {OTHER}")).exits(7);
    assert!(refused.all().contains(&format!("built for kernel \"{}\"", kernel.release)), "{refused}");
    assert_eq!(root.state_of(ID, OTHER), "built");
    assert_eq!(root.find(&format!("/usr/lib/modules/{OTHER}"), "-name 'tarry*'"), [""; 0]);
    // A hook does not trust it either: it rebuilds from the source in the tarball.
    let counters = Counters::install(&root);
    root.run(&format!("/etc/kernel/postinst.d/dkms {0} /boot/vmlinuz-{0}", kernel.release))
        .ok()
        .quiet_stdout();
    assert_eq!(counters.take().builds, 1);
    root.expect_installed(&[ID], &kernel.release);
}

#[test]
fn a_strangers_dkms_conf_does_no_harm() {
    let (layer, _) = stage::with_small_tree(Suite::trixie());
    let root = Root::on(&layer);
    let conf = "PACKAGE_NAME=evil\nPACKAGE_VERSION=1\nDEST_MODULE_LOCATION=/updates\n\
                for d in / /root /etc /var/lib/dkms /usr/src /opt; do echo \"$(id -u)\" >$d/evil-was-here; done\n";
    root.write("/opt/e/evil-1/dkms.conf", conf);
    root.run("tar -C /opt/e -czf /opt/evil.tar.gz evil-1").ok();
    root.run("dkms ldtarball /opt/evil.tar.gz").ok();
    assert_eq!(root.find("/", "-xdev -name evil-was-here"), [""; 0]);
    root.run("dkms status evil/1").ok().says(&["evil/1: added"]);
}
