//! A 64-bit little-endian module as bytes that can be changed one by one.

/// A section header.
#[derive(Debug, Clone)]
pub struct Section {
    /// Its name.
    pub name: String,
    /// Where its header lies in the file.
    pub header: usize,
    /// Where its content lies.
    pub offset: usize,
    /// How long it is.
    pub size: usize,
}

/// Offsets in a section header.
pub mod field {
    /// `sh_name`
    pub const NAME: usize = 0;
    /// `sh_type`
    pub const TYPE: usize = 4;
    /// `sh_flags`
    pub const FLAGS: usize = 8;
    /// `sh_offset`
    pub const OFFSET: usize = 24;
    /// `sh_size`
    pub const SIZE: usize = 32;
    /// `sh_link`
    pub const LINK: usize = 40;
    /// `sh_info`
    pub const INFO: usize = 44;
}

/// A module that is being changed.
#[derive(Debug, Clone)]
pub struct Elf(pub Vec<u8>);

impl Elf {
    /// Little-endian numbers.
    pub fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.0[at..at + 2].try_into().unwrap())
    }
    /// The same.
    pub fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().unwrap())
    }
    /// The same.
    pub fn u64(&self, at: usize) -> usize {
        usize::try_from(u64::from_le_bytes(self.0[at..at + 8].try_into().unwrap())).unwrap()
    }
    /// Replaces bytes.
    pub fn put(mut self, at: usize, bytes: &[u8]) -> Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }
    /// Changes one byte.
    pub fn flip(mut self, at: usize) -> Self {
        self.0[at] ^= 0x55;
        self
    }

    /// All sections.
    pub fn sections(&self) -> Vec<Section> {
        let (table, count, names) = (self.u64(40), usize::from(self.u16(60)), usize::from(self.u16(62)));
        let strings = self.u64(table + names * 64 + field::OFFSET);
        let section = |index: usize| {
            let header = table + index * 64;
            let name = self.text(strings + usize::try_from(self.u32(header)).unwrap());
            let (offset, size) = (self.u64(header + field::OFFSET), self.u64(header + field::SIZE));
            Section { name, header, offset, size }
        };
        (0..count).map(section).collect()
    }

    /// A section by name.
    #[track_caller]
    pub fn section(&self, name: &str) -> Section {
        let found = self.sections().into_iter().find(|section| section.name == name);
        found.unwrap_or_else(|| panic!("no section {name}"))
    }

    /// Whether there is a section of this name.
    pub fn has(&self, name: &str) -> bool {
        self.sections().iter().any(|section| section.name == name)
    }

    /// Whether a section contains a text.
    pub fn contains(&self, section: &str, text: &str) -> bool {
        let section = self.section(section);
        let content = &self.0[section.offset..section.offset + section.size];
        content.windows(text.len()).any(|window| window == text.as_bytes())
    }

    fn text(&self, at: usize) -> String {
        let bytes = self.0[at..].split(|byte| *byte == 0).next().unwrap();
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// Renames a section, by the last letter of its name. Sections with the same end share the letter.
    pub fn rename(self, name: &str) -> Self {
        let strings = self.section(".shstrtab");
        let at = strings.offset + usize::try_from(self.u32(self.section(name).header)).unwrap();
        self.put(at + name.len() - 1, b"~")
    }

    /// Replaces a text within a section with one of the same length.
    #[track_caller]
    pub fn replace(self, section: &str, from: &str, to: &str) -> Self {
        assert_eq!(from.len(), to.len(), "{from} {to}");
        let section = self.section(section);
        let content = &self.0[section.offset..section.offset + section.size];
        let at = content.windows(from.len()).position(|window| window == from.as_bytes());
        let at = at.unwrap_or_else(|| panic!("{from:?} is not in {}", section.name));
        self.put(section.offset + at, to.as_bytes())
    }

    /// Where the symbol table has a symbol.
    #[track_caller]
    pub fn symbol(&self, name: &str) -> usize {
        self.find_symbol(name).unwrap_or_else(|| panic!("no symbol {name}"))
    }

    /// The same, if it is there.
    pub fn find_symbol(&self, name: &str) -> Option<usize> {
        let (symbols, strings) = (self.section(".symtab"), self.section(".strtab"));
        let mut rows = (symbols.offset..symbols.offset + symbols.size).step_by(24);
        rows.find(|at| self.text(strings.offset + usize::try_from(self.u32(*at)).unwrap()) == name)
    }

    /// Gives a symbol another name that is not longer.
    #[track_caller]
    pub fn rename_symbol(self, from: &str, to: &str) -> Self {
        assert!(to.len() <= from.len(), "{from} {to}");
        let name = usize::try_from(self.u32(self.symbol(from))).unwrap();
        let at = self.section(".strtab").offset + name;
        let padded = format!("{to:\0<width$}", width = from.len());
        self.put(at, padded.as_bytes())
    }

    /// Where the table of CRCs has a symbol.
    #[track_caller]
    pub fn version(&self, symbol: &str) -> usize {
        let table = self.section("__versions");
        let mut rows = (table.offset..table.offset + table.size).step_by(64);
        rows.find(|at| self.text(at + 8) == symbol).unwrap_or_else(|| panic!("no CRC of {symbol}"))
    }

    /// Adds a section at the end, with this name, type and flags.
    pub fn add(mut self, name: &str, kind: u32, flags: u64, content: &[u8]) -> Self {
        let (table, count, names) = (self.u64(40), usize::from(self.u16(60)), usize::from(self.u16(62)));
        let strings = table + names * 64;
        let (from, size) = (self.u64(strings + field::OFFSET), self.u64(strings + field::SIZE));
        let mut texts = self.0[from..from + size].to_vec();
        texts.extend(name.bytes().chain([0]));
        let mut headers = self.0[table..table + count * 64].to_vec();
        let mut append = |bytes: &[u8]| {
            self.0.resize(self.0.len().next_multiple_of(8), 0);
            let at = self.0.len();
            self.0.extend_from_slice(bytes);
            u64::try_from(at).unwrap().to_le_bytes()
        };
        let at = names * 64;
        headers[at + field::OFFSET..at + field::OFFSET + 8].copy_from_slice(&append(&texts));
        headers[at + field::SIZE..at + field::SIZE + 8]
            .copy_from_slice(&u64::try_from(texts.len()).unwrap().to_le_bytes());
        let mut header = [0; 64];
        header[..4].copy_from_slice(&u32::try_from(size).unwrap().to_le_bytes());
        header[4..8].copy_from_slice(&kind.to_le_bytes());
        header[8..16].copy_from_slice(&flags.to_le_bytes());
        header[24..32].copy_from_slice(&append(content));
        header[32..40].copy_from_slice(&u64::try_from(content.len()).unwrap().to_le_bytes());
        header[48..56].copy_from_slice(&8_u64.to_le_bytes());
        headers.extend(header);
        let table = append(&headers);
        let count = u16::try_from(count + 1).unwrap();
        self.put(40, &table).put(60, &count.to_le_bytes())
    }
}

/// A module without its signature.
pub fn unsigned(module: &[u8]) -> &[u8] {
    const MARK: &[u8] = b"~Module signature appended~\n";
    let Some(rest) = module.strip_suffix(MARK) else { return module };
    let (rest, trailer) = rest.split_at(rest.len() - 12);
    let length = u32::from_be_bytes(trailer[8..].try_into().unwrap());
    &rest[..rest.len() - usize::try_from(length).unwrap()]
}
