//! A second opinion on packages: reads package files with our readers and with the crates `debian-packaging` and `rpm`, and prints
//! the differences. Usage: `dkms-oracle [--at-least N] PATH…`, where a PATH is a file or a directory that is searched.

mod compare;
mod deb;
mod explained;
mod facts;
mod machine;
mod meant;
mod ours;
mod rpm;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use compare::Difference;
use facts::{Facts, Node};

/// How many differences of one package are printed.
const SHOWN: usize = 5;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("dkms-oracle: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let mut words = std::env::args_os().skip(1).peekable();
    let mut at_least = 1;
    if words.next_if(|word| word == "--at-least").is_some() {
        let number = words.next().and_then(|word| word.into_string().ok()).context("--at-least: a number")?;
        at_least = number.parse().context("--at-least: a number")?;
    }
    let mut files = BTreeSet::new();
    for path in words {
        collect(Path::new(&path), &mut files)?;
    }
    // A panic of the crate is an error of that reader, not of this program.
    std::panic::set_hook(Box::new(|_| {}));
    let scratch = std::env::temp_dir().join(format!("dkms-oracle-{}", std::process::id()));
    let mut count = Count::default();
    for file in distinct(files)? {
        count.package(&file, &scratch);
    }
    fs::remove_dir_all(&scratch).ok();
    count.print();
    if count.packages() < at_least {
        bail!("{} packages: at least {at_least} were to be compared", count.packages());
    }
    Ok(count.unexplained == 0)
}

fn collect(path: &Path, files: &mut BTreeSet<PathBuf>) -> Result<()> {
    if !path.is_dir() {
        files.insert(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path).with_context(|| format!("listing {}", path.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // A link to a directory above would have no end.
        if path.is_dir() && !path.is_symlink()
            || [".deb", ".udeb", ".rpm"].iter().any(|end| name.ends_with(end))
        {
            collect(&path, files)?;
        }
    }
    Ok(())
}

/// Leaves out copies: projects share test data.
fn distinct(files: BTreeSet<PathBuf>) -> Result<Vec<PathBuf>> {
    let mut seen = BTreeSet::new();
    let mut kept = Vec::new();
    for file in files {
        let content = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        if seen.insert(facts::sha256(&content)) {
            kept.push(file);
        }
    }
    Ok(kept)
}

#[derive(Default)]
struct Count {
    debs: usize,
    rpms: usize,
    files: usize,
    /// Both readers return an error.
    refused: usize,
    unexplained: usize,
    explained: BTreeMap<&'static str, usize>,
}

impl Count {
    fn packages(&self) -> usize {
        self.debs + self.rpms
    }

    fn package(&mut self, file: &Path, scratch: &Path) {
        let name = file.to_string_lossy();
        let theirs = if name.ends_with(".rpm") { rpm::read(file) } else { deb::read(file) };
        *(if name.ends_with(".rpm") { &mut self.rpms } else { &mut self.debs }) += 1;
        let ours = ours(file, scratch, &theirs);
        self.files += ours.tree.as_ref().map_or(0, BTreeMap::len);
        self.refused += usize::from(ours.description.is_err() && theirs.description.is_err());
        let mut differences = compare::compare(&ours, &theirs);
        match meant::check(file) {
            Ok(more) => differences.extend(more),
            Err(error) => {
                differences.push(Difference::new("packaged", Path::new(""), "readable", format!("{error:#}")))
            }
        }
        let mut shown = 0;
        for difference in differences {
            match explained::explained(&name, &difference) {
                Some(why) => *self.explained.entry(why).or_default() += 1,
                None => {
                    self.unexplained += 1;
                    shown += 1;
                    if shown <= SHOWN {
                        println!("{name}: {difference}");
                    }
                }
            }
        }
        if shown > SHOWN {
            println!("{name}: {} more", shown - SHOWN);
        }
    }

    fn print(&self) {
        for (why, times) in &self.explained {
            println!("explained, {times} times: {why}");
        }
        println!(
            "{} packages ({} .deb, {} .rpm) with {} files and directories, {} of them refused by both readers: {} differences, {} explained",
            self.packages(),
            self.debs,
            self.rpms,
            self.files,
            self.refused,
            self.unexplained + self.explained.values().sum::<usize>(),
            self.explained.values().sum::<usize>()
        );
    }
}

/// Reads the file with our readers, without the special files that the crate has found.
fn ours(file: &Path, scratch: &Path, theirs: &Facts) -> Facts {
    let special: BTreeSet<&PathBuf> = theirs
        .tree
        .iter()
        .flatten()
        .filter(|(_, node)| **node == Node::Special)
        .map(|(path, _)| path)
        .collect();
    ours::read(file, scratch, &|path| special.contains(&path.to_owned()), !special.is_empty())
}
