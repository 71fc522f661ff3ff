//! Will the kernel load these files? Determined from the files, for kernels that are not running.

use std::collections::BTreeMap;
use std::io::{BufReader, ErrorKind};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::conf::{ModuleSpec, Recipe};
use crate::kernel::{
    self, Compression, Headers, Judgement, Kernel, Malformed, Module, Reason, Requirements, Symbols, elf,
    read_module,
};
use crate::layout::Layout;
use crate::sys::file;
use crate::types::ModuleId;

/// More than any list of symbols has. A kernel's has 2 MiB.
const LIST: u64 = 64 << 20;

/// What the modules of one build are verified against.
#[derive(Debug)]
pub struct Verifier {
    requirements: Requirements,
    symbols: Symbols,
}

/// Where exported symbols are listed.
#[derive(Debug, Clone, Copy)]
pub struct Exporters<'a> {
    /// `Module.symvers` of the kernel.
    pub kernel: &'a Path,
    /// The same of other packages, as far as they exist.
    pub others: &'a [PathBuf],
    /// Whether the kernel's files are in their final place; not in a pre-build.
    pub installed: bool,
}

impl Verifier {
    /// For these modules of one build, with their names. They may import from each other: what they export is read from
    /// their files, because any list in a build directory may be wrong.
    pub fn new(
        layout: &Layout,
        kernel: &Kernel,
        exporters: Exporters<'_>,
        modules: &[(String, Module)],
    ) -> Result<Self> {
        let mut symbols = Symbols::wanted(modules.iter().map(|(_, module)| module));
        for path in std::iter::once(exporters.kernel).chain(exporters.others.iter().map(PathBuf::as_path)) {
            read_list(path, &mut symbols)?;
        }
        for (name, module) in modules {
            symbols.read_module(name, module);
        }
        let own = if exporters.installed {
            read_depmod(layout, kernel, &mut symbols)?;
            kernel::own_module(layout, kernel)
        } else {
            symbols.assume_incomplete();
            None
        };
        Ok(Self { requirements: requirements(layout, kernel, own.as_ref()), symbols })
    }

    /// The verdict on one module.
    pub fn judge(&self, module: &Module) -> Judgement {
        kernel::judge(module, &self.requirements, &self.symbols)
    }

    /// Why the kernel rejects a file that cannot be read as a module. `machine`: that in its header.
    pub fn malformed(&self, why: Malformed, machine: Option<u16>) -> Reason {
        self.requirements.malformed(why, machine)
    }

    /// Verifies one uncompressed module: why the kernel would not load it. A build for another kernel release is never
    /// right, even if a kernel would load it.
    pub fn verify(&self, content: &[u8]) -> Result<(), String> {
        let module = Module::read(content);
        let module = module.map_err(|why| self.malformed(why, Module::machine(content)).to_string())?;
        self.verify_module(&module).map_err(|reason| reason.to_string())
    }

    fn verify_module(&self, module: &Module) -> Result<(), Reason> {
        let release = module.vermagic.as_deref().unwrap_or_default().split(' ').next().unwrap_or_default();
        if release != self.requirements.release {
            let (module, kernel) = (release.to_owned(), self.requirements.release.clone());
            return Err(Reason::Release { module, kernel });
        }
        self.judge(module).refused.map_or(Ok(()), Err)
    }
}

/// What a kernel requires, from its configuration and one of its own modules.
fn requirements(layout: &Layout, kernel: &Kernel, own: Option<&Module>) -> Requirements {
    let target = &kernel.target;
    let beside = kernel.headers.is_none().then(|| kernel::config(layout, &target.kernel)).flatten();
    let config = kernel.headers.as_ref().map(|headers| &headers.config).or(beside.as_ref());
    let package = kernel.headers.as_ref().and_then(Headers::package);
    Requirements::new(target.kernel.as_str(), target.arch.as_str(), (config, package.as_deref()), own)
}

/// Reads a list of symbols, if it exists.
fn read_list(path: &Path, symbols: &mut Symbols) -> Result<()> {
    match file::open_data(path, LIST) {
        Ok(file) => symbols.read(BufReader::new(file)).with_context(|| format!("reading {}", path.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// Looks for symbols that no list named in depmod's list of what installed modules export. Rare, so it is read only now.
fn read_depmod(layout: &Layout, kernel: &Kernel, symbols: &mut Symbols) -> Result<()> {
    if !symbols.lacks_any() {
        return Ok(());
    }
    let path = layout.modules_symbols(&kernel.target.kernel);
    match file::open_data(&path, LIST) {
        Ok(file) => {
            symbols.read_depmod(BufReader::new(file)).with_context(|| format!("reading {}", path.display()))
        }
        Err(_) => Ok(()),
    }
}

/// Checks a build from elsewhere, file by file. Without headers, less can be compared. Returns remarks, or why the kernel
/// would not load it.
pub fn finished(
    layout: &Layout,
    module: &ModuleId,
    kernel: &Kernel,
    recipe: &Recipe,
    symvers: &[PathBuf],
    renamed: &BTreeMap<String, String>,
) -> Result<Vec<String>, String> {
    let dir = layout.built_modules(module, &kernel.target);
    let wants_signature = kernel.headers.as_ref().is_some_and(|headers| headers.sig_hash.is_some());
    let (mut modules, mut names, mut unsigned) = (Vec::new(), Vec::new(), Vec::new());
    for spec in &recipe.modules {
        let Some(name) = file_of(&dir, &spec.dest_name) else {
            return Err(format!("{}.ko is missing", spec.dest_name));
        };
        let content = read_module(&dir.join(&name)).map_err(|error| format!("{error:#}"))?;
        let read = Module::read(&content).map_err(|why| format!("{name} would not load ({why})"))?;
        if let Some(other) = other_name(spec, &read) {
            if renamed.get(&spec.dest_name) != Some(&other) {
                return Err(format!("{name} contains another module, {other}"));
            }
        }
        modules.push((spec.dest_name.clone(), read));
        if wants_signature && !elf::is_signed(&content) {
            unsigned.push(name.clone());
        }
        names.push(name);
    }
    let list = kernel.headers.as_ref().map(Headers::symvers).unwrap_or_default();
    let exporters = Exporters { kernel: &list, others: symvers, installed: true };
    let verifier =
        Verifier::new(layout, kernel, exporters, &modules).map_err(|error| format!("{error:#}"))?;
    for (name, (_, module)) in names.iter().zip(&modules) {
        verifier.verify_module(module).map_err(|why| format!("{name} would not load ({why})"))?;
    }
    let remark = format!(
        "{} unsigned; to rebuild and sign: dkms build {module} -k {} --force",
        unsigned.join(", "),
        kernel.target.kernel
    );
    Ok(if unsigned.is_empty() { Vec::new() } else { vec![remark] })
}

/// The file of a module in a build.
fn file_of(dir: &Path, name: &str) -> Option<String> {
    let kinds = [Compression::None, Compression::Gzip, Compression::Xz, Compression::Zstd];
    let mut files = kinds.into_iter().map(|kind| format!("{name}.ko{}", kind.suffix()));
    files.find(|file| dir.join(file).is_file())
}

/// The name that a module has for the kernel, if it is neither that of the file which is built, nor that of the one which is
/// installed. Kernels before 4.16 wrote none.
fn other_name(spec: &ModuleSpec, module: &Module) -> Option<String> {
    let own = elf::canonical_name(&module.name);
    // A path may be before the name.
    let expected = [&spec.built, &spec.dest_name].map(|name| elf::module_name(name));
    (!own.is_empty() && !expected.contains(&own)).then_some(own)
}

/// The modules of a new build whose Makefile gave them another file name: by the name of the file.
pub fn renamed(dir: &Path, recipe: &Recipe) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for spec in &recipe.modules {
        let content = file_of(dir, &spec.dest_name).and_then(|file| read_module(&dir.join(file)).ok());
        let module = content.and_then(|content| Module::read(&content).ok());
        let other = module.and_then(|module| other_name(spec, &module));
        found.extend(other.map(|other| (spec.dest_name.clone(), other)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_has_the_name_of_its_file_or_of_the_one_that_was_built() {
        let module = |name: &str| Module { name: name.to_owned(), ..Module::default() };
        let spec = |built: &str, installed: &str| ModuleSpec {
            built: built.to_owned(),
            dest_name: installed.to_owned(),
            dest_location: "/kernel/extra".to_owned(),
            strip: true,
        };
        for (name, built, installed, other) in [
            ("a", "a", "a", None),
            ("a_b", "a-b", "a-b", None),
            ("a", "src/a", "a", None),
            ("", "a", "a", None),
            // DEST_MODULE_NAME, in both directions.
            ("a", "a", "a-dkms", None),
            ("a", "a-dkms", "a", None),
            ("b", "a", "a", Some("b")),
            ("b", "a", "a-dkms", Some("b")),
        ] {
            let found = other_name(&spec(built, installed), &module(name));
            assert_eq!(found.as_deref(), other, "{name}: {built}, {installed}");
        }
    }
}
