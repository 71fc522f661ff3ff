//! The command `dkms`.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = dkms_core::sys::confine::enter(dkms_core::preflight::PARTS) {
        return code;
    }
    #[cfg(feature = "failpoints")]
    let _scenario = fail::FailScenario::setup();
    dkms_core::cli::main()
}
