//! Any file as a dkms.conf: the native evaluator ends soon, and its result can be converted to a recipe.
#![no_main]

use std::path::PathBuf;

use dkms_core::conf::evaluate::Inputs;
use dkms_core::conf::{Context, Recipe, native};
use dkms_core::layout::Layout;
use dkms_core::types::{ModuleId, Target};
use libfuzzer_sys::fuzz_target;

const NAMES: &str = "PACKAGE_NAME PACKAGE_VERSION POST_ADD BUILD_DEPENDS BUILD_EXCLUSIVE_ARCH BUILD_EXCLUSIVE_CONFIG \
    BUILD_EXCLUSIVE_KERNEL BUILD_EXCLUSIVE_KERNEL_MIN BUILD_EXCLUSIVE_KERNEL_MAX OBSOLETE_BY MAKE MAKE_MATCH PATCH \
    PATCH_MATCH BUILT_MODULE_NAME BUILT_MODULE_LOCATION DEST_MODULE_NAME DEST_MODULE_LOCATION STRIP AUTOINSTALL";

fuzz_target!(|data: &[u8]| {
    let layout = Layout::default();
    let target = Target { kernel: "6.12.1-rt5+deb13-amd64".parse().unwrap(), arch: "x86_64".parse().unwrap() };
    let module: ModuleId = "a/1".parse().unwrap();
    let headers = layout.headers(&target.kernel);
    let variables = vec![
        ("kernelver", target.kernel.to_string()),
        ("arch", target.arch.to_string()),
        ("kernel_source_dir", headers.display().to_string()),
        ("dkms_tree", layout.dkms_tree.display().to_string()),
    ];
    // A dkms.conf, followed by overrides.
    let files = data.split(|byte| *byte == 0).map(|file| (PathBuf::new(), file.to_vec())).collect();
    let Ok(raw) = native::evaluate(&Inputs { files, names: NAMES, variables, directives: &[] }) else { return };
    let size: usize = raw.values.values().flatten().map(|(_, value)| value.len()).sum();
    assert!(size <= 1 << 20, "{size} bytes of values");
    let context = Context { layout: &layout, module: &module, target: &target, headers: &headers, identity: "", destination: None, overrides: &[], environment: &[], directives: &[] };
    if let Ok(recipe) = Recipe::from_raw(&raw, &context, None) {
        for module in &recipe.modules {
            assert!(!module.built.starts_with('/') && !module.built.split('/').any(|part| part == ".."));
            assert!(!module.dest_name.contains('/') && !module.dest_location.split('/').any(|part| part == ".."));
        }
    }
});
