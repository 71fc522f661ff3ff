//! The program `dkms` on temporary trees: its output, its exit codes, its results. Nothing is compiled and the system
//! is not changed; only `/etc/dkms` of this machine is read.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)] // a test makes files and stops at the first surprise

mod answers;
mod arguments;
mod explain;
mod history;
mod plan;
mod registry;
mod status;
#[path = "../support/mod.rs"]
mod support;

use dkms_core::types::{ModuleId, Target};
use support::Root;

const KERNEL: &str = "6.1.0-9-amd64";

fn id(text: &str) -> ModuleId {
    text.parse().unwrap()
}

fn target() -> Target {
    Target { kernel: KERNEL.parse().unwrap(), arch: "x86_64".parse().unwrap() }
}

/// One module in each possible state.
fn every_state() -> Root {
    Root::new(
        r#"src/added-1/dkms.conf
        lib/added/1/source -> $ROOT/src/added-1
        src/built-1/dkms.conf
        lib/built/1/source -> $ROOT/src/built-1
        lib/built/1/6.1.0-9-amd64/x86_64/module/built.ko
        lib/broken/1/source -> $ROOT/src/broken-1
        lib/kept/1/6.1.0-9-amd64/x86_64/module/kept.ko
        lib/kept/kernel-6.1.0-9-amd64-x86_64 -> 1/6.1.0-9-amd64/x86_64
        src/good-1/dkms.conf
        lib/good/1/source -> $ROOT/src/good-1
        lib/good/1/6.1.0-9-amd64/x86_64/module/good.ko = same
        lib/good/kernel-6.1.0-9-amd64-x86_64 -> 1/6.1.0-9-amd64/x86_64
        lib/.dkms-rs/records/good/1/6.1.0-9-amd64/x86_64.json = {"fingerprint": "f", "installed": [{"path": "$ROOT/modules/6.1.0-9-amd64/updates/good.ko", "sha256": ""}]}
        modules/6.1.0-9-amd64/updates/good.ko = same
        src/differs-1/dkms.conf
        lib/differs/1/source -> $ROOT/src/differs-1
        lib/differs/1/6.1.0-9-amd64/x86_64/module/differs.ko = one
        lib/differs/kernel-6.1.0-9-amd64-x86_64 -> 1/6.1.0-9-amd64/x86_64
        lib/differs/original_module/6.1.0-9-amd64/x86_64/differs.ko
        lib/.dkms-rs/records/differs/1/6.1.0-9-amd64/x86_64.json = {"fingerprint": "f", "installed": [{"path": "$ROOT/modules/6.1.0-9-amd64/updates/differs.ko", "sha256": ""}]}
        modules/6.1.0-9-amd64/updates/differs.ko = two
        src/fails-1/dkms.conf
        lib/fails/1/source -> $ROOT/src/fails-1
        lib/.dkms-rs/failures/fails/1/6.1.0-9-amd64/x86_64.json = {"fingerprint": "f", "why": "make ended with status 2", "errors": ["a.c:1: error: x"], "log": "/log", "code": 10}"#,
    )
}

/// A module that every kernel accepts.
const CONF: &str = "PACKAGE_NAME=a\\nPACKAGE_VERSION=1\\nDEST_MODULE_LOCATION=/updates\\nAUTOINSTALL=yes\\n";
