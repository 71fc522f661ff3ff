//! Any file as a module: it is malformed, or the verdict on it is given without a panic, and is the same each time.
#![no_main]

use dkms_core::kernel::{Config, Module, Requirements, Symbols, judge};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(module) = Module::read(data) else { return };
    let mut symbols = Symbols::wanted([&module]);
    // What it exports is the only list.
    symbols.read_module("module", &module);
    let config = Config::new("CONFIG_MODVERSIONS=y\nCONFIG_SMP=y\n");
    for release in ["6.1.0", "6.12.1", "7.0.0"] {
        let kernel = Requirements::new(release, "x86_64", (Some(&config), Some(" Debian 1")), Some(&module));
        let verdict = judge(&module, &kernel, &symbols);
        assert_eq!(verdict, judge(&module, &kernel, &symbols));
        if let Some(reason) = verdict.refused {
            assert!(!reason.to_string().is_empty());
        }
    }
});
