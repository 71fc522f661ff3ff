//! Will the kernel load this file? Determined from the file, for kernels that are not running.

use std::io::{BufReader, ErrorKind};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::conf::Recipe;
use crate::kernel::elf::{self, ModInfo};
use crate::kernel::{Compression, Headers, Kernel, Symbols, Vermagic, read_module};
use crate::layout::Layout;
use crate::sys::file;
use crate::types::ModuleId;

/// More than any list of symbols has. A kernel's has 2 MiB.
const LIST: u64 = 64 << 20;

/// Checks one uncompressed module. `symbols` are the CRCs of all symbols that it imports.
pub fn verify(
    content: &[u8],
    kernel: &Kernel,
    headers: &Headers,
    symbols: &Symbols,
) -> Result<ModInfo, String> {
    let info = elf::read(content).map_err(|error| format!("{error:#}"))?;
    if let Some(why) = headers.vermagic.refuses(kernel.target.kernel.as_str(), &info.vermagic) {
        return Err(why);
    }
    for (name, crc) in &info.imports {
        if let Some(exported) = symbols.get(name).filter(|exported| exported != crc) {
            return Err(format!(
                "disagrees about the version of symbol {name} (module CRC {crc:#010x}, kernel CRC {exported:#010x})"
            ));
        }
    }
    Ok(info)
}

/// The CRCs of these modules' imported symbols in `Module.symvers` of the kernel and of the packages that they depend
/// on.
pub fn known_symbols(kernel: &Path, others: &[PathBuf], modules: &[ModInfo]) -> Result<Symbols> {
    let mut symbols = Symbols::wanted(modules.iter().flat_map(|info| info.imports.keys()));
    for path in std::iter::once(kernel).chain(others.iter().map(PathBuf::as_path)) {
        match file::open_data(path, LIST) {
            Ok(file) => {
                symbols.read(BufReader::new(file)).with_context(|| format!("reading {}", path.display()))?;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }
    Ok(symbols)
}

/// Checks a build from elsewhere, file by file. Without headers, only the kernel release can be compared. Returns
/// remarks, or why the kernel would not load it.
pub fn finished(
    layout: &Layout,
    module: &ModuleId,
    kernel: &Kernel,
    recipe: &Recipe,
    symvers: &[PathBuf],
) -> Result<Vec<String>, String> {
    let dir = layout.built_modules(module, &kernel.target);
    let wants_signature = kernel.headers.as_ref().is_some_and(|headers| headers.sig_hash.is_some());
    let mut unsigned = Vec::new();
    for spec in &recipe.modules {
        let kinds = [Compression::None, Compression::Gzip, Compression::Xz, Compression::Zstd];
        let names = kinds.map(|kind| format!("{}.ko{}", spec.dest_name, kind.suffix()));
        let Some(name) = names.into_iter().find(|name| dir.join(name).is_file()) else {
            return Err(format!("{}.ko is missing", spec.dest_name));
        };
        let content = read_module(&dir.join(&name)).map_err(|error| format!("{error:#}"))?;
        let checked = match &kernel.headers {
            Some(headers) => elf::read(&content)
                .and_then(|info| known_symbols(&headers.dir.join("Module.symvers"), symvers, &[info]))
                .map_err(|error| format!("{error:#}"))
                .and_then(|symbols| verify(&content, kernel, headers, &symbols).map(|_| ())),
            None => release(&content, kernel),
        };
        checked.map_err(|why| format!("{name} would not load ({why})"))?;
        if wants_signature && !elf::is_signed(&content) {
            unsigned.push(name);
        }
    }
    let remark = format!(
        "{} unsigned; to rebuild and sign: dkms build {module} -k {} --force",
        unsigned.join(", "),
        kernel.target.kernel
    );
    Ok(if unsigned.is_empty() { Vec::new() } else { vec![remark] })
}

/// The check that is possible without headers.
fn release(content: &[u8], kernel: &Kernel) -> Result<(), String> {
    let info = elf::read(content).map_err(|error| format!("{error:#}"))?;
    let release = kernel.target.kernel.as_str();
    let bare = Vermagic { release: release.to_owned(), flags: Vec::new() };
    bare.refuses(release, &info.vermagic).map_or(Ok(()), Err)
}
