//! Names become paths that root uses: an unsafe one is rejected before anything is changed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_tests::modules::Sources;
use dkms_tests::{Root, Suite, stage};

/// Quoted for a shell.
const BAD: &[&str] =
    &["a/b", "..", ".", "../../etc", "$'two\\nlines'", "-rf", "''", "'a b'", "$'a\\x01'", "$'not-utf8\\xff'"];

const COMMANDS: &[&str] = &[
    "dkms add -m NAME -v 1.0",
    "dkms add -m fine -v NAME",
    "dkms build -m NAME -v 1.0 -k KERNEL",
    "dkms install -m fine -v NAME -k KERNEL",
    "dkms install -m fine -v 1.0 -k NAME",
    "dkms remove -m NAME -v 1.0 --all",
    "dkms remove -m fine -v NAME --all",
    "dkms unbuild -m NAME -v 1.0 --all",
    "dkms autoinstall -k NAME",
];

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    let root = Root::on(&layer);
    Sources::new("fine", "1.0").unpack(&root);
    root.run("dkms add fine/1.0").ok();
    let picture =
        |root: &Root| root.find("/var/lib/dkms /usr/src /usr/lib/modules /etc", "-not -path '*/.dkms-rs/*'");
    let before = picture(&root);
    let mut wrong = Vec::new();
    for command in COMMANDS {
        for name in BAD {
            let line = command.replace("NAME", name).replace("KERNEL", &kernel.release);
            let told = root.run_within(60, &line);
            let refused = told.status != 0 && told.status < 124 && !told.stderr.trim().is_empty();
            if !refused || told.all().contains("panicked") {
                wrong.push(told.to_string());
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} commands were not refused with a message:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert_eq!(picture(&root), before, "a refused command changes nothing");
    assert_eq!(root.status().len(), 1);
}

#[test]
fn a_tree_with_strange_names_in_it_is_still_readable() {
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    let root = Root::on(&layer);
    Sources::new("fine", "1.0").unpack(&root);
    root.run("dkms add fine/1.0").ok();
    root.run("cd /var/lib/dkms && mkdir -p -- '-rf/1.0' $'new\\nline/1.0' 'empty' 'half/1.0/6.1/x86_64' && touch stray && ln -s nowhere dangling")
        .ok();
    root.run(&format!("/etc/kernel/postinst.d/dkms {0} /boot/vmlinuz-{0}", kernel.release))
        .ok()
        .quiet_stdout();
    root.expect_installed(&["fine/1.0"], &kernel.release);
    root.run("dkms status").ok().never_says(&["panicked"]);
}
