//! A module file as the kernel's module loader sees it: the one reader of modules. It reads what `load_module` reads, and
//! stops where `load_module` stops.

mod btf;
mod format;
mod read;
mod relocations;

use std::collections::BTreeMap;

pub use format::Malformed;
pub(in crate::kernel) use read::EXTENDED as EXTENDED_VERSIONS;

/// What a module says about itself, what it needs and what it provides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Module {
    /// `e_machine` of the ELF header.
    pub machine: u16,
    /// `name`, as the kernel lists it.
    pub name: String,
    /// `vermagic`
    pub vermagic: Option<String>,
    /// `version`; empty if it is not set.
    pub version: String,
    /// `srcversion`; empty if it is not set.
    pub srcversion: String,
    /// `license`
    pub license: Option<String>,
    /// `alias`: the devices and names that it is loaded for.
    pub aliases: Vec<String>,
    /// The namespaces that it imports.
    pub namespaces: Vec<String>,
    /// It is a livepatch.
    pub livepatch: bool,
    /// `__versions`: CRCs of imported symbols.
    pub versions: Option<Versions>,
    /// `__version_ext_names` and `__version_ext_crcs`, which kernels since 6.14 read instead.
    pub extended: Option<Versions>,
    /// Symbols that it imports; `true` if it also works without.
    pub imports: BTreeMap<String, bool>,
    /// Symbols that it exports.
    pub exports: BTreeMap<String, Export>,
    /// The size of its `struct module`, which must be that of the kernel.
    pub state_size: Option<u64>,
    /// A flaw for which only some kernels reject it, and the first of these.
    pub flaws: Vec<(Malformed, (u32, u32))>,
    /// A symbol that the linker should have allocated.
    pub common: Option<String>,
    /// Its BTF is no BTF.
    pub broken_btf: bool,
    /// Why its relocations cannot be applied.
    pub relocation: Option<String>,
}

/// CRCs by symbol. A kernel compares an unsigned long, of which a CRC is a part.
pub type Versions = BTreeMap<String, u64>;

/// An exported symbol.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Export {
    /// Its CRC.
    pub crc: Option<u32>,
    /// Only modules with a compatible license may use it.
    pub gpl_only: bool,
    /// Its namespace; empty if it has none.
    pub namespace: String,
}

impl Module {
    /// Reads an uncompressed module file.
    pub fn read(content: &[u8]) -> Result<Self, Malformed> {
        read::read(content)
    }

    /// `e_machine` of an ELF file that is not a module otherwise.
    pub fn machine(content: &[u8]) -> Option<u16> {
        read::machine(content).map(|(machine, _)| machine.0)
    }

    /// Whether the kernel treats it as proprietary.
    pub fn proprietary(&self) -> bool {
        // License::is_gpl_compatible in include/linux/license.h, and the names that module_augment_kernel_taints knows.
        const COMPATIBLE: [&str; 6] =
            ["GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL"];
        let compatible = self.license.as_deref().is_some_and(|license| COMPATIBLE.contains(&license));
        !compatible || ["driverloader", "ndiswrapper"].contains(&self.name.as_str())
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
