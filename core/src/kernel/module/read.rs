//! The checks of `elf_validity_check` and the lookups of `setup_load_info`, `check_modinfo` and `simplify_symbols`.

use std::collections::BTreeSet;

use object::Endianness;
use object::elf::{self, FileHeader32, FileHeader64};
use object::pod::{Pod, from_bytes, slice_from_bytes};
use object::read::elf::{FileHeader, SectionHeader, Sym};

use super::{Export, Malformed, Module, Versions};
use super::{btf, relocations};
use crate::kernel::signature;

/// The first kernel that requires exactly one of each of the sections that it uses.
const COUNTS: (u32, u32) = (6, 4);
/// The first kernel that reads extended version tables.
pub(in crate::kernel) const EXTENDED: (u32, u32) = (6, 14);

/// A module's bytes, with the sections that lie within them.
pub(super) struct Raw<'a, Elf: FileHeader<Endian = Endianness>> {
    pub(super) content: &'a [u8],
    pub(super) endian: Endianness,
    pub(super) machine: elf::Machine,
    pub(super) sections: &'a [Elf::SectionHeader],
    names: &'a [u8],
}

pub(super) fn read(content: &[u8]) -> Result<Module, Malformed> {
    let content = signature::without(content);
    let ident = content.first_chunk::<16>().filter(|ident| ident.starts_with(&elf::ELFMAG));
    let ident = ident.ok_or(Malformed::Magic)?;
    let (machine, big) = machine(content).ok_or(Malformed::Magic)?;
    // A kernel does not look at the class and byte order in the header: it has those of its machine.
    let (wide, endian) = match machine {
        elf::EM_X86_64 => (true, Endianness::Little),
        elf::EM_386 => (false, Endianness::Little),
        _ => (ident[4] != elf::ELFCLASS32.0, if big { Endianness::Big } else { Endianness::Little }),
    };
    if wide { module::<FileHeader64<_>>(content, endian) } else { module::<FileHeader32<_>>(content, endian) }
}

/// The machine, and whether the file is big-endian. A kernel for x86 reads it as little-endian, whatever the header says.
pub(super) fn machine(content: &[u8]) -> Option<(elf::Machine, bool)> {
    let bytes: [u8; 2] = *content.get(18..)?.first_chunk()?;
    let little = elf::Machine(u16::from_le_bytes(bytes));
    let big = content.get(5) == Some(&elf::ELFDATA2MSB.0);
    let x86 = [elf::EM_X86_64, elf::EM_386].contains(&little);
    Some(if big && !x86 { (elf::Machine(u16::from_be_bytes(bytes)), true) } else { (little, false) })
}

fn number(value: impl Into<u64>) -> usize {
    usize::try_from(value.into()).unwrap_or(usize::MAX)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

impl<'a, Elf: FileHeader<Endian = Endianness>> Raw<'a, Elf> {
    fn new(content: &'a [u8], endian: Endianness) -> Result<Self, Malformed> {
        let (header, _) = from_bytes::<Elf>(content).map_err(|()| Malformed::Magic)?;
        let kind = header.e_type(endian);
        if kind != elf::ET_REL {
            return Err(Malformed::Type(kind.0));
        }
        if usize::from(header.e_shentsize(endian)) != size_of::<Elf::SectionHeader>() {
            return Err(Malformed::HeaderSize);
        }
        let table = content.get(number(header.e_shoff(endian))..).filter(|table| !table.is_empty());
        let count = usize::from(header.e_shnum(endian));
        let sections = table.and_then(|table| slice_from_bytes::<Elf::SectionHeader>(table, count).ok());
        let (sections, _) = sections.ok_or(Malformed::Headers)?;
        let index = usize::from(header.e_shstrndx(endian).0);
        let machine = header.e_machine(endian);
        let mut raw = Self { content, endian, machine, sections, names: &[] };
        let names = sections.get(index).filter(|_| index != 0).ok_or(Malformed::Names)?;
        raw.names = raw.data(names).ok_or(Malformed::Names)?;
        if raw.names.last() != Some(&0) {
            return Err(Malformed::Names);
        }
        raw.validate()?;
        Ok(raw)
    }

    fn validate(&self) -> Result<(), Malformed> {
        let endian = self.endian;
        let first = self.sections.first().ok_or(Malformed::First)?;
        let empty: [u64; 2] = [first.sh_size(endian).into(), first.sh_addr(endian).into()];
        if first.sh_type(endian) != elf::SHT_NULL || empty != [0, 0] {
            return Err(Malformed::First);
        }
        for (index, section) in self.sections.iter().enumerate().skip(1) {
            let kind = section.sh_type(endian);
            if [elf::SHT_NULL, elf::SHT_NOBITS].contains(&kind) {
                continue;
            }
            let link = number(section.sh_link(endian));
            if kind == elf::SHT_SYMTAB && (link == 0 || link >= self.sections.len()) {
                return Err(Malformed::Strings);
            }
            self.data(section).ok_or(Malformed::Section(index))?;
            if self.allocated(section) && number(section.sh_name(endian)) >= self.names.len() {
                return Err(Malformed::SectionName(index));
            }
        }
        Ok(())
    }

    /// A section's content, if it lies within the file.
    pub(super) fn data(&self, section: &Elf::SectionHeader) -> Option<&'a [u8]> {
        let from = number(section.sh_offset(self.endian));
        self.content.get(from..from.checked_add(number(section.sh_size(self.endian)))?)
    }

    pub(super) fn allocated(&self, section: &Elf::SectionHeader) -> bool {
        section.sh_flags(self.endian).contains(elf::SHF_ALLOC)
    }

    fn name(&self, section: &Elf::SectionHeader) -> &'a [u8] {
        let name = self.names.get(number(section.sh_name(self.endian))..).unwrap_or_default();
        name.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    /// The sections with this name. Like the kernel, ignores those that are not loaded.
    fn named<'n>(&'n self, name: &'n str) -> impl Iterator<Item = &'a Elf::SectionHeader> + 'n {
        let loaded = self.sections.iter().skip(1).filter(|section| self.allocated(section));
        loaded.filter(move |section| self.name(section) == name.as_bytes())
    }

    fn found(&self, name: &str) -> Option<&'a [u8]> {
        let section = self.named(name).next()?;
        if section.sh_type(self.endian) == elf::SHT_NOBITS { Some(&[]) } else { self.data(section) }
    }

    /// A section's content as rows of a table; an incomplete one at its end is left out.
    pub(super) fn rows<T: Pod>(&self, section: &Elf::SectionHeader) -> &'a [T] {
        let data = self.data(section).unwrap_or_default();
        slice_from_bytes(data, data.len() / size_of::<T>()).map_or(&[], |(table, _)| table)
    }

    fn u32(&self, bytes: [u8; 4]) -> u32 {
        if self.endian == Endianness::Big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }
}

fn module<Elf: FileHeader<Endian = Endianness>>(
    content: &[u8],
    endian: Endianness,
) -> Result<Module, Malformed> {
    let raw = Raw::<Elf>::new(content, endian)?;
    let mut module = Module { machine: raw.machine.0, ..Module::default() };
    let mut flaw = |flaw, since| module.flaws.push((flaw, since));
    if raw.named(".modinfo").count() > 1 {
        flaw(Malformed::Modinfos, COUNTS);
    }
    let is_symbols = |section: &&Elf::SectionHeader| section.sh_type(endian) == elf::SHT_SYMTAB;
    let symbols = raw.sections.iter().find(is_symbols).ok_or(Malformed::NoSymbols)?;
    if raw.sections.iter().filter(is_symbols).count() > 1 {
        flaw(Malformed::SymbolTables, COUNTS);
    }
    let state = raw.named(".gnu.linkonce.this_module").next().ok_or(Malformed::NoModule)?;
    if raw.named(".gnu.linkonce.this_module").count() > 1 {
        flaw(Malformed::Modules, COUNTS);
    }
    module.state_size = Some(state.sh_size(endian).into());
    modinfo(raw.found(".modinfo").unwrap_or_default(), &mut module);
    module.versions = raw.found("__versions").map(|table| basic(&raw, table, Elf::is_type_64_sized()));
    match extended(&raw) {
        Ok(table) => module.extended = table,
        Err(broken) => module.flaws.push((broken, EXTENDED)),
    }
    // The kernel finds BTF even if the section is not loaded. Written by pahole in the byte order of the machine.
    let btf = raw.sections.iter().find(|section| raw.name(section) == b".BTF");
    let btf = btf.and_then(|section| raw.data(section)).filter(|data| !data.is_empty());
    module.broken_btf = endian == Endianness::Little && btf.is_some_and(btf::is_broken);
    read_symbols(&raw, symbols, &mut module);
    module.relocation = relocations::problem(&raw);
    Ok(module)
}

fn modinfo(entries: &[u8], module: &mut Module) {
    for entry in entries.split(|byte| *byte == 0) {
        let entry = String::from_utf8_lossy(entry);
        let Some((tag, value)) = entry.split_once('=') else { continue };
        // Of several, the kernel uses the first.
        let first = |known: &mut Option<String>| {
            known.get_or_insert_with(|| value.to_owned());
        };
        let text = |known: &mut String| {
            if known.is_empty() {
                value.clone_into(known);
            }
        };
        match tag {
            "vermagic" => first(&mut module.vermagic),
            "license" => first(&mut module.license),
            "name" => text(&mut module.name),
            "version" => text(&mut module.version),
            "srcversion" => text(&mut module.srcversion),
            "alias" => module.aliases.push(value.to_owned()),
            "import_ns" => module.namespaces.push(value.to_owned()),
            "livepatch" => module.livepatch = true,
            _ => {}
        }
    }
}

/// `struct modversion_info`: an unsigned long, then the name, 64 bytes together on every architecture.
fn basic<Elf: FileHeader<Endian = Endianness>>(raw: &Raw<'_, Elf>, table: &[u8], wide: bool) -> Versions {
    let long = if wide { 8 } else { 4 };
    let mut versions = Versions::new();
    for entry in table.chunks_exact(64) {
        let mut bytes = entry[..long].to_vec();
        if raw.endian == Endianness::Big {
            bytes.reverse();
        }
        let crc = bytes.iter().rev().fold(0, |crc, byte| crc << 8 | u64::from(*byte));
        versions.entry(text(&entry[long..])).or_insert(crc);
    }
    versions
}

/// One CRC for each of the names, which end with a zero.
fn extended<Elf: FileHeader<Endian = Endianness>>(raw: &Raw<'_, Elf>) -> Result<Option<Versions>, Malformed> {
    let (crcs, mut names) = match (raw.found("__version_ext_crcs"), raw.found("__version_ext_names")) {
        (None, None) => return Ok(None),
        (Some(crcs), Some(names)) => (crcs, names),
        _ => return Err(Malformed::Extended),
    };
    let mut versions = Versions::new();
    for crc in crcs.chunks_exact(4) {
        let end = names.iter().position(|byte| *byte == 0).ok_or(Malformed::Extended)?;
        let crc = crc.first_chunk().copied().unwrap_or_default();
        versions.entry(text(&names[..end])).or_insert_with(|| raw.u32(crc).into());
        names = &names[end + 1..];
    }
    Ok(Some(versions))
}

fn read_symbols<Elf: FileHeader<Endian = Endianness>>(
    raw: &Raw<'_, Elf>,
    table: &Elf::SectionHeader,
    module: &mut Module,
) {
    let endian = raw.endian;
    let strings = raw.sections.get(number(table.sh_link(endian))).and_then(|strings| raw.data(strings));
    let strings = strings.unwrap_or_default();
    let symbols: &[Elf::Sym] = raw.rows(table);
    let name = |symbol: &Elf::Sym| {
        let name = strings.get(number(symbol.st_name(endian))..).unwrap_or_default();
        let end = memchr::memchr(0, name).unwrap_or(name.len());
        &name[..end]
    };
    let home = |symbol: &Elf::Sym| {
        let section = raw.sections.get(usize::from(symbol.st_shndx(endian).0))?;
        let from = number(symbol.st_value(endian));
        Some((raw.name(section), raw.data(section)?.get(from..)?))
    };
    let mut listed = BTreeSet::new();
    for symbol in symbols.iter().skip(1) {
        let name = name(symbol);
        match symbol.st_shndx(endian) {
            elf::SHN_UNDEF => {
                let weak = symbol.st_bind() == elf::STB_WEAK;
                module.imports.insert(String::from_utf8_lossy(name).into_owned(), weak);
            }
            elf::SHN_COMMON if !name.starts_with(b"__gnu_lto") => {
                module.common.get_or_insert_with(|| text(name));
            }
            _ => {}
        }
        let Some(rest) = name.strip_prefix(b"__") else { continue };
        let export = |module: &mut Module, name: &[u8], change: &dyn Fn(&mut Export)| {
            change(module.exports.entry(String::from_utf8_lossy(name).into_owned()).or_default());
        };
        if let Some(name) = rest.strip_prefix(b"ksymtab_") {
            let gpl_only = home(symbol).is_some_and(|(section, _)| section == b"__ksymtab_gpl");
            export(module, name, &|export| export.gpl_only = gpl_only);
            listed.insert(String::from_utf8_lossy(name).into_owned());
        } else if let Some(name) = rest.strip_prefix(b"kstrtabns_") {
            let namespace = home(symbol).map(|(_, data)| text(data)).unwrap_or_default();
            export(module, name, &|export| export.namespace.clone_from(&namespace));
        } else if let Some(name) = rest.strip_prefix(b"crc_") {
            let crc = match symbol.st_shndx(endian) {
                elf::SHN_ABS => u32::try_from(symbol.st_value(endian).into()).ok(),
                _ => home(symbol).and_then(|(_, data)| data.first_chunk().copied()).map(|crc| raw.u32(crc)),
            };
            export(module, name, &|export| export.crc = crc);
        }
    }
    // Only the table of exports counts; other symbols may have such names, too.
    module.exports.retain(|name, _| listed.contains(name));
}
