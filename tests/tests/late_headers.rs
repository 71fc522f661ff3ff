//! Headers that are installed after the initramfs was generated: it is regenerated once, and only if a module in it
//! changed.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)] // tests stop at the first surprise

use dkms_tests::count::Counters;
use dkms_tests::modules::Sources;
use dkms_tests::{Root, Suite, history, stage};

/// What `--json` prints is valid against the shipped schemas.
#[path = "../../core/tests/support/schemas.rs"]
mod schemas;

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
    // A module that is removed is not loaded from there at the next start.
    root.run("apt-get -q -y purge bbswitch-dkms").ok();
    assert_eq!(counters.take().initramfs, usize::from(wanted_in_initramfs));
    let list = root.run(&format!("lsinitramfs /boot/initrd.img-{}", kernel.release)).ok();
    assert!(!list.stdout.contains("/bbswitch.ko"), "{list}");
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

/// The version of a module in a kernel's initramfs.
fn version_inside(root: &Root, kernel: &str, module: &str) -> String {
    let unpack = format!(
        "rm -rf /opt/initramfs && unmkinitramfs /boot/initrd.img-{kernel} /opt/initramfs && \
         modinfo -F version $(find /opt/initramfs -name '{module}.ko*' | head -n 1)"
    );
    root.run(&unpack).ok().stdout.trim().to_owned()
}

/// A full /boot while a module of the initramfs is upgraded: the package is configured, the state is shown, and the next run
/// makes up for it.
#[test]
fn an_initramfs_that_does_not_fit_is_updated_by_a_later_run() {
    let (layer, kernel) = stage::with_kernel(Suite::trixie());
    let root = Root::on(&layer);
    let k = &kernel.release;
    root.write("/etc/initramfs-tools/modules", "inside\n");
    let [old, new, newer] = ["1.0", "2.0", "3.0"].map(|v| Sources::new("inside", v).package(&root));
    root.apt_install(&[&old]).ok();
    assert_eq!(version_inside(&root, k, "inside"), "1.0");
    root.run(
        "cp -a /boot /opt/boot && mount -t tmpfs -o size=$(($(du -sk /opt/boot | cut -f 1) + 60000))k tmpfs /boot && \
         cp -a /opt/boot/. /boot/ && cat /dev/zero >/boot/filler; test -e /boot/filler",
    )
    .ok();

    root.apt_install(&[&new]).ok().says(&["the initramfs for", "is out of date", "inside"]);
    root.expect_clean_dpkg();
    root.expect_installed(&["inside/2.0"], k);
    assert_eq!(version_inside(&root, k, "inside"), "1.0", "the old image is whole");
    let status =
        root.run("dkms status").ok().says(&["the initramfs for", "is out of date", "dkms autoinstall -k"]);
    assert_eq!(status.stdout, format!("inside/2.0, {k}, x86_64: installed\n"), "what scripts parse");
    let json = schemas::valid("status", &root.run("dkms status --json").ok().stdout);
    assert_eq!(json["stale_initramfs"][0]["modules"][0], "inside", "{json:#}");
    // Still no space: this is said again, and nothing else fails.
    root.run(&format!("/etc/kernel/postinst.d/dkms {k} /boot/vmlinuz-{k}")).ok().says(&["is out of date"]);

    // An administrator who called it critical is not left with a package that looks complete.
    root.write("/etc/dkms/policy.toml", "critical = [\"inside\"]\n");
    root.apt_install(&[&newer]).fails().says(&["is out of date"]);
    root.run("rm /etc/dkms/policy.toml && dpkg --configure -a").ok();
    root.expect_clean_dpkg();

    // Any run that changes something retries it.
    root.run("rm /boot/filler").ok();
    Sources::new("other", "1.0").unpack(&root);
    root.run("dkms add other/1.0").ok().says(&["updating the initramfs"]);
    assert_eq!(version_inside(&root, k, "inside"), "3.0");
    root.run("dkms status").ok().never_says(&["out of date"]);
    let counters = Counters::install(&root);
    root.run("dkms remove other/1.0 --all").ok();
    assert_eq!(counters.take().initramfs, 0, "it is done once");
}
