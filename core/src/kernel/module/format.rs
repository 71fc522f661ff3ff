//! Why the kernel cannot use a file as a module.

use thiserror::Error;

/// A file that is not a module, in the order in which the kernel finds it out.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[allow(missing_docs)] // the messages say it
pub enum Malformed {
    #[error("not an ELF file")]
    Magic,
    #[error("not a kernel module: invalid ELF type {0}, not a relocatable object")]
    Type(u16),
    #[error("the ELF section headers have the wrong size")]
    HeaderSize,
    #[error("the file is truncated: the ELF section headers are beyond its end")]
    Headers,
    #[error("the ELF section names cannot be read")]
    Names,
    #[error("the first ELF section is not empty")]
    First,
    #[error("the file is truncated: ELF section {0} is beyond its end")]
    Section(usize),
    #[error("ELF section {0} has no valid name")]
    SectionName(usize),
    #[error("the symbol table refers to no string table")]
    Strings,
    #[error("no symbol table (stripped?)")]
    NoSymbols,
    #[error("more than one symbol table")]
    SymbolTables,
    #[error("not a kernel module: no .gnu.linkonce.this_module section")]
    NoModule,
    #[error("more than one .gnu.linkonce.this_module section")]
    Modules,
    #[error("more than one .modinfo section")]
    Modinfos,
    #[error("the names and CRCs of __version_ext_names and __version_ext_crcs do not match")]
    Extended,
}
