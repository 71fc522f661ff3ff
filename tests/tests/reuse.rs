//! Nothing is compiled twice: a build with the same inputs is taken from the cache, after its hash was checked.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_tests::count::Counters;
use dkms_tests::modules::Sources;
use dkms_tests::{Kernel, Root, Suite, stage};

fn prepared() -> (Root, Kernel) {
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    let root = Root::on(&layer);
    for name in ["one", "two"] {
        Sources::new(name, "1.0").unpack(&root);
        root.run(&format!("dkms add {name}/1.0")).ok();
    }
    (root, kernel)
}

fn autoinstall(root: &Root, kernel: &Kernel) -> dkms_tests::Output {
    root.run_within(300, &format!("dkms autoinstall -k {}", kernel.release)).ok()
}

#[test]
fn a_kernel_that_comes_back() {
    let (root, kernel) = prepared();
    let counters = Counters::install(&root);
    autoinstall(&root, &kernel);
    assert_eq!(counters.take().builds_and_depmods(), (2, 1));
    let files = kernel.module_files(&root);
    root.run(&format!("dkms kernel_prerm -k {}", kernel.release)).ok();
    assert_eq!(kernel.module_files(&root).len(), 0);
    counters.take();
    autoinstall(&root, &kernel);
    assert_eq!(counters.take().builds_and_depmods(), (0, 1), "from the cache, and one index");
    assert_eq!(kernel.module_files(&root), files, "the very same files, signatures and all");
    kernel.expect_vermagic(&root);
}

#[test]
fn a_module_that_was_removed_and_one_that_is_forced() {
    let (root, kernel) = prepared();
    autoinstall(&root, &kernel);
    let counters = Counters::install(&root);
    root.run("dkms remove one/1.0 --all && dkms add one/1.0").ok();
    counters.take();
    root.run(&format!("dkms install one/1.0 -k {}", kernel.release)).ok();
    assert_eq!(counters.take().builds_and_depmods(), (0, 1));
    root.run(&format!("dkms build one/1.0 -k {} --force", kernel.release)).ok();
    assert_eq!(counters.take().builds, 1, "whoever says --force wants a compiler");
    // A changed source has another fingerprint.
    root.run(
        "dkms remove one/1.0 --all && echo '/* changed */' >>/usr/src/one-1.0/one.c && dkms add one/1.0",
    )
    .ok();
    counters.take();
    root.run(&format!("dkms install one/1.0 -k {}", kernel.release)).ok();
    assert_eq!(counters.take().builds, 1);
}

/// Another driver's header, which no recipe names: kbuild does.
#[test]
fn a_header_outside_of_the_source() {
    let (root, kernel) = prepared();
    let header = "/usr/src/shared/level.h";
    let level = |value: u32| root.write(header, format!("#define LEVEL \"{value}\"\n"));
    let says = |value: u32| {
        root.run(&format!("modinfo -k {kernel} -F level one")).ok().says(&[&format!("{value}\n")]);
    };
    level(1);
    // A file that claims that the build has read what only root may read.
    root.run("printf 'deps_x := /etc/shadow /proc/uptime\\n' >/usr/src/one-1.0/.claimed.cmd").ok();
    root.run(
        "cd /usr/src/one-1.0 && echo 'ccflags-y += -I/usr/src/shared' >>Makefile && \
         printf '#include <level.h>\nMODULE_INFO(level, LEVEL);\n' >>one.c && dkms store key fleet",
    )
    .ok();
    autoinstall(&root, &kernel);
    says(1);
    root.run("grep -rl level.h /var/lib/dkms/.dkms-rs/records").ok();
    root.run("grep -rlE 'shadow|uptime' /var/lib/dkms/.dkms-rs/records").fails();
    let counters = Counters::install(&root);
    autoinstall(&root, &kernel);
    assert_eq!(counters.take().builds_and_depmods(), (0, 0));
    root.run("dkms store push /srv/store").ok().says(&[
        "one/1.0",
        "it was compiled with /usr/src/shared/level.h",
        "1 builds pushed, 0 were there, 1 left",
    ]);

    level(2);
    root.run("dkms doctor").exits(20).says(&["not up to date", "one/1.0"]).never_says(&["two/1.0"]);
    autoinstall(&root, &kernel);
    assert_eq!(counters.take().builds_and_depmods(), (1, 1));
    says(2);
    // The cache is used for the header that there is now.
    root.run(&format!("dkms kernel_prerm -k {kernel}")).ok();
    counters.take();
    autoinstall(&root, &kernel);
    assert_eq!(counters.take().builds_and_depmods(), (0, 1));
    root.run(&format!("dkms kernel_prerm -k {kernel}")).ok();
    counters.take();
    level(3);
    autoinstall(&root, &kernel).says(&["it was compiled with /usr/src/shared/level.h, which has changed"]);
    assert_eq!(counters.take().builds_and_depmods(), (1, 1));
    says(3);
    // Without it, nothing could be built: what is there stays.
    root.run(&format!("rm {header}")).ok();
    autoinstall(&root, &kernel);
    assert_eq!(counters.take().builds_and_depmods(), (0, 0));
    says(3);
}

#[test]
fn a_damaged_entry_is_noticed_and_built_again() {
    let (root, kernel) = prepared();
    autoinstall(&root, &kernel);
    let files = kernel.module_files(&root);
    root.run(&format!("dkms kernel_prerm -k {}", kernel.release)).ok();
    let kept = root.find("/var/cache/dkms", "-name 'one.ko*'");
    assert_eq!(kept.len(), 1, "{kept:?}");
    root.run(&format!("printf X | dd of={} bs=1 seek=100 conv=notrunc", kept[0])).ok();
    let counters = Counters::install(&root);
    autoinstall(&root, &kernel).says(&["one/1.0", "its hash does not match"]);
    assert_eq!(counters.take().builds_and_depmods(), (1, 1));
    let names = |files: &[(String, String)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&kernel.module_files(&root)), names(&files));
    kernel.expect_vermagic(&root);
}

#[test]
fn the_cache_has_a_limit() {
    let (root, kernel) = prepared();
    root.write("/etc/dkms/policy.toml", "cache_mib = 0\n");
    autoinstall(&root, &kernel);
    assert_eq!(root.find("/var/cache/dkms", "-type f"), [""; 0]);
}
