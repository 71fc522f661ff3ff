//! An invalid dkms.conf: one clear message, the right exit code, and all other modules are built.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_tests::modules::Sources;
use dkms_tests::{Kernel, Root, Suite, stage};

/// The defect, the file, and whether it may be accepted anyway (Debian overrides every destination).
struct Case {
    what: &'static str,
    conf: &'static [u8],
    may_be_accepted: bool,
}

const GOOD_HEAD: &str = "PACKAGE_NAME=bad\nPACKAGE_VERSION=1.0\nBUILT_MODULE_NAME[0]=bad\nDEST_MODULE_LOCATION[0]=/updates\nAUTOINSTALL=yes\n";

const CASES: &[Case] = &[
    Case { what: "empty", conf: b"", may_be_accepted: false },
    Case { what: "not UTF-8", conf: b"PACKAGE_NAME=\"bad\xff\xfe\"\nPACKAGE_VERSION=1.0\n\x00\x01", may_be_accepted: false },
    Case {
        what: "carriage returns",
        conf: b"PACKAGE_NAME=\"bad\"\r\nPACKAGE_VERSION=\"1.0\"\r\nBUILT_MODULE_NAME[0]=\"bad\"\r\nDEST_MODULE_LOCATION[0]=\"/updates\"\r\nAUTOINSTALL=\"yes\"\r\n",
        may_be_accepted: true,
    },
    Case { what: "an endless loop", conf: b"PACKAGE_NAME=bad\nPACKAGE_VERSION=1.0\nwhile :; do :; done\n", may_be_accepted: false },
    Case { what: "an endless sleep", conf: b"PACKAGE_NAME=bad\nPACKAGE_VERSION=1.0\nsleep 100000\n", may_be_accepted: false },
    Case { what: "exit", conf: b"PACKAGE_NAME=bad\nPACKAGE_VERSION=1.0\nexit 0\n", may_be_accepted: false },
    Case { what: "a syntax error", conf: b"PACKAGE_NAME=bad\nPACKAGE_VERSION=1.0\nif true; then\n", may_be_accepted: false },
    Case { what: "a path as module name", conf: b"PACKAGE_NAME=bad\nPACKAGE_VERSION=1.0\nBUILT_MODULE_NAME[0]=../../../etc/bad\nDEST_MODULE_LOCATION[0]=/updates\nAUTOINSTALL=yes\n", may_be_accepted: false },
    Case { what: "a destination outside", conf: b"PACKAGE_NAME=bad\nPACKAGE_VERSION=1.0\nBUILT_MODULE_NAME[0]=bad\nDEST_MODULE_LOCATION[0]=/updates/../../../../etc\nAUTOINSTALL=yes\n", may_be_accepted: true },
    Case { what: "another package's name", conf: b"PACKAGE_NAME=../../evil\nPACKAGE_VERSION=1.0\nBUILT_MODULE_NAME[0]=bad\nDEST_MODULE_LOCATION[0]=/updates\nAUTOINSTALL=yes\n", may_be_accepted: true },
];

/// A good module installed, a kernel with a small tree.
fn prepared() -> (Root, Kernel) {
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    let root = Root::on(&layer);
    Sources::new("good", "1.0").unpack(&root);
    root.run("dkms add good/1.0").ok();
    root.run(&format!("dkms install good/1.0 -k {}", kernel.release)).ok();
    (root, kernel)
}

/// No other files below these directories may be created or changed: a bad file must not write outside.
fn outside(root: &Root) -> Vec<String> {
    // A case that is accepted, and correctly built and installed, is left out.
    let own = "-not -path '/var/lib/dkms/*' -not -path '*/updates/dkms/bad.ko*'";
    root.find(
        "/etc /opt /usr/lib/modules /var/lib",
        &format!("\\( -name '*bad*' -o -name '*evil*' \\) {own}"),
    )
}

#[test]
fn adding_says_what_is_wrong_with_the_file() {
    let (root, kernel) = prepared();
    let before = outside(&root);
    for case in CASES {
        root.note(&format!("case: {}", case.what));
        root.run(
            "rm -rf /usr/src/bad-1.0; dkms remove bad/1.0 --all >/dev/null 2>&1; rm -rf /var/lib/dkms/bad",
        )
        .ok();
        Sources::new("bad", "1.0").unpack(&root);
        root.write("/usr/src/bad-1.0/dkms.conf", case.conf);
        let added = root.run_within(
            120,
            &format!("dkms add -m bad -v 1.0 && dkms install -m bad -v 1.0 -k {}", kernel.release),
        );
        assert!(added.status != 124, "{}: hangs\n{added}", case.what);
        assert!(added.status < 128, "{}: dies of a signal\n{added}", case.what);
        if added.status == 0 {
            assert!(case.may_be_accepted, "{}: accepted\n{added}", case.what);
        } else {
            let told = added.never_says(&["panicked"]);
            assert!(
                told.all().contains("dkms.conf") || told.all().contains("bad/1.0"),
                "{}: names nothing\n{told}",
                case.what
            );
        }
        assert_eq!(outside(&root), before, "{}: wrote outside", case.what);
        root.expect_installed(&["good/1.0"], &kernel.release);
    }
}

#[test]
fn a_hook_goes_on_with_the_others() {
    let (root, kernel) = prepared();
    Sources::new("bad", "1.0").unpack(&root);
    root.write("/usr/src/bad-1.0/dkms.conf", GOOD_HEAD);
    root.run("dkms add bad/1.0").ok();
    let hook = format!("/etc/kernel/postinst.d/dkms {0} /boot/vmlinuz-{0}", kernel.release);
    for (n, case) in CASES.iter().enumerate() {
        root.note(&format!("case: {}", case.what));
        root.write("/usr/src/bad-1.0/dkms.conf", case.conf);
        let id = Sources::new(&format!("next-{n}"), "1.0");
        id.unpack(&root);
        root.run(&format!("dkms add {}", id.id())).ok();
        let told = root.run_within(180, &hook).ok().quiet_stdout();
        assert!(case.may_be_accepted || told.all().contains("bad/1.0"), "{}: not named\n{told}", case.what);
        root.expect_installed(&["good/1.0", &id.id()], &kernel.release);
    }
    root.run("dkms status").ok();
}
