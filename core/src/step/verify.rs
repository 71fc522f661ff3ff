//! Will the kernel take this file? Asked of the file itself, for kernels that are not running.

use std::collections::BTreeMap;

use crate::kernel::elf::{self, ModInfo};
use crate::kernel::{Headers, Kernel};

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
