//! `dkms mkpackage`: a build becomes a package, which is installed where there is neither compiler nor dkms, and which a dkms
//! beside it leaves alone.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)] // tests stop at the first surprise

use dkms_tests::boot::{initrd::Initrd, secure};
use dkms_tests::count::Counters;
use dkms_tests::fleet::{self, make, target};
use dkms_tests::kernels::Flavour;
use dkms_tests::modules::Sources;
use dkms_tests::pacman::{self, LINUX, NEWER};
use dkms_tests::roots::Layer;
use dkms_tests::rpm::{self, Family};
use dkms_tests::watch::Watch;
use dkms_tests::{Kernel, Root, Suite, boot, host, stage};

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
        root.apt_install(&["rpm"]).ok();
    });
    (layer, kernel)
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
        let name = |file: &String| file.rsplit('/').next().unwrap().trim_end_matches(".xz").to_owned();
        files.iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(there(), ["fleet-extra.ko", "fleet_mod.ko"]);
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
        &format!("Depends: {}, kmod", kernel.image()),
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
    for (variable, says) in [
        ("SOURCE_DATE_EPOCH=yesterday", "\"yesterday\" is not a number of seconds since 1970"),
        ("SOURCE_DATE_EPOCH=-1", "is not a number of seconds"),
        ("DEBEMAIL='a>, b <c'", "DEBEMAIL"),
    ] {
        root.run(&format!("{variable} {words}")).fails().says(&[says]);
    }
    // Without a kernel, it is the running one.
    root.run("dkms mkpackage fleet_mod/1.0 --out /tmp")
        .exits(6)
        .says(&[&format!("to pack another of its builds: -k {}", kernel.release)]);
    root.run(&format!("dkms unbuild fleet_mod/1.1 -k {kernel}; dkms mkpackage fleet_mod/1.1 --out /tmp"))
        .exits(6)
        .never_says(&["to pack another"]);
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
    root.run("dkms check").says(&["fleet_mod/1.0", "2 files: would load"]);

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
    // A damaged file of the package is left to the package manager.
    root.apt_install(&[&package]).ok();
    packaged("1.0");
    root.run(&format!(
        "echo changed >{}/fleet_mod.ko.xz && dkms autoinstall -k {release}",
        kernel.dkms_dir()
    ))
    .exits(11)
    .says(&["is missing or was changed", &format!("apt-get install --reinstall {}", package_name(&kernel))]);
    root.run(&format!("apt-get -q -y install --reinstall {package} && dkms autoinstall -k {release}")).ok();
    packaged("1.0");
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

#[test]
#[ignore = "long: run by `make test-long`"]
fn an_upgrade_brings_the_kernel_with_its_modules_and_they_load() {
    let suite = Suite::trixie();
    let base = Root::on(&suite.base());
    let newer = stage::cloud_kernel(suite);
    let older = Kernel::newest_but_one(&base, Flavour::Cloud, suite.kernel_series);
    drop(base);
    let sources = sources("1.0");
    let key = format!("{older}{newer}{:?}", sources.files());
    let layer = stage::product(suite).prepared("mkpackage-two-kernels", &key, |root| {
        root.apt_install(&[&older.headers(), &newer.headers(), &older.image(), &newer.image()]).ok();
        sources.unpack(root);
        root.run(&format!(
            "dkms add {0} && dkms build {0} -k {older} && dkms build {0} -k {newer}",
            sources.id()
        ))
        .ok();
    });
    let builder = Root::on(&layer);
    let root = Root::on(&target(suite, &older).prepared("fleet-apt-utils", "", |root| {
        root.apt_install(&["apt-utils"]).ok();
    }));
    fleet::publish(&root, &builder, "fleet_mod/1.0", &older);
    root.apt_install(&["fleet-mod-modules-cloud-amd64"]).ok();
    assert_eq!(older.module_files(&root).len(), 2);

    fleet::publish(&root, &builder, "fleet_mod/1.0", &newer);
    let counters = Counters::install(&root);
    root.run("apt-get -q -y --with-new-pkgs upgrade").ok();
    // One by the kernel's package; ours was found by it, or comes after it.
    let depmods = depmods(&counters);
    assert!((1..=2).contains(&depmods), "{depmods}");
    assert_eq!(newer.module_files(&root).len(), 2);
    root.run(&format!("modprobe -n -v -S {newer} fleet_mod")).ok().says(&["updates/dkms"]);
    // The modules of a kernel that stays are not removed.
    root.run("apt-get -q -y autoremove").ok();
    assert_eq!(older.module_files(&root).len(), 2);
    root.expect_clean_dpkg();

    let console = boot::boot_and_load(&root, &newer, "fleet_mod");
    assert!(console.contains("LOADED fleet_mod") && console.contains("PROC fleet_mod"), "{console}");
}

/// What the machine has already, for rpm.
const BASE: &str = "Name: base-system\nVersion: 1\nRelease: 1\nSummary: What the machine has\nLicense: GPL\nBuildArch: noarch\n\
    AutoReqProv: no\nProvides: /bin/sh kmod\n%description\nWhat the machine has.\n%files\n";

#[test]
fn rpm_installs_and_removes_it() {
    let (layer, kernel) = builder(Suite::trixie());
    let builder = Root::on(&layer);
    let packages = ["kernel-core", "kernel-modules"].map(|name| format!("{name}-{}", rpm::version(&kernel)));
    let target = rpm::repository(Family::Fedora).prepared("mkpackage-target", &format!("{BASE}{kernel}"), |root| {
        root.write("/opt/base.spec", BASE);
        root.run("rpmbuild -bb --quiet --define '_topdir /opt/top' --define '_rpmdir /opt/made' /opt/base.spec").ok();
        root.run(&format!("rpm -i --nosignature /opt/made/noarch/*.rpm {}", rpm::files(&packages))).ok();
        root.run("rm -f /usr/bin/gcc*").ok();
    });
    let root = Root::on(&target);
    let before = modules(&root, &kernel);
    let made = ["1.0", "1.1"].map(|version| {
        let (path, bytes) = make(&builder, &format!("mkrpm fleet_mod/{version} -k {kernel}"));
        let (again, second) =
            make(&builder, &format!("mkpackage --format rpm fleet_mod/{version} -k {kernel}"));
        assert_eq!((&path, host::sha256(&bytes)), (&again, host::sha256(&second)));
        let inside = format!("/opt/{}", path.rsplit('/').next().unwrap());
        root.write(&inside, bytes);
        inside
    });
    assert_eq!(builder.find("/tmp/packages", "-not -name '*.rpm' -not -path /tmp/packages"), [""; 0]);
    // Others can write to the directory of the result: what they have made there is not where the spec file is.
    builder.run("mkdir /srv/public && chmod 1777 /srv/public && touch /srv/public/.dkms-mkpackage").ok();
    builder.run(&format!("dkms mkrpm fleet_mod/1.1 -k {kernel} --out /srv/public")).ok();
    assert_eq!(builder.find("/var/lib/dkms/.dkms-rs/incoming", "-mindepth 1"), [""; 0]);
    root.run(&format!("rpm -qp --nosignature --requires --provides {}", made[0])).ok().says(&[
        &format!("/usr/lib/modules/{kernel}/modules.builtin"),
        "kmod(fleet_mod.ko)",
        "kmod(fleet-extra.ko)",
        "kmod-fleet_mod = 1.0",
    ]);
    let counters = Counters::install(&root);

    root.run(&format!("rpm -i --nosignature {}", made[0])).ok();
    assert_eq!(depmods(&counters), 1);
    root.run(&format!("modprobe -n -v -S {kernel} fleet_extra")).ok().says(&["extra/fleet-extra.ko.xz"]);
    root.run(&format!("modinfo -k {kernel} -F version fleet_mod")).ok().says(&["1.0"]);
    root.run(&format!("rpm -U --nosignature {}", made[1])).ok();
    assert_eq!(depmods(&counters), 1);
    root.run(&format!("modinfo -k {kernel} -F version fleet_mod")).ok().says(&["1.1"]);
    root.run(&format!("rpm -V kmod-fleet_mod-{kernel}")).ok();
    root.run(&format!("rpm -e kmod-fleet_mod-{kernel}")).ok();
    assert_eq!(depmods(&counters), 1);
    assert_eq!(modules(&root, &kernel), before);
}

/// Two packages of Arch: for the installed kernel, and for its upgrade.
#[test]
#[ignore = "long: run by `make test-long`"]
fn pacman_upgrades_it_together_with_the_kernel() {
    let deb = host::product_deb();
    let sources = sources("1.0");
    let key = format!("{}{:?}", host::sha256(&std::fs::read(&deb).unwrap()), sources.files());
    let layer = pacman::tools().prepared("mkpackage-pacman", &key, |root| {
        LINUX.add_suite(root);
        root.run("apt-get -q update && apt-get -q -y install cpio").ok();
        let kernel = LINUX.make(root);
        root.write("/opt/release", &kernel.release);
        root.write(
            "/etc/pacman.conf",
            "[options]\nArchitecture = x86_64\nSigLevel = Never\nLocalFileSigLevel = Never\nRemoteFileSigLevel = Never\n",
        );
        root.run("mkdir -p /var/cache/pacman/pkg /var/lib/pacman /opt/empty").ok();
        pacman::make(root, "base", "1", "provides=(kmod)", "/opt/empty");
        root.run(&format!("pacman -U --noconfirm {0}/base-1-*.pkg.tar {0}/linux-*.pkg.tar", pacman::REPOSITORY)).ok();
        // Only the program: this machine has no hooks of dkms.
        root.copy_in(&deb, "/opt/product.deb");
        root.run("dpkg-deb -x /opt/product.deb /opt/product").ok();
        root.run("apt-get -q -y install gcc-14 dwarves && ln -sf gcc-14 /usr/bin/gcc").ok();
        sources.unpack(root);
        root.run(&format!(
            "mkdir -p /var/lib/dkms && depmod {kernel} && /opt/product/usr/sbin/dkms add {0} && /opt/product/usr/sbin/dkms build {0} -k {kernel}",
            sources.id()
        ))
        .ok();
    });
    let root = Root::on(&layer);
    let kernel = Kernel { release: root.read("/opt/release") };

    root.run("ln -s /opt/product/usr/sbin/dkms /usr/bin/dkms").ok();
    let words = format!("mkpackage fleet_mod/1.0 -k {kernel}");
    let (path, bytes) = make(&root, &words);
    let (_, again) = make(&root, &words);
    assert_eq!(host::sha256(&bytes), host::sha256(&again));
    root.run(&format!("pacman -Qip {path}"))
        .ok()
        .says(&["fleet-mod-modules-linux", &format!("kmod  linux={}-1", LINUX.version(&kernel.release))]);
    // The machine that installs it has no compiler and no headers.
    root.run(
        "rm -r /usr/bin/dkms /opt/product /var/lib/dkms /usr/bin/gcc* && pacman -R --noconfirm linux-headers",
    )
    .ok();

    root.run(&format!("pacman -U --noconfirm {path}")).ok().never_says(&["error", "warning"]);
    root.run("pacman -Qkk fleet-mod-modules-linux").ok().says(&["0 altered files"]);
    root.run(&format!("depmod {kernel} && modprobe -n -v -S {kernel} fleet_extra"))
        .ok()
        .says(&["updates/dkms"]);
    // The kernel cannot be removed, or replaced by another version, without it.
    root.run("pacman -R --noconfirm linux").fails().says(&["fleet-mod-modules-linux"]);
    let builder = Root::on(&layer);
    let newer = NEWER.make(&builder);
    let version = NEWER.version(&newer.release);
    let kernels = ["linux", "linux-headers"]
        .map(|name| format!("{}/{name}-{version}-1-any.pkg.tar", pacman::REPOSITORY));
    let build = format!("/opt/product/usr/sbin/dkms build fleet_mod/1.0 -k {newer}");
    builder.run(&format!("pacman -U --noconfirm {} && depmod {newer} && {build}", kernels.join(" "))).ok();
    builder.run("ln -s /opt/product/usr/sbin/dkms /usr/bin/dkms").ok();
    let (path, bytes) = make(&builder, &format!("mkpackage fleet_mod/1.0 -k {newer}"));
    let repository = "/opt/new";
    let publish = |path: &str, bytes: &[u8]| {
        let file = path.rsplit('/').next().unwrap();
        root.write(&format!("{repository}/{file}"), bytes);
        root.run(&format!("repo-add -q {repository}/new.db.tar.gz {repository}/{file}")).ok();
    };
    let conf = root.read("/etc/pacman.conf");
    root.write("/etc/pacman.conf", format!("{conf}\n[new]\nServer = file://{repository}\n"));
    for kernel in &kernels {
        publish(kernel, &builder.read_bytes(kernel));
    }
    root.run("pacman -Syyu --noconfirm").fails().says(&["fleet-mod-modules-linux"]);
    assert_eq!(root.find(&newer.modules_dir(), ""), [""; 0]);
    publish(&path, &bytes);
    root.run("pacman -Syyu --noconfirm").ok().never_says(&["error", "warning"]);
    root.run("pacman -Q linux fleet-mod-modules-linux")
        .ok()
        .says(&[&version, "fleet-mod-modules-linux 1.0z"]);
    root.run("pacman -Qkk fleet-mod-modules-linux").ok().says(&["0 altered files"]);
    root.run(&format!("depmod {newer} && modprobe -n -v -S {newer} fleet_extra"))
        .ok()
        .says(&["updates/dkms"]);
    assert_eq!(root.find(&kernel.modules_dir(), "-name '*.ko*'"), [""; 0], "the old kernel's are gone");
    assert!(boot::boot_and_load(&root, &newer, "fleet_mod").contains("LOADED fleet_mod"));
    let version = |version: &str| format!("{version}z6.12.1_arch1_1-1");
    for (older, newer) in [("1.0", "1.0.1"), ("1.0rc1", "1.0"), ("1.0", "1.1"), ("r5.g12", "r6.g11")] {
        root.run(&format!("vercmp {} {}", version(older), version(newer))).ok().says(&["-1"]);
    }
    let with_package = modules(&root, &newer).0;
    root.run("pacman -R --noconfirm fleet-mod-modules-linux").ok().never_says(&["error", "warning"]);
    root.run(&format!("depmod {newer}")).ok();
    let after = modules(&root, &newer);
    assert!(with_package.len() > after.0.len() && !after.1.contains("fleet"), "{after:?}");
    assert_eq!(
        root.find(&newer.modules_dir(), "-name '*fleet*' -o -name 'updates' -o -name 'dkms-packages'"),
        [""; 0]
    );
}

/// In the guest: which of the two modules the kernel loads.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t securityfs s /sys/kernel/security
sed 's/^/LOCKDOWN /' /sys/kernel/security/lockdown
for n in fleet stranger; do
    dmesg -c >/tmp/earlier
    if insmod /m/$n.ko; then echo "INSMOD $n: loaded"; else echo "INSMOD $n: refused"; fi
    dmesg -c | sed "s/^/DMESG $n: /"
    sed "s/^/MODULES $n: /" /proc/modules
    rmmod fleet_mod 2>/dev/null
done
echo BOOT-DONE
poweroff -f
"#;

/// The modules are signed where they are built. A machine that has enrolled that certificate loads them, with a kernel that
/// Secure Boot locks down; a package of the same build that is signed with another key is installed as well, and the kernel
/// rejects its modules.
/// A system extension of one version, in the directory for them of a target with systemd; returns its name.
fn extension(root: &Root, builder: &Root, kernel: &Kernel) -> String {
    root.apt_install(&["systemd", "squashfs-tools"]).ok();
    let words = format!("mkpackage fleet_mod/1.0 -k {} --format sysext", kernel.release);
    let (path, bytes) = make(builder, &words);
    let name = path.rsplit('/').next().unwrap().strip_suffix(".raw").unwrap().to_owned();
    root.write(&format!("/var/lib/extensions/{name}.raw"), bytes);
    name
}

/// What modprobe would do for a module.
fn wanted(root: &Root, kernel: &Kernel, module: &str) -> String {
    root.run(&format!("modprobe -n -v -S {} {module}", kernel.release)).stdout
}

#[test]
fn systemd_lays_an_extension_over_the_system() {
    let (layer, kernel) = builder(Suite::trixie());
    let builder = Root::on(&layer);
    builder.apt_install(&["squashfs-tools"]).ok();
    let root = Root::on(&target(Suite::trixie(), &kernel));
    let before = modules(&root, &kernel);
    let name = extension(&root, &builder, &kernel);
    assert_eq!(name, package_name(&kernel));
    // The kernel of this machine may have no squashfs. systemd takes a directory, too.
    root.run(&format!("cd /var/lib/extensions && unsquashfs -q -n -d {name} {name}.raw && rm {name}.raw"))
        .ok();
    let modes =
        root.run(&format!("find /var/lib/extensions/{name} -type d ! -perm 755 -o -type f ! -perm 644")).ok();
    assert_eq!(modes.stdout, "");
    // It mounts in a namespace of its own, and relies on propagation, as it is wherever systemd runs.
    root.run("mount --make-shared / && systemd-sysext merge").ok();
    root.run("systemd-sysext list").ok().says(&[&name]);
    let merged = modules(&root, &kernel);
    assert_eq!(merged.1, before.1, "the system's own modules.dep");
    let file = format!("{}/fleet_mod.ko.xz", kernel.dkms_dir());
    assert!(merged.0.contains(&file), "no {file}");
    for module in ["fleet_mod", "fleet-extra"] {
        assert!(
            wanted(&root, &kernel, module)
                .starts_with("install for f in /usr/lib/modules/$(uname -r)/updates/dkms/")
        );
    }
    root.run("systemd-sysext unmerge").ok();
    assert_eq!(modules(&root, &kernel), before);
    assert_eq!(wanted(&root, &kernel, "fleet_mod"), "");
}

#[test]
fn an_extension_has_the_same_bytes_however_it_is_made() {
    let (layer, kernel) = builder(Suite::trixie());
    let root = Root::on(&layer);
    let words = format!("mkpackage fleet_mod/1.0 -k {} --format sysext", kernel.release);
    root.run(&format!("dkms {words}")).exits(1).says(&["install the package squashfs-tools or erofs-utils"]);
    for tool in ["squashfs-tools", "erofs-utils"] {
        root.apt_install(&[tool]).ok();
        let (path, first) = make(&root, &words);
        root.run(&format!("sleep 1.1; rm {path}")).ok();
        root.run(&format!("umask 077; TZ=Asia/Tokyo dkms {words} --out /tmp/packages")).ok();
        assert_eq!(host::sha256(&root.read_bytes(&path)), host::sha256(&first), "{tool}");
        root.run(&format!("apt-get -q -y purge {tool}; rm {path}")).ok();
    }
    root.run(&format!("dkms {words} --meta")).exits(1).says(&["one for each kernel"]);
}

/// In a machine of its own: the modules are loaded by their names, with what the commands in the extension say.
const LOADED: &str = "
mount --make-rshared / && systemd-sysext merge && modprobe fleet_mod && modprobe fleet-extra
grep -c ^fleet_ /proc/modules | sed 's/^/LOADED /'
rmmod fleet_mod && modprobe fleet_mod && grep -c '^fleet_mod ' /proc/modules | sed 's/^/AGAIN /'
";

#[test]
#[ignore = "long: run by `make test-long`"]
fn the_kernel_loads_what_an_extension_has() {
    let suite = Suite::trixie();
    let root = Root::on(&stage::product(suite));
    let kernel = Kernel::newest(&root, Flavour::Plain, suite.kernel_series);
    kernel.install(&root).ok();
    sources("1.0").unpack(&root);
    root.run(&format!("dkms add fleet_mod/1.0 && dkms build fleet_mod/1.0 -k {kernel}")).ok();
    extension(&root, &root, &kernel);
    root.run(&format!("modprobe -n -S {kernel} fleet_mod")).fails();
    let machine = boot::machine::Machine::start(&root, &root, &kernel, &["loop", "squashfs"], &[]);
    let console = machine.run_within(600, LOADED).all();
    assert!(["LOADED 2", "AGAIN 1"].iter().all(|line| console.contains(line)), "{console}");
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn with_secure_boot_the_kernel_loads_what_the_fleets_key_has_signed() {
    let (layer, kernel) = builder(Suite::trixie());
    let of = |another_key: bool| {
        let root = Root::on(&layer);
        if another_key {
            root.run(&format!("rm /var/lib/dkms/mok.* && dkms build fleet_mod/1.0 -k {kernel} --force")).ok();
        }
        let package = bring(&root, &root, &kernel, "1.0");
        (root.read_bytes(&package), root.read_bytes("/var/lib/dkms/mok.pub"), package)
    };
    let (fleet, stranger) = (of(false), of(true));
    assert_ne!((&fleet.0, &fleet.1), (&stranger.0, &stranger.1));
    // The installed files, from machines without compiler.
    let module = |(bytes, _, package): &(Vec<u8>, Vec<u8>, String)| {
        let root = Root::on(&target(Suite::trixie(), &kernel));
        root.write(package, bytes);
        root.apt_install(&[package]).ok();
        root.run(&boot::unpack_command(&format!("{}/fleet_mod.ko.xz", kernel.dkms_dir()), "/opt/plain.ko"))
            .ok();
        root.read_bytes("/opt/plain.ko")
    };
    let modules = [("fleet", module(&fleet)), ("stranger", module(&stranger))];
    let [own, other] = modules.each_ref().map(|(_, content)| dkms_core::kernel::signature::without(content));
    assert_eq!(host::sha256(own), host::sha256(other), "they differ in their signatures only");

    let root = Root::on(&layer);
    let initrd = Initrd::new(&root);
    for (name, content) in &modules {
        initrd.add(&format!("/m/{name}.ko"), content);
    }
    let image = root.path(&format!("/boot/vmlinuz-{kernel}"));
    let console = secure::boot(Suite::trixie(), &image, &initrd.pack(INIT), &fleet.1);
    root.note(&format!("serial console:\n{console}"));
    let line =
        |start: &str| console.lines().filter(|line| line.starts_with(start)).collect::<Vec<_>>().join("\n");
    assert!(line("LOCKDOWN").contains("[integrity]"), "Secure Boot is not in force\n{console}");
    assert_eq!(line("INSMOD fleet"), "INSMOD fleet: loaded", "{console}");
    assert!(line("MODULES fleet: fleet_mod ").contains("fleet_mod"), "{console}");
    assert_eq!(line("INSMOD stranger"), "INSMOD stranger: refused", "{console}");
    assert!(
        line("DMESG stranger").contains("Loading of module with unavailable key is rejected"),
        "{console}"
    );
    assert_eq!(line("MODULES stranger: fleet_mod "), "", "{console}");
}
