//! The rows of the table: a module, and what was changed in it.

use std::collections::BTreeMap;

use super::DIR;
use super::elf::{Elf, field, unsigned};
use crate::random::Random;
use crate::{Kernel, Root, boot};

/// Modules to insert in order. The last is the one in question; the others provide symbols.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its name, without spaces.
    pub name: String,
    /// Names and contents of the files.
    pub files: Vec<(String, Vec<u8>)>,
}

/// The compiled modules, by name.
pub type Compiled = BTreeMap<String, Vec<u8>>;

struct Rows<'a> {
    compiled: &'a Compiled,
    rows: Vec<Row>,
}

impl Rows<'_> {
    /// The module before any change.
    fn module(&self, name: &str) -> Elf {
        Elf(self.compiled[name].clone())
    }

    fn bytes(&mut self, name: &str, module: &str, content: Vec<u8>) {
        self.rows.push(Row { name: name.to_owned(), files: vec![(format!("{module}.ko"), content)] });
    }

    fn row(&mut self, name: &str, module: &str, change: impl FnOnce(Elf) -> Elf) {
        let changed = change(self.module(module)).0;
        self.bytes(name, module, changed);
    }

    /// A module after the one that provides its symbol.
    fn pair(&mut self, name: &str, base: Elf, user: Elf) {
        let files = vec![("oracle_base.ko".to_owned(), base.0), ("oracle_user.ko".to_owned(), user.0)];
        self.rows.push(Row { name: name.to_owned(), files });
    }
}

const ALLOC: u64 = 2;
const PROGBITS: u32 = 1;
/// Kernels before this one do not check the size of `struct module`, and might fall over.
const CHECKS_SIZE: (u32, u32) = (6, 4);

/// All rows for a kernel. `own`: one of its own signed modules.
pub fn all(root: &Root, kernel: &Kernel, compiled: &Compiled, own: &[u8]) -> Vec<Row> {
    let mut rows = Rows { compiled, rows: Vec::new() };
    for name in compiled.keys() {
        rows.row(&format!("good:{name}"), name, |elf| elf);
    }
    headers(&mut rows);
    sections(&mut rows, kernel);
    modinfo(&mut rows);
    if rows.module("oracle_plain").has("__versions") {
        versions(&mut rows);
    }
    symbols(&mut rows);
    pairs(&mut rows);
    signatures(&mut rows, root, kernel);
    compressions(&mut rows, root);
    rows.bytes("signed:by-the-kernels-own-key-and-changed", "own", Elf(own.to_vec()).flip(own.len() / 2).0);
    rows.bytes("signed:own-module-unsigned", "own", unsigned(own).to_vec());
    rows.rows
}

fn headers(rows: &mut Rows<'_>) {
    for (name, at, bytes) in [
        ("class", 4, &[1][..]),
        ("byte-order", 5, &[2]),
        ("ident-version", 6, &[7]),
        ("os-abi", 7, &[9]),
        ("magic", 1, b"X"),
        ("type-executable", 16, &[2, 0]),
        ("machine-i386", 18, &[3, 0]),
        ("machine-arm64", 18, &[183, 0]),
        ("version", 20, &[9]),
        ("entry", 24, &[9]),
        ("flags", 48, &[9]),
        ("section-header-size", 58, &[40, 0]),
        ("section-headers-beyond", 40, &[0, 0, 0, 0x7f]),
        ("section-headers-wrap", 40, &[0xff; 8]),
        ("too-many-sections", 60, &[0xf0, 0xff]),
        ("no-section-names", 62, &[0, 0]),
        ("section-names-beyond", 62, &[0xf0, 0x00]),
    ] {
        rows.row(&format!("header:{name}"), "oracle_plain", |elf| elf.put(at, bytes));
    }
    let whole = rows.compiled["oracle_plain"].clone();
    for (name, length) in [
        ("half", whole.len() / 2),
        ("without-its-last-byte", whole.len() - 1),
        ("header-only", 64),
        ("short", 10),
        ("empty", 0),
    ] {
        rows.bytes(&format!("truncated:{name}"), "oracle_plain", whole[..length].to_vec());
    }
    rows.bytes("appended:zeros", "oracle_plain", [&whole[..], &[0; 100]].concat());
}

fn sections(rows: &mut Rows<'_>, kernel: &Kernel) {
    const MODULE: &str = ".gnu.linkonce.this_module";
    rows.row("section:first-is-used", "oracle_plain", |elf| {
        let table = elf.u64(40);
        elf.put(table + field::TYPE, &[1])
    });
    let header = |rows: &mut Rows<'_>, name: &str, section: &str, at: usize, bytes: &[u8]| {
        rows.row(&format!("section:{name}"), "oracle_plain", |elf| {
            let header = elf.section(section).header;
            elf.put(header + at, bytes)
        });
    };
    header(rows, "text-beyond", ".init.text", field::OFFSET, &[0, 0, 0, 0x7f]);
    header(rows, "comment-beyond", ".comment", field::OFFSET, &[0, 0, 0, 0x7f]);
    header(rows, "size-wraps", ".modinfo", field::SIZE, &[0xff; 8]);
    header(rows, "name-beyond", ".modinfo", field::NAME, &[0, 0, 0, 0x7f]);
    let crcs = rows.module("oracle_plain").has("__versions");
    if crcs {
        header(rows, "versions-not-loaded", "__versions", field::FLAGS, &[0]);
    }
    header(rows, "modinfo-not-loaded", ".modinfo", field::FLAGS, &[0]);
    header(rows, "no-symbols", ".symtab", field::TYPE, &[1]);
    header(rows, "no-strings", ".symtab", field::LINK, &[0; 4]);
    header(rows, "strings-beyond", ".symtab", field::LINK, &[0xf0, 0, 0, 0]);
    for section in [".modinfo", "__versions", MODULE].into_iter().filter(|name| crcs || *name != "__versions")
    {
        rows.row(&format!("section:{section}-renamed"), "oracle_plain", |elf| elf.rename(section));
    }
    rows.row("section:names-without-end", "oracle_plain", |elf| {
        let names = elf.section(".shstrtab");
        elf.put(names.offset + names.size - 1, b"x")
    });
    if since(kernel, CHECKS_SIZE) {
        for (name, by) in [("larger", 64_i64), ("smaller", -64)] {
            rows.row(&format!("section:struct-module-{name}"), "oracle_plain", |elf| {
                let module = elf.section(MODULE);
                let size = i64::try_from(module.size).unwrap() + by;
                elf.put(module.header + field::SIZE, &size.to_le_bytes())
            });
        }
        rows.row("section:two-modules", "oracle_plain", |elf| elf.add(MODULE, PROGBITS, ALLOC, &[0; 64]));
    }
    rows.row("section:two-modinfos", "oracle_plain", |elf| elf.add(".modinfo", PROGBITS, ALLOC, b"a=b\0"));
    rows.row("section:unknown", "oracle_plain", |elf| elf.add(".oracle", PROGBITS, 0, b"anything"));
    rows.row("btf:garbage", "oracle_plain", |elf| {
        elf.add(".BTF", PROGBITS, ALLOC, b"garbage that is long enough")
    });
}

fn modinfo(rows: &mut Rows<'_>) {
    for (name, module, from, to) in [
        ("vermagic-smp", "oracle_plain", " SMP", " SMQ"),
        ("vermagic-preempt", "oracle_plain", " preempt", " prexmpt"),
        ("vermagic-unload", "oracle_plain", " mod_unload", " mod_unloax"),
        ("vermagic-modversions", "oracle_plain", " modversions", " modversionx"),
        ("vermagic-end", "oracle_plain", " \0", "\0\0"),
        ("vermagic-release", "oracle_plain", "vermagic=", "vermagic="),
        ("no-vermagic", "oracle_plain", "vermagic=", "vermagix="),
        ("closed", "oracle_plain", "license=GPL", "license=XXX"),
        ("no-license", "oracle_plain", "license=", "licence="),
        ("closed-with-gpl-only-symbol", "oracle_gpl", "license=GPL", "license=XXX"),
        ("no-license-with-gpl-only-symbol", "oracle_gpl", "license=", "licence="),
        ("no-namespace", "oracle_space", "import_ns=", "import_nx="),
        ("other-namespace", "oracle_space", "DMA_BUF", "DMA_BUX"),
        ("other-version", "oracle_plain", "version=1.0", "version=9.9"),
    ] {
        if !rows.module(module).contains(".modinfo", from) {
            continue;
        }
        rows.row(&format!("modinfo:{name}"), module, |elf| match name {
            "vermagic-release" => {
                let section = elf.section(".modinfo");
                let content = &elf.0[section.offset..section.offset + section.size];
                let at = content.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
                elf.put(section.offset + at + from.len(), b"9")
            }
            _ => elf.replace(".modinfo", from, to),
        });
    }
    for (name, entry) in [("livepatch", "livepatch=Y"), ("intree", "intree=Yes")] {
        // The entry gets the place of one of the same or a greater length.
        let padded = format!("{entry:\0<12}");
        rows.row(&format!("modinfo:{name}"), "oracle_plain", |elf| {
            elf.replace(".modinfo", "oracleinfo=Y", &padded)
        });
    }
}

fn versions(rows: &mut Rows<'_>) {
    for (name, module, symbol) in [
        ("printk", "oracle_plain", "_printk"),
        ("layout", "oracle_plain", "module_layout"),
        ("gpl-only", "oracle_gpl", "synchronize_rcu"),
        ("namespace", "oracle_space", "dma_buf_put"),
    ] {
        rows.row(&format!("crc:{name}"), module, |elf| {
            let at = elf.version(symbol);
            elf.flip(at)
        });
    }
    rows.row("crc:upper-half", "oracle_plain", |elf| {
        let at = elf.version("_printk") + 4;
        elf.flip(at)
    });
    rows.row("crc:symbol-not-listed", "oracle_plain", |elf| {
        let at = elf.version("_printk") + 8;
        elf.put(at, b"X")
    });
    // Tables as modules for 6.14 and newer kernels have them, with the true and with a wrong CRC.
    let extended = |elf: Elf, wrong: u8, names: &[u8]| {
        let layout = elf.version("module_layout");
        let printk = elf.version("_printk");
        let crcs = [&elf.0[layout..layout + 4], &elf.0[printk..printk + 4]].concat();
        let mut crcs = crcs;
        crcs[4] ^= wrong;
        let elf = elf.add("__version_ext_crcs", PROGBITS, ALLOC, &crcs);
        if names.is_empty() { elf } else { elf.add("__version_ext_names", PROGBITS, ALLOC, names) }
    };
    const NAMES: &[u8] = b"module_layout\0_printk\0";
    for (name, wrong, names) in [
        ("right", 0, NAMES),
        ("wrong", 1, NAMES),
        ("no-names", 0, &[]),
        ("too-few-names", 0, b"module_layout\0"),
    ] {
        rows.row(&format!("extended:{name}"), "oracle_plain", |elf| extended(elf, wrong, names));
    }
}

fn symbols(rows: &mut Rows<'_>) {
    rows.row("symbol:renamed", "oracle_plain", |elf| elf.rename_symbol("_printk", "_prinxk"));
    const GPL: &str = "synchronize_rcu";
    rows.row("symbol:renamed-gpl-only", "oracle_gpl", |elf| elf.rename_symbol(GPL, "synchronize_rcx"));
    rows.row("symbol:renamed-and-weak", "oracle_gpl", |elf| {
        let at = elf.symbol(GPL) + 4;
        elf.put(at, &[0x20]).rename_symbol(GPL, "synchronize_rcx")
    });
    rows.row("symbol:common", "oracle_gpl", |elf| {
        let at = elf.symbol(GPL) + 6;
        elf.put(at, &[0xf2, 0xff])
    });
    rows.row("symbol:absolute", "oracle_gpl", |elf| {
        let at = elf.symbol(GPL) + 6;
        elf.put(at, &[0xf1, 0xff])
    });
    for (name, kind) in [("got", 9_u8), ("unheard-of", 99)] {
        rows.row(&format!("relocation:{name}"), "oracle_gpl", |elf| {
            let at = elf.section(".rela.init.text").offset + 8;
            elf.put(at, &[kind])
        });
    }
    rows.row("relocation:target-not-zero", "oracle_gpl", |elf| {
        let relocation = elf.section(".rela.init.text").offset;
        let at = elf.section(".init.text").offset + elf.u64(relocation);
        elf.put(at, &[1])
    });
    rows.row("relocation:section-without-addends", "oracle_gpl", |elf| {
        let header = elf.section(".rela.init.text").header;
        elf.put(header + field::TYPE, &[9])
    });
    rows.row("export:that-of-the-kernel", "oracle_base", |elf| {
        let mut elf = elf.replace("__ksymtab_strings", "oracle_gt", "ktime_get");
        for prefix in ["__ksymtab_", "__crc_", "__kstrtab_", "__kstrtabns_"] {
            if elf.find_symbol(&format!("{prefix}oracle_gt")).is_none() {
                continue;
            }
            elf = elf.rename_symbol(&format!("{prefix}oracle_gt"), &format!("{prefix}ktime_get"));
        }
        elf
    });
    if rows.module("oracle_base").has("__kcrctab") {
        rows.row("export:without-crcs", "oracle_base", |elf| elf.rename("__kcrctab"));
    }
}

fn pairs(rows: &mut Rows<'_>) {
    let (base, user) = (rows.module("oracle_base"), rows.module("oracle_user"));
    rows.pair("pair:good", base.clone(), user.clone());
    if base.has("__kcrctab") {
        let table = base.section("__kcrctab");
        // Both exports get another CRC.
        let other = (table.offset..table.offset + table.size).step_by(4).fold(base.clone(), Elf::flip);
        rows.pair("pair:other-crc", other, user.clone());
    }
    let closed = base.replace(".modinfo", "license=GPL", "license=XXX");
    rows.pair("pair:closed-base", closed.clone(), user.clone());
    // Without a symbol that is only for the GPL, it inherits the license.
    let free = user.rename_symbol("synchronize_rcu", "__fentry__");
    rows.pair("pair:closed-base-and-no-gpl-only-symbol", closed, free);
}

/// Signatures with a key that no kernel knows, and broken ones.
fn signatures(rows: &mut Rows<'_>, root: &Root, kernel: &Kernel) {
    let dir = format!("{DIR}/signing");
    root.write(&format!("{dir}/plain.ko"), &rows.compiled["oracle_plain"]);
    root.run(&format!(
        "cd {dir} && openssl req -new -x509 -nodes -days 9 -subj '/CN=a stranger' -newkey rsa:2048 -keyout key -out pem \
         2>/dev/null && $(readlink -f /lib/modules/{}/build/scripts)/sign-file sha256 key pem plain.ko signed.ko
         sign() {{ openssl cms -sign -binary -nocerts -outform DER -signer pem -inkey key -in plain.ko \"$@\"; }}
         sign -md sha512 -noattr >sha512; sign -md sha1 -noattr >sha1; sign -md sha256 >attributes
         sign -md sha256 -noattr -nodetach >embedded; sign -md sha256 -noattr -keyid >keyid; sign -md md5 -noattr >md5",
        kernel.release
    ))
    .ok();
    let signed = root.read_bytes(&format!("{dir}/signed.ko"));
    let plain = rows.compiled["oracle_plain"].clone();
    let append = |pkcs7: &[u8]| {
        let length = u32::try_from(pkcs7.len()).unwrap().to_be_bytes();
        [&plain[..], pkcs7, &[0, 0, 2, 0, 0, 0, 0, 0], &length, MARK].concat()
    };
    const MARK: &[u8] = b"~Module signature appended~\n";
    let end = signed.len() - MARK.len();
    let pkcs7 = signed[plain.len()..end - 12].to_vec();
    rows.bytes("signed:stranger", "oracle_plain", signed.clone());
    rows.bytes("signed:mark-only", "oracle_plain", [&plain[..], MARK].concat());
    rows.bytes("signed:nothing-but-mark", "oracle_plain", MARK.to_vec());
    for (name, at, bytes) in [
        ("not-pkcs7", end - 10, &[1][..]),
        ("reserved-field", end - 12, &[1]),
        ("padding", end - 7, &[1]),
        ("too-long", end - 4, &[0x7f]),
    ] {
        rows.bytes(&format!("signed:{name}"), "oracle_plain", Elf(signed.clone()).put(at, bytes).0);
    }
    let changed = Elf(signed).replace(".modinfo", "version=1.0", "version=9.9").0;
    rows.bytes("signed:stranger-and-changed", "oracle_plain", changed);
    for name in ["sha512", "sha1", "attributes", "embedded", "keyid", "md5"] {
        let pkcs7 = root.read_bytes(&format!("{dir}/{name}"));
        rows.bytes(&format!("signed:{name}"), "oracle_plain", append(&pkcs7));
    }
    rows.bytes("signed:no-message", "oracle_plain", append(b""));
    rows.bytes("signed:cut-off", "oracle_plain", append(&pkcs7[..pkcs7.len() - 1]));
    rows.bytes("signed:garbage", "oracle_plain", append(b"hello"));
    // The outermost tag, the type of the content, its version, the hash, the signer, the last byte of the signature.
    for (name, at) in [("tag", 0), ("type", 14), ("content", 19), ("signature", pkcs7.len() - 1)] {
        rows.bytes(&format!("signed:broken-{name}"), "oracle_plain", append(&Elf(pkcs7.clone()).flip(at).0));
    }
}

fn compressions(rows: &mut Rows<'_>, root: &Root) {
    let dir = format!("{DIR}/packing");
    root.write(&format!("{dir}/plain.ko"), &rows.compiled["oracle_plain"]);
    for (name, command) in [
        ("crc32", "xz --check=crc32 -c plain.ko"),
        ("no-check", "xz --check=none -c plain.ko"),
        ("crc64", "xz --check=crc64 -c plain.ko"),
        ("sha256", "xz --check=sha256 -c plain.ko"),
        ("large-dictionary", "xz --check=crc32 --lzma2=dict=64MiB -c plain.ko"),
        ("bcj", "xz --check=crc32 --x86 --lzma2 -c plain.ko"),
        ("delta", "xz --check=crc32 --delta=dist=4 --lzma2 -c plain.ko"),
        ("truncated", "xz --check=crc32 -c plain.ko | head -c 2000"),
        ("not-compressed", "cat plain.ko"),
    ] {
        root.run(&format!("cd {dir} && {command} >out")).ok();
        let content = root.read_bytes(&format!("{dir}/out"));
        rows.rows.push(Row {
            name: format!("xz:{name}"),
            files: vec![("oracle_plain.ko.xz".to_owned(), content)],
        });
    }
}

/// Further changes at random, of parts that a kernel only compares: a changed instruction would only stop the machine.
pub fn random(compiled: &Compiled, signed: &[u8], count: usize, random: &mut Random) -> Vec<Row> {
    let plain = Elf(compiled["oracle_plain"].clone());
    let modinfo = plain.section(".modinfo");
    let mut parts = vec![
        ("header", &plain.0[..], 0..64),
        ("modinfo", &plain.0, modinfo.offset..modinfo.offset + modinfo.size),
        ("signature", signed, plain.0.len()..signed.len()),
    ];
    if plain.has("__versions") {
        let versions = plain.section("__versions");
        parts.push(("versions", &plain.0, versions.offset..versions.offset + versions.size));
    }
    let row = |number: usize| {
        let (name, module, range) = &parts[number % parts.len()];
        let below = |random: &mut Random, length: usize| {
            usize::try_from(random.below(u64::try_from(length).unwrap())).unwrap()
        };
        let at = range.start + below(random, range.len());
        let bit = 1_u8 << below(random, 8);
        let mut content = module.to_vec();
        content[at] ^= bit;
        let name = format!("random:{number}-{name}-byte-{at}-bit-{bit:02x}");
        Row { name, files: vec![("oracle_plain.ko".to_owned(), content)] }
    };
    (0..count).map(row).collect()
}

/// The kernel's own first small module, as it is installed, decompressed.
pub fn own_module(root: &Root, kernel: &Kernel) -> Vec<u8> {
    let found =
        root.find(&format!("{}/kernel", kernel.modules_dir()), "-name 'loop.ko*' -o -name 'dummy.ko*'");
    let file = found.first().expect("the kernel has loop or dummy");
    root.run(&boot::unpack_command(file, &format!("{DIR}/own.ko"))).ok();
    root.read_bytes(&format!("{DIR}/own.ko"))
}

fn since(kernel: &Kernel, version: (u32, u32)) -> bool {
    let mut numbers = kernel.release.split(['.', '-', '+']).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= version
}
