//! `dkms status` on a terminal: modules in rows, kernels in columns.

use std::collections::{BTreeMap, BTreeSet};

use crate::report::{Painted, Tone};
use crate::types::{KernelRelease, ModuleId, Target, version};

/// What is known about a module for a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cell {
    /// It is installed.
    Installed,
    /// It is installed, and there is a remark about it.
    Remarked,
    /// It is built and not installed.
    Built,
    /// The last build failed.
    Failed,
    /// Its source is missing.
    Broken,
    /// Its build is in a store.
    Stored,
}

impl Cell {
    fn shown(self) -> (Tone, &'static str) {
        match self {
            Self::Installed => (Tone::Good, "installed"),
            Self::Remarked => (Tone::Doubtful, "installed (!)"),
            Self::Built => (Tone::Doubtful, "built"),
            Self::Failed => (Tone::Bad, "FAILED"),
            Self::Broken => (Tone::Bad, "broken"),
            Self::Stored => (Tone::Good, "yes"),
        }
    }
}

/// Neither installed, built nor failed.
const GAP: (Tone, &str) = (Tone::Faint, "-");
/// Between two columns.
const BETWEEN: usize = 2;

/// All modules, and what is known about them for each kernel.
#[derive(Debug, Default)]
pub(super) struct Matrix {
    pub(super) modules: BTreeSet<ModuleId>,
    pub(super) kernels: BTreeSet<Target>,
    pub(super) cells: BTreeMap<(ModuleId, Target), Cell>,
    pub(super) running: Option<KernelRelease>,
}

impl Matrix {
    /// As text that is not wider than this, if one column fits: further kernels follow below.
    pub(super) fn draw(&self, width: usize) -> Painted {
        let mut kernels: Vec<&Target> = self.kernels.iter().collect();
        kernels.sort_by(|a, b| version::compare(b.kernel.as_str(), a.kernel.as_str()).then(a.cmp(b)));
        let names: Vec<String> = self.modules.iter().map(ToString::to_string).collect();
        let first = names.iter().map(String::len).max().unwrap_or(0);
        let columns: Vec<(&Target, String, usize)> = kernels
            .into_iter()
            .map(|target| {
                let name = self.name(target);
                let cells = self.modules.iter().map(|module| self.cell(module, target).1.len());
                let wide = cells.chain([name.len()]).max().unwrap_or(0);
                (target, name, wide)
            })
            .collect();
        let mut text = Painted::default();
        let mut rest = columns.as_slice();
        loop {
            let mut used = first;
            let fits = rest.iter().take_while(|(_, _, wide)| {
                used += BETWEEN + wide;
                used <= width
            });
            let count = fits.count().clamp(rest.len().min(1), rest.len());
            let (now, later) = rest.split_at(count);
            self.block(&mut text, first, now);
            rest = later;
            if rest.is_empty() {
                break;
            }
            text.push(Tone::Plain, "\n");
        }
        text
    }

    fn block(&self, text: &mut Painted, first: usize, columns: &[(&Target, String, usize)]) {
        let mut line = |begins: &str, cells: Vec<(Tone, &str)>| {
            let mut missing = first.saturating_sub(begins.len());
            text.push(Tone::Plain, begins);
            for ((tone, cell), (_, _, wide)) in cells.iter().zip(columns) {
                // Nothing follows the last word of a line.
                text.push(Tone::Plain, " ".repeat(missing + BETWEEN));
                text.push(*tone, *cell);
                missing = wide.saturating_sub(cell.len());
            }
            text.push(Tone::Plain, "\n");
        };
        if !columns.is_empty() {
            line("", columns.iter().map(|(_, name, _)| (Tone::Plain, name.as_str())).collect());
        }
        for module in &self.modules {
            let cells = columns.iter().map(|(target, ..)| self.cell(module, target)).collect();
            line(&module.to_string(), cells);
        }
    }

    fn cell(&self, module: &ModuleId, target: &Target) -> (Tone, &'static str) {
        self.cells.get(&(module.clone(), target.clone())).map_or(GAP, |cell| cell.shown())
    }

    /// The kernel release; with the architecture if another one is there for the same release.
    fn name(&self, target: &Target) -> String {
        let several = self.kernels.iter().filter(|other| other.kernel == target.kernel).count() > 1;
        let mut name = match several {
            true => format!("{}/{}", target.kernel, target.arch),
            false => target.kernel.to_string(),
        };
        if self.running.as_ref() == Some(&target.kernel) {
            name.push_str(" *");
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix() -> Matrix {
        let target =
            |kernel: &str| Target { kernel: kernel.parse().unwrap(), arch: "x86_64".parse().unwrap() };
        let (old, new) = (target("6.12.9-amd64"), target("6.12.10-amd64"));
        let id = |text: &str| -> ModuleId { text.parse().unwrap() };
        let cells = [
            ("bbswitch/0.8", &old, Cell::Installed),
            ("bbswitch/0.8", &new, Cell::Remarked),
            ("zfs/2.3.2", &old, Cell::Installed),
            ("zfs/2.3.2", &new, Cell::Failed),
        ];
        Matrix {
            modules: ["added/1", "bbswitch/0.8", "zfs/2.3.2"].map(id).into(),
            kernels: [old.clone(), new.clone()].into(),
            cells: cells.map(|(module, target, cell)| ((id(module), target.clone()), cell)).into(),
            running: Some(old.kernel.clone()),
        }
    }

    #[test]
    fn modules_and_kernels_the_newest_first() {
        insta::assert_snapshot!(matrix().draw(80).text(false), @r"
                      6.12.10-amd64  6.12.9-amd64 *
        added/1       -              -
        bbswitch/0.8  installed (!)  installed
        zfs/2.3.2     FAILED         installed
        ");
        let coloured = matrix().draw(80).text(true);
        assert!(coloured.contains("\u{1b}[31mFAILED\u{1b}[0m         \u{1b}[32minstalled"), "{coloured:?}");
    }

    #[test]
    fn kernels_that_do_not_fit_follow_below() {
        let text = matrix().draw(30).text(false);
        assert_eq!(text.lines().count(), 9, "{text}");
        assert!(text.lines().all(|line| line.len() <= 30 && !line.ends_with(' ')), "{text}");
        // A terminal that is too narrow for one column.
        assert_eq!(matrix().draw(1).text(false).lines().count(), 9);
        assert_eq!(Matrix::default().draw(80).text(false), "");
    }
}
