//! The header of a module's BTF, as `btf_parse_hdr` and `btf_check_sec_info` check it.

/// `struct btf_header`
const HEADER: usize = 24;
const MAGIC: u16 = 0xeb9f;
const VERSION: u8 = 1;

/// Whether a kernel would not read this as BTF. Types and names are not checked: they refer to those of the kernel.
pub(super) fn is_broken(data: &[u8]) -> bool {
    header(data).is_none()
}

fn header(data: &[u8]) -> Option<()> {
    let u32_at = |at: usize| Some(u32::from_le_bytes(*data.get(at..)?.first_chunk()?) as usize);
    let [a, b, version, flags] = *data.first_chunk()?;
    let length = u32_at(4)?;
    let header = (u16::from_le_bytes([a, b]), version, flags) == (MAGIC, VERSION, 0) && length >= HEADER;
    let rest = data.len().checked_sub(length).filter(|_| header)?;
    let mut parts = [(u32_at(8)?, u32_at(12)?), (u32_at(16)?, u32_at(20)?)];
    parts.sort_unstable();
    // Types and names follow each other, without a gap, to the end.
    let end = parts.into_iter().try_fold(0, |end, (from, size)| {
        let end: usize = end;
        (from == end).then(|| end.checked_add(size)).flatten()
    })?;
    // Newer kernels allow further parts.
    (end == rest || length > HEADER && end <= rest).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn btf(numbers: [u32; 5], size: usize) -> Vec<u8> {
        let mut btf = vec![0x9f, 0xeb, 1, 0];
        btf.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        btf.resize(size, 0);
        btf
    }

    #[test]
    fn parts_fill_the_section() {
        for (numbers, size, broken) in [
            ([24, 0, 8, 8, 4], 36, false),
            ([24, 0, 8, 8, 4], 40, true),
            ([24, 0, 8, 12, 4], 40, true),
            ([24, 0, 8, 8, 400], 36, true),
            ([20, 0, 8, 8, 4], 36, true),
        ] {
            assert_eq!(is_broken(&btf(numbers, size)), broken, "{numbers:?} {size}");
        }
        assert!(is_broken(b"garbage that is long enough") && is_broken(b"\x9f"));
    }
}
