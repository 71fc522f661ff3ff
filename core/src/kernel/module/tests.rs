//! Modules as bytes.

use proptest::prelude::*;

use super::*;

/// A module with one of everything, the seed of a fuzz target.
const PLAIN: &[u8] = include_bytes!("../../../../tests/fuzz/seeds/module/plain");

#[test]
fn what_is_no_module_says_so() {
    assert_eq!(Module::read(b"hello"), Err(Malformed::Magic));
    assert_eq!(Module::read(b""), Err(Malformed::Magic));
    let own = std::fs::read("/proc/self/exe").unwrap();
    assert!(Module::read(&own).unwrap_err().to_string().contains("not a kernel module"));
}

#[test]
fn everything_that_a_kernel_reads() {
    let module = Module::read(PLAIN).unwrap();
    assert_eq!(module.vermagic.as_deref(), Some("6.12.1 SMP mod_unload modversions "));
    assert_eq!((module.license.as_deref(), module.name.as_str()), (Some("GPL"), "m"));
    assert_eq!((module.namespaces, module.state_size), (vec!["A".to_owned()], Some(64)));
    let crcs: Versions = [("module_layout".to_owned(), 1), ("_printk".to_owned(), 2)].into();
    assert_eq!((module.versions, module.extended), (Some(crcs.clone()), Some(crcs)));
    assert_eq!(module.imports, [("_printk".to_owned(), false)].into());
    let own = Export { crc: Some(0x1234), gpl_only: false, namespace: String::new() };
    assert_eq!(module.exports, [("own".to_owned(), own)].into());
    assert_eq!((module.relocation, module.flaws), (None, Vec::new()));
}

proptest! {
    #[test]
    fn no_byte_leads_out_of_the_file(changes in prop::collection::vec((0..PLAIN.len(), any::<u8>()), 1..6)) {
        let mut module = PLAIN.to_vec();
        for (at, byte) in changes {
            module[at] = byte;
        }
        let _ = Module::read(&module);
        let _ = Module::read(&module[..module.len() / 2]);
    }
}
