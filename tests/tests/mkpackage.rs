//! `dkms mkpackage`: a build becomes a package, which is installed where there is neither compiler nor dkms, and which a dkms
//! beside it leaves alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_tests::count::Counters;
use dkms_tests::modules::Sources;
use dkms_tests::roots::Layer;
use dkms_tests::watch::Watch;
use dkms_tests::{Kernel, Root, Suite, host, stage};

/// Two versions of a package with two modules. One name has a dash, which the kernel does not know.
fn sources(version: &str) -> Sources {
    Sources::new("fleet_mod", version).modules(&["fleet_mod", "fleet-extra"])
}

/// A machine with compiler, headers and dkms, on which both versions are built.
fn builder(suite: &'static Suite) -> (Layer, Kernel) {
    let (layer, kernel) = stage::with_kernel(suite);
    let all = ["1.0", "1.1"].map(sources);
    let key = format!("{:?}", all.each_ref().map(Sources::files));
    let layer = layer.prepared("mkpackage-builder", &key, |root| {
        for sources in &all {
            sources.unpack(root);
            root.run(&format!("dkms add {0} && dkms build {0} -k {1}", sources.id(), kernel.release)).ok();
        }
        root.run("useradd --create-home person").ok();
    });
    (layer, kernel)
}

/// A machine with this kernel, and without compiler, headers and dkms.
fn target(suite: &'static Suite, kernel: &Kernel) -> Layer {
    suite.base().prepared("mkpackage-target", &kernel.release, |root| {
        root.run("apt-get -q -y purge gcc make dpkg-dev && apt-get -q -y autoremove --purge").ok();
        root.apt_install(&[&kernel.image()]).ok();
        root.run("! command -v gcc && ! command -v make && ! command -v dkms").ok();
        assert!(!root.exists(&format!("{}/build", kernel.modules_dir())), "no headers");
    })
}

/// Makes a package as an unprivileged user; returns its path in the builder, and its bytes.
fn make(root: &Root, words: &str) -> (String, Vec<u8>) {
    root.run("install -d -o person /tmp/packages").ok();
    let made = root
        .run(&format!(
            "cd /tmp/packages && setpriv --reuid person --regid person --clear-groups dkms {words} --out /tmp/packages"
        ))
        .ok();
    let path = made.stdout.trim().to_owned();
    assert!(path.starts_with("/tmp/packages/"), "the path is all of standard output\n{made}");
    let bytes = root.read_bytes(&path);
    (path, bytes)
}

/// The package of one version, in another root.
fn bring(root: &Root, builder: &Root, kernel: &Kernel, version: &str) -> String {
    let (path, bytes) = make(builder, &format!("mkpackage fleet_mod/{version} -k {}", kernel.release));
    let inside = format!("/opt/{}", path.rsplit('/').next().unwrap());
    root.write(&inside, bytes);
    inside
}

/// Everything in the kernel's module directory, but depmod's binary files; and what its text files say.
fn modules(root: &Root, kernel: &Kernel) -> (Vec<String>, String) {
    let files = root.find(&kernel.modules_dir(), "");
    (files, root.read(&format!("{}/modules.dep", kernel.modules_dir())))
}

fn package_name(kernel: &Kernel) -> String {
    format!("fleet-mod-modules-{}", kernel.release)
}

fn depmods(counters: &Counters<'_>) -> usize {
    counters.take().lines.iter().filter(|line| line.starts_with("depmod ")).count()
}

/// A target gets the package and an upgrade of it, and its removal leaves nothing.
fn without_compiler(suite: &'static Suite) {
    let (builder, kernel) = builder(suite);
    let builder = Root::on(&builder);
    let root = Root::on(&target(suite, &kernel));
    let before = modules(&root, &kernel);
    let first = bring(&root, &builder, &kernel, "1.0");
    let second = bring(&root, &builder, &kernel, "1.1");
    let counters = Counters::install(&root);

    root.apt_install(&[&first]).ok();
    assert_eq!(depmods(&counters), 1);
    let dir = kernel.dkms_dir();
    let there = || {
        let files = root.find(&dir, "-type f");
        files.iter().map(|file| file.rsplit('/').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(there(), ["fleet-extra.ko.xz", "fleet_mod.ko.xz"]);
    for (module, version) in [("fleet_mod", "1.0"), ("fleet_extra", "1.0")] {
        root.run(&format!("modinfo -k {} -F version {module}", kernel.release)).ok().says(&[version]);
        root.run(&format!("modprobe -n -v -S {} {module}", kernel.release)).ok().says(&["updates/dkms"]);
    }
    root.run("dpkg --verify").ok();

    root.apt_install(&[&second]).ok();
    assert_eq!(depmods(&counters), 1);
    root.run(&format!("modinfo -k {} -F version fleet_mod", kernel.release)).ok().says(&["1.1"]);
    // Nothing changes, and nothing is done again.
    root.run(&format!("dpkg-reconfigure {} 2>&1 || true", package_name(&kernel)));
    counters.take();

    root.run(&format!("apt-get -q -y remove {}", package_name(&kernel))).ok();
    assert_eq!(depmods(&counters), 1);
    assert_eq!(modules(&root, &kernel), before);
    root.run(&format!("modprobe -n -S {} fleet_mod", kernel.release)).fails();
    root.run(&format!("apt-get -q -y purge {}", package_name(&kernel))).ok();
    root.expect_clean_dpkg();

    // Together with its kernel.
    root.apt_install(&[&first]).ok();
    root.run(&format!("apt-get -q -y purge {} {}", kernel.image(), package_name(&kernel))).ok();
    assert_eq!(root.find(&kernel.modules_dir(), ""), [""; 0]);
}

#[test]
fn a_machine_without_compiler_gets_the_modules_and_loses_them_again() {
    without_compiler(Suite::trixie());
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn so_does_one_with_debian_12() {
    without_compiler(Suite::bookworm());
}

#[test]
fn the_same_build_gives_the_same_bytes() {
    let (layer, kernel) = builder(Suite::trixie());
    let root = Root::on(&layer);
    let words = format!("mkpackage fleet_mod/1.0 -k {}", kernel.release);
    let (path, first) = make(&root, &words);
    root.run(&format!("rm {path}; touch /var/lib/dkms/fleet_mod/1.0/{}/x86_64/module/*", kernel.release))
        .ok();
    let as_root = root.run(&format!("umask 077; TZ=Asia/Tokyo LANG=C dkms {words} --out /tmp/packages")).ok();
    assert_eq!(as_root.stdout.trim(), path);
    assert_eq!(host::sha256(&root.read_bytes(&path)), host::sha256(&first));
    // Debian's own tools read it, and an explicit time is used.
    root.run(&format!("dpkg-deb --info {path} && dpkg-deb --contents {path}")).ok().says(&[
        "Package: fleet-mod-modules-",
        &format!("Depends: {} | {}-unsigned, kmod", kernel.image(), kernel.image()),
        " usr/lib/modules/",
        " 0/0 ",
    ]);
    root.run(&format!(
        "cd /tmp/packages && SOURCE_DATE_EPOCH=1234567890 dkms mkdeb fleet_mod/1.0 -k {} --binaries-only",
        kernel.release
    ))
    .ok();
    root.run(&format!("TZ=UTC dpkg-deb --contents {path}")).ok().says(&["2009-02-13 23:31"]);
    // Nothing else was written.
    assert_eq!(root.find("/tmp/packages", "-type f"), [path]);
}

#[test]
fn what_the_kernel_would_reject_is_not_packed() {
    let (layer, kernel) = builder(Suite::trixie());
    let root = Root::on(&layer);
    let dir = format!("/var/lib/dkms/fleet_mod/1.0/{}/x86_64/module", kernel.release);
    let words = format!("dkms mkpackage fleet_mod/1.0 -k {} --out /tmp", kernel.release);
    root.run("dkms mkpackage fleet_mod/1.0 -k 6.99 --out /tmp").fails().says(&["6.99"]);
    root.run(&format!("{words}/missing")).fails().says(&["directory not found"]);
    root.run(&format!("{words} --source-only")).fails().says(&["mktarball"]);
    root.run(&format!("dkms mkdeb fleet_mod/1.0 -k {} --format rpm", kernel.release))
        .fails()
        .says(&["another format"]);
    root.run(&format!("dkms mkpackage other/1 -k {}", kernel.release)).fails().says(&["other"]);
    // Another kernel's module.
    root.run(&format!(
        "cd {dir} && xz -dkf fleet_mod.ko.xz && rm fleet_mod.ko.xz && sed -i 's/vermagic={}/vermagic=9{}/' fleet_mod.ko",
        kernel.release,
        &kernel.release[1..]
    ))
    .ok();
    root.run(&words).fails().says(&["not packed", "fleet_mod.ko", "dkms build fleet_mod/1.0", "--force"]);
    root.run(&format!("echo no module >{dir}/fleet_mod.ko")).ok();
    root.run(&words).fails().says(&["not packed"]);
    root.run(&format!("rm {dir}/fleet_mod.ko")).ok();
    root.run(&words).fails().says(&["fleet_mod.ko is missing"]);
    assert_eq!(root.find("/tmp", "-name '*.deb*'"), [""; 0]);
}

/// A machine with dkms, on which dkms has installed the module.
#[test]
fn dkms_leaves_the_module_to_the_package_and_takes_over_again() {
    let (layer, kernel) = builder(Suite::trixie());
    let root = Root::on(&layer);
    let release = &kernel.release;
    let package = bring(&root, &root, &kernel, "1.0");
    let newer = bring(&root, &root, &kernel, "1.1");
    root.run(&format!("dkms install fleet_mod/1.0 -k {release}")).ok();
    let files = || kernel.module_files(&root).into_iter().map(|(path, _)| path).collect::<Vec<_>>();
    let own = files();
    assert_eq!(own.len(), 2);
    // What dkms had installed may have another suffix than what the package has.
    root.run(&format!("cd {} && xz -dkf fleet-extra.ko.xz && rm fleet-extra.ko.xz", kernel.dkms_dir())).ok();
    root.run(&format!("cd /var/lib/dkms/fleet_mod/1.0/{release}/x86_64/module && xz -dkf fleet-extra.ko.xz && rm fleet-extra.ko.xz && \
        sed -i 's/fleet-extra.ko.xz/fleet-extra.ko/' /var/lib/dkms/.dkms-rs/records/fleet_mod/1.0/{release}/x86_64.json")).ok();
    let counters = Counters::install(&root);
    let watch = Watch::on(&root, &format!("{}/fleet_mod.ko*", kernel.dkms_dir()));

    root.apt_install(&[&package]).ok();
    watch.expect_never_missing();
    let packaged = |version: &str| {
        let status = root.run(&format!("dkms status -m fleet_mod -v {version}")).ok().stdout;
        assert_eq!(
            status,
            format!(
                "fleet_mod/{version}, {release}, x86_64: installed (package {})\n",
                package_name(&kernel)
            )
        );
        assert_eq!(files(), own, "one file for each module");
        root.run("dpkg --verify").ok();
        assert!(
            root.find("/var/lib/dkms/fleet_mod", "-name 'kernel-*'").is_empty(),
            "dkms has not installed it"
        );
        assert_eq!(counters.take().builds, 0);
    };
    packaged("1.0");
    assert_eq!(root.state_of("fleet_mod/1.1", release), "built");

    // Every event leaves it alone, and so do requests.
    root.run(&format!("dkms autoinstall -k {release}")).ok();
    root.run(&format!("dkms kernel_postinst -k {release}")).ok();
    root.run(&format!("/etc/kernel/header_postinst.d/dkms {release}")).ok();
    root.run(&format!("dkms install fleet_mod/1.0 -k {release}")).ok().says(&["installed by package"]);
    root.run(&format!("dkms install fleet_mod/1.0 -k {release} --force"))
        .fails()
        .says(&[&package_name(&kernel)]);
    root.run(&format!("dkms install fleet_mod/1.1 -k {release}")).fails().says(&[&package_name(&kernel)]);
    root.run("dkms unbuild fleet_mod/1.1 --all").ok();
    packaged("1.0");
    root.run("dkms why fleet_mod").ok().says(&["installed by package"]);

    // Its next version is a package, too.
    root.apt_install(&[&newer]).ok();
    root.run(&format!("modinfo -k {release} -F version fleet_mod")).ok().says(&["1.1"]);
    packaged("1.1");

    // dkms installs its own build again, from the DKMS tree.
    root.run("dkms remove fleet_mod/1.1 --all").ok();
    counters.take();
    root.run(&format!("apt-get -q -y remove {}", package_name(&kernel))).ok();
    assert_eq!(counters.take().builds, 0);
    root.expect_installed(&["fleet_mod/1.0"], release);
    assert_eq!(files().len(), 2);
    root.run(&format!("modinfo -k {release} -F version fleet_mod")).ok().says(&["1.0"]);
    assert!(!root.exists(&format!("{}/dkms-packages", kernel.modules_dir())));
    // A marker that does not match the files has no effect.
    root.apt_install(&[&package]).ok();
    packaged("1.0");
    root.run(&format!(
        "echo changed >{}/fleet_mod.ko.xz && dkms autoinstall -k {release}",
        kernel.dkms_dir()
    ))
    .ok();
    assert_eq!(root.state_of("fleet_mod/1.0", release), "installed");
    root.run(&format!("modinfo -k {release} -F version fleet_mod")).ok().says(&["1.0"]);
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn lintian_finds_no_error() {
    let (layer, kernel) = builder(Suite::trixie());
    let builder = Root::on(&layer);
    let root = Root::on(&Suite::trixie().base());
    root.apt_install(&["lintian"]).ok();
    for words in ["mkpackage", "mkdeb --meta"] {
        let (path, bytes) = make(&builder, &format!("{words} fleet_mod/1.0 -k {}", kernel.release));
        let inside = format!("/opt/{}", path.rsplit('/').next().unwrap());
        root.write(&inside, bytes);
        let found = root.run(&format!("lintian --no-cfg --fail-on error --allow-root {inside}")).ok();
        let warnings: Vec<&str> = found.stdout.lines().filter(|line| line.starts_with("W: ")).collect();
        let tags = |line: &&str| line.split(' ').nth(2).unwrap_or_default().to_owned();
        // No year: the source has the notices.
        let known = ["copyright-without-copyright-notice"];
        assert!(warnings.iter().map(tags).all(|tag| known.contains(&tag.as_str())), "{found}");
    }
}
