//! Will the kernel take this file? Asked of the file itself, for kernels that are not running.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::conf::Recipe;
use crate::kernel::elf::{self, ModInfo};
use crate::kernel::{Compression, Headers, Kernel, Vermagic, read_module};
use crate::layout::Layout;
use crate::sys::file;
use crate::types::ModuleId;

/// Checks one uncompressed module. `symbols` are the CRCs of all symbols that it may import.
pub fn verify(
    content: &[u8],
    kernel: &Kernel,
    headers: &Headers,
    symbols: &BTreeMap<&str, u32>,
) -> Result<ModInfo, String> {
    let info = elf::read(content).map_err(|error| format!("{error:#}"))?;
    if let Some(why) = headers.vermagic.refuses(kernel.target.kernel.as_str(), &info.vermagic) {
        return Err(why);
    }
    for (name, crc) in &info.imports {
        if let Some(exported) = symbols.get(name.as_str())
            && exported != crc
        {
            return Err(format!(
                "it disagrees with the kernel about symbol {name} (CRC {crc:#010x}, the kernel has {exported:#010x})"
            ));
        }
    }
    Ok(info)
}

/// The texts of `Module.symvers` of the kernel and of the packages that a module depends on.
pub fn known_symbols(headers: &Path, others: &[PathBuf]) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    for path in [headers.join("Module.symvers")].iter().chain(others) {
        texts.extend(file::read_optional(path)?.map(|text| String::from_utf8_lossy(&text).into_owned()));
    }
    Ok(texts)
}

/// Checks a finished build that was not made here, file by file. Without headers only the kernel release can be
/// compared. Remarks, or why the kernel would not take it.
pub fn finished(
    layout: &Layout,
    module: &ModuleId,
    kernel: &Kernel,
    recipe: &Recipe,
    symvers: &[PathBuf],
) -> Result<Vec<String>, String> {
    let dir = layout.built_modules(module, &kernel.target);
    let texts = match &kernel.headers {
        Some(headers) => known_symbols(&headers.dir, symvers).map_err(|error| format!("{error:#}"))?,
        None => Vec::new(),
    };
    let symbols: BTreeMap<&str, u32> = texts.iter().flat_map(|text| elf::parse_symvers(text)).collect();
    let wants_signature = kernel.headers.as_ref().is_some_and(|headers| headers.sig_hash.is_some());
    let mut unsigned = Vec::new();
    for spec in &recipe.modules {
        let kinds = [Compression::None, Compression::Gzip, Compression::Xz, Compression::Zstd];
        let names = kinds.map(|kind| format!("{}.ko{}", spec.dest_name, kind.suffix()));
        let Some(name) = names.into_iter().find(|name| dir.join(name).is_file()) else {
            return Err(format!("it lacks {}.ko", spec.dest_name));
        };
        let content = read_module(&dir.join(&name)).map_err(|error| format!("{error:#}"))?;
        let checked = match &kernel.headers {
            Some(headers) => verify(&content, kernel, headers, &symbols).map(|_| ()),
            None => release(&content, kernel),
        };
        checked.map_err(|why| format!("{name} would not load ({why})"))?;
        if wants_signature && !elf::is_signed(&content) {
            unsigned.push(name);
        }
    }
    let remark =
        format!("{} not signed, and was not made here: dkms build --force signs", unsigned.join(", "));
    Ok(if unsigned.is_empty() { Vec::new() } else { vec![remark] })
}

/// All that can be said without headers.
fn release(content: &[u8], kernel: &Kernel) -> Result<(), String> {
    let info = elf::read(content).map_err(|error| format!("{error:#}"))?;
    let release = kernel.target.kernel.as_str();
    let bare = Vermagic { release: release.to_owned(), flags: Vec::new() };
    bare.refuses(release, &info.vermagic).map_or(Ok(()), Err)
}
