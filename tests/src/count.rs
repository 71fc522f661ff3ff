//! Counts what is really started in a root: builds, depmod runs, initramfs runs.
//!
//! `make`, `depmod`, `update-initramfs` and the C compiler proper are replaced by two-line wrappers that write one line
//! into a FIFO and then run
//! the real program. A FIFO, because a sandboxed build sees a read-only system and is unprivileged: writing to a
//! FIFO needs neither a writable mount nor root, and lines below PIPE_BUF are written atomically.

use std::time::Duration;

use crate::Root;

const DIR: &str = "/usr/local/lib/count";
const TOOLS: &[&str] =
    &["/usr/bin/make", "/usr/sbin/depmod", "/usr/sbin/update-initramfs", "/usr/bin/dracut"];
/// The compiler proper: the program that `gcc` starts once for each file.
const COMPILERS: &str = "/usr/libexec/gcc/*/*/cc1 /usr/lib/gcc/*/*/cc1";
/// Names under which the product's own processes appear in `/proc/PID/comm`.
const OURS: &[&str] = &["dkms", "apt-hook", "dnf-hook", "alpm-hook"];

/// Counting wrappers installed in one root.
#[derive(Debug)]
pub struct Counters<'a> {
    root: &'a Root,
}

/// What was started since the counters were last read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts {
    /// Outermost `make` runs that were not a `clean`.
    pub builds: usize,
    /// `depmod` runs whose parent is dkms or its hook.
    pub depmods: usize,
    /// `update-initramfs` and `dracut` runs whose parent is dkms or its hook.
    pub initramfs: usize,
    /// Files that a C compiler was started for.
    pub compiled: usize,
    /// All lines, for a message: `TOOL PARENT ARGUMENTS`.
    pub lines: Vec<String>,
}

impl<'a> Counters<'a> {
    /// Puts the wrappers in place and starts the reader.
    pub fn install(root: &'a Root) -> Self {
        root.run(&format!("mkdir -p {DIR}/real && mkfifo -m 666 {DIR}/fifo && : > {DIR}/log")).ok();
        for tool in TOOLS.iter().filter(|tool| root.exists(tool)) {
            wrap(root, tool);
        }
        root.run(&format!(
            "for real in {COMPILERS}; do [ -f $real ] && [ ! -L $real ] || continue; mv $real $real.real\n\
             printf '#!/bin/sh\\necho compiled 1<>{DIR}/fifo 2>/dev/null\\nexec %s.real \"$@\"\\n' $real >$real\n\
             chmod 755 $real; done"
        ))
        .ok();
        root.start(&format!("exec 9<>{DIR}/fifo; exec cat <&9 >>{DIR}/log"));
        let counters = Self { root };
        counters.take();
        counters
    }

    /// What was started since the last call.
    pub fn take(&self) -> Counts {
        // The reader has seen everything before this line when it has seen this line.
        self.root.run(&format!("echo MARK >{DIR}/fifo")).ok();
        for _ in 0..500 {
            let text = self.root.read(&format!("{DIR}/log"));
            if text.ends_with("MARK\n") {
                self.root.run(&format!(": > {DIR}/log")).ok();
                let counts = count(&text);
                self.root.note(&format!("counted: {counts:?}"));
                return counts;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the counter's reader has stopped");
    }
}

impl Counts {
    /// Builds and depmods at once, for a compact assertion.
    pub fn builds_and_depmods(&self) -> (usize, usize) {
        (self.builds, self.depmods)
    }
}

/// The real program keeps its name (kmod depends on it) in a separate directory.
fn wrap(root: &Root, tool: &str) {
    let name = tool.rsplit('/').next().unwrap();
    root.run(&format!(
        "target=$(readlink -f {tool}); if [ -L {tool} ]; then ln -s $target {DIR}/real/{name}; rm {tool}; \
                       else mv {tool} {DIR}/real/{name}; fi"
    ))
    .ok();
    root.write_script(
        tool,
        &format!(
            "#!/bin/sh\nread -r parent </proc/$PPID/comm\n\
             [ -n \"$MAKELEVEL\" ] || echo \"{name} $parent $*\" 1<>{DIR}/fifo 2>/dev/null\n\
             exec {DIR}/real/{name} \"$@\"\n"
        ),
    );
}

fn count(log: &str) -> Counts {
    let lines: Vec<String> = log.lines().filter(|l| *l != "MARK").map(str::to_owned).collect();
    let of = |tool: &str, wanted: &dyn Fn(&[&str]) -> bool| {
        let words = |line: &String| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let hit = |line: &&String| {
            let words = words(line);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            words[0] == tool && wanted(&words[1..])
        };
        lines.iter().filter(hit).count()
    };
    let from_us = |words: &[&str]| words.first().is_some_and(|parent| OURS.contains(parent));
    // Queries of the kernel's Makefile (`-f -`, `--version`) and cleaning are not builds.
    let is_build =
        |words: &[&str]| !words[1..].iter().any(|w| ["clean", "-f", "--version", "-v"].contains(w));
    let builds = of("make", &is_build);
    let depmods = of("depmod", &from_us);
    let initramfs = of("update-initramfs", &from_us) + of("dracut", &from_us);
    let compiled = lines.iter().filter(|line| *line == "compiled").count();
    let lines = lines.into_iter().filter(|line| line != "compiled").collect();
    Counts { builds, depmods, initramfs, compiled, lines }
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn only_our_depmods_and_real_builds_count() {
        let log = "depmod dkms -a 6.12\ndepmod linux-image-6.1 6.12\nmake sh -j2 KERNELRELEASE=6.12 -C /x\nmake sh clean\nmake dkms -f - show-CC\n\
                   update-initramfs initramfs-tools -c -k 6.12\nupdate-initramfs apt-hook -u -k 6.12\n\
                   compiled\ncompiled\ndracut 50-dracut.insta -f\ndracut dnf-hook -f --kver 6.12\nMARK\n";
        let counts = count(log);
        assert_eq!((counts.builds, counts.depmods, counts.initramfs, counts.compiled), (1, 1, 2, 2));
        assert_eq!(counts.lines.len(), 9);
    }
}
