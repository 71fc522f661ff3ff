//! The command `dkms`.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = dkms_core::sys::confine::enter() {
        return code;
    }
    dkms_core::cli::main()
}
