//! The compilers alone: the commands of dkms's builds under one jobserver, without dkms. This is a lower bound for
//! building these modules.

use std::fmt::Write as _;

use super::measure::{Run, measure};
use crate::{Kernel, Root};

/// The directory of the copied sources.
const DIR: &str = "/var/tmp/bare";

/// One module for one kernel: the directory to copy, and the commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bare {
    /// `name/version`.
    id: String,
    kernel: String,
    commands: Vec<String>,
}

/// Reads the commands from the logs that Debian's dkms has left in this root.
pub fn commands(root: &Root, kernel: &Kernel) -> Vec<Bare> {
    let logs = format!("/var/lib/dkms/*/*/{kernel}/x86_64/log/make.log");
    let bare = |log: &str| {
        let id = log.split('/').skip(4).take(2).collect::<Vec<_>>().join("/");
        let commands = of_log(&root.read(log), &id, &kernel.release);
        Bare { id, kernel: kernel.release.clone(), commands }
    };
    root.run(&format!("ls {logs}")).ok().stdout.lines().map(bare).collect()
}

/// The commands of one log, adapted to a separate directory and to the common jobserver.
fn of_log(log: &str, id: &str, kernel: &str) -> Vec<String> {
    let lines = log.lines().filter_map(|l| l.strip_prefix("# command: "));
    lines.map(|l| shared(l).replace(&format!("/var/lib/dkms/{id}/build"), &dir(id, kernel))).collect()
}

fn shared(command: &str) -> String {
    let words = command.split(' ').filter(|w| {
        !w.strip_prefix("-j").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    });
    words.collect::<Vec<_>>().join(" ")
}

fn dir(id: &str, kernel: &str) -> String {
    format!("{DIR}/{kernel}/{id}/build")
}

/// Runs them all with this many jobs. Panics if one fails, because the time would be meaningless.
pub fn run(root: &Root, all: &[Bare], jobs: usize) -> Run {
    let mut makefile = String::new();
    let mut copies = String::new();
    let names: Vec<String> = (0..all.len()).map(|n| format!("m{n}")).collect();
    writeln!(makefile, "SHELL = /bin/bash\nall: {}", names.join(" ")).unwrap();
    for (bare, name) in all.iter().zip(&names) {
        let dir = dir(&bare.id, &bare.kernel);
        let script = format!("{dir}.sh");
        writeln!(makefile, "{name}:\n\t+@cd {dir} && bash {script} >{dir}.log 2>&1").unwrap();
        writeln!(copies, "mkdir -p {dir} && cp -a /var/lib/dkms/{}/source/. {dir}/", bare.id).unwrap();
        root.write(&script, format!("set -e\n{}\n", bare.commands.join("\n")));
    }
    root.run(&copies).ok();
    root.write(&format!("{DIR}/Makefile"), makefile);
    let run = measure(root, &format!("make -k -j{jobs} -f {DIR}/Makefile"));
    assert_eq!(run.exit, 0, "{}", root.run(&format!("cat /var/tmp/said; tail -n 5 {DIR}/*/*/*/build.log")));
    run
}

#[cfg(test)]
mod tests {
    use super::of_log;

    #[test]
    fn commands_of_a_log() {
        let log = "DKMS (dkms-3.2.2) make.log\n\nRunning the pre_build script\n# command: cd /var/lib/dkms/a/1/build/ && ./x\n\
                   Building module(s)\n# command: make -j2 KERNELRELEASE=6.1 -C /lib/modules/6.1/build M=/var/lib/dkms/a/1/build -jfoo\nCC\n";
        assert_eq!(
            of_log(log, "a/1", "6.1"),
            [
                "cd /var/tmp/bare/6.1/a/1/build/ && ./x",
                "make KERNELRELEASE=6.1 -C /lib/modules/6.1/build M=/var/tmp/bare/6.1/a/1/build -jfoo"
            ]
        );
    }
}
