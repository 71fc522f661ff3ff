//! What the kernel answered, as the program `insert` printed it.

use std::collections::BTreeMap;

/// The result of the last insertion of a row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inserted {
    /// The error number; 0 if the module was loaded, `None` if this kernel was not asked.
    pub errno: Option<i32>,
    /// The kernel's messages.
    pub lines: Vec<String>,
}

/// Reads the console: `ROW name errno` and `LINE name message`.
pub fn read(console: &str) -> BTreeMap<String, Inserted> {
    let mut rows: BTreeMap<String, Inserted> = BTreeMap::new();
    for line in console.lines().map(str::trim_end) {
        let mut words = line.splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some("ROW"), Some(name), Some(errno)) => {
                rows.entry(name.to_owned()).or_default().errno = errno.parse().ok();
            }
            (Some("LINE"), Some(name), Some(message)) => {
                rows.entry(name.to_owned()).or_default().lines.push(message.to_owned());
            }
            _ => {}
        }
    }
    rows
}

/// Phrases of the kernel, and the cause that `dkms check --json` names. The first that matches counts.
const PHRASES: [(&str, &str); 20] = [
    ("version magic", "vermagic"),
    ("disagrees about version of symbol", "symbol-version"),
    ("no symbol version for", "symbol-version"),
    ("but does not import it", "namespace"),
    ("exports duplicate symbol", "duplicate-symbol"),
    ("Unknown symbol", "unknown-symbol"),
    ("livepatch", "livepatch"),
    ("Unknown rela relocation", "relocation"),
    ("nvalid relocation target", "relocation"),
    ("REL relocation unsupported", "relocation"),
    ("Invalid architecture in ELF header", "machine"),
    ("failed to validate module", "btf"),
    ("is blacklisted", "blacklist"),
    ("decompression failed", "compression"),
    ("not an xz compressed module", "compression"),
    ("Loading of", "signature"),
    ("unsigned module loading is restricted", "signature"),
    ("PKCS#7", "signature"),
    ("PKCS7", "signature"),
    ("module sig", "signature"),
];

impl Inserted {
    /// Why it was rejected, in the words of `dkms check --json`; `None` if it was loaded.
    pub fn cause(&self) -> Option<&'static str> {
        const ENOEXEC: i32 = 8;
        const ENOPKG: i32 = 65;
        const EBADMSG: i32 = 74;
        const ENOKEY: i32 = 126;
        const EMSGSIZE: i32 = 90;
        const EINVAL: i32 = 22;
        const EKEYREJECTED: i32 = 129;
        // Lockdown. Its message is printed only now and then.
        const EPERM: i32 = 1;
        let errno = self.errno.filter(|errno| *errno != 0)?;
        let said = |phrase: &str| self.lines.iter().any(|line| line.contains(phrase));
        match PHRASES.iter().find(|(phrase, _)| said(phrase)) {
            Some((_, cause)) => Some(cause),
            None if [EPERM, ENOPKG, EBADMSG, EMSGSIZE, ENOKEY, EKEYREJECTED].contains(&errno) => {
                Some("signature")
            }
            // An empty file is not even read.
            None if [ENOEXEC, EINVAL].contains(&errno) => Some("format"),
            None => Some("other"),
        }
    }
}
