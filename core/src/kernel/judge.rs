//! Will a kernel's module loader take this module? A pure function of the module, what the kernel requires, and who
//! exports which symbols. It checks in the kernel's order and gives the kernel's reason. Signatures are judged separately:
//! they depend on the machine, too.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::module::EXTENDED_VERSIONS;
use super::symvers::{Exported, LAYOUT, Symbols};
use super::{Config, Malformed, Module, Vermagic, since};
use crate::distro;

/// What a kernel requires of modules. Each fact is `None` if it is unknown; what depends on it is then not checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requirements {
    /// Its release.
    pub release: String,
    /// `e_machine` of its modules.
    pub machine: Option<u16>,
    /// The vermagic of its own modules.
    pub vermagic: Option<String>,
    /// Words that must be in a vermagic, where that of its own modules is unknown.
    pub flags: Vec<String>,
    /// The size of its `struct module`.
    pub state_size: Option<u64>,
    /// What its configuration says; `None` if that is unknown.
    pub options: Option<Options>,
}

/// Options of the kernel's configuration that its module loader depends on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// It compares CRCs.
    pub modversions: bool,
    /// It takes modules without CRCs or vermagic, and becomes tainted.
    pub force_load: bool,
    /// A namespace that is not imported causes only a warning.
    pub missing_namespaces: bool,
    /// It supports livepatches.
    pub livepatch: bool,
    /// It rejects a module whose BTF it cannot read.
    pub strict_btf: bool,
    /// It rejects a module with CRCs that lacks that of one symbol. Upstream kernels let it go.
    pub every_version: bool,
}

impl Requirements {
    /// Why the kernel rejects a file that cannot be read as a module. It looks at the machine before most of the rest.
    pub fn malformed(&self, why: Malformed, machine: Option<u16>) -> Reason {
        let before = matches!(why, Malformed::Magic | Malformed::Type(_));
        match (machine, self.machine) {
            (Some(machine), Some(wanted)) if !before && machine != wanted => Reason::Machine(machine),
            _ => Reason::Malformed(why),
        }
    }

    /// Of a kernel with this release, as far as its configuration, the name of its package and one of its own modules
    /// tell.
    pub fn new(
        release: &str,
        machine: &str,
        (config, package): (Option<&Config>, Option<&str>),
        own: Option<&Module>,
    ) -> Self {
        let config = config.filter(|config| !config.is_empty());
        // One that was built for another kernel says nothing about this one.
        let own = own.filter(|own| own.vermagic.as_deref().and_then(first_word) == Some(release));
        Self {
            release: release.to_owned(),
            machine: own.map(|own| own.machine).or_else(|| machine_of(machine)),
            vermagic: own.and_then(|own| own.vermagic.clone()),
            flags: config.map(Vermagic::flags).unwrap_or_default(),
            state_size: own.and_then(|own| own.state_size),
            options: config.map(|config| Options {
                modversions: config.on("CONFIG_MODVERSIONS"),
                force_load: config.on("CONFIG_MODULE_FORCE_LOAD"),
                missing_namespaces: config.on("CONFIG_MODULE_ALLOW_MISSING_NAMESPACE_IMPORTS"),
                livepatch: config.on("CONFIG_LIVEPATCH"),
                strict_btf: config.on("CONFIG_DEBUG_INFO_BTF_MODULES")
                    && !config.on("CONFIG_MODULE_ALLOW_BTF_MISMATCH"),
                every_version: package.is_some_and(distro::needs_every_version),
            }),
        }
    }

    fn since(&self, version: (u32, u32)) -> bool {
        since(&self.release, version)
    }
}

fn first_word(text: &str) -> Option<&str> {
    text.split_whitespace().next()
}

/// `e_machine` of modules for an architecture, as `uname -m` prints it; `None` if there are several, or it is unknown.
fn machine_of(arch: &str) -> Option<u16> {
    use object::elf;
    let machine = match arch {
        "x86_64" => elf::EM_X86_64,
        "i386" | "i486" | "i586" | "i686" => elf::EM_386,
        "aarch64" => elf::EM_AARCH64,
        "ppc64" | "ppc64le" => elf::EM_PPC64,
        "s390x" => elf::EM_S390,
        "riscv64" => elf::EM_RISCV,
        "loongarch64" => elf::EM_LOONGARCH,
        _ if arch.starts_with("armv") => elf::EM_ARM,
        _ => return None,
    };
    Some(machine.0)
}

/// Why a kernel rejects a module.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // the messages say it
pub enum Reason {
    Malformed(Malformed),
    /// Built for another machine.
    Machine(u16),
    StateSize {
        module: u64,
        kernel: u64,
    },
    NoVermagic,
    Release {
        module: String,
        kernel: String,
    },
    Vermagic {
        module: String,
        kernel: String,
    },
    MissingFlag {
        vermagic: String,
        flag: String,
    },
    Livepatch,
    NoVersions(String),
    Version {
        symbol: String,
        module: u64,
        kernel: u32,
    },
    Unexported(String),
    GplOnly(String),
    Namespace {
        symbol: String,
        namespace: String,
    },
    ModuleNamespace(String),
    Duplicate {
        symbol: String,
        owner: String,
    },
    Common(String),
    Relocation(String),
    Btf,
}

/// The class of a reason, as JSON output names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // dkms(8) describes them
pub enum Cause {
    Format,
    Machine,
    Vermagic,
    Livepatch,
    SymbolVersion,
    UnknownSymbol,
    Namespace,
    DuplicateSymbol,
    Relocation,
    Btf,
    Blacklist,
    Compression,
    Signature,
    File,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Format,
        Self::Machine,
        Self::Vermagic,
        Self::Livepatch,
        Self::SymbolVersion,
        Self::UnknownSymbol,
        Self::Namespace,
        Self::DuplicateSymbol,
        Self::Relocation,
        Self::Btf,
        Self::Blacklist,
        Self::Compression,
        Self::Signature,
        Self::File,
    ];
}

impl Reason {
    /// Its class.
    pub fn cause(&self) -> Cause {
        match self {
            Self::Malformed(_) | Self::StateSize { .. } | Self::Common(_) => Cause::Format,
            Self::Machine(_) => Cause::Machine,
            Self::NoVermagic | Self::Release { .. } | Self::Vermagic { .. } | Self::MissingFlag { .. } => {
                Cause::Vermagic
            }
            Self::Livepatch => Cause::Livepatch,
            Self::NoVersions(_) | Self::Version { .. } => Cause::SymbolVersion,
            // A kernel does not find what a module may not use.
            Self::Unexported(_) | Self::GplOnly(_) => Cause::UnknownSymbol,
            Self::Namespace { .. } | Self::ModuleNamespace(_) => Cause::Namespace,
            Self::Duplicate { .. } => Cause::DuplicateSymbol,
            Self::Relocation(_) => Cause::Relocation,
            Self::Btf => Cause::Btf,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) => write!(f, "{why}"),
            Self::Machine(machine) => {
                write!(f, "built for another architecture (ELF machine {machine})")
            }
            Self::StateSize { module, kernel } => write!(
                f,
                "its struct module has {module} bytes, that of the kernel {kernel}: built with another configuration"
            ),
            Self::NoVermagic => write!(f, "no vermagic"),
            Self::Release { module, kernel } => write!(f, "built for kernel {module:?}, not {kernel}"),
            Self::Vermagic { module, kernel } => {
                write!(f, "version magic {module:?} should be {kernel:?}")
            }
            Self::MissingFlag { vermagic, flag } => {
                write!(f, "vermagic {vermagic:?} lacks {flag}, which this kernel requires")
            }
            Self::Livepatch => write!(f, "it is a livepatch, and this kernel does not support livepatches"),
            Self::NoVersions(symbol) => write!(f, "no version of symbol {symbol}"),
            Self::Version { symbol, module, kernel } => write!(
                f,
                "disagrees about the version of symbol {symbol} (module CRC {module:#010x}, kernel CRC {kernel:#010x})"
            ),
            Self::Unexported(symbol) => {
                write!(f, "unknown symbol {symbol}: neither the kernel nor an installed module exports it")
            }
            Self::GplOnly(symbol) => {
                write!(f, "unknown symbol {symbol}: exported only for modules with a GPL-compatible license")
            }
            Self::Namespace { symbol, namespace } => {
                write!(f, "uses symbol {symbol} from namespace {namespace} without importing that")
            }
            Self::ModuleNamespace(namespace) => write!(f, "imports the namespace {namespace} of a module"),
            Self::Duplicate { symbol, owner } => write!(f, "exports symbol {symbol}, which {owner} exports"),
            Self::Common(symbol) => {
                write!(f, "symbol {symbol} is not allocated (compiled without -fno-common)")
            }
            Self::Btf => write!(f, "its BTF cannot be read"),
            Self::Relocation(why) => write!(f, "cannot be relocated: {why}"),
        }
    }
}

/// The verdict on one module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Why the kernel rejects it.
    pub refused: Option<Reason>,
    /// What could not be checked, and would decide.
    pub unknown: Vec<String>,
    /// What could not be checked, but is not in doubt, and what the kernel will warn about.
    pub remarks: Vec<String>,
}

/// Judges a module.
pub fn judge(module: &Module, kernel: &Requirements, symbols: &Symbols) -> Judgement {
    let mut judge = Judge { module, kernel, symbols, judgement: Judgement::default() };
    let refused = judge.all();
    Judgement { refused: refused.err(), ..judge.judgement }
}

struct Judge<'a> {
    module: &'a Module,
    kernel: &'a Requirements,
    symbols: &'a Symbols,
    judgement: Judgement,
}

impl Judge<'_> {
    fn all(&mut self) -> Result<(), Reason> {
        self.format()?;
        self.layout()?;
        self.vermagic()?;
        let options = self.kernel.options;
        if self.module.livepatch && options.is_some_and(|options| !options.livepatch) {
            return Err(Reason::Livepatch);
        }
        if let Some(namespace) = self.module.namespaces.iter().find(|name| name.starts_with(MODULE_PREFIX)) {
            if self.kernel.since(MODULE_NAMESPACES) {
                return Err(Reason::ModuleNamespace(namespace.clone()));
            }
        }
        self.exports_have_versions()?;
        self.imports()?;
        if let Some(symbol) = &self.module.common {
            return Err(Reason::Common(symbol.clone()));
        }
        if let Some(problem) = &self.module.relocation {
            return Err(Reason::Relocation(problem.clone()));
        }
        self.exports_are_new()?;
        let strict = options.is_some_and(|options| options.strict_btf);
        if strict && self.module.broken_btf { Err(Reason::Btf) } else { Ok(()) }
    }

    fn format(&self) -> Result<(), Reason> {
        let module = self.module;
        if let Some(machine) = self.kernel.machine.filter(|machine| *machine != module.machine) {
            // A 32-bit x86 kernel also takes modules for the 486.
            const EM_486: u16 = 6;
            if (machine, module.machine) != (object::elf::EM_386.0, EM_486) {
                return Err(Reason::Machine(module.machine));
            }
        }
        if let Some((flaw, _)) = module.flaws.iter().find(|(_, since)| self.kernel.since(*since)) {
            return Err(Reason::Malformed(flaw.clone()));
        }
        match (module.state_size, self.kernel.state_size) {
            (Some(module), Some(kernel)) if module != kernel && self.kernel.since(STATE_SIZE) => {
                Err(Reason::StateSize { module, kernel })
            }
            _ => Ok(()),
        }
    }

    /// The CRC of `struct module`.
    fn layout(&self) -> Result<(), Reason> {
        match self.symbols.of(LAYOUT).first() {
            Some(exported) => self.version(LAYOUT, std::slice::from_ref(exported)),
            None => Ok(()),
        }
    }

    fn vermagic(&mut self) -> Result<(), Reason> {
        let (kernel, options) = (self.kernel, self.kernel.options);
        let Some(vermagic) = &self.module.vermagic else {
            match options {
                Some(options) if !options.force_load => return Err(Reason::NoVermagic),
                Some(_) => self.judgement.remarks.push("no vermagic; the kernel becomes tainted".into()),
                None => {
                    let kernel = &kernel.release;
                    self.judgement
                        .unknown
                        .push(format!("no vermagic, and the configuration of {kernel} is unknown"));
                }
            }
            return Ok(());
        };
        let (release, rest) = vermagic.split_once(' ').unwrap_or((vermagic, ""));
        let same_release = release == kernel.release;
        // With CRCs, a kernel compares only what follows the release.
        let by_crc = self.module.versions.is_some() && options.is_none_or(|options| options.modversions);
        if !same_release && !by_crc {
            return Err(Reason::Release { module: release.to_owned(), kernel: kernel.release.clone() });
        }
        if !same_release && self.symbols.of(LAYOUT).is_empty() {
            self.judgement.unknown.push(format!(
                "built for kernel {release:?}, not {}; whether its symbols fit is unknown",
                kernel.release
            ));
        }
        if let Some(own) = &kernel.vermagic {
            let wanted = own.split_once(' ').map_or("", |(_, wanted)| wanted);
            return if wanted == rest {
                Ok(())
            } else {
                Err(Reason::Vermagic { module: vermagic.clone(), kernel: own.clone() })
            };
        }
        let words: Vec<_> = rest.split_whitespace().collect();
        match kernel.flags.iter().find(|flag| !words.contains(&flag.as_str())) {
            Some(flag) => Err(Reason::MissingFlag { vermagic: vermagic.clone(), flag: flag.clone() }),
            None => Ok(()),
        }
    }

    fn exports_have_versions(&self) -> Result<(), Reason> {
        let strict = self.kernel.options.is_some_and(|options| options.modversions && !options.force_load);
        let bare = |(name, export): (&String, &super::Export)| export.crc.is_none().then(|| name.clone());
        // One table holds the CRCs of all exports: it exists or not.
        let all =
            !self.module.exports.is_empty() && self.module.exports.iter().all(|row| bare(row).is_some());
        match self.module.exports.iter().find_map(bare).filter(|_| strict && all) {
            Some(symbol) => Err(Reason::NoVersions(symbol)),
            None => Ok(()),
        }
    }

    fn imports(&mut self) -> Result<(), Reason> {
        let proprietary = self.module.proprietary() || self.inherits();
        for (symbol, weak) in &self.module.imports {
            if ignored(symbol) {
                continue;
            }
            let known = self.symbols.of(symbol);
            let usable: Vec<_> =
                known.iter().filter(|exported| !(proprietary && exported.gpl_only)).cloned().collect();
            if usable.is_empty() {
                match (weak, known.is_empty()) {
                    (true, _) => {}
                    (false, false) => return Err(Reason::GplOnly(symbol.clone())),
                    (false, true) if self.symbols.complete() => {
                        return Err(Reason::Unexported(symbol.clone()));
                    }
                    (false, true) => self.unlisted(symbol),
                }
                continue;
            }
            self.version(symbol, &usable)?;
            self.namespace(symbol, &usable)?;
        }
        Ok(())
    }

    /// A module that uses a symbol of a proprietary one becomes proprietary.
    fn inherits(&self) -> bool {
        let only_proprietary =
            |known: &[Exported]| !known.is_empty() && known.iter().all(|exported| exported.proprietary);
        self.module.imports.keys().any(|symbol| only_proprietary(self.symbols.of(symbol)))
    }

    /// A symbol that no list names, where the lists are incomplete.
    fn unlisted(&mut self, symbol: &str) {
        let remarks = &mut self.judgement.remarks;
        if !remarks.iter().any(|remark| remark.starts_with(UNLISTED)) {
            remarks
                .push(format!("{UNLISTED}: no list of the kernel's symbols is installed (first: {symbol})"));
        }
    }

    /// Compares the CRC of a symbol with those of the modules that may provide it.
    fn version(&self, symbol: &str, exported: &[Exported]) -> Result<(), Reason> {
        let Some(options) = self.kernel.options.filter(|options| options.modversions) else { return Ok(()) };
        let extended = self.module.extended.as_ref().filter(|_| self.kernel.since(EXTENDED_VERSIONS));
        let Some(table) = extended.or(self.module.versions.as_ref()) else {
            return if options.force_load { Ok(()) } else { Err(Reason::NoVersions(symbol.to_owned())) };
        };
        let Some(crc) = table.get(symbol).copied() else {
            return if options.every_version { Err(Reason::NoVersions(symbol.to_owned())) } else { Ok(()) };
        };
        if exported.iter().any(|exported| exported.crc.is_none_or(|known| u64::from(known) == crc)) {
            return Ok(());
        }
        let kernel = exported.first().and_then(|exported| exported.crc).unwrap_or_default();
        Err(Reason::Version { symbol: symbol.to_owned(), module: crc, kernel })
    }

    fn namespace(&mut self, symbol: &str, exported: &[Exported]) -> Result<(), Reason> {
        let imported = |namespace: &str| {
            let for_modules =
                namespace.strip_prefix(MODULE_PREFIX).filter(|_| self.kernel.since(MODULE_NAMESPACES));
            match for_modules {
                Some(names) => names.split(',').any(|name| matches(name, &self.module.name)),
                None => self.module.namespaces.iter().any(|name| name == namespace),
            }
        };
        let free = exported.iter().any(|one| one.namespace.is_empty() || imported(&one.namespace));
        let Some(namespace) = exported.first().map(|one| &one.namespace).filter(|_| !free) else {
            return Ok(());
        };
        let reason = Reason::Namespace { symbol: symbol.to_owned(), namespace: namespace.clone() };
        match self.kernel.options {
            Some(options) if !options.missing_namespaces => return Err(reason),
            Some(_) => self.judgement.remarks.push(reason.to_string()),
            None => self.judgement.unknown.push(reason.to_string()),
        }
        Ok(())
    }

    /// The kernel itself must not export the same. Of two modules, one may replace the other.
    fn exports_are_new(&self) -> Result<(), Reason> {
        let taken = |symbol: &&String| self.symbols.of(symbol).iter().any(|known| known.owner.is_none());
        match self.module.exports.keys().find(taken) {
            Some(symbol) => Err(Reason::Duplicate { symbol: symbol.clone(), owner: "the kernel".into() }),
            None => Ok(()),
        }
    }
}

const UNLISTED: &str = "imported symbols were not checked";
/// Since this version, the size of `struct module` must be exactly the kernel's.
const STATE_SIZE: (u32, u32) = (6, 4);
/// Since this version, a symbol can be exported to named modules.
const MODULE_NAMESPACES: (u32, u32) = (6, 16);
const MODULE_PREFIX: &str = "module:";

/// A name or a pattern with an asterisk at its end.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => pattern == name,
    }
}

/// Symbols that assemblers and linkers leave undefined, and that the loader or its architecture provides.
fn ignored(symbol: &str) -> bool {
    const NAMES: [&str; 4] = ["_GLOBAL_OFFSET_TABLE_", "__this_module", ".TOC.", "_TOC_"];
    const BEGINNINGS: [&str; 7] =
        [".", "_restgpr", "_savegpr", "_rest32gpr_", "_save32gpr_", "_restvr_", "_savevr_"];
    symbol.is_empty()
        || NAMES.contains(&symbol)
        || BEGINNINGS.iter().any(|beginning| symbol.starts_with(beginning))
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
