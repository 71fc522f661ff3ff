//! Evaluates with bash and natively.

use std::path::PathBuf;
use std::process::Command;

use super::super::{NotDeclarative, evaluate};
use crate::conf::RawConf;
use crate::conf::bash::{self, Verdict};
use crate::conf::evaluate::Inputs;

const NAMES: &str =
    "A B LIST MAKE MAKE_MATCH PATCH PATCH_MATCH PACKAGE_NAME BUILD_EXCLUSIVE_KERNEL BUILD_EXCLUSIVE_ARCH";

/// Runs the driver once for each text. A shell for each text would take ten times as long.
const MANY: &str = r#"
__driver=$1 __names=$2 __dir=$3 __count=$4; set -- "${@:5}"
for ((__n = 0; __n < __count; __n++)); do
    ( set -- "$__names" "$@" -- "$__dir/$__n"; eval "$__driver" ) >"$__dir/$__n.out" 2>"$__dir/$__n.err"
    echo $? >"$__dir/$__n.code"
done
"#;

/// The inputs of a text, for a kernel and the other variables of a dkms.conf.
pub(super) fn inputs(text: &str) -> Inputs<'static> {
    let variables = vec![
        ("kernelver", "6.12.1-rt5+deb13-amd64".to_owned()),
        ("arch", "x86_64".to_owned()),
        ("kernel_source_dir", "/lib/modules/6.12.1-rt5+deb13-amd64/build".to_owned()),
        ("dkms_tree", "/var/lib/dkms".to_owned()),
    ];
    Inputs { files: vec![(PathBuf::new(), text.into())], names: NAMES, variables, directives: &[] }
}

/// The native result.
pub(super) fn native(text: &str) -> Result<RawConf, NotDeclarative> {
    evaluate(&inputs(text))
}

/// Bash's results. `BASH_UNDER_TEST` selects another bash than that of the machine.
#[allow(clippy::disallowed_methods)] // not the confined one: a thousand of them would take minutes
pub(super) fn bash(texts: &[String]) -> Vec<Verdict> {
    let dir = tempfile::tempdir().unwrap();
    let place = |number: usize, suffix: &str| dir.path().join(format!("{number}{suffix}"));
    for (number, text) in texts.iter().enumerate() {
        std::fs::write(place(number, ""), text).unwrap();
    }
    let mut command = Command::new(std::env::var("BASH_UNDER_TEST").unwrap_or("bash".into()));
    command.args(["--noprofile", "--norc", "-c", MANY, "dkms.conf", bash::DRIVER, NAMES]);
    command.arg(dir.path()).arg(texts.len().to_string()).current_dir("/").env_clear();
    command.args(inputs("").variables.iter().map(|(name, value)| format!("{name}={value}")));
    command.env("PATH", crate::sys::run::PATH).env("LC_ALL", "C.UTF-8").env("HOME", "/");
    assert!(command.status().unwrap().success());
    let verdict = |(number, text): (usize, &String)| {
        let read = |suffix: &str| std::fs::read(place(number, suffix)).unwrap();
        let code = String::from_utf8(read(".code")).unwrap().trim().parse().unwrap();
        bash::verdict(&inputs(text), code, &read(".out"), &read(".err"))
    };
    texts.iter().enumerate().map(verdict).collect()
}

/// The first text whose native result differs from bash's.
pub(super) fn disagreement(texts: &[String]) -> Option<String> {
    // Texts that are left to bash cannot differ.
    let ours: Vec<(String, RawConf)> =
        texts.iter().filter_map(|text| Some((text.clone(), native(text).ok()?))).collect();
    let asked: Vec<String> = ours.iter().map(|(text, _)| text.clone()).collect();
    let differs = |((text, ours), bash): ((String, RawConf), Verdict)| {
        (bash != Verdict::Values(ours.clone()))
            .then(|| format!("{text}\n---- {text:?}\n---- we say\n{ours:?}\n---- bash says\n{bash:?}"))
    };
    ours.into_iter().zip(bash(&asked)).find_map(differs)
}
