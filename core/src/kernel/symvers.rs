//! `Module.symvers`: the exported symbols, and the CRC of each.

use std::collections::BTreeMap;
use std::io::{self, BufRead};

/// The CRCs of imported symbols. A kernel exports thirty thousand, of which a module uses a hundred: only those are
/// kept, so that parallel builds do not each hold the whole list.
#[derive(Debug, Default)]
pub struct Symbols(BTreeMap<String, Option<u32>>);

impl Symbols {
    /// These symbols, without CRCs yet.
    pub fn wanted<'a>(names: impl IntoIterator<Item = &'a String>) -> Self {
        Self(names.into_iter().map(|name| (name.clone(), None)).collect())
    }

    /// Reads another list. Its entries override earlier ones. Malformed lines are skipped.
    pub fn read(&mut self, mut list: impl BufRead) -> io::Result<()> {
        let mut line = Vec::new();
        while list.read_until(b'\n', &mut line)? > 0 {
            let text = String::from_utf8_lossy(&line);
            let mut fields = text.trim_end_matches('\n').split('\t');
            let crc = fields.next().map(|crc| u32::from_str_radix(crc.trim_start_matches("0x"), 16));
            if let (Some(Ok(crc)), Some(name)) = (crc, fields.next()) {
                if let Some(known) = self.0.get_mut(name) {
                    *known = Some(crc);
                }
            }
            line.clear();
        }
        Ok(())
    }

    /// The CRC of a symbol, if a list contained it.
    pub fn get(&self, name: &str) -> Option<u32> {
        self.0.get(name).copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_list_counts_and_only_what_is_wanted_is_kept() {
        let names = ["printk".to_owned(), "own".to_owned(), "missing".to_owned()];
        let mut symbols = Symbols::wanted(&names);
        symbols
            .read(&b"0x12ab34cd\tprintk\tvmlinux\tEXPORT_SYMBOL\t\nbroken\n0x1\tother\n\xff\n0x2\town\tx"[..])
            .unwrap();
        assert_eq!((symbols.get("printk"), symbols.get("own")), (Some(0x12ab_34cd), Some(2)));
        symbols.read(&b"0x3\town\tx\n"[..]).unwrap();
        assert_eq!((symbols.get("own"), symbols.get("other"), symbols.get("missing")), (Some(3), None, None));
    }
}
