//! Plays a scenario in a root, and stores the result of Debian's dkms.

use std::collections::BTreeSet;
use std::fs;

use super::scenario::{Scenario, folder};
use crate::roots::Layer;
use crate::{Kernel, Root, host};

/// Records a command's effects; see the file for details.
const DRIVER: &str = include_str!("driver.sh");

/// One of the two programs, in its prepared state.
#[derive(Debug)]
pub struct Side {
    /// For messages.
    pub name: &'static str,
    /// Kernels, prebuilt modules and the program.
    pub layer: Layer,
    /// `$K` and `$K2` of the scenarios.
    pub kernels: [Kernel; 2],
    /// Shell lines before those of a scenario, if its commands are not simply `dkms`.
    pub programs: &'static str,
}

/// The effects of one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The command line.
    pub command: String,
    /// Its exit code.
    pub exit: i32,
    /// The state afterwards: aspect and line.
    pub facts: BTreeSet<(String, String)>,
}

/// The effects of a scenario's commands, and their output (which is not compared).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The commands.
    pub steps: Vec<Step>,
    /// What they said.
    pub said: String,
}

impl Side {
    /// A declaration's text with the names of the kernels for `$K` and `$K2`.
    pub fn named(&self, text: &str) -> String {
        let [k, k2] = &self.kernels;
        text.replace("$K2", &k2.release).replace("$K", &k.release)
    }

    /// Plays a scenario in a fresh root; `Err` is the output of a failed preparation.
    pub fn play(&self, scenario: &Scenario) -> Result<Verdict, String> {
        self.record(scenario).map(|notes| parse(&notes))
    }

    /// The same, from the stored result of an earlier run if nothing has changed since.
    pub fn remembered(&self, area: &str, scenario: &Scenario) -> Result<Verdict, String> {
        let file = host::roots_dir().join("verdicts").join(area).join(self.key(scenario));
        if let Ok(notes) = fs::read_to_string(&file) {
            return Ok(parse(&notes));
        }
        let notes = self.record(scenario)?;
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, &notes).unwrap();
        Ok(parse(&notes))
    }

    /// Deletes the stored results of other scenarios.
    pub fn forget_others(&self, area: &str, scenarios: &[Scenario]) {
        let keys: Vec<String> = scenarios.iter().map(|s| self.key(s)).collect();
        let entries = fs::read_dir(host::roots_dir().join("verdicts").join(area));
        for entry in entries.into_iter().flatten().flatten() {
            if !keys.iter().any(|key| entry.file_name() == key.as_str()) {
                fs::remove_file(entry.path()).ok();
            }
        }
    }

    /// Everything that can change the result: the script, and the layer, whose name is a digest of all below it. The
    /// running kernel counts because commands without `-k` use it.
    fn key(&self, scenario: &Scenario) -> String {
        let running = rustix::system::uname();
        let parts = [self.script(scenario), self.layer.dirs().join(":")];
        host::key(&[parts[0].as_bytes(), parts[1].as_bytes(), running.release().to_bytes()])
    }

    fn record(&self, scenario: &Scenario) -> Result<String, String> {
        let told = Root::on(&self.layer).run_within(900, &self.script(scenario));
        if told.status == 0 && told.stdout.ends_with("@end\n") {
            return Ok(told.stdout + &told.stderr);
        }
        Err(format!("with {} it could not be played (exit {})\n{}", self.name, told.status, told.stderr))
    }

    fn script(&self, scenario: &Scenario) -> String {
        let vocabulary = fs::read_to_string(folder().join("vocabulary.sh")).expect("vocabulary.sh");
        let [k, k2] = &self.kernels;
        let mut script =
            format!("K={} K2={}\n{DRIVER}\n{vocabulary}\n{}\nset -e\n", k.release, k2.release, self.programs);
        for line in scenario.lines.iter().map(String::as_str).chain(["$ dkms status"]) {
            match line.strip_prefix("$ ") {
                Some(command) => script.push_str(&format!("command_is {}\n", quoted(command))),
                None => script.push_str(&format!("{line}\n")),
            }
        }
        script.push_str("the_end\n");
        script
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn parse(notes: &str) -> Verdict {
    let (record, said) = notes.split_once("@end\n").expect("notes are whole");
    let mut steps: Vec<Step> = Vec::new();
    for line in record.lines() {
        if let Some(command) = line.strip_prefix("@ ") {
            steps.push(Step { command: command.to_owned(), exit: -1, facts: BTreeSet::new() });
            continue;
        }
        let step = steps.last_mut().expect("a command first");
        let (aspect, fact) = line.split_once(' ').unwrap_or((line, ""));
        match aspect {
            "exit" => step.exit = fact.parse().expect("an exit code"),
            _ => drop(step.facts.insert((aspect.to_owned(), fact.to_owned()))),
        }
    }
    Verdict { steps, said: said.to_owned() }
}
