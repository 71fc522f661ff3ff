//! Files → values: natively if they only assign, else by bash. bash's result is stored, so that an unchanged file costs
//! no process the next time.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::bash::{self, Verdict};
use super::{ConfError, Context, RawConf, Recipe, native};
use crate::kernel::Config;
use crate::sys::{file, hash};
use crate::types::Attempt;

/// The variables of dkms.conf(5) that we use, or report as deprecated.
pub const VARIABLES: &str = "PACKAGE_NAME PACKAGE_VERSION POST_ADD POST_BUILD POST_INSTALL POST_REMOVE PRE_BUILD \
    PRE_INSTALL BUILD_DEPENDS BUILD_DEPENDS_REBUILD BUILD_EXCLUSIVE_ARCH BUILD_EXCLUSIVE_CONFIG \
    BUILD_EXCLUSIVE_KERNEL BUILD_EXCLUSIVE_KERNEL_MIN BUILD_EXCLUSIVE_KERNEL_MAX OBSOLETE_BY MAKE MAKE_MATCH \
    PATCH PATCH_MATCH BUILT_MODULE_NAME BUILT_MODULE_LOCATION DEST_MODULE_NAME DEST_MODULE_LOCATION STRIP \
    AUTOINSTALL NO_WEAK_MODULES REMAKE_INITRD MODULES_CONF MODULES_CONF_OBSOLETES MODULES_CONF_ALIAS_TYPE \
    MODULES_CONF_OBSOLETE_ONLY";

/// Everything that an evaluation depends on.
#[derive(Debug, Clone)]
pub struct Inputs<'a> {
    /// Files that are read in order in one shell, with their contents.
    pub files: Vec<(PathBuf, Vec<u8>)>,
    /// The requested variables, separated by spaces.
    pub names: &'a str,
    /// Variables that the files may use.
    pub variables: Vec<(&'a str, String)>,
    /// Variables that are set after the files were read.
    pub directives: &'a [(String, String)],
}

/// The same in serializable form, for an evaluation outside of the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    files: Vec<(PathBuf, Vec<u8>)>,
    names: String,
    variables: Vec<(String, String)>,
    directives: Vec<(String, String)>,
}

impl From<&Inputs<'_>> for Question {
    fn from(inputs: &Inputs<'_>) -> Self {
        Self {
            files: inputs.files.clone(),
            names: inputs.names.to_owned(),
            variables: inputs
                .variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
            directives: inputs.directives.to_vec(),
        }
    }
}

impl Question {
    /// The inputs of this request.
    pub fn inputs(&self) -> Inputs<'_> {
        Inputs {
            files: self.files.clone(),
            names: &self.names,
            variables: self.variables.iter().map(|(name, value)| (name.as_str(), value.clone())).collect(),
            directives: &self.directives,
        }
    }
}

impl<'a> Inputs<'a> {
    /// A dkms.conf with the admin's overrides, for one kernel.
    pub fn of_recipe(conf: &Path, context: &Context<'a>) -> Result<Self, ConfError> {
        let files = [conf.to_owned()].into_iter().chain(context.overrides.iter().cloned());
        let text = |path: &Path| path.display().to_string();
        let mut variables = vec![
            ("dkms_tree", text(&context.layout.dkms_tree)),
            ("source_tree", text(&context.layout.source_tree)),
            ("install_tree", text(&context.layout.install_tree)),
            ("kernel_source_dir", text(context.headers)),
            ("kernelver", context.target.kernel.to_string()),
            ("arch", context.target.arch.to_string()),
            ("module", context.module.name.to_string()),
            ("module_version", context.module.version.to_string()),
            // Its value is known only at build time. It is kept as text, so that a recipe is the same on machines of
            // any size.
            ("parallel_jobs", "$parallel_jobs".to_owned()),
        ];
        let files = read(files)?;
        // The others have no effect, and would only make each evaluation different.
        let named =
            |name: &str| files.iter().any(|(_, text)| memchr::memmem::find(text, name.as_bytes()).is_some());
        if let Some(destination) = context.destination.filter(|_| named(bash::OVERRIDE)) {
            variables.push(("__destination", destination.to_owned()));
        }
        let taken = |name: &str| VARIABLES.split_whitespace().any(|own| own == name);
        for (name, value) in context.environment {
            if named(name) && !taken(name) && !variables.iter().any(|(own, _)| own == name) {
                variables.push((name, value.clone()));
            }
        }
        Ok(Self { files, names: VARIABLES, variables, directives: context.directives })
    }

    /// Plain variables of framework.conf and its drop-ins, or of any file that is read before a kernel is chosen.
    fn of_framework(paths: &[PathBuf], names: &'a str) -> Result<Self, ConfError> {
        // The files refer to $kernelver, which is known only later. It is kept as text.
        let variables = vec![("kernelver", "$kernelver".to_owned())];
        Ok(Self { files: read(paths.iter().cloned())?, names, variables, directives: &[] })
    }

    /// The file that stores bash's result.
    fn memory(&self, dir: &Path, identity: &str) -> PathBuf {
        let running = rustix::system::uname().release().to_string_lossy().into_owned();
        let mut key = vec![bash::DRIVER.to_owned(), self.names.to_owned(), identity.to_owned(), running];
        key.extend(self.variables.iter().map(|(name, value)| format!("{name}={value}")));
        key.extend(self.directives.iter().map(|(name, value)| format!("directive {name}={value}")));
        key.extend(
            self.files.iter().map(|(path, content)| format!("{} {}", path.display(), hash::hex(content))),
        );
        dir.join(format!("{}.json", hash::hex(key.join("\0").as_bytes())))
    }
}

fn read(paths: impl Iterator<Item = PathBuf>) -> Result<Vec<(PathBuf, Vec<u8>)>, ConfError> {
    paths
        .map(|path| match text(&path) {
            Ok(content) => Ok((path, content)),
            Err(error) => Err(ConfError::Unreadable { file: path, why: error.to_string() }),
        })
        .collect()
}

/// The largest dkms.conf. The largest known one has 40 KiB.
const LIMIT: u64 = 4 << 20;

/// A dkms.conf may be a link to a device, or a fifo: then its owner decides when reading it ends.
fn text(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file::open_data(path, LIMIT)?.read_to_end(&mut content)?;
    Ok(content)
}

/// The recipe of a module for one kernel: its dkms.conf and the admin's overrides.
pub fn recipe(conf: &Path, context: &Context<'_>, config: Option<&Config>) -> Attempt<Recipe, ConfError> {
    let inputs = match Inputs::of_recipe(conf, context) {
        Ok(inputs) => inputs,
        Err(error) => return Ok(Err(error)),
    };
    Ok(values(&inputs, context.identity, &context.layout.evaluated())?.and_then(|raw| {
        Recipe::from_raw(&raw, context, config)
            .map_err(|problems| ConfError::Bad { file: conf.to_owned(), problems })
    }))
}

/// Plain variables of framework.conf and its drop-ins.
pub fn framework(files: &[PathBuf], names: &str, memory: &Path) -> Attempt<RawConf, ConfError> {
    match Inputs::of_framework(files, names) {
        Ok(inputs) => values(&inputs, "", memory),
        Err(error) => Ok(Err(error)),
    }
}

/// The only place that decides between native evaluation and bash.
fn values(inputs: &Inputs<'_>, identity: &str, memory: &Path) -> Attempt<RawConf, ConfError> {
    if let Ok(raw) = native::evaluate(inputs) {
        return Ok(Ok(raw));
    }
    let memory = inputs.memory(memory, identity);
    let remembered = file::content(&memory).ok().and_then(|json| serde_json::from_slice(&json).ok());
    let verdict = match remembered {
        Some(verdict) => verdict,
        None => {
            let verdict = bash::evaluate(inputs)?;
            if !matches!(verdict, Verdict::Failed(_)) {
                // If the result cannot be stored, this costs only time: `status` also runs without root.
                let _ = file::write_atomic(&memory, &serde_json::to_vec(&verdict)?, 0o644);
            }
            verdict
        }
    };
    Ok(match verdict {
        Verdict::Values(raw) => Ok(raw),
        Verdict::Bad(problem) | Verdict::Failed(problem) => {
            let file = inputs.files.first().map(|(path, _)| path.clone()).unwrap_or_default();
            Err(ConfError::Bad { file, problems: vec![problem] })
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Evaluates a text twice. Returns the first result, and what was stored between the two.
    fn twice(
        text: &str,
        tamper: Option<&str>,
    ) -> (Result<RawConf, ConfError>, Result<RawConf, ConfError>, usize) {
        let dir = tempfile::tempdir().unwrap();
        let (conf, memory) = (dir.path().join("a.conf"), dir.path().join("memory"));
        file::write_atomic(&conf, text.as_bytes(), 0o644).unwrap();
        let evaluate = || framework(std::slice::from_ref(&conf), "A", &memory).unwrap();
        let first = evaluate();
        let remembered = file::sorted_entries(&memory);
        for (path, verdict) in remembered.iter().zip(tamper) {
            file::write_atomic(path, verdict.as_bytes(), 0o644).unwrap();
        }
        (first, evaluate(), remembered.len())
    }

    #[test]
    fn plain_assignments_start_nothing_and_leave_nothing() {
        let (raw, again, remembered) = twice("A=1", None);
        assert_eq!((raw.unwrap().get("A"), again.unwrap().get("A"), remembered), ("1", "1", 0));
    }

    #[test]
    fn later_files_see_what_earlier_ones_assigned() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("1"), dir.path().join("2"));
        file::write_atomic(&first, b"A=1 # no line end", 0o644).unwrap();
        // The same, natively and with bash.
        for more in ["", "\ntrue"] {
            file::write_atomic(&second, format!("A+=2$A{more}").as_bytes(), 0o644).unwrap();
            let raw = framework(&[first.clone(), second.clone()], "A", &dir.path().join("memory")).unwrap();
            assert_eq!(raw.unwrap().get("A"), "121");
        }
    }

    #[test]
    fn what_bash_says_is_remembered_be_it_good_or_bad() {
        let other = r#"{"Bad":"this was remembered"}"#;
        for text in ["A=$(echo 1)", "A=$((", "exit 1"] {
            let (_, again, remembered) = twice(text, Some(other));
            assert_eq!(remembered, 1, "{text}");
            assert!(again.unwrap_err().to_string().contains("this was remembered"), "{text}");
        }
    }

    #[test]
    fn a_failure_that_may_pass_is_not_remembered() {
        let (first, _, remembered) = twice("kill -KILL $$", None);
        assert!(first.is_err());
        assert_eq!(remembered, 0);
    }

    #[test]
    fn a_memory_of_another_format_is_no_memory() {
        let (_, again, _) = twice("A=$(echo 1)", Some(r#"{"values":{}}"#));
        assert_eq!(again.unwrap().get("A"), "1");
    }
}
