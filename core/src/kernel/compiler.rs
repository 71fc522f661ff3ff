//! The compiler and linker for a kernel's modules: those that the kernel was built with.

use std::path::Path;
use std::time::Duration;

use super::Config;
use crate::sys::confine::Spec;
use crate::sys::inside;
use crate::sys::overlay::Layers;
use crate::sys::run::Output;

/// The file in which Debian's headers name their compiler.
const VARIABLES: &str = ".kernelvariables";

/// The tools for one kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Toolchain {
    /// The compiler's name if it is the kernel's own, passed to make as `CC`.
    pub cc: Option<String>,
    /// `ld.lld` if the kernel was linked with it.
    pub ld: Option<String>,
    /// Tools that the kernel's build system calls and that are not installed, by package name.
    pub missing: Vec<String>,
}

impl Toolchain {
    /// Selects the tools. `named` returns the compiler in the headers' `.kernelvariables`; it is called only if the
    /// configuration names none that exists. `exists` tests for a program.
    pub fn choose(
        config: &Config,
        named: impl FnOnce() -> Option<String>,
        exists: impl Fn(&str) -> bool,
    ) -> Self {
        let mut chosen = Self::default();
        let mut need = |program: &str, package: &str| {
            let there = exists(program);
            if !there && !chosen.missing.iter().any(|missing| missing == package) {
                chosen.missing.push(package.to_owned());
            }
            there
        };
        if config.clang() {
            // The build then gets LLVM=1, which calls all of LLVM.
            chosen.cc = need("clang", "clang").then(|| "clang".to_owned());
            need("ld.lld", "lld");
            need("llvm-strip", "llvm");
        } else {
            let text = config.get("CONFIG_CC_VERSION_TEXT");
            let own = text.and_then(|text| text.split_whitespace().next()).filter(|name| exists(name));
            chosen.cc = own.map(str::to_owned).or_else(|| named().filter(|name| need(name, name)));
        }
        chosen.ld = (config.on("CONFIG_LD_IS_LLD") && exists("ld.lld")).then(|| "ld.lld".to_owned());
        chosen
    }
}

/// The name of this request from a confined process: the directory of headers, answered with a name or nothing.
pub const NAMED: &str = "compiler";
/// make has to read only a few lines.
const LIMIT: Duration = Duration::from_secs(20);

/// The compiler that headers name in `.kernelvariables`, as Debian's do, evaluated by make.
pub fn named(headers: &Path) -> Option<String> {
    if !headers.join(VARIABLES).is_file() {
        return None;
    }
    inside::outside(NAMED, &headers).map_or_else(|| named_below(headers, None), |answer| answer.ok()?)
}

/// The same with an overlay.
pub fn named_below(headers: &Path, layers: Option<&Layers>) -> Option<String> {
    let words =
        ["make", "-s", "--no-print-directory", "--eval", "dkms-show-cc: ; @echo $(CC)", "-f", VARIABLES];
    // A makefile can run any program.
    let spec = Spec {
        argv: words.into_iter().chain(["dkms-show-cc"]).map(str::to_owned).collect(),
        env: vec![("LC_ALL".into(), "C.UTF-8".into())],
        cwd: headers.to_owned(),
        visible: vec![headers.to_owned()],
        layers: layers.cloned(),
        ..Spec::default()
    };
    let done = spec.run(|cmd| cmd.output(Output::Split).limit(LIMIT)).ok()?;
    let said = String::from_utf8_lossy(&done.output).into_owned();
    // The compiler may be preceded by ccache.
    let name = said.lines().next()?.split_whitespace().last()?.to_owned();
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+-/".contains(c);
    (done.status.success() && name.chars().all(plain)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_compiler_where_there_is_one() {
        let all = ["gcc-12", "clang", "ld.lld", "llvm-strip"];
        for (config, named, programs, (cc, ld, missing)) in [
            ("", None, &all[..], (None, None, "")),
            ("CONFIG_CC_VERSION_TEXT=\"gcc-12 (Debian) 12.2\"", None, &all, (Some("gcc-12"), None, "")),
            // A compiler that is not installed: the default one, unless the headers require it.
            ("CONFIG_CC_VERSION_TEXT=\"gcc-11 (Debian) 11\"", None, &all, (None, None, "")),
            ("CONFIG_CC_VERSION_TEXT=\"gcc-11 11\"", Some("gcc-12"), &all, (Some("gcc-12"), None, "")),
            ("CONFIG_CC_VERSION_TEXT=\"gcc-11 11\"", Some("gcc-11"), &all, (None, None, "gcc-11")),
            ("CONFIG_CC_VERSION_TEXT=\"gcc-12 12\"", Some("gcc-11"), &all, (Some("gcc-12"), None, "")),
            ("CONFIG_CC_IS_CLANG=y\nCONFIG_LD_IS_LLD=y", None, &all, (Some("clang"), Some("ld.lld"), "")),
            ("CONFIG_CC_IS_CLANG=y", None, &["clang"], (Some("clang"), None, "lld llvm")),
            ("CONFIG_CC_IS_CLANG=y\nCONFIG_LD_IS_LLD=y", None, &["gcc"], (None, None, "clang lld llvm")),
            ("CONFIG_LD_IS_LLD=y", None, &["gcc"], (None, None, "")),
        ] {
            let chosen = Toolchain::choose(
                &Config::new(config.as_bytes()),
                || named.map(str::to_owned),
                |program| programs.contains(&program),
            );
            let expected = Toolchain {
                cc: cc.map(str::to_owned),
                ld: ld.map(str::to_owned),
                missing: missing.split_whitespace().map(str::to_owned).collect(),
            };
            assert_eq!(chosen, expected, "{config:?} {named:?} {programs:?}");
        }
    }

    #[test]
    fn the_headers_own_word() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(named(dir.path()), None);
        let text = "override ARCH = x86\nCCACHE = ccache\n\
                    CC = $(if $(USE_CCACHE),$(CCACHE)) $(CROSS_COMPILE)gcc-12\nall:\n\tfalse\n";
        crate::sys::file::write_atomic(&dir.path().join(".kernelvariables"), text.as_bytes(), 0o644).unwrap();
        assert_eq!(named(dir.path()).as_deref(), Some("gcc-12"));
    }
}
