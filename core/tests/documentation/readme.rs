//! README and the files in `docs`: terminal examples are the actual output of the program, and links lead somewhere.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use dkms_core::exit::Exit;
use dkms_core::layout::Layout;
use dkms_core::plan::remaining;
use dkms_core::policy::Admin;
use dkms_core::report::{Failing, Fault, Outcome, Painted, Report, Reported, Tone, picture, text};
use dkms_core::tree::Snapshot;
use dkms_core::types::{ModuleId, Target};

/// A file's lines of dkms, with the indented lines below them.
fn shown(file: &str) -> Vec<String> {
    let text = read(file);
    let ours = text.lines().filter(|line| line.starts_with("dkms: ") || line.starts_with("      "));
    ours.map(str::to_owned).collect()
}

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(file: &str) -> String {
    std::fs::read_to_string(top().join(file)).unwrap()
}

/// The output when two modules of three are built in a pre-build, and then installed.
fn printed(kernel: &str, modules: [&str; 3], seconds: f64, error: &str, installed: [&str; 2]) -> Vec<String> {
    let target = Target { kernel: kernel.parse().unwrap(), arch: "x86_64".parse().unwrap() };
    let id = |module: &str| -> ModuleId { module.parse().unwrap() };
    let failed = id(modules[2]);
    let log = format!("/var/lib/dkms/.dkms-rs/failures/{failed}/{kernel}/x86_64.make.log");
    let failing = Failing {
        errors: vec![error.to_owned()],
        log: Some(log),
        remaining: remaining(&Snapshot::default(), &BTreeSet::new(), &failed, &target),
        ..Failing::new(Fault::Module, Exit::BUILD_FAILED, "compiling failed (exit code 2)".into())
    };
    let built = || Outcome::Built { seconds };
    let before = [built(), built(), Outcome::Failed(failing)];
    let after = || Outcome::Installed { built: false, seconds: 0.0, notes: Vec::new(), store: None };

    let mut lines = Vec::new();
    let mut report = Report::default();
    for (number, (module, outcome)) in modules.iter().zip(before).enumerate() {
        lines.push(text::progress(&id(module), &target, &outcome, Some((number + 1, 3))));
        report.add(&id(module), Some(&target), outcome);
    }
    let tree = tempfile::tempdir().unwrap();
    let layout = Layout { dkms_tree: tree.path().into(), ..Layout::default() };
    let reported = || Reported::load(&layout, Some("the package manager".into()));
    let mut say = |report: &Report, number| {
        let summary = text::summary(report, &Admin::default(), number, &reported()).unwrap();
        lines.extend(summary.lines().map(str::to_owned));
        reported().record(&layout, report, number);
    };
    say(&report, Some(4));
    let failed = report.lines.remove(2);
    report.lines.clear();
    for module in installed {
        report.add(&id(module), Some(&target), after());
    }
    report.lines.push(failed);
    say(&report, Some(5));
    lines
}

#[test]
fn the_example_of_debian() {
    let kernel = "6.12.118+deb13-amd64";
    let error = "include/lttng/tracepoint-event-impl.h:133: conflicting types for 'trace_hrtimer_start'; have \
        'void(struct hrtimer *, enum hrtimer_mode)' (included by src/probes/lttng-probe-timer.c)";
    let modules = ["v4l2loopback/0.15.0", "bbswitch/0.8", "lttng-modules/2.13.18"];
    let expected = printed(kernel, modules, 2.0, error, ["bbswitch/0.8", "v4l2loopback/0.15.0"]);
    let shown = shown("docs/pictures/upgrade.txt");
    for line in &expected {
        assert!(shown.contains(line), "this line is not shown:\n{line}\nbut:\n{shown:#?}");
    }
}

#[test]
fn the_example_of_arch() {
    let kernel = "7.2.13-arch1-1";
    let error = "failing.c:533: 'no_such_symbol_here' undeclared (first use in this function)";
    let modules = ["acpi-call/1.2.2", "bbswitch/0.8", "failing/1"];
    let expected = printed(kernel, modules, 4.0, error, ["acpi-call/1.2.2", "bbswitch/0.8"]);
    let shown = shown("docs/arch.md");
    for line in &expected {
        assert!(shown.contains(line), "this line is not shown:\n{line}\nbut:\n{shown:#?}");
    }
}

/// The picture in README is the text beside it. `DKMS_WRITE_PICTURES=1` writes it.
#[test]
fn the_picture_is_that_of_the_example() {
    let mut text = Painted::default();
    for line in read("docs/pictures/upgrade.txt").lines() {
        let tone = match line {
            line if line.contains("FAILED") => Tone::Bad,
            line if line.starts_with("# ") => Tone::Good,
            line if line.starts_with("dkms: ") || line.starts_with("      ") => Tone::Plain,
            _ => Tone::Faint,
        };
        // Wrapped as a terminal does it.
        for part in line.chars().collect::<Vec<char>>().chunks(100) {
            text.push(tone, part.iter().chain(&['\n']).collect::<String>());
        }
    }
    let drawn = picture::terminal(&text);
    let file = "docs/pictures/upgrade.svg";
    if std::env::var_os("DKMS_WRITE_PICTURES").is_some() {
        std::fs::write(top().join(file), &drawn).unwrap();
    }
    assert!(read(file) == drawn, "{file} is not the picture of upgrade.txt");
}

/// The files with links: README, and those that the table of contents of the book names.
fn documents() -> Vec<String> {
    let contents = read("docs/SUMMARY.md");
    let listed: Vec<&str> =
        contents.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()).collect();
    let there = std::fs::read_dir(top().join("docs")).unwrap().map(|entry| entry.unwrap().file_name());
    for name in there.map(|name| name.into_string().unwrap()).filter(|name| name.ends_with(".md")) {
        assert!(name == "SUMMARY.md" || listed.contains(&name.as_str()), "docs/SUMMARY.md lacks {name}");
    }
    ["README.md".to_owned()].into_iter().chain(listed.iter().map(|name| format!("docs/{name}"))).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut count = 0;
    for document in documents() {
        let text = read(&document);
        let links = text.split("](").skip(1).map(|rest| rest.split([')', '#']).next().unwrap());
        for link in links.filter(|link| !link.is_empty() && !link.contains("://")) {
            count += 1;
            let target = top().join(&document).with_file_name("").join(link);
            assert!(target.exists(), "{document}: there is no {link}");
        }
    }
    assert!(count > 15, "{count}");
}
