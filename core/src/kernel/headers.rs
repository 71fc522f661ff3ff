//! A kernel's headers: configuration, compiler, expected vermagic, and an identity.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::Config;
use super::compiler::{self, Toolchain};
use super::config::config_file;
use super::rust::RustSupport;
use super::tools::Tools;
use crate::distro::Distribution;
use crate::layout::Layout;
use crate::sys::hash::{self, Watch};
use crate::sys::overlay::Layers;
use crate::sys::run;
use crate::types::Target;

/// Files with the date and package revision of the kernel. They change with every revision, without an effect on
/// modules: hashing them would rebuild every module for each revision of a kernel.
const STAMPS: [&str; 3] = ["generated/compile.h", "generated/utsversion.h", "generated/package.h"];

/// Installed headers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Headers {
    /// The directory for `make -C`.
    pub dir: PathBuf,
    /// Where this process reads them, if only confined processes see them in their directory.
    #[serde(skip)]
    at: Option<PathBuf>,
    /// The kernel's configuration.
    pub config: Config,
    /// The expected vermagic of modules that are built with them.
    pub vermagic: Vermagic,
    /// The compiler that the kernel was built with, or the default one if that is not installed.
    pub compiler: Option<PathBuf>,
    /// Tools for building that are not installed.
    pub missing: Vec<String>,
    /// The compiler's name if it is the kernel's own, passed to make as `CC`.
    pub cc: Option<String>,
    /// `ld.lld` if the kernel was linked with it.
    pub ld: Option<String>,
    /// What modules in Rust find here.
    pub rust: RustSupport,
    /// The signing program that comes with them.
    pub sign_file: Option<PathBuf>,
    /// The hash algorithm for signatures; `None` if the kernel does not support signatures.
    pub sig_hash: Option<String>,
    /// Hash of everything in them, in the build tools and in the compiler that can change a module.
    pub identity: String,
    /// Hash of the other programs that run during a build, and of the libraries that all of them load.
    pub environment: String,
}

/// The expected `vermagic`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vermagic {
    /// The kernel release of the headers; empty if it is unknown.
    pub release: String,
    /// Flags from the configuration that must be present.
    pub flags: Vec<String>,
}

impl Vermagic {
    fn new(headers: &Path, config: &Config) -> Self {
        let text = crate::sys::file::text(headers.join("include/generated/utsrelease.h")).unwrap_or_default();
        let release = text.split('"').nth(1).unwrap_or_default().to_owned();
        Self { release, flags: Self::flags(config) }
    }

    /// The words that the configuration puts into a vermagic.
    pub fn flags(config: &Config) -> Vec<String> {
        let rows = [
            ("CONFIG_SMP", "SMP"),
            ("CONFIG_PREEMPT_BUILD", "preempt"),
            ("CONFIG_PREEMPT_RT", "preempt_rt"),
            ("CONFIG_MODULE_UNLOAD", "mod_unload"),
            ("CONFIG_MODVERSIONS", "modversions"),
        ];
        let mut flags: Vec<String> =
            rows.iter().filter(|(option, _)| config.on(option)).map(|(_, flag)| (*flag).to_owned()).collect();
        // As in linux/vermagic.h: only one of the two is present, and since 6.12 real-time kernels are built with both
        // options.
        if config.on("CONFIG_PREEMPT_BUILD") {
            flags.retain(|flag| flag != "preempt_rt");
        }
        flags
    }

    /// Why the kernel would reject a module with this vermagic; `None` if it would not.
    pub fn refuses(&self, kernel: &str, vermagic: &str) -> Option<String> {
        let mut words = vermagic.split_whitespace();
        let release = words.next().unwrap_or_default();
        if release != kernel {
            return Some(format!("built for kernel {release:?}, not {kernel}"));
        }
        let words: Vec<_> = words.collect();
        self.flags
            .iter()
            .find(|flag| !words.contains(&flag.as_str()))
            .map(|flag| format!("vermagic {vermagic:?} lacks {flag}, which this kernel requires"))
    }
}

impl Headers {
    /// The name of the kernel's package, if they contain it.
    pub fn package(&self) -> Option<String> {
        let text = crate::sys::file::text(self.at().join("include/generated/package.h")).ok()?;
        text.split('"').nth(1).map(str::to_owned)
    }

    /// The list of the symbols that the kernel and its modules export.
    pub fn symvers(&self) -> PathBuf {
        self.at().join("Module.symvers")
    }

    fn at(&self) -> &Path {
        self.at.as_deref().unwrap_or(&self.dir)
    }

    /// Headers that only confined processes see, through these layers.
    pub fn seen_through(&mut self, layers: &Layers) {
        self.at = Some(layers.find(&self.dir));
        if let Some(program) = &mut self.sign_file {
            *program = layers.find(program);
        }
    }

    /// Reads headers; `None` if they are not installed. `config` replaces their configuration.
    pub fn load(
        layout: &Layout,
        distribution: &Distribution,
        target: &Target,
        dir: &Path,
        config: Option<&Path>,
    ) -> Result<Option<Self>> {
        if !dir.join("include").exists() {
            return Ok(None);
        }
        let given = config;
        let config = crate::sys::file::content(given.map_or_else(|| config_file(dir), Path::to_owned))
            .unwrap_or_default();
        let config = Config::new(config);
        let Toolchain { cc, ld, missing } =
            Toolchain::choose(&config, || compiler::named(dir), |program| run::which(program).is_some());
        let compiler = cc.as_deref().and_then(run::which).or_else(|| run::which("gcc"));
        let rust = RustSupport::of(&config, dir);
        let also = matches!(rust, RustSupport::On(_)).then_some("rustc");
        let tools = Tools::find(compiler.as_deref(), ld.as_deref(), also);
        let identity = identity(layout, target, dir, given, &tools)?;
        let programs = tools.all();
        // Kernels may have different compilers: a file for each set of programs.
        let names: Vec<_> = programs.iter().map(|path| path.to_string_lossy()).collect();
        let memory =
            layout.hashes().join(format!("programs-{}", &hash::hex(names.join("\n").as_bytes())[..16]));
        let environment = hash::files(&programs, &memory, || tools.with_libraries())
            .context("examining the build tools")?;
        Ok(Some(Self {
            vermagic: Vermagic::new(dir, &config),
            sig_hash: config.get("CONFIG_MODULE_SIG_HASH").map(str::to_owned),
            sign_file: distribution
                .sign_file(target, dir)
                .iter()
                .find_map(|path| run::which(&path.to_string_lossy())),
            compiler,
            missing,
            cc,
            ld,
            rust,
            config,
            identity,
            environment,
            dir: dir.to_owned(),
            at: None,
        }))
    }
}

/// The kernel's names of architectures for which distributions have provided headers.
const ARCHITECTURES: [&str; 20] = [
    "alpha",
    "arc",
    "arm",
    "arm64",
    "csky",
    "hexagon",
    "ia64",
    "loongarch",
    "m68k",
    "microblaze",
    "mips",
    "nios2",
    "openrisc",
    "parisc",
    "powerpc",
    "riscv",
    "s390",
    "sh",
    "sparc",
    "x86",
];

/// The kernel's name of an architecture whose `uname -m` differs; most only have a suffix.
fn kernels_name(machine: &str) -> Option<&'static str> {
    match machine {
        "x86_64" | "i386" | "i486" | "i586" | "i686" => Some("x86"),
        _ if machine.starts_with("aarch64") || machine.starts_with("arm64") => Some("arm64"),
        _ if machine.starts_with("ppc") => Some("powerpc"),
        _ => ARCHITECTURES.into_iter().find(|name| machine.starts_with(name)),
    }
}

/// The architecture of headers with which nothing can be built for a machine: `uname -m` there. Headers have what was generated for
/// their own architecture only; kernels for 32-bit and 64-bit processors of a family are found on one machine.
pub(super) fn other_architecture(dir: &Path, machine: &str) -> Option<&'static str> {
    let generated = |arch: &str| dir.join("arch").join(arch).join("include/generated").exists();
    let own = kernels_name(machine)?;
    if generated(own) {
        return None;
    }
    let other = |row: &&(&str, &str, &str)| row.0 != own && row.2 != own && generated(row.0);
    MACHINES.iter().find(other).map(|row| row.1)
}

/// Architectures with kernels of distributions: the kernel's name, the machine's, and a relative that is no other one.
const MACHINES: [(&str, &str, &str); 7] = [
    ("arm", "armv7l", "arm64"),
    ("arm64", "aarch64", "arm"),
    ("loongarch", "loongarch64", ""),
    ("powerpc", "ppc64le", ""),
    ("riscv", "riscv64", ""),
    ("s390", "s390x", ""),
    ("x86", "x86_64", ""),
];

/// Architectures whose headers no module for this one includes. A third of the thousand directories in Debian's headers
/// are such, and every idle hook stats all that count. Empty if the architecture is unknown.
fn foreign(machine: &str) -> Vec<&'static str> {
    let Some(own) = kernels_name(machine) else { return Vec::new() };
    // 64-bit ARM includes headers of 32-bit ARM.
    let borrowed = if own == "arm64" { "arm" } else { own };
    ARCHITECTURES.into_iter().filter(|other| *other != own && *other != borrowed).collect()
}

/// Hashes the headers, the compiler and the linker.
fn identity(
    layout: &Layout,
    target: &Target,
    dir: &Path,
    config: Option<&Path>,
    tools: &Tools,
) -> Result<String> {
    let mut roots = roots(dir);
    roots.extend(config.map(Path::to_owned));
    let memory = layout.headers_hash(target);
    roots.retain(|root| root.exists());
    let foreign = foreign(target.arch.as_str());
    let skip: Vec<String> = foreign.iter().map(|arch| format!("arch/{arch}")).collect();
    let skip: Vec<&str> = STAMPS.into_iter().chain(skip.iter().map(String::as_str)).collect();
    let headers = hash::trees(&roots, Watch::Directories, Some(&memory), &skip)
        .with_context(|| format!("looking at the headers in {}", dir.display()))?;
    let compiler = tools.makers.first().and_then(|compiler| compiler.file_name()).unwrap_or_default();
    let memory = layout.hashes().join(format!("compiler-{}", compiler.to_string_lossy()));
    let tools =
        hash::trees(&tools.makers, Watch::Files, Some(&memory), &[]).context("looking at the compiler")?;
    Ok(hash::hex(format!("{headers} {tools}").as_bytes()))
}

/// The directories of headers: their own, those that their Makefile includes (Debian's common headers), and the build
/// tools that the `scripts` link points to.
pub fn roots(dir: &Path) -> Vec<PathBuf> {
    let mut roots = vec![dir.to_owned()];
    let makefile = crate::sys::file::text(dir.join("Makefile")).unwrap_or_default();
    for line in makefile.lines() {
        let included = line.trim().strip_prefix("include ").map(str::trim);
        if let Some(included) = included.filter(|path| path.starts_with('/')) {
            roots.extend(Path::new(included).parent().map(Path::to_path_buf));
        }
    }
    for link in ["scripts", "tools"] {
        let link = dir.join(link);
        if link.is_symlink() {
            roots.push(link);
        }
    }
    roots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kernel_demands_follows_from_its_configuration() {
        for (options, expected) in [
            (&["SMP", "PREEMPT_BUILD", "MODVERSIONS"][..], &["SMP", "preempt", "modversions"][..]),
            (&["SMP", "PREEMPT_RT"], &["SMP", "preempt_rt"]),
            // Debian's real-time kernel 6.12.
            (&["SMP", "PREEMPT_BUILD", "PREEMPT_RT"], &["SMP", "preempt"]),
            (&[], &[]),
        ] {
            let text: String = options.iter().map(|name| format!("CONFIG_{name}=y\n")).collect();
            let config = Config::new(text);
            assert_eq!(Vermagic::new(Path::new("/nonexistent"), &config).flags, expected, "{options:?}");
        }
    }

    #[test]
    fn only_what_cannot_be_included_is_foreign() {
        let all = ARCHITECTURES.len();
        for (machine, kept) in [
            ("x86_64", &["x86"][..]),
            ("i686", &["x86"]),
            ("aarch64", &["arm64", "arm"]),
            ("arm64", &["arm64", "arm"]),
            ("armv7l", &["arm"]),
            ("ppc64le", &["powerpc"]),
            ("s390x", &["s390"]),
        ] {
            let foreign = foreign(machine);
            assert_eq!(foreign.len(), all - kept.len(), "{machine}");
            assert!(kept.iter().all(|arch| !foreign.contains(arch)), "{machine}");
        }
        assert_eq!(foreign("of the future").len(), 0);
    }

    #[test]
    fn vermagic_is_compared_word_by_word() {
        let magic = Vermagic { release: "6.1".into(), flags: vec!["SMP".into(), "mod_unload".into()] };
        for (text, refused) in [
            ("6.1 SMP preempt mod_unload modversions ", None),
            ("6.2 SMP mod_unload", Some("not 6.1")),
            ("6.1 mod_unload", Some("lacks SMP")),
            ("", Some("not 6.1")),
        ] {
            let answer = magic.refuses("6.1", text);
            assert_eq!(answer.is_some(), refused.is_some(), "{text}");
            assert!(answer.unwrap_or_default().contains(refused.unwrap_or_default()));
        }
    }
}
