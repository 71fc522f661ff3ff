//! Relocations that the kernel cannot apply. Known for x86-64; other architectures have hundreds of types, which their
//! compilers do not confuse.

use object::Endianness;
use object::elf::{self, Machine};
use object::read::elf::{FileHeader, Rela, SectionHeader};

use super::read::Raw;

/// What `apply_relocate_add` of x86-64 knows, and how many bytes it writes.
const KNOWN: [(elf::RelocationType, usize); 7] = [
    (elf::R_X86_64_NONE, 0),
    (elf::R_X86_64_64, 8),
    (elf::R_X86_64_32, 4),
    (elf::R_X86_64_32S, 4),
    (elf::R_X86_64_PC32, 4),
    (elf::R_X86_64_PLT32, 4),
    (elf::R_X86_64_PC64, 8),
];

/// Why a module's relocations cannot be applied.
pub(super) fn problem<Elf: FileHeader<Endian = Endianness>>(raw: &Raw<'_, Elf>) -> Option<String> {
    const X86_64: Machine = elf::EM_X86_64;
    if raw.machine != X86_64 {
        return None;
    }
    let endian = raw.endian;
    for section in raw.sections {
        let target = raw.sections.get(usize::try_from(section.sh_info(endian)).unwrap_or(usize::MAX));
        let Some(target) = target.filter(|target| raw.allocated(target)) else { continue };
        match section.sh_type(endian) {
            elf::SHT_REL => return Some("REL relocations are not supported".into()),
            elf::SHT_RELA => {}
            _ => continue,
        }
        let written = raw.data(target).filter(|_| target.sh_type(endian) != elf::SHT_NOBITS);
        for row in raw.rows::<Elf::Rela>(section) {
            let kind = row.r_type(endian, false);
            let Some((_, length)) = KNOWN.iter().find(|(known, _)| *known == kind) else {
                return Some(format!("unknown relocation type {}", kind.0));
            };
            let at = usize::try_from(row.r_offset(endian).into()).unwrap_or(usize::MAX);
            let old = written.and_then(|data| data.get(at..at.checked_add(*length)?));
            if old.is_some_and(|old| old.iter().any(|byte| *byte != 0)) {
                return Some(format!("the target of a relocation of type {} is not zero", kind.0));
            }
        }
    }
    None
}
