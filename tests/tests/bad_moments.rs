//! Concurrent problems: full disks, missing sources, signals, scripts that call dkms. The old module is kept, the
//! message is clear, and the next run works.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_tests::modules::Sources;
use dkms_tests::{Kernel, Output, Root, Suite, stage};

/// A kernel with a small tree and version 1.0 of a package with three modules installed for it.
fn prepared() -> (Root, Kernel) {
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    let layer = layer.prepared("trio", &format!("{:?}", trio("1.0").files()), |root| {
        trio("1.0").unpack(root);
        root.run(&format!("dkms add trio/1.0 && dkms install trio/1.0 -k {}", kernel.release)).ok();
    });
    (Root::on(&layer), kernel)
}

fn trio(version: &str) -> Sources {
    Sources::new("trio", version).modules(&["trio_a", "trio_b", "trio_c"])
}

fn hook(root: &Root, kernel: &Kernel) -> Output {
    root.run_within(300, &format!("/etc/kernel/postinst.d/dkms {0} /boot/vmlinuz-{0}", kernel.release))
}

/// File names without the compression suffix, for detecting leftovers.
fn unexpected_files(root: &Root, kernel: &Kernel) -> Vec<String> {
    root.find(&kernel.dkms_dir(), "-type f -not -name 'trio_?.ko*'")
}

#[test]
fn a_vanished_source_directory() {
    let (root, kernel) = prepared();
    let files = kernel.module_files(&root);
    root.run("rm -rf /usr/src/trio-1.0").ok();
    // The kernel's headers change, so that the module has to be rebuilt.
    root.run(&format!(
        "echo '#define CONFIG_DKMS_TESTS 1' >>/usr/src/{}/include/generated/autoconf.h",
        kernel.headers()
    ))
    .ok();
    hook(&root, &kernel).ok().quiet_stdout().says(&["trio/1.0"]).never_says(&["panicked"]);
    assert_eq!(kernel.module_files(&root), files);
    root.run("dkms status").ok().says(&["trio/1.0"]);
    root.run(&format!("dkms install trio/1.0 -k {} --force", kernel.release))
        .fails()
        .says(&["/usr/src/trio-1.0"]);
    assert_eq!(kernel.module_files(&root), files);
    trio("1.0").unpack(&root);
    hook(&root, &kernel).ok();
    root.expect_installed(&["trio/1.0"], &kernel.release);
    // As in DKMS 3.x, a broken registration is not removed either: it is reported, and nothing is changed.
    root.run("rm -rf /usr/src/trio-1.0").ok();
    let told = root.run("dkms remove trio/1.0 --all");
    assert!(told.status == 0 || told.status == 4, "{told}");
    let left = kernel.module_files(&root).len();
    assert_eq!(left, if told.status == 0 { 0 } else { 3 }, "all or nothing\n{told}");
}

#[test]
fn a_full_disk_during_publish() {
    let (root, kernel) = prepared();
    trio("2.0").unpack(&root);
    root.run(&format!("dkms add trio/2.0 && dkms build trio/2.0 -k {}", kernel.release)).ok();
    let dir = kernel.dkms_dir();
    root.run(&format!(
        "cp -a {dir} /opt/kept && mount -t tmpfs -o size=128k tmpfs {dir} && cp -a /opt/kept/. {dir}/ && \
         dd if=/dev/zero of={dir}/filler bs=1k 2>/dev/null; df {dir}; true"
    ))
    .ok();
    let files = kernel.module_files(&root);
    let told = root.run_within(300, &format!("dkms install trio/2.0 -k {} --force", kernel.release)).fails();
    told.says(&["No space left on device"]).never_says(&["panicked"]);
    assert_eq!(kernel.module_files(&root), files, "every old file is whole");
    root.run(&format!("rm {dir}/filler")).ok();
    assert_eq!(unexpected_files(&root, &kernel), [""; 0], "no temporary file stays");
    root.run(&format!("dkms install trio/2.0 -k {} --force", kernel.release)).ok();
    root.expect_installed(&["trio/2.0"], &kernel.release);
    assert_eq!(kernel.module_files(&root).len(), 3);
}

#[test]
fn a_second_dkms_waits_for_the_first() {
    let (root, kernel) = prepared();
    for name in ["left", "right"] {
        Sources::new(name, "1.0").unpack(&root);
    }
    let k = &kernel.release;
    root.run_within(
        300,
        &format!(
            "dkms install left/1.0 -k {k} & a=$!; dkms install right/1.0 -k {k} & b=$!; dkms autoinstall -k {k} & c=$!; \
             dkms status >/dev/null & d=$!; for p in $a $b $c $d; do wait $p || exit 1; done"
        ),
    )
    .ok();
    root.expect_installed(&["left/1.0", "right/1.0", "trio/1.0"], k);
    // The same module twice: both commands succeed.
    root.run_within(
        300,
        &format!(
            "dkms install left/1.0 -k {k} --force & a=$!; dkms install left/1.0 -k {k} & wait $! && wait $a"
        ),
    )
    .ok();
    kernel.expect_vermagic(&root);
}

#[test]
fn status_does_not_wait_for_a_build() {
    let (root, kernel) = prepared();
    slow(&root);
    let k = &kernel.release;
    let order = root.run_within(
        300,
        &format!("(dkms install slow/1.0 -k {k} >/dev/null 2>&1; echo built) & sleep 2; dkms status >/dev/null && echo status; wait"),
    );
    assert_eq!(order.stdout, "status\nbuilt\n", "{order}");
}

/// A module whose build begins with a pause, for the tests.
fn slow(root: &Root) {
    Sources::new("slow", "1.0").conf("PRE_BUILD=\"pause.sh\"").unpack(root);
    root.write_script("/usr/src/slow-1.0/pause.sh", "#!/bin/sh\nsleep 8\n");
    root.run("dkms add slow/1.0").ok();
}

#[test]
fn sigterm_ends_a_build_with_a_word_and_without_leftovers() {
    let (root, kernel) = prepared();
    slow(&root);
    let (k, files) = (&kernel.release, kernel.module_files(&root));
    for signal in ["TERM", "INT"] {
        // Started in its own session: a background child of a script would ignore SIGINT.
        let told = root.run_within(
            120,
            &format!(
                "setsid bash -c 'trap - INT; echo $$ >/opt/pid; exec dkms install slow/1.0 -k {k}' & \
                 sleep 3; kill -{signal} $(cat /opt/pid); wait $!; code=$?; sleep 1; for p in /proc/[0-9]*; do stat -c %u $p 2>/dev/null | grep -Eqx '6552[0-9]|6553[0-2]' && echo still-running; done; exit $code"
            ),
        );
        assert!(told.status != 0 && told.status != 124, "SIG{signal} must end it\n{told}");
        told.never_says(&["panicked", "still-running"]);
        assert_eq!(kernel.module_files(&root), files);
    }
    root.run(&format!("dkms install slow/1.0 -k {k}")).ok();
    root.expect_installed(&["slow/1.0", "trio/1.0"], k);
}

#[test]
fn a_modules_directory_that_leads_out_of_the_tree() {
    let (root, kernel) = prepared();
    let dir = kernel.dkms_dir();
    root.run(&format!("rm -rf {dir} && mkdir /opt/elsewhere && touch /opt/elsewhere/precious.ko && ln -s /opt/elsewhere {dir}")).ok();
    let told = root.run(&format!("dkms install trio/1.0 -k {} --force", kernel.release)).fails();
    told.says(&["updates/dkms"]).never_says(&["panicked"]);
    hook(&root, &kernel).quiet_stdout();
    root.run("dkms remove trio/1.0 --all");
    assert_eq!(
        root.find("/opt/elsewhere", "-type f"),
        ["/opt/elsewhere/precious.ko"],
        "nothing is written or removed there"
    );
    root.run(&format!("rm {dir}")).ok();
    trio("1.0").unpack(&root);
    root.run(&format!("dkms install trio/1.0 -k {}", kernel.release)).ok();
    root.expect_installed(&["trio/1.0"], &kernel.release);
}

#[test]
fn a_modules_own_script_may_call_dkms() {
    let (root, kernel) = prepared();
    let k = &kernel.release;
    let calls = [
        ("POST_ADD", "dkms status; dkms autoinstall -k KERNEL"),
        ("PRE_BUILD", "dkms status; dkms build trio/1.0 -k KERNEL; true"),
        ("POST_BUILD", "dkms status"),
        ("PRE_INSTALL", "dkms status; dkms add trio/1.0; true"),
        ("POST_INSTALL", "dkms status; dkms autoinstall -k KERNEL; dkms install trio/1.0 -k KERNEL; true"),
        ("POST_REMOVE", "dkms status; dkms autoinstall -k KERNEL; true"),
    ];
    for (n, (step, script)) in calls.iter().enumerate() {
        root.note(&format!("{step} calls dkms"));
        let name = format!("calls-{n}");
        Sources::new(&name, "1.0").conf(&format!("{step}=\"call.sh\"")).unpack(&root);
        let script = format!("#!/bin/sh\n{}\n", script.replace("KERNEL", k));
        root.write_script(&format!("/usr/src/{name}-1.0/call.sh"), &script);
        let told = root.run_within(180, &format!("dkms add {name}/1.0 && dkms install {name}/1.0 -k {k}"));
        assert!(told.status != 124, "{step}: deadlock\n{told}");
        told.ok().never_says(&["panicked"]);
        root.expect_installed(&[&format!("{name}/1.0"), "trio/1.0"], k);
        let told = root.run_within(120, &format!("dkms remove {name}/1.0 --all"));
        assert!(told.status == 0, "{step}: remove\n{told}");
    }
    // The same in a hook, where a deadlock would never end.
    root.run("dkms add calls-4/1.0").ok();
    hook(&root, &kernel).ok().quiet_stdout();
    root.expect_installed(&["calls-4/1.0"], k);
}
