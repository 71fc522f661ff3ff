//! Many processes at once: whatever they do equals some order of the same commands, one after another, also if some of them
//! are stopped for a while or killed. 3 rounds in `make test`, 500 in `make test-long`; `DKMS_ROUNDS` sets another number.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)] // tests stop at the first surprise

use std::fmt::Write as _;

use dkms_tests::model::{Action, End, Stage, State, VERBS, Verb, is_serial};
use dkms_tests::modules::Sources;
use dkms_tests::random::Random;
use dkms_tests::{Kernel, Root, Suite, stage};

/// Modules, each with two versions.
const MODULES: usize = 5;
/// Processes that change something, and those that only read, in each round.
const WRITERS: usize = 28;
const READERS: usize = 4;

/// A machine with the sources of all modules, each built once, so that later builds come from the cache.
fn machine() -> (Root, Kernel) {
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    let versions = ["1.0", "2.0"];
    let names = (0..MODULES).flat_map(|module| versions.map(|version| (format!("crowd{module}"), version)));
    let all: Vec<Sources> =
        names.map(|(name, version)| Sources::new(&name, version).conf("AUTOINSTALL=no")).collect();
    let key = format!("{:?}", all.iter().map(Sources::files).collect::<Vec<_>>());
    let layer = layer.prepared("crowd", &key, |root| {
        for sources in &all {
            sources.unpack(root);
            let (id, kernel) = (sources.id(), &kernel.release);
            root.run(&format!("dkms install {id} -k {kernel} && dkms remove {id} --all")).ok();
        }
    });
    (Root::on(&layer), kernel)
}

fn command(module: usize, action: Action, kernel: &Kernel) -> String {
    let id = format!("crowd{module}/{}.0", action.version + 1);
    let k = &kernel.release;
    match action.verb {
        Verb::Add => format!("dkms add {id}"),
        Verb::Build => format!("dkms build {id} -k {k}"),
        Verb::Install => format!("dkms install {id} -k {k}"),
        Verb::Uninstall => format!("dkms uninstall {id} -k {k}"),
        Verb::Unbuild => format!("dkms unbuild {id} -k {k}"),
        Verb::Remove => format!("dkms remove {id} --all"),
    }
}

/// The state of all modules, which `dkms status` and the files agree on.
#[track_caller]
fn states(root: &Root, kernel: &Kernel) -> [State; MODULES] {
    let mut states = [[Stage::Absent; 2]; MODULES];
    for line in root.status() {
        let (name, version) = line.module.split_once('/').unwrap();
        let module: usize = name.strip_prefix("crowd").unwrap().parse().unwrap();
        states[module][usize::from(version == "2.0")] = match line.state.as_str() {
            "added" => Stage::Added,
            "built" => Stage::Built,
            "installed" => Stage::Installed,
            other => panic!("{other}"),
        };
    }
    let listed = format!(
        "for file in {}/*.ko*; do [ ! -e $file ] || echo $(basename $file) $(modinfo -F version $file); done",
        kernel.dkms_dir()
    );
    let mut files: Vec<String> = root.run(&listed).ok().stdout.lines().map(str::to_owned).collect();
    files.sort();
    let mut expected = Vec::new();
    for (module, state) in states.iter().enumerate() {
        for (version, _) in state.iter().enumerate().filter(|(_, stage)| **stage == Stage::Installed) {
            expected.push(format!("crowd{module}.ko.xz {}.0", version + 1));
        }
    }
    assert_eq!(files, expected, "status and files differ\n{}", root.transcript());
    let indexed = root.run(&format!("grep -c updates/ {}/modules.dep || true", kernel.modules_dir())).stdout;
    assert_eq!(indexed.trim(), expected.len().to_string(), "modules.dep differs\n{}", root.transcript());
    states
}

fn any(random: &mut Random) -> (usize, Action) {
    let verb = VERBS[random.below(VERBS.len() as u64) as usize];
    (random.below(MODULES as u64) as usize, Action { verb, version: random.below(2) as usize })
}

/// The model says what happens: one command after another.
#[test]
fn one_after_another_they_do_what_the_model_says() {
    let (root, kernel) = machine();
    let mut random = Random::from_env();
    let mut known = states(&root, &kernel);
    for _ in 0..80 {
        let (module, action) = any(&mut random);
        let (after, code) = action.apply(known[module]);
        let output = root.run(&command(module, action, &kernel));
        assert_eq!(output.status, code, "{action} of {:?}\n{output}", known[module]);
        known[module] = after;
        assert_eq!(states(&root, &kernel), known, "after {action}\n{output}");
    }
}

/// One process of a round.
struct Process {
    module: usize,
    action: Action,
    ended: End,
}

/// Starts all commands at once, stops or kills some of them, and returns how each ended.
fn round(root: &Root, kernel: &Kernel, random: &mut Random) -> Vec<Process> {
    let mut script = String::from("rm -f /run/said.*\n");
    let mut planned = Vec::new();
    for number in 0..WRITERS {
        let (module, action) = any(random);
        planned.push((module, action));
        writeln!(script, "{} >/run/said.{number} 2>&1 & p{number}=$!", command(module, action, kernel))
            .unwrap();
        let seconds = |random: &mut Random| format!("{:.3}", random.below(800) as f64 / 1000.0);
        let (when, long) = (seconds(random), seconds(random));
        match random.below(4) {
            0 => writeln!(script, "(sleep {when}; kill -9 $p{number}) 2>/dev/null &"),
            1 => writeln!(
                script,
                "(sleep {when}; kill -STOP $p{number}; sleep {long}; kill -CONT $p{number}) 2>/dev/null &"
            ),
            _ => Ok(()),
        }
        .unwrap();
    }
    for number in 0..READERS {
        writeln!(script, "dkms status >/run/read.{number} 2>&1 & r{number}=$!").unwrap();
    }
    for number in 0..READERS {
        writeln!(script, "wait $r{number} || echo \"reader {number} exits $?: $(cat /run/read.{number})\"")
            .unwrap();
    }
    for number in 0..WRITERS {
        writeln!(script, "wait $p{number} 2>/dev/null; echo \"ended {number} $?\"").unwrap();
    }
    script.push_str("wait\n");
    let output = root.run_within(300, &script).ok();
    assert!(!output.stdout.contains("reader"), "{output}");
    let code = |number: usize| -> i32 {
        let begins = format!("ended {number} ");
        let line = output.stdout.lines().find_map(|line| line.strip_prefix(&begins));
        line.unwrap_or_else(|| panic!("{output}")).parse().unwrap()
    };
    let end = |number| if code(number) == 137 { End::Killed } else { End::Exit(code(number)) };
    let processes = planned.into_iter().enumerate();
    processes.map(|(number, (module, action))| Process { module, action, ended: end(number) }).collect()
}

fn crowd(rounds: u64) {
    let rounds: u64 = std::env::var("DKMS_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(rounds);
    let (root, kernel) = machine();
    let mut random = Random::from_env();
    let mut before = states(&root, &kernel);
    let (mut killed, mut refused) = (0, 0);
    for number in 0..rounds {
        let processes = round(&root, &kernel, &mut random);
        killed += processes.iter().filter(|process| process.ended == End::Killed).count();
        refused +=
            processes.iter().filter(|process| !matches!(process.ended, End::Killed | End::Exit(0))).count();
        // Completes what a killed process began.
        root.run(&format!("dkms autoinstall -k {}", kernel.release)).ok();
        let after = states(&root, &kernel);
        for module in 0..MODULES {
            let done: Vec<(Action, End)> =
                processes.iter().filter(|p| p.module == module).map(|p| (p.action, p.ended)).collect();
            let told: Vec<String> = done.iter().map(|(action, end)| format!("{action}: {end:?}")).collect();
            assert!(
                is_serial(before[module], &done, after[module]),
                "round {number}, crowd{module}: no order of these commands leads from {:?} to {:?}:\n{}\n{}",
                before[module],
                after[module],
                told.join("\n"),
                root.run("tail -n 20 /run/said.*")
            );
        }
        let left = root.run(
            "find /usr/lib/modules /var/lib/dkms /var/cache/dkms -name '.dkms-tmp-*'; find /var/lib/dkms/.dkms-rs/intent -type f 2>/dev/null || true",
        );
        assert_eq!(left.stdout, "", "round {number}: something is left");
        before = after;
    }
    eprintln!(
        "{rounds} rounds of {WRITERS} writers and {READERS} readers: {killed} killed, {refused} refused"
    );
    assert!(rounds == 0 || killed > 0 && refused > 0, "{killed} killed, {refused} refused");
}

#[test]
fn many_at_once_equal_some_order() {
    crowd(3);
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn the_same_in_five_hundred_rounds() {
    crowd(500);
}
