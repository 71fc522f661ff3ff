//! A machine without kernel headers keeps its drivers: they are downloaded for the builds of a transaction, and are never installed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_tests::count::Counters;
use dkms_tests::dressed::{self, Kind, MACHINES, Machine, PACMANS, RPMS, Rpm};
use dkms_tests::kernels::Flavour;
use dkms_tests::modules::Sources;
use dkms_tests::{Kernel, Root, Suite, pacman, rpm, stage};

const FETCH: &str = "fetch_headers = true\n";
const DOWNLOADING: &str = "downloading kernel headers for ";

/// Nothing of the headers is left: neither in their place nor in ours.
#[track_caller]
fn expect_no_headers(root: &Root, kernel: &Kernel) {
    let places = [
        format!("/usr/src/{}", kernel.headers()),
        format!("/lib/modules/{}/build", kernel.release),
        "/usr/lib/linux-kbuild-*".to_owned(),
    ];
    for place in places {
        root.run(&format!("ls -d {place}")).fails();
    }
    root.run("dpkg-query -W 'linux-headers-*' 'linux-kbuild-*' | grep -v '\\s$'").fails();
    // The next run deletes what a transaction has kept.
    root.run(&format!("dkms autoinstall -k {}", kernel.release)).never_says(&[DOWNLOADING]);
    for place in ["incoming", "borrowed", "work"] {
        assert_eq!(root.find(&format!("/var/lib/dkms/.dkms-rs/{place}"), "-mindepth 1"), [""; 0]);
    }
}

/// A module that compiles, and another one, for no kernel yet.
fn without_headers(policy: &str) -> (Root, Kernel) {
    let (root, kernel) = stage::fine_and_broken(Suite::trixie());
    root.run("dkms remove broken-net/1.0 --all; rm -r /usr/src/broken-net-1.0").ok();
    root.run("dkms generate_mok").ok();
    root.write("/etc/dkms/policy.toml", policy);
    (root, kernel)
}

fn install_image(root: &Root, kernel: &Kernel) -> dkms_tests::Output {
    root.run(&format!("apt-get -q -y --no-install-recommends install {} 2>&1", kernel.image()))
}

#[test]
fn a_kernel_arrives_without_its_headers() {
    let (root, kernel) = without_headers(FETCH);
    let counters = Counters::install(&root);
    let told = install_image(&root, &kernel).ok().says(&[DOWNLOADING]);
    let all = told.all();
    assert_eq!(
        all.matches(DOWNLOADING).count(),
        1,
        "the hook uses what the pre-build has downloaded: {told}"
    );
    let built = all.find("fine/1.0 built for").expect("it is built");
    assert!(
        built < all.find("Unpacking linux-image").expect("apt unpacks"),
        "before anything is changed: {told}"
    );
    let counts = counters.take();
    assert_eq!((counts.builds, counts.depmods), (1, 1), "{counts:#?}");
    assert_eq!(root.find("/var/lib/dkms/.dkms-rs/borrowed", "-mindepth 1"), [""; 0], "after the last hook");
    root.expect_installed(&["fine/1.0"], &kernel.release);
    expect_no_headers(&root, &kernel);
    root.run(&format!("dkms check -k {}", kernel.release)).ok();
    root.run("dkms doctor").ok();
    let signer = root.run(&format!("modinfo -F signer $(find {} -name 'fine.ko*')", kernel.dkms_dir())).ok();
    assert!(!signer.stdout.trim().is_empty(), "signed with a program of the headers");
    // With the headers, the fingerprint is the same.
    root.apt_install(&[&kernel.headers()]).ok();
    assert_eq!(counters.take().builds, 0);
    root.run(&format!("dkms autoinstall -k {}", kernel.release)).ok().never_says(&["built"]);
    root.run(&format!("dkms why fine/1.0 -k {}", kernel.release)).ok().says(&["up to date"]);
    assert_eq!(counters.take().builds, 0);
}

#[test]
fn two_kernels_arrive_together_with_a_module() {
    let (root, kernel) = without_headers(FETCH);
    let other = Kernel::newest_but_one(&root, Flavour::Cloud, Suite::trixie().kernel_series);
    let package = Sources::new("more", "1.0").package(&root);
    let counters = Counters::install(&root);
    let install = format!(
        "apt-get -q -y --no-install-recommends install {} {} {package} 2>&1",
        kernel.image(),
        other.image()
    );
    let told = root.run(&install).ok();
    assert_eq!(told.all().matches(DOWNLOADING).count(), 2, "{told}");
    assert_eq!(counters.take().builds, 4, "two modules, each once for each kernel: {told}");
    assert_eq!(root.find("/var/lib/dkms/.dkms-rs/borrowed", "-mindepth 1"), [""; 0], "after the last hook");
    for kernel in [&kernel, &other] {
        root.expect_installed(&["fine/1.0", "more/1.0"], &kernel.release);
        expect_no_headers(&root, kernel);
    }
}

/// Their configuration is known with the headers only.
#[test]
fn nothing_is_downloaded_again_for_the_same_end() {
    let (root, kernel) = without_headers(FETCH);
    for (name, conf) in [
        ("never", "BUILD_EXCLUSIVE_CONFIG=\"CONFIG_NO_SUCH_OPTION\"\n"),
        ("alone", "BUILD_EXCLUSIVE_CONFIG=\"CONFIG_MODULES\"\n"),
    ] {
        Sources::new(name, "1.0").conf(conf).unpack(&root);
        root.run(&format!("dkms add {name}/1.0")).ok();
    }
    Sources::new("broken", "1.0").broken().unpack(&root);
    root.run("dkms add broken/1.0").ok();
    install_image(&root, &kernel).ok().says(&["excluded by dkms.conf", "FAILED: broken/1.0"]);
    root.expect_installed(&["alone/1.0", "fine/1.0"], &kernel.release);
    let again = format!("dkms autoinstall -k {}", kernel.release);
    root.run(&again).never_says(&[DOWNLOADING]).says(&["broken/1.0"]);
    root.run("dkms why never").says(&["excluded"]).never_says(&["headers"]);
    root.run("dkms why broken").says(&["no_such_symbol_here"]);
    // A source that was changed is tried.
    root.run("sed -i 's/no_such_symbol_here/0/' /usr/src/broken-1.0/*.c").ok();
    root.run(&again).ok().says(&[DOWNLOADING]);
    root.expect_installed(&["broken/1.0"], &kernel.release);
    root.run(&again).ok().never_says(&[DOWNLOADING]);
    // A user who names a module gets an answer of today.
    root.run(&format!("dkms install never/1.0 -k {}", kernel.release)).says(&[DOWNLOADING, "excluded"]);
}

/// Its headers depend on it.
#[test]
fn a_missing_compiler_is_downloaded_with_them() {
    let (root, kernel) = without_headers(FETCH);
    root.run("apt-get -q -y purge gcc gcc-14 gcc-14-x86-64-linux-gnu cpp cpp-14 && ! which gcc gcc-14").ok();
    install_image(&root, &kernel).ok().says(&["fine/1.0 built for"]);
    root.expect_installed(&["fine/1.0"], &kernel.release);
    root.run("which gcc gcc-14").fails();
    expect_no_headers(&root, &kernel);
}

#[test]
fn a_new_version_of_a_module_is_built_for_kernels_without_headers() {
    let (root, kernel) = without_headers(FETCH);
    install_image(&root, &kernel).ok();
    let package = Sources::new("fine", "2.0").package(&root);
    root.apt_install(&[&package]).ok().says(&[DOWNLOADING]);
    root.expect_installed(&["fine/2.0"], &kernel.release);
    expect_no_headers(&root, &kernel);
    // By hand, too, and a build that is there needs none.
    root.run(&format!("dkms unbuild fine/2.0 -k {}", kernel.release)).ok();
    root.run(&format!("dkms install fine/2.0 -k {}", kernel.release)).ok();
    root.expect_installed(&["fine/2.0"], &kernel.release);
    expect_no_headers(&root, &kernel);
}

#[test]
fn nothing_is_downloaded_unless_the_administrator_wants_it() {
    let (root, kernel) = without_headers("");
    install_image(&root, &kernel).ok().never_says(&[DOWNLOADING]).says(&["kernel headers for"]);
    assert_eq!(root.state_of("fine/1.0", &kernel.release), "none");
}

#[test]
fn a_module_that_does_not_build_with_them_stops_the_transaction() {
    let (root, kernel) = stage::fine_and_broken(Suite::trixie());
    root.write("/etc/dkms/policy.toml", format!("{FETCH}on_unbuildable = \"hold\"\n"));
    install_image(&root, &kernel).exits(100).says(&[DOWNLOADING, "transaction aborted, nothing changed"]);
    root.expect_clean_dpkg();
    expect_no_headers(&root, &kernel);
}

#[test]
fn headers_that_cannot_be_downloaded_are_named() {
    let (root, kernel) = without_headers(FETCH);
    root.write(
        "/etc/apt/preferences.d/none",
        format!("Package: {}\nPin: version *\nPin-Priority: -1\n", kernel.headers()),
    );
    let told = install_image(&root, &kernel).ok().says(&["were not downloaded: ", &kernel.headers()]);
    assert_eq!(told.all().matches(DOWNLOADING).count(), 1, "one transaction tries it once: {told}");
    assert_eq!(root.state_of("fine/1.0", &kernel.release), "none");
    root.run("rm /etc/apt/preferences.d/none").ok();
    root.run(&format!("dkms autoinstall -k {}", kernel.release)).ok().says(&[DOWNLOADING]);
    root.expect_installed(&["fine/1.0"], &kernel.release);
}

/// A kernel of another distribution, which its package manager has installed.
#[track_caller]
fn expect_built(root: &Root, kernel: &str) {
    root.expect_installed(&["fine/1.0"], kernel);
    let file =
        root.find(&format!("/usr/lib/modules/{kernel}"), "-name 'fine.ko*'").pop().expect("the module");
    let vermagic = root.run(&format!("modinfo -F vermagic {file}")).ok().stdout;
    assert_eq!(vermagic.split(' ').next(), Some(kernel));
    root.run(&format!("ls /usr/lib/modules/{kernel}/build/include")).fails();
    root.run(&format!("dkms autoinstall -k {kernel}")).ok().never_says(&[DOWNLOADING]);
    assert_eq!(root.find("/var/lib/dkms/.dkms-rs/borrowed", "-mindepth 1"), [""; 0]);
}

/// A module from headers that are never installed is loaded by the kernel: their packages must be signed as for an installation.
#[track_caller]
fn expect_unsigned_refused(root: &Root, kernel: &str, strict: &str, why: &str) {
    root.run(strict).ok();
    root.run(&format!("dkms unbuild fine/1.0 -k {kernel}")).ok();
    root.run(&format!("dkms autoinstall -k {kernel} 2>&1")).says(&[
        DOWNLOADING,
        "were not downloaded: ",
        why,
    ]);
    assert_eq!(root.state_of("fine/1.0", kernel), "none");
}

fn with_apt(machine: &Machine) {
    let root = Root::on(&dressed::debian());
    dressed::add_kernel(&root);
    root.run("rm -f /etc/os-release").ok();
    root.write("/etc/os-release", machine.os_release);
    root.write("/etc/dkms/policy.toml", FETCH);
    dressed::debs(&root, machine.packages, machine.kernel);
    let told = root.apt_install(&[machine.installed]).ok().says(&[DOWNLOADING]);
    assert_eq!(told.all().matches(DOWNLOADING).count(), 1, "{told}");
    expect_built(&root, machine.kernel);
    for (_, name, ..) in machine.packages.iter().filter(|package| package.0 == Kind::Headers) {
        root.run(&format!("dpkg-query -W {name}")).fails();
    }
    root.expect_clean_dpkg();
    let strict = "sed -i 's/trusted=yes/allow-insecure=yes/' /etc/apt/sources.list && apt-get update";
    expect_unsigned_refused(&root, machine.kernel, strict, "could not be authenticated");
}

#[test]
fn debian_proxmox_and_raspberry_pi() {
    MACHINES[..3].iter().for_each(with_apt);
}

/// dnf5's and dnf's plugins download before the transaction, zypper's last hook at its end.
fn with_rpm(machine: &Rpm) {
    let Rpm { manager, os_release, kernel, packages, .. } = machine;
    let root = Root::on(&rpm::bare(manager.family()));
    dressed::add_kernel(&root);
    Sources::new("fine", "1.0").unpack_at(&root, "/usr/src/fine-1.0");
    root.write("/etc/os-release", os_release);
    root.write("/etc/dkms/policy.toml", FETCH);
    root.run("dkms add fine/1.0").ok();
    dressed::rpms(&root, packages, kernel, "/opt/repo");
    if *manager == rpm::Manager::Dnf4 {
        root.run("rm /usr/bin/dnf5").ok();
    }
    let told = manager.install(&root, &[packages[0].1]).ok().says(&[DOWNLOADING]);
    assert_eq!(told.all().matches(DOWNLOADING).count(), 1, "{told}");
    expect_built(&root, kernel);
    root.run(&format!("rpm -q {}", packages[1].1)).fails();
    let strict =
        "sed -i 's/gpgcheck=0/gpgcheck=1/' /etc/yum.repos.d/t.repo /etc/zypp/repos.d/t.repo 2>&1 || :";
    let why = match manager {
        rpm::Manager::Dnf5 => "has no valid signature",
        rpm::Manager::Dnf4 => "GPG",
        _ => "Signature verification failed",
    };
    expect_unsigned_refused(&root, kernel, strict, why);
}

#[test]
fn dnf5() {
    with_rpm(&RPMS[0]);
}

#[test]
fn dnf4() {
    with_rpm(&RPMS[1]);
}

#[test]
fn zypper() {
    with_rpm(&RPMS[2]);
}

#[test]
fn pacman() {
    let (os_release, package, kernel) = PACMANS[0];
    let machine = pacman::machine();
    let root = &machine.root;
    dressed::add_kernel(root);
    root.write("/etc/os-release", os_release);
    root.write("/etc/dkms/policy.toml", FETCH);
    Sources::new("fine", "1.0").unpack(root);
    root.run("dkms add fine/1.0").ok();
    dressed::pacmans(&machine, package, kernel);
    let told = root.run(&format!("pacman -Sy --noconfirm {package} 2>&1")).ok().says(&[DOWNLOADING]);
    assert_eq!(told.all().matches(DOWNLOADING).count(), 1, "{told}");
    expect_built(root, kernel);
    root.run(&format!("pacman -Q {package}-headers")).fails();
    let strict = "rm -f /var/cache/pacman/pkg/* && pacman-key --init && sed -i 's/SigLevel = Never/SigLevel = Required/' /etc/pacman.conf";
    expect_unsigned_refused(root, kernel, strict, "signature");
}
