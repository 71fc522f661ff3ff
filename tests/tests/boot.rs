//! The kernel that apt installed boots, and the module that was built for it loads.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_tests::kernels::Flavour;
use dkms_tests::modules::Sources;
use dkms_tests::{Kernel, Root, Suite, boot, stage};

/// A Debian 13 with the product, and a kernel that it does not have yet.
fn machine() -> (Root, Kernel) {
    let suite = Suite::trixie();
    let root = Root::on(&stage::product(suite));
    let kernel = Kernel::newest(&root, Flavour::Plain, suite.kernel_series);
    (root, kernel)
}

#[test]
fn the_new_kernel_boots_and_loads_v4l2loopback() {
    let (root, kernel) = machine();
    root.apt_install(&["v4l2loopback-dkms"]).ok();
    kernel.install(&root).ok();
    kernel.expect_vermagic(&root);
    let console = boot::boot_and_load(&root, &kernel, "v4l2loopback");
    for wanted in ["LOADED videodev", "LOADED v4l2loopback", "PROC v4l2loopback", "DEV /dev/video0"] {
        assert!(console.contains(wanted), "{wanted:?} is not on the console\n{console}");
    }
}

/// The module of a device was missing at boot, and the boot service builds it.
const AT_BOOT: &str = r#"
grep -o 'dkms autoinstall.*' /usr/lib/systemd/system/dkms.service | sed "s/%v/$(uname -r)/" >/run/start
lsmod | grep -c '^waited ' | sed 's/^/BEFORE /'
sh /run/start
lsmod | grep -o '^waited ' | sed 's/^/LOADED /'
"#;

#[test]
#[ignore = "long: run by `make test-long`"]
fn the_boot_service_loads_the_module_that_a_device_waits_for() {
    let (root, kernel) = machine();
    root.apt_install(&[&kernel.image(), &kernel.headers()]).ok();
    let waited = Sources::new("waited", "1.0");
    waited.unpack(&root);
    // Every machine has a processor.
    root.run(
        "sed -i '1a MODULE_ALIAS(\"cpu:type:x86*\");' /usr/src/waited-1.0/waited.c && dkms add waited/1.0",
    )
    .ok();
    let console = boot::machine::run(&root, &kernel, AT_BOOT).all();
    assert!(console.contains("BEFORE 0") && console.contains("LOADED waited"), "{console}");
}

/// Builds that take all processes or all memory, each in a group that is delegated as systemd does it.
const GREEDY: [(&str, &str); 3] = [
    // Processes that wait without a program of their own: under emulation, starting a program takes 40 ms.
    ("bomb", "mkfifo never; for i in $(seq 5000); do read <never & done; exit 1"),
    ("hog", "tail /dev/zero"),
    ("honest", ":"),
];

const DELEGATED: &str = r#"
cgroup=/sys/fs/cgroup
echo '+memory +pids' >$cgroup/cgroup.subtree_control
for name in bomb hog honest; do
    group=$cgroup/$name
    mkdir $group && setfattr -n trusted.delegate -v 1 $group
    dkms add $name/1.0
    (while sleep 0.1; do cat $group/build-*/{pids.max,memory.max,pids.events} 2>/dev/null; done >/run/$name) &
    sh -c 'echo $$ >$0/cgroup.procs; exec dkms install $1/1.0 -k KERNEL' $group $name
    echo "ENDED $name $?"
    kill $!
    sort /run/$name | uniq -c | sed "s/^/SEEN $name /"
    echo "LEFT $name $(ls -d $group/*/)"
done
dkms status
"#;

#[test]
#[ignore = "long: run by `make test-long`"]
fn a_delegated_control_group_limits_each_build() {
    let (root, kernel) = machine();
    root.apt_install(&[&kernel.image(), &kernel.headers(), "attr"]).ok();
    for (name, does) in GREEDY {
        Sources::new(name, "1.0").conf("PRE_BUILD=\"before.sh\"").unpack(&root);
        root.write_script(&format!("/usr/src/{name}-1.0/before.sh"), &format!("#!/bin/bash\n{does}\n"));
    }
    let console = boot::machine::run(&root, &kernel, &DELEGATED.replace("KERNEL", &kernel.release)).all();
    let line = |begins: &str| console.lines().find(|line| line.starts_with(begins)).unwrap_or_default();
    // The processes were limited, and that is no fault of the machine.
    assert_ne!(line("ENDED bomb").trim(), "ENDED bomb 0", "{console}");
    assert!(console.contains("SEEN bomb") && console.contains(" 4096"), "{console}");
    let refused = |name: &str| {
        let counts = console.lines().filter(|line| line.starts_with(&format!("SEEN {name} ")));
        counts.filter_map(|line| line.rsplit_once(" max ")?.1.trim().parse::<u32>().ok()).max()
    };
    assert!(refused("bomb") > Some(0) && refused("honest") == Some(0), "{console}");
    // The memory was, and that is the machine's: it is tried again.
    assert_ne!(line("ENDED hog").trim(), "ENDED hog 0", "{console}");
    assert!(console.contains("the machine ran out of memory"), "{console}");
    // The machine survives, and the next build is not concerned.
    assert_eq!(line("ENDED honest").trim(), "ENDED honest 0", "{console}");
    assert!(console.contains(&format!("honest/1.0, {}, x86_64: installed", kernel.release)), "{console}");
    for name in ["bomb", "hog", "honest"] {
        assert_eq!(line(&format!("LEFT {name}")).trim(), format!("LEFT {name} /sys/fs/cgroup/{name}/dkms/"));
    }
}
