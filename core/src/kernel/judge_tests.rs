//! Verdicts as a table: one module that a kernel loads, and what happens after one change of the module or the kernel.

use super::*;
use crate::kernel::Export;

const LIST: &str = "0x1\tmodule_layout\tvmlinux\tEXPORT_SYMBOL\t\n\
                    0x2\t_printk\tvmlinux\tEXPORT_SYMBOL\t\n\
                    0x3\trcu\tvmlinux\tEXPORT_SYMBOL_GPL\t\n\
                    0x4\tbuf\tvmlinux\tEXPORT_SYMBOL\tDMA_BUF\n\
                    0x5\thelp\tvmlinux\tEXPORT_SYMBOL\tmodule:friend,fri*\n\
                    0x6\tdrm\tdrivers/gpu/drm\tEXPORT_SYMBOL\t\n";

fn module() -> Module {
    let versions = [("module_layout", 1), ("_printk", 2), ("rcu", 3), ("buf", 4), ("help", 5), ("drm", 6)];
    Module {
        machine: object::elf::EM_X86_64.0,
        name: "m".into(),
        vermagic: Some("6.12.1 SMP mod_unload modversions ".into()),
        license: Some("GPL".into()),
        versions: Some(versions.map(|(name, crc)| (name.to_owned(), crc)).into()),
        state_size: Some(1280),
        imports: [("_printk".to_owned(), false)].into(),
        ..Module::default()
    }
}

fn kernel() -> Requirements {
    Requirements {
        release: "6.12.1".into(),
        machine: Some(object::elf::EM_X86_64.0),
        vermagic: Some("6.12.1 SMP mod_unload modversions ".into()),
        flags: vec!["SMP".into()],
        state_size: Some(1280),
        options: Some(Options { modversions: true, ..Options::default() }),
    }
}

fn verdict(module: &Module, kernel: &Requirements, others: &[(&str, Module)]) -> Judgement {
    let mut symbols = Symbols::wanted(std::iter::once(module).chain(others.iter().map(|(_, other)| other)));
    symbols.read(LIST.as_bytes()).unwrap();
    for (name, other) in others {
        symbols.read_module(name, other);
    }
    judge(module, kernel, &symbols)
}

/// What a map held before does not matter.
fn void<T>(_: T) {}

type Change = fn(&mut Module, &mut Requirements);

#[test]
fn one_change_decides() {
    use Cause::{DuplicateSymbol, Format, Livepatch, Machine, Namespace, Relocation};
    use Cause::{SymbolVersion, UnknownSymbol, Vermagic};
    let rows: &[(&str, Change, Option<Cause>)] = &[
        ("nothing", |_, _| {}, None),
        ("another machine", |m, _| m.machine = 3, Some(Machine)),
        ("the size of struct module", |m, _| m.state_size = Some(1), Some(Format)),
        (
            "the same, for an old kernel",
            |m, k| {
                m.state_size = Some(1);
                k.release = "6.1.9".into();
            },
            None,
        ),
        ("a flaw of newer kernels", |m, _| m.flaws.push((Malformed::Extended, (6, 14))), None),
        ("a flaw of this one", |m, _| m.flaws.push((Malformed::Modinfos, (6, 4))), Some(Format)),
        // With CRCs, only what follows the release is compared.
        ("another release", |m, _| m.vermagic = Some("6.11 SMP mod_unload modversions ".into()), None),
        (
            "another release, and no CRCs",
            |m, k| {
                m.vermagic = Some("6.11 SMP mod_unload modversions ".into());
                m.versions = None;
                k.options = Some(Options { modversions: true, force_load: true, ..Options::default() });
            },
            Some(Vermagic),
        ),
        (
            "another release, and a kernel without CRCs",
            |m, k| {
                m.vermagic = Some("6.11 SMP mod_unload modversions ".into());
                k.options = Some(Options::default());
            },
            Some(Vermagic),
        ),
        ("a word too much", |m, _| m.vermagic.as_mut().unwrap().push_str("x "), Some(Vermagic)),
        (
            "a word too few, where the kernel's own is unknown",
            |m, k| {
                m.vermagic = Some("6.12.1 mod_unload ".into());
                k.vermagic = None;
            },
            Some(Vermagic),
        ),
        ("no vermagic", |m, _| m.vermagic = None, Some(Vermagic)),
        (
            "no vermagic, and a lenient kernel",
            |m, k| {
                m.vermagic = None;
                k.options = Some(Options { modversions: true, force_load: true, ..Options::default() });
            },
            None,
        ),
        ("a livepatch", |m, _| m.livepatch = true, Some(Livepatch)),
        (
            "another CRC",
            |m, _| void(m.versions.as_mut().unwrap().insert("_printk".into(), 9)),
            Some(SymbolVersion),
        ),
        (
            "another CRC of the layout",
            |m, _| void(m.versions.as_mut().unwrap().insert("module_layout".into(), 9)),
            Some(SymbolVersion),
        ),
        ("no CRC of one symbol", |m, _| void(m.versions.as_mut().unwrap().remove("_printk")), None),
        (
            "no CRC of one symbol, for a kernel that needs all",
            |m, k| {
                m.versions.as_mut().unwrap().remove("_printk");
                k.options = Some(Options { modversions: true, every_version: true, ..Options::default() });
            },
            Some(SymbolVersion),
        ),
        ("no CRCs", |m, _| m.versions = None, Some(SymbolVersion)),
        (
            "a wrong CRC in the extended table, which this kernel does not read",
            |m, _| m.extended = Some([("_printk".to_owned(), 9)].into()),
            None,
        ),
        (
            "a wrong CRC in the extended table",
            |m, k| {
                m.extended = Some([("_printk".to_owned(), 9)].into());
                k.release = "6.14.0".into();
                k.vermagic = None;
                m.vermagic = Some("6.14.0 SMP".into());
            },
            Some(SymbolVersion),
        ),
        ("a symbol of a module", |m, _| void(m.imports.insert("drm".into(), false)), None),
        (
            "a symbol that nothing exports",
            |m, _| void(m.imports.insert("x".into(), false)),
            Some(UnknownSymbol),
        ),
        ("the same, but weak", |m, _| void(m.imports.insert("x".into(), true)), None),
        (
            "what an assembler leaves",
            |m, _| void(m.imports.insert("_GLOBAL_OFFSET_TABLE_".into(), false)),
            None,
        ),
        ("a symbol for the GPL", |m, _| void(m.imports.insert("rcu".into(), false)), None),
        (
            "a symbol for the GPL, and another license",
            |m, _| {
                m.imports.insert("rcu".into(), false);
                m.license = Some("Proprietary".into());
            },
            Some(UnknownSymbol),
        ),
        (
            "a namespace that is not imported",
            |m, _| void(m.imports.insert("buf".into(), false)),
            Some(Namespace),
        ),
        (
            "a namespace that is imported",
            |m, _| {
                m.imports.insert("buf".into(), false);
                m.namespaces.push("DMA_BUF".into());
            },
            None,
        ),
        (
            "a namespace that need not be imported",
            |m, k| {
                m.imports.insert("buf".into(), false);
                k.options =
                    Some(Options { modversions: true, missing_namespaces: true, ..Options::default() });
            },
            None,
        ),
        (
            "a symbol for other modules",
            |m, k| {
                m.imports.insert("help".into(), false);
                (k.release, k.vermagic) = ("6.16.0".into(), None);
            },
            Some(Namespace),
        ),
        (
            "a symbol for modules of this name",
            |m, k| {
                m.imports.insert("help".into(), false);
                m.name = "fritz".into();
                (k.release, k.vermagic) = ("6.16.0".into(), None);
            },
            None,
        ),
        (
            "an export of the kernel",
            |m, _| void(m.exports.insert("_printk".into(), export())),
            Some(DuplicateSymbol),
        ),
        ("an export that is a replacement", |m, _| void(m.exports.insert("drm".into(), export())), None),
        ("a relocation", |m, _| m.relocation = Some("x".into()), Some(Relocation)),
        ("broken BTF", |m, _| m.broken_btf = true, None),
        (
            "broken BTF, and a kernel that reads it",
            |m, k| {
                m.broken_btf = true;
                k.options = Some(Options { modversions: true, strict_btf: true, ..Options::default() });
            },
            Some(Cause::Btf),
        ),
        ("a symbol that is not allocated", |m, _| m.common = Some("x".into()), Some(Format)),
    ];
    for (what, change, expected) in rows {
        let (mut module, mut kernel) = (module(), kernel());
        change(&mut module, &mut kernel);
        let judgement = verdict(&module, &kernel, &[]);
        assert_eq!(judgement.refused.as_ref().map(Reason::cause), *expected, "{what}: {judgement:?}");
        assert_eq!(judgement.unknown, [""; 0], "{what}");
    }
}

fn export() -> Export {
    Export { crc: Some(7), ..Export::default() }
}

#[test]
fn modules_import_from_each_other_as_they_will_be_installed() {
    let mut user = module();
    user.imports.insert("own".into(), false);
    let mut base = module();
    base.exports.insert("own".into(), export());
    assert!(verdict(&user, &kernel(), &[]).refused.is_some());
    assert_eq!(verdict(&user, &kernel(), &[("base", base.clone())]).refused, None);
    user.versions.as_mut().unwrap().insert("own".into(), 8);
    let refused = verdict(&user, &kernel(), &[("base", base.clone())]).refused;
    assert_eq!(refused, Some(Reason::Version { symbol: "own".into(), module: 8, kernel: 7 }));
    // The license of a module that it uses becomes its own.
    user.versions.as_mut().unwrap().insert("own".into(), 7);
    user.imports.insert("rcu".into(), false);
    base.license = None;
    let refused = verdict(&user, &kernel(), &[("base", base)]).refused;
    assert_eq!(refused, Some(Reason::GplOnly("rcu".into())));
}

#[test]
fn what_cannot_be_known_is_not_refused() {
    let mut other = module();
    other.vermagic = Some("6.11 SMP mod_unload modversions ".into());
    other.imports.insert("x".into(), false);
    let nothing = Requirements { release: "6.12.1".into(), ..Requirements::default() };
    let judgement = judge(&other, &nothing, &Symbols::wanted([&other]));
    assert_eq!(judgement.refused, None);
    assert_eq!(judgement.unknown.len(), 1, "{judgement:?}");
    other.versions = None;
    let judgement = judge(&other, &nothing, &Symbols::wanted([&other]));
    assert_eq!(judgement.refused.map(|reason| reason.cause()), Some(Cause::Vermagic));
}
