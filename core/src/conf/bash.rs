//! Evaluates configuration files with bash, in a sandbox and for at most two seconds.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::RawConf;
use super::evaluate::{Inputs, Question};
use crate::layout::Layout;
use crate::sys::confine::Spec;
use crate::sys::inside;
use crate::sys::overlay::Layers;
use crate::sys::plain::plain;
use crate::sys::run::Output;

/// The limit in elapsed time; the limit in processor time is two seconds. A good file must not fail on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);
/// The exit status of bash after SIGXCPU, as seen through the sandbox.
const OUT_OF_TIME: i32 = 128 + 24;
/// The exit status after SIGKILL: it ignored SIGXCPU, or the machine ran out of memory.
const KILLED: i32 = 128 + 9;

/// Maximum output in bytes; more than any real file needs.
const OUTPUT_LIMIT: usize = 1 << 20;
/// The number of messages of a valid file that are kept.
const MESSAGES_KEPT: usize = 5;
/// The part of its standard error that is examined.
const ERRORS_KEPT: usize = 64 << 10;

/// Sources the files that follow `--` in the directory `__dir`, if it is readable, and sets the variables that are given there as `=NAME=VALUE`; then prints `name
/// NUL index NUL value NUL` for each set element, and a closing mark: if this is missing, the file ended the shell.
/// Output of the files is discarded.
///
/// Everything that is printed comes from the file, including the mark: a file can only lie about itself. Whether the
/// shell ran, and how it ended, is reported by the processes that confine it. A file that the shell may not open is
/// passed as a descriptor: the first has number 100.
pub(super) const DRIVER: &str = r#"
ulimit -f 20480 -t 3; ulimit -S -t 2
exec 4>&1 >/dev/null
__dir=
__names=$1; shift
while [[ $1 != -- ]]; do printf -v "${1%%=*}" %s "${1#*=}"; shift; done
shift
[[ ! $__dir ]] || cd -- "$__dir" 2>/dev/null
__files=("$@"); set --
override_dest_module_location() { echo "${__destination:-$1}"; }
__fd=100
for __file in "${__files[@]}"; do
    if [[ $__file = =* ]]; then __file=${__file#=}; printf -v "${__file%%=*}" %s "${__file#*=}"; continue; fi
    [[ -r $__file ]] || __file=/proc/self/fd/$__fd
    (( ++__fd ))
    . "$__file"
done
set +eux; unset -f printf eval builtin; IFS=$' \t\n'
__show() { builtin printf '%s\0%s\0%s\0' "$@" >&4; }
for __name in $__names; do
    builtin eval "__indices=(\"\${!$__name[@]}\")"
    for __i in "${__indices[@]}"; do
        builtin eval "__value=\${$__name[\$__i]}"
        builtin printf -v "$__name[$__i]" %s "${__value%$'\r'}"
        __show "$__name" "$__i" "${__value%$'\r'}"
    done
done
for __i in "${!MAKE_MATCH[@]}"; do
    [[ ${MAKE_MATCH[$__i]} && $kernelver =~ ${MAKE_MATCH[$__i]} ]] && __show =make "$__i" yes
done
for __i in "${!PATCH_MATCH[@]}"; do
    [[ ${PATCH_MATCH[$__i]} && $kernelver =~ ${PATCH_MATCH[$__i]} ]] && __show =patch "$__i" yes
done
[[ ! $BUILD_EXCLUSIVE_KERNEL || $kernelver =~ $BUILD_EXCLUSIVE_KERNEL ]] && __show =kernel 0 yes
[[ ! $BUILD_EXCLUSIVE_ARCH || $arch =~ $BUILD_EXCLUSIVE_ARCH ]] && __show =arch 0 yes
for __i in "${!BUILD_EXCLUSIVE_KERNEL[@]}"; do
    (( __i )) && [[ ! $kernelver =~ ${BUILD_EXCLUSIVE_KERNEL[$__i]} ]] && __show =kernel-miss "$__i" yes
done
for __i in "${!BUILD_EXCLUSIVE_ARCH[@]}"; do
    (( __i )) && [[ ! $arch =~ ${BUILD_EXCLUSIVE_ARCH[$__i]} ]] && __show =arch-miss "$__i" yes
done
__show =end 0 yes
exit 0
"#;

/// The one function of shell DKMS that public dkms.conf files call: it prints where modules with this destination are
/// installed.
pub(super) const OVERRIDE: &str = "override_dest_module_location";

/// The result of evaluating configuration files with bash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// The files are valid.
    Values(RawConf),
    /// The files are invalid, for this reason. Another attempt has the same result.
    Bad(String),
    /// The attempt failed, and it is unknown whether the files or the machine caused it.
    Failed(String),
}

/// The name of this request from a confined process: a [`Question`], answered by a [`Verdict`].
pub const EVALUATE: &str = "evaluate";

/// Evaluates files in order in one shell.
pub fn evaluate(inputs: &Inputs<'_>) -> Result<Verdict> {
    inside::outside(EVALUATE, &Question::from(inputs)).unwrap_or_else(|| evaluate_below(inputs, None))
}

/// The same with an overlay. Programs in the overlay can be called by the files, and by nothing else.
pub fn evaluate_below(inputs: &Inputs<'_>, layers: Option<&Layers>) -> Result<Verdict> {
    let mut argv: Vec<String> =
        ["bash", "--noprofile", "--norc", "-c", DRIVER, Layout::PROGRAM, inputs.names]
            .iter()
            .map(|word| (*word).to_owned())
            .collect();
    argv.extend(inputs.variables.iter().map(|(name, value)| format!("{name}={value}")));
    // A relative `. ./file` means a file of the source, wherever dkms was started.
    let dir = inputs.files.first().and_then(|(path, _)| path.parent());
    argv.extend(dir.map(|dir| format!("__dir={}", dir.display())));
    argv.push("--".to_owned());
    argv.extend(inputs.files.iter().map(|(path, _)| path.display().to_string()));
    argv.extend(inputs.directives.iter().map(|(name, value)| format!("={name}={value}")));
    let spec = Spec {
        argv,
        env: vec![("LC_ALL".into(), "C.UTF-8".into()), ("HOME".into(), "/".into())],
        cwd: "/".into(),
        visible: inputs.files.iter().map(|(path, _)| path.clone()).chain(dir.map(Into::into)).collect(),
        handed: inputs.files.iter().map(|(_, content)| content.clone()).collect(),
        layers: layers.cloned(),
        ..Spec::default()
    };
    let done = spec.run(|cmd| cmd.output(Output::Split).limit(LIMIT)).context("evaluating dkms.conf")?;
    if let Some(why) = &done.not_run {
        return Ok(Verdict::Failed(format!("it could not be evaluated: {why}")));
    }
    let slow = "evaluation timed out (endless loop?)".to_owned();
    match done.code() {
        _ if done.timed_out() => return Ok(Verdict::Failed(slow)),
        KILLED => return Ok(Verdict::Failed(slow)),
        OUT_OF_TIME => return Ok(Verdict::Bad(slow)),
        _ => {}
    }
    if done.output.len() > OUTPUT_LIMIT {
        return Ok(Verdict::Bad("its variables have more than a mebibyte".into()));
    }
    let errors = done.errors.get(..ERRORS_KEPT).unwrap_or(&done.errors);
    Ok(verdict(inputs, done.code(), &done.output, errors))
}

/// The result of a run of the driver that ended normally.
pub(super) fn verdict(inputs: &Inputs<'_>, code: i32, output: &[u8], errors: &[u8]) -> Verdict {
    let said = plain(&String::from_utf8_lossy(errors));
    // bash continues after a syntax error with the values before it: half a configuration.
    let syntax = said.lines().find(|line| line.contains(": line ") && line.contains(": syntax error"));
    let why = match parse(output) {
        Ok(Some(raw)) if syntax.is_none() => {
            let said = said.lines().filter(|line| !line.trim().is_empty()).take(MESSAGES_KEPT);
            return Verdict::Values(RawConf { said: said.map(str::to_owned).collect(), ..raw });
        }
        Ok(_) => syntax.or(said.lines().last()).unwrap_or_default().trim().to_owned(),
        Err(problem) => return Verdict::Bad(problem),
    };
    let carriage = inputs.files.iter().any(|(_, content)| content.windows(2).any(|two| two == b"\r\n"));
    let problem = match why.as_str() {
        _ if carriage => "bash cannot evaluate it: it has CRLF line endings; convert them to LF".to_owned(),
        "" => format!("it exits the shell that evaluates it (exit code {code})"),
        said => format!("bash cannot evaluate it: {said}"),
    };
    // A shell that was not started, or got no memory, prints a message, too.
    if syntax.is_some() || why.is_empty() { Verdict::Bad(problem) } else { Verdict::Failed(problem) }
}

/// Parses the output of the driver. `None` if the closing mark is missing.
fn parse(output: &[u8]) -> std::result::Result<Option<RawConf>, String> {
    let mut raw = RawConf::default();
    let mut fields = output.split(|byte| *byte == 0);
    let mut ended = false;
    while let (Some(name), Some(index), Some(value)) = (fields.next(), fields.next(), fields.next()) {
        let name = String::from_utf8_lossy(name).into_owned();
        let index: usize = std::str::from_utf8(index)
            .ok()
            .and_then(|index| index.parse().ok())
            .ok_or_else(|| format!("{name} has an index that is not a number"))?;
        match name.as_str() {
            "=make" => raw.make_matches.push(index),
            "=patch" => raw.patch_matches.push(index),
            "=kernel" => raw.kernel_matches = true,
            "=arch" => raw.arch_matches = true,
            "=kernel-miss" => raw.kernel_misses.push(index),
            "=arch-miss" => raw.arch_misses.push(index),
            "=end" => ended = true,
            _ => {
                let value = std::str::from_utf8(value)
                    .map_err(|_| format!("the value of {name}[{index}] is not UTF-8"))?;
                raw.values.entry(name).or_default().insert(index, value.to_owned());
            }
        }
    }
    Ok(ended.then_some(raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &str = "PACKAGE_NAME PACKAGE_VERSION MAKE PATCH BUILT_MODULE_NAME BUILT_MODULE_LOCATION BUILD_EXCLUSIVE_KERNEL BUILD_EXCLUSIVE_ARCH MAKE_MATCH";

    fn conf(text: &[u8]) -> Verdict {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dkms.conf");
        crate::sys::file::write_atomic(&path, text, 0o644).unwrap();
        let variables = vec![("kernelver", "6.12.1".to_owned()), ("arch", "x86_64".to_owned())];
        evaluate(&Inputs { files: vec![(path, text.to_owned())], names: NAMES, variables, directives: &[] })
            .unwrap()
    }

    fn values(text: &[u8]) -> RawConf {
        match conf(text) {
            Verdict::Values(raw) => raw,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn directives_come_last_and_count_as_text() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dkms.conf");
        let text = b"MAKE=make\nBUILT_MODULE_NAME[1]=b\nBUILD_EXCLUSIVE_KERNEL=^5\n";
        crate::sys::file::write_atomic(&path, text, 0o644).unwrap();
        let raw = |directives: &[(&str, &str)]| {
            let directives: Vec<(String, String)> =
                directives.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let variables = vec![("kernelver", "6.12.1".to_owned()), ("arch", "x86_64".to_owned())];
            let files = vec![(path.clone(), text.to_vec())];
            match evaluate(&Inputs { files, names: NAMES, variables, directives: &directives }).unwrap() {
                Verdict::Values(raw) => raw,
                other => panic!("{other:?}"),
            }
        };
        assert!(!raw(&[]).kernel_matches);
        let told = raw(&[
            ("MAKE", "make K=$kernelver 'a=b'"),
            ("BUILT_MODULE_NAME[0]", "a"),
            ("BUILD_EXCLUSIVE_KERNEL", "^6"),
        ]);
        assert_eq!(told.get("MAKE"), "make K=$kernelver 'a=b'");
        assert_eq!((told.at("BUILT_MODULE_NAME", 0), told.at("BUILT_MODULE_NAME", 1)), ("a", "b"));
        assert!(told.kernel_matches, "a directive is there before the rules are looked at");
    }

    #[test]
    fn a_conf_may_ask_where_modules_are_installed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dkms.conf");
        let text = format!("MAKE=\"make DIR=$({OVERRIDE} /extra)\"\n").into_bytes();
        crate::sys::file::write_atomic(&path, &text, 0o644).unwrap();
        let place = |variables: Vec<(&str, String)>| {
            let files = vec![(path.clone(), text.clone())];
            match evaluate(&Inputs { files, names: NAMES, variables, directives: &[] }).unwrap() {
                Verdict::Values(raw) => raw.get("MAKE").to_owned(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(place(Vec::new()), "make DIR=/extra");
        assert_eq!(place(vec![("__destination", "/updates/dkms".to_owned())]), "make DIR=/updates/dkms");
    }

    #[test]
    fn arrays_gaps_expansions_and_noise() {
        let raw = values(
            b"echo noise\nPACKAGE_NAME=a\nBUILT_MODULE_NAME[3]=\"$PACKAGE_NAME-3\"\nMAKE=\"make K=$kernelver\"\n\
              PATCH[0]=x\nPATCH_MATCH[0]='^6\\.'\nBUILT_MODULE_LOCATION+=(d e)\n",
        );
        assert_eq!(raw.at("BUILT_MODULE_NAME", 3), "a-3");
        assert_eq!(raw.at("BUILT_MODULE_NAME", 0), "");
        assert_eq!(raw.get("MAKE"), "make K=6.12.1");
        assert_eq!(raw.at("BUILT_MODULE_LOCATION", 1), "e");
        assert_eq!(raw.patch_matches, [0]);
        assert!(raw.kernel_matches && raw.arch_matches);
    }

    #[test]
    fn a_conf_that_misbehaves_is_named_for_what_it_does() {
        let rows: [(&[u8], &str); 5] = [
            (b"while :; do :; done", "timed out"),
            (b"exit 3", "exits the shell"),
            (b"if true; then", "syntax error"),
            (b"PACKAGE_NAME=\xff\xfe", "not UTF-8"),
            (b"if true; then\r\nX=1\r\nfi\r\n", "CRLF"),
        ];
        for (text, expected) in rows {
            // On a busy machine the loop may reach the limit in elapsed time first.
            let (Verdict::Bad(why) | Verdict::Failed(why)) = conf(text) else {
                panic!("{}", text.escape_ascii())
            };
            assert!(why.contains(expected), "{}: {why}", text.escape_ascii());
        }
    }

    #[test]
    fn a_shell_that_was_killed_may_do_better_next_time() {
        for text in [b"kill -KILL $$".as_slice(), b"echo 'cannot allocate memory' >&2; exit 2"] {
            assert!(matches!(conf(text), Verdict::Failed(_)), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn carriage_returns_of_a_plain_conf_do_no_harm() {
        let text = b"PACKAGE_NAME=a\r\nPACKAGE_VERSION=\"1\"\r\nBUILD_EXCLUSIVE_KERNEL=\"^6\\.12\"\r\nMAKE=x\r\nMAKE_MATCH[0]=\"1$\"\r\n";
        let raw = values(text);
        assert_eq!(raw.get("PACKAGE_VERSION"), "1");
        assert!(raw.kernel_matches && raw.make_matches == [0], "{raw:?}");
    }

    #[test]
    fn rules_for_single_modules_are_matched_one_by_one() {
        let raw = values(
            b"BUILD_EXCLUSIVE_KERNEL[1]='^5'\nBUILD_EXCLUSIVE_KERNEL[2]='^6'\nBUILD_EXCLUSIVE_KERNEL[7]='^6\\.1$'\n\
              BUILD_EXCLUSIVE_ARCH[0]='.*'\nBUILD_EXCLUSIVE_ARCH[3]='none'\n",
        );
        assert!(raw.kernel_matches && raw.arch_matches);
        assert_eq!((raw.kernel_misses, raw.arch_misses), (vec![1, 7], vec![3]));
    }
}
