//! A pre-build runs no program from a package with root's privileges, and later uses no result that depends on one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests stop at the first surprise

use dkms_tests::count::Counters;
use dkms_tests::modules::Sources;
use dkms_tests::repack::{newer_headers, repack};
use dkms_tests::{Kernel, Root, Suite, host, stage};

/// The files that a hostile program writes: some that only root can write, and one that all users can.
const MARKS: [&str; 3] = ["/root/mark", "/usr/lib/mark", "/var/tmp/mark"];

/// A package with these programs, each a shell script that leaves marks and then runs its commands.
fn hostile(root: &Root, name: &str, programs: &[(&str, &str)]) -> String {
    let dir = format!("/opt/{name}");
    for (program, then) in programs {
        let marks: Vec<String> = MARKS.iter().map(|mark| format!("echo \"$0 $(id -u)\" >>{mark}")).collect();
        let script = format!("#!/bin/bash\n{{ {}; }} 2>/dev/null\n{then}\n", marks.join("; "));
        root.write_script(&format!("{dir}{program}"), &script);
    }
    root.write(
        &format!("{dir}/DEBIAN/control"),
        format!(
            "Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x>\nDescription: hostile\n"
        ),
    );
    let file = format!("/opt/{name}.deb");
    root.run(&format!("dpkg-deb --root-owner-group -b {dir} {file}")).ok();
    file
}

/// A module that contains the flags it was built with, and the packages of a kernel that is not installed yet, as
/// files.
fn prepared() -> (Root, Kernel, String) {
    let kernel = stage::cloud_kernel(Suite::trixie());
    let root = Root::on(&stage::product(Suite::trixie()));
    let package = Sources::new("fine", "1.0").package(&root);
    root.apt_install(&[&package]).ok();
    let plan = format!("apt-get -q -s install {} {}", kernel.image(), kernel.headers());
    let plan = root.run(&format!("{plan} | sed -n 's/^Inst \\([^ ]*\\).*/\\1/p'")).ok().stdout;
    let names: Vec<&str> = plan.lines().collect();
    root.run(&format!("mkdir /opt/kernel && cd /opt/kernel && apt-get -q download {}", names.join(" "))).ok();
    (root, kernel, "/opt/kernel/*.deb".to_owned())
}

#[track_caller]
fn expect_no_marks(root: &Root) {
    for mark in MARKS {
        root.run(&format!("! cat {mark}")).ok();
    }
}

#[test]
fn programs_that_come_run_as_nobody_that_matters() {
    let (root, kernel, files) = prepared();
    let real = |program: &str| format!("exec {program}.real \"$@\"");
    // The real make and bash are kept where these can call them.
    root.run(
        "for p in make bash sh gcc ld true openssl strip; do cp -L $(command -v $p) /usr/bin/$p.real; done",
    )
    .ok();
    let all: Vec<(String, String)> = ["make", "bash", "sh", "gcc", "ld", "openssl", "strip"]
        .iter()
        .map(|name| (format!("/usr/bin/{name}"), real(&format!("/usr/bin/{name}"))))
        .chain([("/usr/bin/true".to_owned(), "exit 1".to_owned())])
        .collect();
    let all: Vec<(&str, &str)> = all.iter().map(|(path, then)| (path.as_str(), then.as_str())).collect();
    let evil = hostile(&root, "evil", &all);
    root.run(&format!("dkms preflight {files} {evil}"));
    expect_no_marks(&root);
    // The same holds for the signing program of the headers, in the transaction's own pre-build.
    let sign = format!("/usr/src/linux-headers-{}/scripts/sign-file", kernel.release);
    let sign = hostile(&root, "evil-sign", &[(&sign, "exit 0")]);
    root.run(&format!("dkms preflight {files} {sign}"));
    expect_no_marks(&root);
    root.run("! test -e /var/lib/dkms/mok.key").ok().says(&[]);
}

#[test]
fn what_a_hostile_make_built_is_never_installed() {
    let (root, kernel, files) = prepared();
    root.run("cp /usr/bin/make /usr/bin/make.real").ok();
    let evil = hostile(
        &root,
        "evil-make",
        &[("/usr/bin/make", "exec /usr/bin/make.real \"$@\" KCFLAGS=\"-include /usr/lib/evil.h\"")],
    );
    root.write(
        "/opt/evil-make/usr/lib/evil.h",
        "static const char evil[] __attribute__((used)) = \"EVIL-MARK\";\n",
    );
    root.run(&format!("dpkg-deb --root-owner-group -b /opt/evil-make {evil}")).ok();
    root.run(&format!("dkms preflight {files} {evil}")).ok();
    expect_no_marks(&root);
    // The original packages alone: the same sources, the same headers, the same compiler.
    let counters = Counters::install(&root);
    root.run(&format!("apt-get -q -y install {files}")).ok();
    assert_eq!(counters.take().builds, 1, "what was built with another make does not serve");
    root.expect_installed(&["fine/1.0"], &kernel.release);
    let file = format!("{}/fine.ko*", kernel.dkms_dir());
    root.run(&format!("! xzcat -f {file} | grep -q EVIL-MARK")).ok();
}

#[test]
fn a_failure_that_only_a_hostile_make_had_is_not_believed() {
    let (root, kernel, files) = prepared();
    let evil = hostile(&root, "evil-make", &[("/usr/bin/make", "echo 'a.c:1:2: error: no'; exit 2")]);
    root.run(&format!("dkms preflight {files} {evil}"));
    root.run(&format!("apt-get -q -y install {files}")).ok();
    root.expect_installed(&["fine/1.0"], &kernel.release);
}

#[test]
fn new_tools_that_cannot_run_prove_nothing() {
    let (root, kernel, files) = prepared();
    root.write("/etc/dkms/policy.toml", "critical = [\"fine\"]\non_unbuildable = \"hold\"\n");
    // Like a compiler that needs a newer C library.
    let lame = hostile(
        &root,
        "lame",
        &[("/usr/bin/x86_64-linux-gnu-gcc-14", "echo \"gcc: GLIBC_9.99 not found\" >&2; exit 1")],
    );
    let told = root.run(&format!("dkms preflight {files} {lame}")).exits(21);
    told.says(&["pre-build skipped", "GLIBC_9.99"]).never_says(&["FAILED"]);
    root.run(&format!("apt-get -q -y install {files}")).ok();
    root.expect_installed(&["fine/1.0"], &kernel.release);
}

/// Packages, each with a file in it that is to differ by a byte at its end, where nothing reads; empty: none.
const GCC: &[(&str, &str)] = &[
    ("gcc-14", ""),
    ("cpp-14", ""),
    ("gcc-14-x86-64-linux-gnu", "usr/bin/x86_64-linux-gnu-gcc-14"),
    ("cpp-14-x86-64-linux-gnu", "usr/libexec/gcc/x86_64-linux-gnu/14/cc1"),
];
const LIBC: &[(&str, &str)] = &[("libc6", "usr/lib/x86_64-linux-gnu/libc.so.6"), ("libc6-dev", "")];

/// These at a higher version.
fn newer(root: &Root, packages: &[(&str, &str)]) -> String {
    let one = |(package, file): &(&str, &str)| {
        let deb = root.download(&[package]).remove(0);
        repack(root, &deb, "+9", |tree| {
            if !file.is_empty() {
                host::run_host(&format!("echo >>'{}'", tree.join(file).display()));
            }
        })
    };
    packages.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// A transaction that brings only these changes no module; one that brings a kernel's headers besides has its modules built
/// with them, before and not again afterwards.
fn brings(packages: &[(&str, &str)]) {
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    let with_module = || {
        let root = Root::on(&layer);
        let package = Sources::new("fine", "1.0").package(&root);
        root.apt_install(&[&package]).ok();
        root.expect_installed(&["fine/1.0"], &kernel.release);
        root
    };
    let bad = ["FAILED", "pre-build skipped", "GLIBC_"];

    let root = with_module();
    let debs = newer(&root, packages);
    let files = kernel.module_files(&root);
    let counters = Counters::install(&root);
    root.run(&format!("apt-get -q -y install {debs} 2>&1")).ok().never_says(&bad);
    root.expect_clean_dpkg();
    assert_eq!((counters.take().builds, kernel.module_files(&root)), (0, files));
    root.expect_installed(&["fine/1.0"], &kernel.release);

    let root = with_module();
    root.write("/etc/dkms/policy.toml", "critical = [\"fine\"]\n");
    let debs = newer(&root, packages);
    let headers = newer_headers(&root, &kernel, "+9", true);
    let told = root.run(&format!("apt-get -q -y install {debs} {headers} 2>&1"));
    told.ok().says(&["fine/1.0 built for", "1 module installed"]).never_says(&bad);
    root.expect_clean_dpkg();
    root.expect_installed(&["fine/1.0"], &kernel.release);
    kernel.expect_vermagic(&root);
    // Nothing has to be done again with what is installed now.
    let counters = Counters::install(&root);
    root.run(&format!("dkms install fine/1.0 -k {}", kernel.release)).ok();
    assert_eq!(counters.take().builds, 0);
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn a_transaction_that_brings_only_a_new_gcc() {
    brings(GCC);
}

#[test]
fn a_transaction_that_brings_only_a_new_c_library() {
    brings(LIBC);
}

/// All packages of the kernel but its own headers.
const OTHERS: &str = "$(ls /opt/kernel/*.deb | grep -v 'linux-headers-[0-9].*amd64_')";

/// The headers of the kernel, changed by these commands in the package's tree, as a package file.
fn other_headers(root: &Root, kernel: &Kernel, change: &str) -> String {
    root.run(&format!(
        "set -e; rm -rf /opt/evil; cd /opt; dpkg-deb -R kernel/{}_*.deb evil; cd evil; {change}; \
         dpkg-deb --root-owner-group -Znone -b /opt/evil /opt/evil-headers.deb",
        kernel.headers()
    ))
    .ok();
    "/opt/evil-headers.deb".to_owned()
}

/// The fingerprint of a build covers the usual directories of headers. This module's Makefile is called through another one
/// (zfs-dkms does that): what a hostile package puts there must not be in a module that is installed later.
#[test]
fn headers_that_are_only_read_through_a_link_are_not_believed_either() {
    let (root, kernel, files) = prepared();
    let release = &kernel.release;
    let source = "make -C ${kernel_source_dir/%build/source} O=${kernel_source_dir} M=$dkms_tree/reads/1.0/build modules";
    let package = Sources::new("reads", "1.0").conf(&format!("MAKE[0]=\"{source}\"")).package(&root);
    root.apt_install(&[&package]).ok();
    let evil = other_headers(
        &root,
        &kernel,
        "dpkg-deb -x ../kernel/linux-headers-*-common_*.deb ../common; \
         mv ../common/usr/src/linux-headers-*-common usr/src/linux-evil; \
         echo 'MODULE_INFO(poison, \"EVIL-MARK\");' >>usr/src/linux-evil/include/linux/module.h; \
         modules=$(dirname $(find . -path '*modules*' -name build)); rm -f $modules/source; \
         ln -s /usr/src/linux-evil $modules/source",
    );
    root.run(&format!("dkms preflight {OTHERS} {evil}")).ok().says(&["reads/1.0 built for"]);
    let counters = Counters::install(&root);
    root.run(&format!("apt-get -q -y install {files}")).ok();
    assert_eq!(counters.take().builds, 2, "nothing that was built with other headers serves");
    root.expect_installed(&["reads/1.0", "fine/1.0"], release);
    let built = format!("{}/reads.ko*", kernel.dkms_dir());
    root.run(&format!("! xzcat -f {built} | grep -q EVIL-MARK")).ok();
}

/// Root reads the list of symbols, to compare them with the module's. The Makefile of these headers does not read it: it
/// delivers a finished module.
#[test]
fn a_list_of_symbols_that_leads_to_a_device_is_not_read() {
    let (root, kernel, files) = prepared();
    root.run(&format!("apt-get -q -y install {files}")).ok();
    let built = format!("{}/fine.ko*", kernel.dkms_dir());
    root.run(&format!("xzcat -f {built} >/opt/fine.ko && mkfifo /opt/fifo")).ok();
    root.run(&format!("apt-get -q -y purge {} {}", kernel.image(), kernel.headers())).ok();
    let headers = format!("usr/src/{}", kernel.headers());
    let makefile = format!("all modules clean:\\n\\tcp /{headers}/fine.ko $(M)/\\n%:\\n\\t@:\\n");
    for target in ["/dev/zero", "/proc/kmsg", "/opt/fifo"] {
        let change = format!(
            "printf '%b' '{makefile}' >{headers}/Makefile; cp /opt/fine.ko {headers}/; \
             ln -sf {target} {headers}/Module.symvers"
        );
        let evil = other_headers(&root, &kernel, &change);
        let told = root
            .run(&format!("ulimit -v 3000000; timeout 120 dkms preflight {OTHERS} {evil}; echo ended: $?"));
        told.never_says(&["ended: 124", "ended: 134", "ended: 137", "ended: 139", "compiling failed"]);
    }
    root.run(&format!("apt-get -q -y install {files}")).ok();
    root.expect_installed(&["fine/1.0"], &kernel.release);
}

/// Package files that would make their reader take all memory: that ends the reader, which is not root's.
#[test]
fn a_package_file_that_needs_too_much_memory_costs_only_its_own_proof() {
    let (root, kernel, files) = prepared();
    // Sixty megabytes of names in a list of files that compresses to nothing.
    root.write_script(
        "/opt/many.sh",
        "#!/bin/bash\nset -e\nmkdir -p /opt/many/DEBIAN /opt/many/usr/share/many\ncd /opt/many\n\
         printf 'Package: many\\nVersion: 1\\nArchitecture: all\\nMaintainer: x <x@x>\\nDescription: x\\n' >DEBIAN/control\n\
         seq 1 1500000 | sed 's,.*,00000000000000000000000000000000  usr/share/many/&,' >DEBIAN/md5sums\n\
         dpkg-deb --root-owner-group -Zgzip -z1 -b /opt/many /opt/many.deb\n",
    );
    root.run("/opt/many.sh").ok();
    let peak = "/usr/bin/env bash -c 'ulimit -v 3000000; exec dkms preflight \"$@\"' -";
    root.run(&format!("{peak} {files} /opt/many.deb; test $? -lt 100")).ok();
    root.run(&format!("apt-get -q -y install {files}")).ok();
    root.expect_installed(&["fine/1.0"], &kernel.release);
}
