//! What a user of apt sees of dkms on a real terminal, compared with the screens in `tests/screens`: all modules build, and
//! one does not. A screen is our part of what apt printed; kernel releases and durations are replaced.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_tests::modules::Sources;
use dkms_tests::{Kernel, Root, Suite, host, stage};

/// Our lines on the terminal: those that begin with `dkms: `, and what belongs to them.
fn ours(screen: &str, kernel: &Kernel) -> String {
    let mut text = String::new();
    let mut within = false;
    for line in screen.lines() {
        within = line.starts_with("dkms: ") || within && line.starts_with("      ");
        if within {
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    let text = text.replace(&kernel.release, "KERNEL");
    // `(2 s)`: the duration depends on the machine.
    let mut timeless = String::new();
    for part in text.split_inclusive(" s)") {
        match part.strip_suffix(" s)").and_then(|part| part.rsplit_once('(')) {
            Some((before, number)) if number.chars().all(|c| c.is_ascii_digit()) => {
                timeless.push_str(before);
                timeless.push_str("(N s)");
            }
            _ => timeless.push_str(part),
        }
    }
    timeless
}

/// Installs a kernel with its headers, with apt on a terminal of this width; returns our part of the screen.
fn kernel_on_a_terminal(root: &Root, kernel: &Kernel, columns: u16) -> String {
    let apt = format!("apt-get -y install {} {}", kernel.image(), kernel.headers());
    let screen = root.terminal(columns, &apt);
    root.note(&screen);
    ours(&screen, kernel)
}

fn expect(name: &str, screen: &str) {
    let path = host::workspace().join("tests/screens").join(format!("{name}.txt"));
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(screen == golden, "{} differs from the screen:\n{screen}", path.display());
}

fn a_module_fails(columns: u16) {
    let (root, kernel) = stage::fine_and_broken(Suite::trixie());
    // In the order of the plan.
    root.write("/etc/dkms/framework.conf.d/one.conf", "parallel_jobs=1\n");
    let screen = kernel_on_a_terminal(&root, &kernel, columns);
    // The block with the compiler's error, and the log, are printed once.
    for once in ["FAILED: broken-net/1.0 for", "no_such_symbol_here", "dkms log broken-net/1.0"] {
        assert_eq!(screen.matches(once).count(), 1, "{once}:\n{screen}");
    }
    expect("apt-failure", &screen);
}

#[test]
fn a_failure_at_80_columns() {
    a_module_fails(80);
}

#[test]
#[ignore = "long: the same at another width"]
fn a_failure_at_120_columns() {
    a_module_fails(120);
}

#[test]
#[ignore = "long: 21 builds"]
fn many_modules_take_few_lines() {
    let suite = Suite::trixie();
    let kernel = stage::cloud_kernel(suite);
    let layer = stage::product(suite).prepared("many", "1", |root| {
        for number in 1..=21 {
            let sources = Sources::new(&format!("many{number}"), "1.0");
            sources.unpack(root);
            root.run(&format!("dkms add {}", sources.id())).ok();
        }
    });
    let root = Root::on(&layer);
    let screen = kernel_on_a_terminal(&root, &kernel, 80);
    assert!(screen.lines().count() <= 12, "{screen}");
    expect("apt-many", &screen);
}
