//! What a user sees of dkms, on a real terminal under each package manager and in a pipe, compared with the screens in
//! `tests/screens`: all modules build, and one does not. A screen is our part of what the package manager printed; kernel
//! releases and durations are replaced.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)] // tests stop at the first surprise

/// What `--json` prints is valid against the shipped schemas.
#[path = "../../core/tests/support/schemas.rs"]
mod schemas;

use dkms_tests::modules::Sources;
use dkms_tests::pacman;
use dkms_tests::rpm::{self, Manager};
use dkms_tests::{Kernel, Root, Suite, host, stage};

/// Modules are built in the order of the plan.
const ONE_JOB: &str = "parallel_jobs=1\n";

/// Our lines on the terminal: those that begin with `dkms: `, and what belongs to them.
fn ours(screen: &str, kernel: &Kernel) -> String {
    let mut text = String::new();
    let mut within = false;
    for line in screen.lines() {
        // dnf5 marks what a hook prints.
        let ours = line.strip_prefix(">>> ").unwrap_or(line);
        within = ours.starts_with("dkms: ") || within && ours.starts_with("      ");
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
    root.write("/etc/dkms/framework.conf.d/one.conf", ONE_JOB);
    let screen = kernel_on_a_terminal(&root, &kernel, columns);
    // The block with the compiler's error, and the log, are printed once.
    for once in ["FAILED: broken-net/1.0 for", "no_such_symbol_here", "dkms log broken-net/1.0"] {
        assert_eq!(screen.matches(once).count(), 1, "{once}:\n{screen}");
    }
    expect("apt-failure", &screen);
    // Modules in rows, kernels in columns; in a pipe, the lines that scripts parse.
    let status = root.terminal(columns, "dkms status 2>/dev/null").replace(&kernel.release, "KERNEL");
    expect("status", &format!("{}\n", status.trim_end().split("\nPane is dead").next().unwrap().trim_end()));
    let lines = root.run("dkms status 2>/dev/null").ok().stdout;
    assert_eq!(lines, format!("broken-net/1.0: added\nfine/1.0, {}, x86_64: installed\n", kernel.release));
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

#[test]
fn a_failure_in_a_pipe() {
    let (root, kernel) = stage::fine_and_broken(Suite::trixie());
    root.write("/etc/dkms/framework.conf.d/one.conf", ONE_JOB);
    let said =
        root.run(&format!("apt-get -y install {} {} 2>&1 | cat", kernel.image(), kernel.headers())).ok();
    // The same as what stays on a terminal: the progress line is gone at the end.
    expect("apt-failure", &ours(&said.stdout, &kernel));
    // The newest transaction that built something.
    root.run("dkms timeline").ok().says(&["fine/1.0 ", "= cached build"]);
    root.run("dkms timeline 3").ok().says(&["broken-net/1.0  ", "fine/1.0 ", "# compile"]);
    root.run("dkms timeline --svg /opt/schedule.svg").ok();
    assert!(root.read("/opt/schedule.svg").contains("fine"), "{}", root.read("/opt/schedule.svg"));
    root.run("dkms timeline --svg /no/such/directory/x.svg")
        .exits(1)
        .says(&["writing /no/such/directory/x.svg: there is no directory /no/such/directory"]);
    root.run("dkms timeline 1000").exits(1).says(&["transaction 1000 not found"]);
    for wrong in ["status", "install fine/1.0 --json"] {
        root.run(&format!("dkms {wrong} --progress json")).exits(if wrong == "status" { 1 } else { 2 });
    }
    // For a program: a document a line.
    let lines = root.run(&format!("dkms install broken-net/1.0 -k {} --progress json", kernel.release));
    let lines: Vec<serde_json::Value> =
        lines.stdout.lines().map(|line| schemas::valid("progress", line)).collect();
    let events: Vec<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["begin", "build", "outcome", "end"]);
    assert_eq!((&lines[2]["outcome"], &lines[2]["done"]), (&"failed".into(), &1.into()), "{}", lines[2]);
    assert_eq!(lines[3]["report"]["lines"][0]["module"]["name"], "broken-net");
    // depmod takes seconds; a module that is up to date has an outcome, too.
    for (force, expected) in [
        (" --force", ["begin", "outcome", "step", "end"].as_slice()),
        ("", ["begin", "outcome", "end"].as_slice()),
    ] {
        let command = format!("dkms install fine/1.0 -k {}{force} --progress json", kernel.release);
        let lines = root.run(&command).ok().stdout;
        let events: Vec<String> = lines
            .lines()
            .map(|line| schemas::valid("progress", line)["event"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(events, expected, "{lines}");
    }
    // A name without a directory.
    root.run("cd /opt && dkms status --svg table.svg && test -s /opt/table.svg").ok();
    // A device is written to, not replaced.
    root.run("dkms status --svg /dev/full; test -c /dev/full").ok().says(&["No space left on device"]);
}

/// The widths of the terminals.
const WIDTHS: [u16; 2] = [80, 120];

/// A kernel is installed with this command on a machine with a module that builds and one that does not.
fn a_module_fails_with(name: &str, root: &Root, kernel: &Kernel, columns: u16, command: &str) {
    root.write("/etc/dkms/framework.conf.d/one.conf", ONE_JOB);
    let screen = ours(&root.terminal(columns, command), kernel);
    assert_eq!(screen.matches("no_such_symbol_here").count(), 1, "{screen}");
    expect(&format!("{name}-failure"), &screen);
}

fn a_module_fails_with_rpm(manager: Manager) {
    for columns in WIDTHS {
        let machine = rpm::Machine::registered(manager);
        let packages = machine.packages(&machine.newer);
        let packages: Vec<&str> = packages.iter().map(String::as_str).collect();
        let name = format!("{manager:?}").to_lowercase();
        a_module_fails_with(&name, &machine.root, &machine.newer, columns, &manager.command(&packages));
    }
}

#[test]
#[ignore = "long: two widths of three package managers"]
fn a_failure_with_dnf4() {
    a_module_fails_with_rpm(Manager::Dnf4);
}

#[test]
#[ignore = "long: two widths of three package managers"]
fn a_failure_with_dnf5() {
    a_module_fails_with_rpm(Manager::Dnf5);
}

#[test]
#[ignore = "long: two widths of three package managers"]
fn a_failure_with_zypper() {
    a_module_fails_with_rpm(Manager::Zypper);
}

#[test]
#[ignore = "long: two widths"]
fn a_failure_with_pacman() {
    for columns in WIDTHS {
        let machine = pacman::machine();
        let modules = [machine.file("bbswitch-dkms", "0.8"), machine.file("failing-dkms", "1")];
        machine.add(&modules.join(" ")).ok();
        let kernel = &machine.kernels[0];
        let command = format!("pacman -U --noconfirm {}", machine.kernel_files("linux", kernel));
        a_module_fails_with("pacman", &machine.root, kernel, columns, &command);
    }
}
