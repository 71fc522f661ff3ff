//! The programs that run during a build: those that generate code, and those that drive them, with the libraries that
//! each of them loads.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use object::elf::{DT_NEEDED, DT_RPATH, DT_RUNPATH, FileHeader32, FileHeader64};
use object::read::elf::{Dyn, FileHeader};
use object::{Endianness, FileKind, ReadCache, ReadRef};

use crate::layout::Layout;
use crate::sys::{file, hash, run};

/// Programs that generate code of a module, besides its compiler.
const MAKERS: [&str; 2] = ["as", "ld"];
/// Programs that drive a build: make, shells, and what the kernel's build system calls.
const DRIVERS: [&str; 11] =
    ["make", "sh", "bash", "perl", "python3", "awk", "sed", "grep", "pahole", "strip", "llvm-strip"];
/// Parts of gcc that its driver starts or loads.
const OF_GCC: [&str; 5] = ["cc1", "cc1plus", "collect2", "lto1", "liblto_plugin.so"];
/// The programs that take part in building.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tools {
    /// Compiler, assembler and linker: a different one changes the fingerprint.
    pub makers: Vec<PathBuf>,
    /// All other programs that run, including parts and plugins of compilers: a module is not rebuilt if they change,
    /// but the build of a pre-build is usable only if they are the same.
    pub drivers: Vec<PathBuf>,
}

impl Tools {
    /// Finds them on this system. `compiler` and `linker` are those of the kernel, `also` runs for some modules.
    pub fn find(compiler: Option<&Path>, linker: Option<&str>, also: Option<&str>) -> Self {
        let mut makers: Vec<PathBuf> = compiler.map(Path::to_path_buf).into_iter().collect();
        makers.extend(MAKERS.into_iter().chain(linker).filter_map(run::which));
        let mut drivers = of_gcc();
        drivers.extend(DRIVERS.into_iter().chain(also).filter_map(run::which));
        Self { makers, drivers }
    }

    /// All programs that run.
    pub fn all(&self) -> Vec<PathBuf> {
        self.drivers.iter().chain(&self.makers).cloned().collect()
    }

    /// All programs that run, with the libraries that each of them loads.
    pub fn with_libraries(&self) -> Vec<PathBuf> {
        closure(&self.all()).into_iter().collect()
    }
}

/// The hash of all programs of this system that can take part in a build, with their libraries, whichever compiler a kernel
/// needs.
pub fn installed_tools(layout: &Layout) -> Result<String> {
    let mut start = layout.build_tools();
    start.extend(Tools::find(None, None, None).all());
    start.sort();
    start.dedup();
    hash::files(&start, &layout.hashes().join("tools"), || closure(&start).into_iter().collect())
}

/// The parts and plugins of every installed gcc.
fn of_gcc() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for top in Layout::gcc_dirs() {
        for machine in file::sub_dirs(&top) {
            for version in file::sub_dirs(&top.join(&machine)) {
                let dir = top.join(&machine).join(version);
                found.extend(OF_GCC.iter().map(|name| dir.join(name)).filter(|path| path.is_file()));
                let plugins = file::sorted_entries(&dir.join("plugin")).into_iter();
                found.extend(plugins.filter(|path| path.extension().is_some_and(|end| end == "so")));
            }
        }
    }
    found
}

/// These files and all libraries that they load, as far as they exist.
fn closure(start: &[PathBuf]) -> BTreeSet<PathBuf> {
    let dirs = Layout::library_dirs();
    let mut found: BTreeSet<PathBuf> = BTreeSet::new();
    let mut open = start.to_vec();
    while let Some(path) = open.pop() {
        if !found.insert(path.clone()) {
            continue;
        }
        let Ok((file, _)) = file::open_regular(&path) else { continue };
        // A compiler is as large as all that dkms needs otherwise: only its headers and names are read.
        let loads = Loads::of(&ReadCache::new(file));
        let here = path.canonicalize().unwrap_or(path);
        let own = loads
            .dirs
            .iter()
            .map(|dir| dir.replace("$ORIGIN", &here.parent().unwrap_or(&here).to_string_lossy()));
        let own: Vec<PathBuf> = own.map(PathBuf::from).collect();
        for name in &loads.names {
            let places = own.iter().chain(&dirs).map(|dir| dir.join(name));
            open.extend(places.into_iter().find(|place| place.is_file()));
        }
    }
    found
}

/// The libraries that a program or library loads when it starts.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Loads {
    /// Names of libraries.
    pub names: Vec<String>,
    /// Its own directories in which they are searched.
    pub dirs: Vec<String>,
}

impl Loads {
    /// Parses an ELF file. Other or malformed content loads nothing.
    pub fn of<'d>(content: impl ReadRef<'d>) -> Self {
        let read = match FileKind::parse(content) {
            Ok(FileKind::Elf64) => Self::read::<FileHeader64<Endianness>, _>(content),
            Ok(FileKind::Elf32) => Self::read::<FileHeader32<Endianness>, _>(content),
            _ => None,
        };
        read.unwrap_or_default()
    }

    fn read<'d, H: FileHeader<Endian = Endianness>, R: ReadRef<'d>>(content: R) -> Option<Self> {
        let header = H::parse(content).ok()?;
        let endian = header.endian().ok()?;
        let sections = header.sections(endian, content).ok()?;
        let (entries, strings) = sections.dynamic(endian, content).ok()??;
        let strings = sections.strings(endian, content, strings).ok()?;
        let mut loads = Self::default();
        for entry in entries {
            let text = || {
                let text = strings.get(entry.val32(endian)?).ok()?;
                Some(String::from_utf8_lossy(text).into_owned())
            };
            let tag = entry.tag(endian);
            match tag {
                DT_NEEDED => loads.names.extend(text().filter(|name| !name.contains('/'))),
                DT_RPATH | DT_RUNPATH => {
                    loads.dirs.extend(text().iter().flat_map(|dirs| dirs.split(':').map(str::to_owned)));
                }
                _ => {}
            }
        }
        Some(loads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_here_is_found_with_its_libraries() {
        let gcc = run::which("gcc").unwrap();
        let tools = Tools::find(Some(&gcc), None, None);
        let has = |all: &[PathBuf], start: &str| {
            all.iter().any(|path| path.file_name().unwrap_or_default().to_string_lossy().starts_with(start))
        };
        let all = tools.with_libraries();
        let expected = [
            "gcc",
            "as",
            "ld",
            "cc1",
            "collect2",
            "liblto_plugin.so",
            "libbfd",
            "make",
            "sh",
            "bash",
            "libc.so",
            "sed",
        ];
        for program in expected {
            assert!(has(&all, program), "{program}: {all:?}");
        }
    }

    #[test]
    fn what_is_no_program_loads_nothing() {
        for content in [&b""[..], b"#!/bin/sh\n", b"\x7fELF\x02\x01\x01", &[0x7f; 200]] {
            assert_eq!(Loads::of(content), Loads::default());
        }
    }
}
