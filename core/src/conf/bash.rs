//! Evaluates configuration files with bash itself, confined and for at most two seconds, and remembers the
//! values: a file that did not change costs no process the next time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{ConfError, Context, RawConf, Recipe};
use crate::sys::confine::Spec;
use crate::sys::run::Output;
use crate::sys::{file, hash};

/// How long a configuration file may take on the clock; of processor time it gets two seconds. A machine that is
/// busy with something else must not make a good file look bad.
const LIMIT: Duration = Duration::from_secs(20);
/// The driver's status when a file cannot be read by the user that it runs as.
const UNREADABLE: i32 = 66;
/// What bash's status is after SIGXCPU, as seen through the confinement.
const OUT_OF_TIME: [i32; 2] = [128 + 24, 128 + 9];

/// The variables of dkms.conf(5) that we use.
const VARIABLES: &str = "PACKAGE_NAME PACKAGE_VERSION POST_ADD POST_BUILD POST_INSTALL POST_REMOVE PRE_BUILD \
    PRE_INSTALL BUILD_DEPENDS BUILD_DEPENDS_REBUILD BUILD_EXCLUSIVE_ARCH BUILD_EXCLUSIVE_CONFIG \
    BUILD_EXCLUSIVE_KERNEL BUILD_EXCLUSIVE_KERNEL_MIN BUILD_EXCLUSIVE_KERNEL_MAX OBSOLETE_BY MAKE MAKE_MATCH \
    PATCH PATCH_MATCH BUILT_MODULE_NAME BUILT_MODULE_LOCATION DEST_MODULE_NAME DEST_MODULE_LOCATION STRIP \
    AUTOINSTALL NO_WEAK_MODULES";

/// Sources the files that follow `--`, then prints `name NUL index NUL value NUL` for each set element, and a
/// closing mark: without it the file ended the shell. What the file itself prints is thrown away.
const DRIVER: &str = r#"
for __fd in /proc/self/fd/*; do case ${__fd##*/} in [012]|*[!0-9]*) ;; *) eval "exec ${__fd##*/}>&-" ;; esac; done
ulimit -f 20480 -t 2
exec 4>&1 >/dev/null
__names=$1; shift
while [[ $1 != -- ]]; do printf -v "${1%%=*}" %s "${1#*=}"; shift; done
shift
__files=("$@"); set --
for __file in "${__files[@]}"; do [[ -r $__file ]] || exit 66; . "$__file"; done
set +eux; unset -f printf eval builtin; IFS=$' \t\n'
__show() { builtin printf '%s\0%s\0%s\0' "$@" >&4; }
for __name in $__names; do
    builtin eval "__indices=(\"\${!$__name[@]}\")"
    for __i in "${__indices[@]}"; do
        builtin eval "__value=\${$__name[\$__i]}"
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
__show =end 0 yes
exit 0
"#;

/// The recipe of a module for one kernel: its dkms.conf and the admin's overrides.
pub fn recipe(
    conf: &Path,
    context: &Context<'_>,
    config: Option<&BTreeMap<String, String>>,
) -> Result<std::result::Result<Recipe, ConfError>> {
    let mut files = vec![conf.to_owned()];
    files.extend(
        context.layout.overrides(context.module, context.target).into_iter().filter(|path| path.exists()),
    );
    let text = |path: &Path| path.display().to_string();
    let variables = [
        ("dkms_tree", text(&context.layout.dkms_tree)),
        ("source_tree", text(&context.layout.source_tree)),
        ("install_tree", text(&context.layout.install_tree)),
        ("kernel_source_dir", text(context.headers)),
        ("kernelver", context.target.kernel.to_string()),
        ("arch", context.target.arch.to_string()),
        ("module", context.module.name.to_string()),
        ("module_version", context.module.version.to_string()),
        // nvidia's MAKE has `${parallel_jobs+-j$parallel_jobs}`. The number is known when MAKE runs: until then it stands
        // for itself, and a recipe is the same whatever the number.
        ("parallel_jobs", "$parallel_jobs".to_owned()),
    ];
    let raw = match evaluate(&files, VARIABLES, &variables, context.identity, &context.layout.evaluated())? {
        Ok(raw) => raw,
        Err(error) => return Ok(Err(error)),
    };
    Ok(Recipe::from_raw(&raw, context, config)
        .map_err(|problems| ConfError::Bad { file: conf.to_owned(), problems }))
}

/// Plain variables of framework.conf and its drop-ins.
pub fn framework(
    files: &[PathBuf],
    names: &str,
    memory: &Path,
) -> Result<std::result::Result<RawConf, ConfError>> {
    // The files refer to $kernelver, which is known only later: it stands for itself.
    evaluate(files, names, &[("kernelver", "$kernelver".to_owned())], "", memory)
}

fn evaluate(
    files: &[PathBuf],
    names: &str,
    variables: &[(&str, String)],
    identity: &str,
    memory: &Path,
) -> Result<std::result::Result<RawConf, ConfError>> {
    let mut key = vec![DRIVER.to_owned(), names.to_owned(), identity.to_owned(), running_kernel()];
    key.extend(variables.iter().map(|(name, value)| format!("{name}={value}")));
    for path in files {
        let content = match std::fs::read(path) {
            Ok(content) => content,
            Err(error) => {
                return Ok(Err(ConfError::Unreadable { file: path.clone(), why: error.to_string() }));
            }
        };
        key.push(format!("{} {}", path.display(), hash::hex(&content)));
    }
    let memory = memory.join(format!("{}.json", hash::hex(key.join("\0").as_bytes())));
    if let Some(raw) = std::fs::read(&memory).ok().and_then(|json| serde_json::from_slice(&json).ok()) {
        return Ok(Ok(raw));
    }
    let raw = match run(files, names, variables)? {
        Ok(raw) => raw,
        Err(error) => return Ok(Err(error)),
    };
    // Not being able to remember costs time, not correctness: `status` runs without root, too.
    let _ = file::write_atomic(&memory, &serde_json::to_vec(&raw)?, 0o644);
    Ok(Ok(raw))
}

fn running_kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

fn run(
    files: &[PathBuf],
    names: &str,
    variables: &[(&str, String)],
) -> Result<std::result::Result<RawConf, ConfError>> {
    let mut argv: Vec<String> = ["bash", "--noprofile", "--norc", "-c", DRIVER, "dkms.conf", names]
        .iter()
        .map(|word| (*word).to_owned())
        .collect();
    argv.extend(variables.iter().map(|(name, value)| format!("{name}={value}")));
    argv.push("--".to_owned());
    argv.extend(files.iter().map(|path| path.display().to_string()));
    let first = files.first().context("no configuration file given")?;
    let mut spec = Spec {
        argv,
        env: vec![("LC_ALL".into(), "C.UTF-8".into()), ("HOME".into(), "/".into())],
        cwd: "/".into(),
        writable: Vec::new(),
        visible: files.to_vec(),
        trusted: false,
    };
    let evaluate = |spec: &Spec| {
        spec.command()?.output(Output::Split).limit(LIMIT).run().context("evaluating dkms.conf")
    };
    let mut done = evaluate(&spec)?;
    if done.code() == UNREADABLE {
        // We have read it: it is for root's eyes only, and so root's own word.
        spec.trusted = true;
        done = evaluate(&spec)?;
    }
    let bad = |problem: String| Ok(Err(ConfError::Bad { file: first.clone(), problems: vec![problem] }));
    if done.timed_out || OUT_OF_TIME.contains(&done.code()) {
        return bad("its evaluation took too long and was stopped: does it loop?".to_owned());
    }
    let said = String::from_utf8_lossy(&done.errors).into_owned();
    // bash goes on after a syntax error, with whatever came before it: half a configuration.
    let syntax = said.lines().find(|line| line.contains(": line ") && line.contains(": syntax error"));
    let why = match parse(&done.output) {
        Ok(Some(raw)) if syntax.is_none() => return Ok(Ok(raw)),
        Ok(_) => syntax.or(said.lines().last()).unwrap_or_default().trim().to_owned(),
        Err(problem) => return bad(problem),
    };
    let carriage = std::fs::read(first).is_ok_and(|content| content.windows(2).any(|two| two == b"\r\n"));
    bad(match why.as_str() {
        _ if carriage => "bash cannot read it: its lines end in CR LF; convert them to LF".to_owned(),
        "" => format!("it ends the shell that reads it (exit code {})", done.code()),
        said => format!("bash cannot read it: {said}"),
    })
}

/// Reads what the driver printed. `None` when the closing mark is missing.
fn parse(output: &[u8]) -> std::result::Result<Option<RawConf>, String> {
    let mut raw = RawConf::default();
    let mut fields = output.split(|byte| *byte == 0);
    let mut ended = false;
    while let (Some(name), Some(index), Some(value)) = (fields.next(), fields.next(), fields.next()) {
        let name = String::from_utf8_lossy(name).into_owned();
        let index: usize = std::str::from_utf8(index)
            .ok()
            .and_then(|index| index.parse().ok())
            .ok_or_else(|| format!("{name} has an index that is no number"))?;
        match name.as_str() {
            "=make" => raw.make_matches.push(index),
            "=patch" => raw.patch_matches.push(index),
            "=kernel" => raw.kernel_matches = true,
            "=arch" => raw.arch_matches = true,
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
    use crate::layout::Layout;
    use crate::types::Target;

    fn conf(text: &[u8]) -> std::result::Result<RawConf, ConfError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dkms.conf");
        file::write_atomic(&path, text, 0o644).unwrap();
        let variables = [("kernelver", "6.12.1".to_owned()), ("arch", "x86_64".to_owned())];
        evaluate(&[path], VARIABLES, &variables, "", &dir.path().join("memory")).unwrap()
    }

    #[test]
    fn arrays_gaps_expansions_and_noise() {
        let raw = conf(
            b"echo noise\nPACKAGE_NAME=a\nBUILT_MODULE_NAME[3]=\"$PACKAGE_NAME-3\"\nMAKE=\"make K=$kernelver\"\n\
              PATCH[0]=x\nPATCH_MATCH[0]='^6\\.'\nBUILT_MODULE_LOCATION+=(d e)\n",
        )
        .unwrap();
        assert_eq!(raw.at("BUILT_MODULE_NAME", 3), "a-3");
        assert_eq!(raw.at("BUILT_MODULE_NAME", 0), "");
        assert_eq!(raw.get("MAKE"), "make K=6.12.1");
        assert_eq!(raw.at("BUILT_MODULE_LOCATION", 1), "e");
        assert_eq!(raw.patch_matches, [0]);
        assert!(raw.kernel_matches && raw.arch_matches);
    }

    #[test]
    fn the_number_of_jobs_is_left_to_the_build() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout { dkms_tree: dir.path().into(), etc: dir.path().into(), ..Layout::default() };
        let conf = dir.path().join("dkms.conf");
        let text = b"PACKAGE_NAME=a\nPACKAGE_VERSION=1\nDEST_MODULE_LOCATION=/extra\n\
            MAKE=\"env V=1 make ${parallel_jobs+-j$parallel_jobs} modules\"\n";
        file::write_atomic(&conf, text, 0o644).unwrap();
        let target = Target { kernel: "6.1".parse().unwrap(), arch: "x86_64".parse().unwrap() };
        let (module, headers) = ("a/1".parse().unwrap(), layout.headers(&target.kernel));
        let context =
            Context { layout: &layout, module: &module, target: &target, headers: &headers, identity: "" };
        let recipe = recipe(&conf, &context, None).unwrap().unwrap();
        assert_eq!(recipe.make, "env V=1 make -j$parallel_jobs modules");
    }

    #[test]
    fn a_conf_that_misbehaves_is_named_for_what_it_does() {
        let rows: [(&[u8], &str); 5] = [
            (b"while :; do :; done", "took too long"),
            (b"exit 3", "ends the shell"),
            (b"if true; then", "syntax error"),
            (b"PACKAGE_NAME=\xff\xfe", "not UTF-8"),
            (b"if true; then\r\nX=1\r\nfi\r\n", "CR LF"),
        ];
        for (text, expected) in rows {
            let error = conf(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{}: {error}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn carriage_returns_of_a_plain_conf_do_no_harm() {
        assert_eq!(conf(b"PACKAGE_NAME=a\r\nPACKAGE_VERSION=\"1\"\r\n").unwrap().get("PACKAGE_VERSION"), "1");
    }
}
