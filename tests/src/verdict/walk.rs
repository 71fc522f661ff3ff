//! Random walks: many short sequences of commands in one root, each from the same beginning. After the first difference of a
//! sequence, the two sides are in different states, and the rest of it is not compared.

use super::compare::after;
use super::run::Verdict;
use super::{Scenario, Side};
use crate::random::Random;

/// Marks the beginning of a sequence.
const BEGIN: &str = ": sequence";

/// The first difference of a sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Divergence {
    /// The number of the sequence.
    pub sequence: String,
    /// The commands so far; the last one differs.
    pub commands: Vec<String>,
    /// The differences: aspect and text.
    pub differences: Vec<(String, String)>,
}

/// The initial state, and how to return to it.
const SETUP: &str = "setup() { rm -rf /var/lib/dkms/* /usr/src/hello-* /usr/src/world-* /usr/src/chain-* /opt/dir; \
    rm -rf /lib/modules/*/updates /lib/modules/*/extra /etc/dkms/*.conf.d/walk.conf; cp -a /opt/keys/. /var/lib/dkms/; \
    depmod $K; depmod $K2; \
    ready hello 1.0; ready hello 2.0; ready world 1.0; ready_at /usr/src/chain-1.0 chain 1.0 moon; \
    conf chain 1.0 'BUILD_DEPENDS[0]=\"world\"'; }; mkdir -p /opt/keys; cp -a /var/lib/dkms/mok.* /opt/keys/ 2>/dev/null || true";

/// A scenario of sequences with these numbers, which are also their seeds.
pub fn scenario(sequences: std::ops::Range<u64>, length: usize) -> Scenario {
    let mut lines = vec![SETUP.to_owned()];
    let title = format!("sequences {sequences:?} of {length}");
    for seed in sequences {
        lines.push("setup".to_owned());
        lines.push(format!("$ {BEGIN} {seed}"));
        let mut random = Random::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        lines.extend((0..length).map(|_| format!("$ {}", command(&mut random))));
    }
    Scenario { title, declared: Vec::new(), lines }
}

/// Any of these.
fn pick<'a>(random: &mut Random, of: &[&'a str]) -> &'a str {
    of[random.below(of.len() as u64) as usize]
}

/// One command.
fn command(random: &mut Random) -> String {
    let module = pick(random, &["hello/1.0", "hello/1.0", "hello/2.0", "world/1.0", "chain/1.0"]);
    let (name, version) = module.split_once('/').unwrap_or((module, ""));
    let kernels =
        pick(random, &["-k $K", "-k $K", "-k $K2", "-k $K -k $K2", "-k $K/$A", "-k $K -a $A", "-k 9.9"]);
    let odd = pick(
        random,
        &[
            "",
            "",
            "",
            "--force",
            "--no-depmod",
            "-q",
            "--directive=STRIP=no",
            "--directive DEST_MODULE_NAME[0]=other",
            "--directive=BUILD_EXCLUSIVE_KERNEL=^9",
            "--kernelsourcedir /lib/modules/$K/build",
            "--kernelsourcedir=/nowhere",
            "--verbose",
        ],
    );
    match random.below(24) {
        0 | 1 => format!("dkms add {module}"),
        2 => format!("dkms add -m {name} -v {version}"),
        3..=5 => format!("dkms build {module} {kernels} {odd}"),
        6..=10 => format!("dkms install {module} {kernels} {odd}"),
        11 => format!("dkms uninstall {module} {kernels}"),
        12 => format!("dkms unbuild {module} {kernels}"),
        13 => format!("dkms remove {module} {kernels}"),
        14 => format!("dkms remove {module} --all"),
        15 => format!("dkms autoinstall -k {}", pick(random, &["$K", "$K2"])),
        16 => format!(
            "dkms status {}",
            pick(random, &["", "-k $K", "hello", "hello/1.0", "-m world", "-k 9.9"])
        ),
        17 => format!("dkms kernel_prerm -k {}", pick(random, &["$K", "$K2"])),
        18 => format!("dkms kernel_postinst -k {}", pick(random, &["$K", "$K2"])),
        // A package is installed, or upgraded.
        19 => format!("/usr/lib/dkms/common.postinst {name} {version} '' '' ''"),
        20 => "dkms remove hello/1.0 --all; rm -rf /usr/src/hello-1.0; \
               /usr/lib/dkms/common.postinst hello 2.0 '' '' 1.0"
            .to_owned(),
        // Registrations are broken, and repaired.
        21 => format!("rm -rf /usr/src/{name}-{version}"),
        22 => format!("rm -f /var/lib/dkms/{module}/source"),
        _ => format!("ready {name} {version} {}", if name == "chain" { "moon" } else { name }),
    }
}

/// The first difference of each sequence.
pub fn divergences(reference: &Verdict, ours: &Verdict) -> Vec<Divergence> {
    let mut found: Vec<Divergence> = Vec::new();
    let mut sequence = String::new();
    let mut commands: Vec<String> = Vec::new();
    for (theirs, ours) in reference.steps.iter().zip(&ours.steps) {
        if let Some(number) = theirs.command.strip_prefix(BEGIN) {
            sequence = number.trim().to_owned();
            commands.clear();
            continue;
        }
        commands.push(theirs.command.clone());
        if found.last().is_some_and(|last| last.sequence == sequence) {
            continue;
        }
        let differences = after(theirs, ours);
        if !differences.is_empty() {
            found.push(Divergence { sequence: sequence.clone(), commands: commands.clone(), differences });
        }
    }
    found
}

/// Plays both sides.
pub fn play(scenario: &Scenario, reference: &Side, ours: &Side) -> Result<Vec<Divergence>, String> {
    Ok(divergences(&reference.remembered("walk", scenario)?, &ours.play(scenario)?))
}
