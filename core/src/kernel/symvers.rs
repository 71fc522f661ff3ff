//! Who exports a symbol: `Module.symvers` of the kernel and of other packages, and module files themselves.

use std::collections::BTreeMap;
use std::io::{self, BufRead};

use super::{Module, elf};

/// Who exports the symbols that modules import. A kernel exports thirty thousand, of which a module uses a hundred: only
/// those are kept, so that parallel builds do not each hold the whole list.
#[derive(Debug, Default)]
pub struct Symbols {
    found: BTreeMap<String, Vec<Exported>>,
    /// The kernel's list names symbols of the kernel and of its modules: what it lacks does not exist.
    complete: bool,
}

/// One export of a symbol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Its CRC; `None` if the list does not have it.
    pub crc: Option<u32>,
    /// Only modules with a compatible license may use it.
    pub gpl_only: bool,
    /// Its namespace; empty if it has none.
    pub namespace: String,
    /// The module that exports it; `None` for the kernel itself.
    pub owner: Option<String>,
    /// The owner has a license that is not compatible.
    pub proprietary: bool,
}

impl Symbols {
    /// The symbols that these modules import or export, and that of the kernel's own structures; not found yet.
    pub fn wanted<'a>(modules: impl IntoIterator<Item = &'a Module>) -> Self {
        let mut found = BTreeMap::from([(LAYOUT.to_owned(), Vec::new())]);
        for module in modules {
            let names = module.imports.keys().chain(module.exports.keys());
            found.extend(names.map(|name| (name.clone(), Vec::new())));
        }
        Self { found, complete: false }
    }

    /// Reads a list. Malformed lines are skipped.
    pub fn read(&mut self, mut list: impl BufRead) -> io::Result<()> {
        let (mut line, mut owners) = (Vec::new(), [false, false]);
        while list.read_until(b'\n', &mut line)? > 0 {
            let text = String::from_utf8_lossy(&line);
            let mut fields = text.trim_end_matches('\n').split('\t');
            let crc = fields.next().map(|crc| u32::from_str_radix(crc.trim_start_matches("0x"), 16));
            if let (Some(Ok(crc)), Some(name)) = (crc, fields.next()) {
                let owner = fields.next().unwrap_or_default();
                owners[usize::from(owner != KERNEL)] = true;
                if self.found.contains_key(name) {
                    let gpl_only = fields.next().is_some_and(|kind| kind.ends_with("_GPL"));
                    let namespace = fields.next().unwrap_or_default().to_owned();
                    let owner = (owner != KERNEL).then(|| elf::module_name(owner));
                    self.add(
                        name,
                        Exported { crc: Some(crc), gpl_only, namespace, owner, proprietary: false },
                    );
                }
            }
            line.clear();
        }
        self.complete |= owners == [true, true];
        Ok(())
    }

    /// Adds what a module file exports. `name`: that of the module.
    pub fn read_module(&mut self, name: &str, module: &Module) {
        for (symbol, export) in &module.exports {
            if self.found.contains_key(symbol) {
                let exported = Exported {
                    crc: export.crc,
                    gpl_only: export.gpl_only,
                    namespace: export.namespace.clone(),
                    owner: Some(elf::canonical_name(name)),
                    proprietary: module.proprietary(),
                };
                self.add(symbol, exported);
            }
        }
    }

    /// Reads depmod's list of what installed modules export, `modules.symbols`, for symbols that no other list named.
    pub fn read_depmod(&mut self, mut list: impl BufRead) -> io::Result<()> {
        let mut line = Vec::new();
        while list.read_until(b'\n', &mut line)? > 0 {
            let text = String::from_utf8_lossy(&line);
            let row = text.trim_end().strip_prefix("alias symbol:").and_then(|rest| rest.split_once(' '));
            if let Some((symbol, owner)) = row {
                if self.found.get(symbol).is_some_and(Vec::is_empty) {
                    let owner = Some(elf::canonical_name(owner));
                    let (crc, namespace) = (None, String::new());
                    self.add(symbol, Exported { crc, gpl_only: false, namespace, owner, proprietary: false });
                }
            }
            line.clear();
        }
        Ok(())
    }

    /// Whether a symbol was not found yet.
    pub fn lacks_any(&self) -> bool {
        self.found.values().any(Vec::is_empty)
    }

    /// Further modules may be installed later.
    pub fn assume_incomplete(&mut self) {
        self.complete = false;
    }

    /// A module replaces the one of the same name that was read before: it will be loaded in its place.
    fn add(&mut self, symbol: &str, exported: Exported) {
        let known = self.found.entry(symbol.to_owned()).or_default();
        known.retain(|other| other.owner != exported.owner);
        known.push(exported);
    }

    /// Who exports a symbol. What the kernel itself exports, no module can.
    pub fn of(&self, symbol: &str) -> &[Exported] {
        let known = self.found.get(symbol).map(Vec::as_slice).unwrap_or_default();
        known.iter().position(|exported| exported.owner.is_none()).map_or(known, |at| &known[at..=at])
    }

    /// Whether a symbol that was not found does not exist.
    pub fn complete(&self) -> bool {
        self.complete
    }
}

/// The kernel's name in `Module.symvers`.
const KERNEL: &str = "vmlinux";
/// The symbol whose CRC is that of `struct module`. Every module imports it, without a relocation.
pub const LAYOUT: &str = "module_layout";

#[cfg(test)]
mod tests {
    use super::*;

    fn importing(names: &[&str]) -> Module {
        Module {
            imports: names.iter().map(|name| ((*name).to_owned(), false)).collect(),
            ..Module::default()
        }
    }

    #[test]
    fn only_what_is_wanted_is_kept() {
        let mut symbols = Symbols::wanted([&importing(&["printk", "own", "missing"])]);
        let list = b"0x12ab34cd\tprintk\tvmlinux\tEXPORT_SYMBOL\t\nbroken\n0x1\tother\n\xff\n\
            0x2\town\tdrivers/a-x\tEXPORT_SYMBOL_GPL\tSPACE\n";
        symbols.read(&list[..]).unwrap();
        assert_eq!(symbols.of("printk")[0].crc, Some(0x12ab_34cd));
        let own = Exported {
            crc: Some(2),
            gpl_only: true,
            namespace: "SPACE".into(),
            owner: Some("a_x".into()),
            proprietary: false,
        };
        assert_eq!(symbols.of("own"), [own]);
        assert!(symbols.of("other").is_empty() && symbols.of("missing").is_empty() && symbols.complete());
    }

    #[test]
    fn the_kernel_comes_first_and_a_module_replaces_its_namesake() {
        let mut symbols = Symbols::wanted([&importing(&["printk", "cfg"])]);
        symbols.read(&b"0x1\tprintk\tvmlinux\n0x2\tcfg\tnet/cfg80211\n"[..]).unwrap();
        symbols.read(&b"0x9\tprintk\t/build/own\n0x3\tcfg\tupdates/cfg80211\n0x4\tcfg\tother\n"[..]).unwrap();
        let crcs =
            |name: &str| symbols.of(name).iter().filter_map(|exported| exported.crc).collect::<Vec<_>>();
        assert_eq!((crcs("printk"), crcs("cfg")), (vec![1], vec![3, 4]));
    }

    #[test]
    fn a_list_of_the_kernel_alone_proves_no_absence() {
        let mut symbols = Symbols::wanted([&importing(&["a"])]);
        symbols.read(&b"0x1\tprintk\tvmlinux\n"[..]).unwrap();
        assert!(!symbols.complete());
    }
}
