//! Headers that are installed after the initramfs was generated: it is regenerated once, and only if a module in it
//! changed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_tests::count::Counters;
use dkms_tests::{Root, Suite, history, stage};

const IN_INITRAMFS: &str = "bbswitch";

fn headers_after_initramfs(wanted_in_initramfs: bool) {
    let suite = Suite::trixie();
    let kernel = stage::cloud_kernel(suite);
    let root = Root::on(&stage::product(suite));
    root.apt_install(&["bbswitch-dkms", "acpi-call-dkms"]).ok();
    if wanted_in_initramfs {
        root.write("/etc/initramfs-tools/modules", format!("{IN_INITRAMFS}\n"));
    }
    root.apt_install(&[&kernel.image()]).ok().says(&[&kernel.headers()]);
    assert!(root.exists(&format!("/boot/initrd.img-{}", kernel.release)));
    let counters = Counters::install(&root);
    root.apt_install(&[&kernel.headers()]).ok();
    let counts = counters.take();
    assert_eq!(
        counts.initramfs,
        usize::from(wanted_in_initramfs),
        "update-initramfs runs of ours\n{counts:#?}"
    );
    assert_eq!(counts.builds_and_depmods(), (2, 1), "{counts:#?}");
    let list = root.run(&format!("lsinitramfs /boot/initrd.img-{}", kernel.release)).ok();
    assert_eq!(list.stdout.contains("/bbswitch.ko"), wanted_in_initramfs, "{list}");
}

#[test]
fn a_module_of_the_initramfs_remakes_it_once() {
    headers_after_initramfs(true);
}

#[test]
fn other_modules_leave_it_alone() {
    headers_after_initramfs(false);
}

#[test]
fn missing_headers_are_a_deferred_record_not_an_error() {
    let suite = Suite::trixie();
    let kernel = stage::cloud_kernel(suite);
    let root = Root::on(&stage::product(suite));
    root.apt_install(&["bbswitch-dkms"]).ok();
    root.apt_install(&[&kernel.image()]).ok().says(&["bbswitch/0.8", &kernel.headers()]);
    root.expect_clean_dpkg();
    let last = history::transactions(&root).pop().expect("the transaction is recorded");
    let entries = history::entries(&root, &last);
    let deferred = entries.iter().find(|e| e.module == "bbswitch/0.8" && e.kernel == kernel.release);
    assert_eq!(deferred.map(|e| e.outcome.as_str()), Some("deferred"), "{entries:?}");
    root.run(&format!("dkms history show {last}")).ok().says(&[&kernel.headers()]);
}
