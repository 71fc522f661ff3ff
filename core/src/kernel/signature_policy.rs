//! Does a kernel require signed modules, and what does it do with this one?

use std::path::Path;

use serde::Serialize;

use super::signature::Signature;
use super::{Config, Firmware};
use crate::layout::Layout;
use crate::sys::file;

/// What a kernel does with modules that are not signed with a trusted key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Demand {
    /// It does not support signatures.
    Ignores,
    /// It loads them, for this reason, and becomes tainted.
    Takes(&'static str),
    /// It rejects them, for this reason.
    Refuses(String),
    /// Unknown, for this reason.
    Unknown(&'static str),
}

/// What becomes of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The kernel loads it.
    Loads,
    /// Unknown.
    Unknown,
    /// The kernel rejects it.
    Refused,
}

/// The settings of the running kernel, which may be stricter than its configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Running {
    /// `module.sig_enforce`
    pub sig_enforce: bool,
    /// The lockdown mode, if it is supported.
    pub lockdown: Option<String>,
    /// Modules that its command line forbids.
    pub blacklist: Vec<String>,
}

impl Running {
    /// Reads the settings of the running kernel.
    pub fn read(layout: &Layout) -> Self {
        let text = |path: &Path| {
            let bytes = file::read_optional(path).ok().flatten().unwrap_or_default();
            String::from_utf8_lossy(&bytes).trim().to_owned()
        };
        // The active mode is in brackets: `none [integrity] confidentiality`.
        let modes = text(&layout.lockdown());
        let lockdown = modes.split_whitespace().find_map(|mode| mode.strip_prefix('[')?.strip_suffix(']'));
        Self {
            sig_enforce: text(&layout.sig_enforce()) == "Y",
            lockdown: lockdown.filter(|mode| *mode != "none").map(str::to_owned),
            blacklist: blacklist(&text(&layout.kernel_command_line())),
        }
    }
}

/// The modules in `module_blacklist=` of a kernel command line.
fn blacklist(command_line: &str) -> Vec<String> {
    let mut lists = command_line.split_whitespace().filter_map(|word| word.strip_prefix("module_blacklist="));
    // The last one counts.
    let names = lists.next_back().unwrap_or_default().split(',').filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

impl Demand {
    /// Determines the policy. `config`: the kernel's configuration, if known; `running`: set for the running kernel.
    pub fn of(config: Option<&Config>, running: Option<&Running>, firmware: &Firmware) -> Self {
        let on = |option: &str| config.is_some_and(|config| config.on(option));
        if config.is_some() && !on("CONFIG_MODULE_SIG") {
            return Self::Ignores;
        }
        if on("CONFIG_MODULE_SIG_FORCE") {
            return Self::Refuses("the kernel requires signatures (CONFIG_MODULE_SIG_FORCE)".into());
        }
        if let Some(mode) = running.and_then(|running| running.lockdown.as_ref()) {
            return Self::Refuses(format!("kernel lockdown is active ({mode})"));
        }
        if running.is_some_and(|running| running.sig_enforce) {
            return Self::Refuses("module.sig_enforce is set".into());
        }
        match firmware.secure_boot {
            // Distributions' kernels enable lockdown with Secure Boot; a kernel that is not configured for it behaves
            // as without.
            Some(true) if config.is_none() || on("CONFIG_LOCK_DOWN_IN_EFI_SECURE_BOOT") => {
                Self::Refuses("Secure Boot is enabled".into())
            }
            Some(true) => Self::Takes("signature not required: this kernel ignores Secure Boot"),
            Some(false) => Self::Takes("signature not required: Secure Boot off"),
            None => Self::Unknown("the Secure Boot state cannot be read"),
        }
    }

    /// What the kernel does with a module in this state, and why. As in the kernel, modified content and malformed
    /// signatures are rejected even if no signature is required.
    pub fn judge(&self, signature: &Signature) -> (Verdict, String) {
        let said = signature.to_string();
        match (self, signature) {
            (Self::Ignores, _) => (Verdict::Loads, "this kernel does not support signatures".into()),
            (_, Signature::Good(_)) => (Verdict::Loads, said),
            (_, Signature::Malformed(_) | Signature::Changed(_)) => (Verdict::Refused, said),
            (_, Signature::Unchecked(..)) => (Verdict::Unknown, said),
            // Without a signature that it can verify with a trusted key, the policy decides.
            (demand, Signature::None | Signature::UnknownKey(_) | Signature::Unsupported(_)) => {
                match demand {
                    Self::Ignores => (Verdict::Loads, said),
                    Self::Takes(why) => (Verdict::Loads, format!("{said}; {why}")),
                    Self::Refuses(why) => (Verdict::Refused, format!("{said}; {why}")),
                    Self::Unknown(why) => (Verdict::Unknown, format!("{said}; {why}")),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::certificate::Signer;

    fn config(options: &[&str]) -> Config {
        let text: String = options.iter().map(|option| format!("CONFIG_{option}=y\n")).collect();
        Config::new(text)
    }

    #[test]
    fn who_wants_signatures() {
        let debian = config(&["MODULE_SIG", "LOCK_DOWN_IN_EFI_SECURE_BOOT"]);
        let strict = config(&["MODULE_SIG", "MODULE_SIG_FORCE"]);
        let vanilla = config(&["MODULE_SIG"]);
        let none = config(&["SMP"]);
        let enforced = Running { sig_enforce: true, ..Running::default() };
        let locked = Running { lockdown: Some("integrity".into()), ..Running::default() };
        let free = Running::default();
        for (config, running, secure_boot, expected) in [
            (Some(&debian), None, Some(true), "Refuses"),
            (Some(&debian), None, Some(false), "Takes"),
            (Some(&debian), None, None, "Unknown"),
            (Some(&debian), Some(&enforced), Some(false), "Refuses"),
            (Some(&debian), Some(&locked), None, "Refuses"),
            (Some(&debian), Some(&free), Some(true), "Refuses"),
            (Some(&vanilla), None, Some(true), "Takes"),
            (Some(&strict), None, Some(false), "Refuses"),
            (Some(&none), Some(&enforced), Some(true), "Ignores"),
            (None, None, Some(true), "Refuses"),
            (None, None, Some(false), "Takes"),
        ] {
            let demand = Demand::of(config, running, &Firmware { secure_boot, ..Firmware::default() });
            assert!(
                format!("{demand:?}").starts_with(expected),
                "{config:?} {running:?} {secure_boot:?}: {demand:?}"
            );
        }
    }

    #[test]
    fn a_command_line_forbids_modules() {
        for (line, expected) in [
            ("quiet module_blacklist=a,b_c ro", &["a", "b_c"][..]),
            ("module_blacklist=a module_blacklist=b", &["b"]),
            ("modprobe.blacklist=a", &[]),
        ] {
            assert_eq!(blacklist(line), expected, "{line}");
        }
    }

    #[test]
    fn what_becomes_of_a_module() {
        let signer = || Signer::KeyId(vec![1]);
        let signatures = [
            Signature::None,
            Signature::Unsupported("x"),
            Signature::UnknownKey(signer()),
            Signature::Malformed("x"),
            Signature::Changed(signer()),
            Signature::Unchecked(signer(), "x".into()),
            Signature::Good(signer()),
        ];
        use Verdict::{Loads, Refused, Unknown};
        for (demand, verdicts) in [
            (Demand::Ignores, [Loads, Loads, Loads, Loads, Loads, Loads, Loads]),
            (Demand::Takes(""), [Loads, Loads, Loads, Refused, Refused, Unknown, Loads]),
            (Demand::Refuses(String::new()), [Refused, Refused, Refused, Refused, Refused, Unknown, Loads]),
            (Demand::Unknown(""), [Unknown, Unknown, Unknown, Refused, Refused, Unknown, Loads]),
        ] {
            for (signature, verdict) in signatures.iter().zip(verdicts) {
                assert_eq!(demand.judge(signature).0, verdict, "{demand:?} {signature:?}");
            }
        }
    }
}
