//! Checks new tools before their results are used: if a compiler cannot run yet, a failed build proves nothing.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::plan::Survey;
use crate::sys::confine::Spec;
use crate::sys::overlay::Layers;
use crate::sys::run::Output;

/// The time limit of an empty build, on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// Compiles and links a program, if programs can be linked at all, and builds a module with one empty function.
const TRIAL: &str = r#"
set -e
dir=$(mktemp -d); cd "$dir"
cc=${CC:-gcc}
echo 'int main(void) { return 0; }' >program.c
"$cc" -c program.c -o program.o
if [ -e "$("$cc" -print-file-name=crt1.o)" ]; then "$cc" program.o -o program; ./program; fi
mkdir module; cd module
echo 'obj-m := trial.o' >Makefile
printf '#include <linux/module.h>\nMODULE_LICENSE("GPL");\nstatic int __init trial(void) { return 0; }\nmodule_init(trial);\n' >trial.c
make -C "$HEADERS" M="$PWD" ${CC:+CC=$CC} modules
test -e trial.ko
"#;

/// Whether the new tools can build a module for one of the kernels. `Err` is the reason why not.
pub(super) fn check(layers: &Layers, survey: &Survey) -> Result<()> {
    let Some(headers) = survey.kernels.values().find_map(|kernel| kernel.headers.as_ref()) else {
        return Ok(());
    };
    let mut env = vec![
        ("LC_ALL".to_owned(), "C.UTF-8".to_owned()),
        ("HEADERS".to_owned(), headers.dir.display().to_string()),
    ];
    env.extend(headers.cc.iter().map(|cc| ("CC".to_owned(), cc.clone())));
    let spec = Spec {
        argv: ["sh", "-c", TRIAL].map(str::to_owned).to_vec(),
        env,
        cwd: "/".into(),
        layers: Some(layers.clone()),
        ..Spec::default()
    };
    let done = spec.run(|cmd| cmd.output(Output::Memory).limit(LIMIT))?;
    if done.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&done.output);
    // The first error is relevant: the others follow from it.
    let said =
        text.lines().find(|line| line.contains("rror") || line.contains("not found")).or(text.lines().last());
    bail!("the compiler of this transaction does not run yet: {}", said.unwrap_or("no output").trim())
}
