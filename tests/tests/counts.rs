//! The short version of `make bench`: four real modules with Debian's dkms and with ours. Times are not checked,
//! because a busy machine must not fail a test; the started processes are counted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_tests::Root;
use dkms_tests::bench::machine::Machines;
use dkms_tests::bench::measure::children;
use dkms_tests::bench::{FEW, schedule};
use dkms_tests::compat::Side;
use dkms_tests::count::{Counters, Counts};
use dkms_tests::kernels::Flavour;

/// The number of processes (and threads) that have been started in a root so far, from their consecutive pids.
fn processes(root: &Root) -> usize {
    root.run("sh -c 'echo $$'").ok().stdout.trim().parse().unwrap()
}

fn counted(root: &Root, counters: &Counters<'_>, command: &str) -> (Counts, usize) {
    counters.take();
    let before = processes(root);
    root.run(command).ok();
    let started = processes(root) - before;
    (counters.take(), started)
}

#[test]
fn nothing_is_started_that_is_not_needed() {
    let machines = Machines::with(&[Flavour::Cloud], FEW);
    let kernel = &machines.kernels[0];
    let (debian, ours) = (machines.fresh(Side::Debian), machines.fresh(Side::Ours));
    let counters = [&debian, &ours].map(Counters::install);
    let hook = format!("/etc/kernel/postinst.d/dkms {kernel} /boot/vmlinuz-{kernel}");

    let (theirs, their_processes) = counted(&debian, &counters[0], &hook);
    let (first, processes) = counted(&ours, &counters[1], &hook);
    eprintln!(
        "{} files compiled, {} by Debian's; {processes} processes, {their_processes} by Debian's",
        first.compiled, theirs.compiled
    );
    assert_eq!(first.builds_and_depmods(), (FEW.len(), 1), "each module once, and one index");
    assert_eq!(theirs.builds, FEW.len());
    assert!(first.compiled > FEW.len() && first.compiled == theirs.compiled, "the same files, each once");
    assert!(theirs.depmods > 1, "Debian's makes the index for each module");
    assert!(processes < their_processes, "ours {processes}, Debian's {their_processes}");
    for root in [&debian, &ours] {
        assert_eq!(root.status().iter().filter(|line| line.state == "installed").count(), FEW.len());
    }

    // The schedule is stored in the history, and contains every module.
    let bars = schedule::newest(&ours);
    assert_eq!(bars.iter().filter(|bar| bar.phase == "compile").count(), FEW.len(), "{bars:#?}");
    assert_eq!(bars.iter().filter(|bar| bar.phase == "depmod").count(), 1, "{bars:#?}");

    for idle in [&hook, "/usr/sbin/dkms status", &format!("/usr/sbin/dkms autoinstall -k {kernel}")] {
        assert_eq!(children(&ours, idle), [""; 0], "{idle} finds nothing to do");
    }

    ours.run("echo '/* changed */' >>$(ls -d /usr/src/bbswitch-*)/bbswitch.c").ok();
    let (changed, _) = counted(&ours, &counters[1], &hook);
    assert_eq!(changed.builds_and_depmods(), (1, 1), "{changed:#?}");
    assert!(changed.compiled < first.compiled, "{} of {}", changed.compiled, first.compiled);

    let (gone, _) = counted(&ours, &counters[1], &format!("/etc/kernel/prerm.d/dkms {kernel}"));
    assert_eq!((gone.builds, gone.depmods, gone.compiled), (0, 0, 0), "a kernel that leaves needs no index");
    let (back, _) = counted(&ours, &counters[1], &hook);
    assert_eq!((back.builds, back.depmods, back.compiled), (0, 1, 0), "{back:#?}");
    assert_eq!(ours.status().iter().filter(|line| line.state == "installed").count(), FEW.len());
}
