//! Which deliberate difference explains the first divergence of a random sequence.

use super::walk::Divergence;

/// A deliberate difference, as random sequences meet it.
#[derive(Debug)]
struct Reason {
    /// The key of its explanation in `tests/scenarios/README.md`.
    key: &'static str,
    /// Texts that the command contains.
    command: &'static [&'static str],
    /// Texts of which a command before contains one; empty if no command before matters.
    before: &'static [&'static str],
    /// The exit codes of shell DKMS and ours; empty if they must be the same.
    exits: &'static [(i32, i32)],
    /// How a difference other than the exit code may begin: its aspect, whose it is, and after a `*` any text that follows.
    /// All others need another reason.
    facts: &'static [&'static str],
}

/// The state of one module is another one: it is installed by one side only, or under another name.
const STATE: &[&str] = &["tree only", "modules only"];

/// A source or its link is deleted.
const BROKEN: &[&str] = &["rm -rf /usr/src/", "rm -f /var/lib/dkms/"];

const REASONS: &[Reason] = &[
    Reason {
        key: "named-is-wanted",
        command: &["dkms install"],
        before: &[],
        exits: &[(6, 0)],
        facts: STATE,
    },
    Reason {
        key: "named-is-wanted",
        command: &["common.postinst"],
        before: &[],
        exits: &[(6, 0)],
        facts: STATE,
    },
    Reason {
        key: "what-is-damaged-is-mended",
        command: &["common.postinst"],
        before: BROKEN,
        exits: &[(4, 0)],
        facts: &["tree only ours", "modules only ours"],
    },
    Reason {
        key: "what-is-damaged-is-mended",
        command: &["install"],
        before: &["--no-depmod"],
        exits: &[],
        facts: &["modules only ours: */modules.dep "],
    },
    Reason {
        key: "what-cannot-be-installed-is-not-built",
        command: &["dkms install", "-k 9.9", "--kernelsourcedir /lib"],
        before: &[],
        exits: &[(10, 6)],
        facts: &["tree only Debian"],
    },
    Reason {
        key: "what-has-changed-is-built-again",
        command: &["dkms status"],
        before: &["--directive=STRIP=no"],
        exits: &[],
        facts: &["status only Debian: *: installed", "status only ours: *(Differences between"],
    },
    Reason {
        key: "no-silent-failure",
        command: &["dkms autoinstall"],
        before: BROKEN,
        exits: &[(0, 11)],
        facts: &[],
    },
    Reason {
        key: "depmod-after-changes-only",
        command: &["common.postinst"],
        before: &["--no-depmod"],
        exits: &[],
        facts: &["modules only Debian: */modules.dep "],
    },
    Reason {
        key: "a-directive-may-have-a-number",
        command: &["--directive DEST_MODULE_NAME[0]=other"],
        before: &[],
        exits: &[],
        facts: STATE,
    },
    Reason {
        key: "optional-modules-break-no-transaction",
        command: &["common.postinst"],
        before: &[],
        exits: &[(13, 0), (10, 0)],
        facts: &["tree only", "modules only ours"],
    },
    Reason {
        // The exit code is that of the last command in this line.
        key: "what-is-broken-can-be-removed",
        command: &["dkms remove hello/1.0 --all; "],
        before: BROKEN,
        exits: &[],
        facts: &["tree only Debian: hello/", "modules only Debian"],
    },
    Reason {
        key: "what-is-broken-can-be-removed",
        command: &["dkms remove"],
        before: BROKEN,
        exits: &[(4, 0)],
        facts: &["tree only Debian", "modules only Debian"],
    },
    Reason {
        key: "what-is-broken-can-be-removed",
        command: &["dkms kernel_prerm"],
        before: BROKEN,
        exits: &[(14, 0)],
        facts: &["tree only Debian", "modules only Debian"],
    },
    Reason {
        key: "what-is-broken-can-be-removed",
        command: &["dkms un"],
        before: BROKEN,
        exits: &[(4, 0)],
        facts: &["tree only Debian", "modules only Debian"],
    },
    Reason {
        key: "every-kernel-counts",
        command: &["-k $K -k $K2"],
        before: &[],
        exits: &[(0, 21), (0, 77), (0, 13), (0, 6)],
        facts: &[],
    },
    Reason {
        key: "excluded-is-excluded",
        command: &["dkms install", "--directive=BUILD_EXCLUSIVE_KERNEL=^9"],
        before: &[],
        exits: &[(6, 77)],
        facts: &[],
    },
];

impl Reason {
    fn explains(&self, divergence: &Divergence) -> bool {
        let Some((command, before)) = divergence.commands.split_last() else { return false };
        let differs = |(aspect, text): &(String, String)| match aspect.as_str() {
            "exit" => self.exits.iter().any(|(shell, ours)| *text == format!("Debian {shell}, ours {ours}")),
            _ => self.facts.iter().any(|fact| {
                let (begin, rest) = fact.split_once('*').unwrap_or((fact, ""));
                let line = format!("{aspect} {text}");
                line.strip_prefix(begin).is_some_and(|after| after.contains(rest))
            }),
        };
        self.command.iter().all(|text| command.contains(text))
            && (self.before.is_empty()
                || before.iter().any(|earlier| self.before.iter().any(|text| earlier.contains(text))))
            && divergence.differences.iter().all(differs)
            // Other exit codes are what such a reason is about.
            && (self.exits.is_empty() || divergence.differences.iter().any(|(aspect, _)| aspect == "exit"))
    }
}

/// The key of the deliberate difference that explains all of a divergence.
pub fn key(divergence: &Divergence) -> Option<&'static str> {
    REASONS.iter().find(|reason| reason.explains(divergence)).map(|reason| reason.key)
}

#[cfg(test)]
mod tests {
    use super::super::scenario;
    use super::{Divergence, REASONS, key};

    fn divergence(commands: &[&str], differences: &[(&str, &str)]) -> Divergence {
        let owned = |(aspect, text): &(&str, &str)| ((*aspect).to_owned(), (*text).to_owned());
        Divergence {
            sequence: "1".to_owned(),
            commands: commands.iter().map(|command| (*command).to_owned()).collect(),
            differences: differences.iter().map(owned).collect(),
        }
    }

    #[test]
    fn every_reason_is_listed() {
        let listed = scenario::explained();
        for reason in REASONS {
            assert!(listed.iter().any(|key| key == reason.key), "{}", reason.key);
        }
    }

    #[test]
    fn a_reason_explains_all_of_a_divergence_or_nothing() {
        let exit = ("exit", "Debian 14, ours 0");
        let index = ("modules", "only Debian: 6.12/modules.dep updates/dkms/hello.ko.xz:");
        let less = ("modules", "only Debian: updates/dkms/hello.ko.xz f");
        let more = ("modules", "only ours: updates/dkms/hello.ko.xz f");
        let broken = ["rm -rf /usr/src/hello-1.0", "dkms kernel_prerm -k $K"];
        assert_eq!(key(&divergence(&broken, &[exit, less])), Some("what-is-broken-can-be-removed"));
        assert_eq!(key(&divergence(&broken, &[exit, more])), None);
        assert_eq!(key(&divergence(&broken[1..], &[exit, less])), None, "nothing is broken");
        assert_eq!(key(&divergence(&broken, &[("exit", "Debian 0, ours 14")])), None);
        let unindexed = ["dkms install hello/1.0 --no-depmod", "/usr/lib/dkms/common.postinst world 1.0"];
        assert_eq!(key(&divergence(&unindexed, &[index])), Some("depmod-after-changes-only"));
        assert_eq!(key(&divergence(&unindexed, &[index, less])), None);
    }
}
