//! The checked form of a dkms.conf.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

use super::{Context, RawConf, exclusive};
use crate::kernel::Config;
use crate::types::{ModuleName, is_plain};

/// The beginning of the path of a module that is built in the source directory, not in the build directory.
const IN_SOURCE: &str = "../source/";

/// One kernel module that a package builds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct ModuleSpec {
    /// Its path in the build directory, without suffix: `src/foo` for `src/foo.ko`. It begins with `../source/` if it is
    /// built in the source directory.
    pub built: String,
    /// Its name when installed, without suffix.
    pub dest_name: String,
    /// The requested directory below the kernel's; a distribution may override it.
    pub dest_location: String,
    /// Whether debug sections are stripped.
    pub strip: bool,
}

impl ModuleSpec {
    /// The path of its object below the source directory, without suffix.
    pub fn in_source(&self) -> &str {
        self.built.strip_prefix(IN_SOURCE).unwrap_or(&self.built)
    }
}

/// The stored form of a module. It is checked again after reading, because root joins it to paths.
#[derive(Deserialize)]
struct Written {
    built: String,
    dest_name: String,
    dest_location: String,
    strip: bool,
}

impl TryFrom<Written> for ModuleSpec {
    type Error = String;
    fn try_from(written: Written) -> Result<Self, String> {
        let Written { built, dest_name, dest_location, strip } = written;
        for name in [dest_name.as_str(), built.rsplit('/').next().unwrap_or_default()] {
            name.parse::<ModuleName>().map_err(|error| error.to_string())?;
        }
        let normal = |path: &str| normal(path).filter(|_| plain(path)).unwrap_or_default();
        let below = built.strip_prefix(IN_SOURCE).unwrap_or(&built);
        if normal(below).strip_prefix('/') != Some(below) || normal(&dest_location) != dest_location {
            return Err(format!("{built:?} for {dest_location:?} is no module of a recipe"));
        }
        Ok(Self { built, dest_name, dest_location, strip })
    }
}

/// Scripts of the package, relative to its source or build directory; empty when not set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scripts {
    /// After the module is added.
    pub post_add: String,
    /// In the build directory, before make.
    pub pre_build: String,
    /// In the build directory, after make.
    pub post_build: String,
    /// Before the installation; a failure prevents it.
    pub pre_install: String,
    /// After installing.
    pub post_install: String,
    /// After uninstalling.
    pub post_remove: String,
}

/// Everything needed to build and install one module package for one kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// The modules that are built for this kernel, in the order of their indices.
    pub modules: Vec<ModuleSpec>,
    /// Modules of the package that are excluded for this kernel, each with the reason. Not an input of the build.
    #[serde(skip)]
    pub left_out: Vec<String>,
    /// Error messages of the commands in the dkms.conf. Not an input of the build.
    #[serde(skip)]
    pub said: Vec<String>,
    /// The shell command that builds them.
    pub make: String,
    /// Patches in `patches/` to apply, in order.
    pub patches: Vec<String>,
    /// Scripts.
    pub scripts: Scripts,
    /// Whether the package is built automatically for every new kernel.
    pub autoinstall: bool,
    /// Packages that must be installed first.
    pub build_depends: Vec<ModuleName>,
    /// Whether it is rebuilt when another version of one of those is installed.
    #[serde(skip)]
    pub follows: bool,
    /// Whether weak-modules may offer its modules to compatible kernels.
    #[serde(skip)]
    pub weak_modules: bool,
    /// Why it is excluded for this kernel.
    pub excluded: Option<String>,
    /// Deprecated directives that are set. They do not change the build, and so not its fingerprint.
    #[serde(skip)]
    pub deprecated: Vec<String>,
}

/// Directives that still take effect, or none, and what replaces them.
const DEPRECATED: [(&str, &str); 6] = [
    ("OBSOLETE_BY", "use BUILD_EXCLUSIVE_KERNEL_MAX"),
    ("REMAKE_INITRD", "it has no effect"),
    ("MODULES_CONF", "it has no effect"),
    ("MODULES_CONF_OBSOLETES", "it has no effect"),
    ("MODULES_CONF_ALIAS_TYPE", "it has no effect"),
    ("MODULES_CONF_OBSOLETE_ONLY", "it has no effect"),
];

impl Recipe {
    /// Whether a module is built in the source directory.
    pub fn builds_in_source(&self) -> bool {
        self.modules.iter().any(|module| module.built.starts_with(IN_SOURCE))
    }

    /// Remarks about deprecated directives.
    pub fn deprecated(&self) -> impl Iterator<Item = String> + '_ {
        let used = DEPRECATED.iter().filter(|(name, _)| self.deprecated.iter().any(|used| used == name));
        used.map(|(name, instead)| format!("dkms.conf sets the deprecated {name}: {instead}"))
    }

    /// Checks the values. Every problem is reported, not only the first.
    pub fn from_raw(
        raw: &RawConf,
        context: &Context<'_>,
        config: Option<&Config>,
    ) -> Result<Self, Vec<String>> {
        let raw = &raw.single_lines();
        let mut problems = Vec::new();
        for name in ["PACKAGE_NAME", "PACKAGE_VERSION"] {
            if raw.get(name).is_empty() {
                problems.push(format!("{name} is not set"));
            }
        }
        let mut modules = modules(raw, &mut problems);
        let mut build_depends = Vec::new();
        for word in raw.all("BUILD_DEPENDS").flat_map(|(_, value)| value.split_whitespace()) {
            match word.parse() {
                Ok(name) => build_depends.push(name),
                Err(error) => problems.push(format!("BUILD_DEPENDS: {error}")),
            }
        }
        let patches = patches(raw);
        let autoinstall = yes(raw, "AUTOINSTALL", &mut problems);
        let follows = yes(raw, "BUILD_DEPENDS_REBUILD", &mut problems);
        let weak_modules = !yes(raw, "NO_WEAK_MODULES", &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        // Each remaining module is at its own index: a problem would have returned before.
        let why = |index| exclusive::excluded(raw, index, context.target, config);
        let reasons: Vec<Option<String>> = (0..modules.len().max(1)).map(why).collect();
        let excluded = reasons.iter().all(Option::is_some).then(|| reasons[0].clone()).flatten();
        let mut left_out = Vec::new();
        if excluded.is_none() {
            let mut reasons = reasons.iter();
            modules.retain(|module| match reasons.next().and_then(Option::as_ref) {
                Some(why) => {
                    left_out.push(format!("{} is excluded by dkms.conf: {why}", module.dest_name));
                    false
                }
                None => true,
            });
        }
        let text = |name: &str| raw.get(name).to_owned();
        let set = DEPRECATED.iter().filter(|(name, _)| raw.all(name).next().is_some());
        Ok(Self {
            deprecated: set.map(|(name, _)| (*name).to_owned()).collect(),
            modules,
            left_out,
            said: raw.said.clone(),
            make: make_command(raw, context, config),
            patches,
            scripts: Scripts {
                post_add: text("POST_ADD"),
                pre_build: text("PRE_BUILD"),
                post_build: text("POST_BUILD"),
                pre_install: text("PRE_INSTALL"),
                post_install: text("POST_INSTALL"),
                post_remove: text("POST_REMOVE"),
            },
            autoinstall,
            build_depends,
            follows,
            weak_modules,
            excluded,
        })
    }
}

fn modules(raw: &RawConf, problems: &mut Vec<String>) -> Vec<ModuleSpec> {
    const ARRAYS: [&str; 4] =
        ["BUILT_MODULE_NAME", "BUILT_MODULE_LOCATION", "DEST_MODULE_NAME", "DEST_MODULE_LOCATION"];
    // Arrays may have gaps and different lengths: the highest index of any of them counts.
    let count = ARRAYS.iter().flat_map(|name| raw.all(name)).map(|(index, _)| index + 1).max().unwrap_or(0);
    if count > 10_000 {
        problems.push(format!("{count} modules exceed the limit of 10000"));
        return Vec::new();
    }
    let mut modules = Vec::new();
    let (mut built_names, mut dest_names) = (BTreeSet::new(), BTreeSet::new());
    for index in 0..count {
        let mut built_name = raw.at("BUILT_MODULE_NAME", index);
        if built_name.is_empty() && count == 1 {
            built_name = raw.get("PACKAGE_NAME");
        }
        if built_name.is_empty() {
            problems.push(format!("BUILT_MODULE_NAME[{index}] is not set"));
            continue;
        }
        let dest_name = Some(raw.at("DEST_MODULE_NAME", index)).filter(|name| !name.is_empty());
        let dest_name = dest_name.unwrap_or(built_name);
        for (variable, name) in [("BUILT_MODULE_NAME", built_name), ("DEST_MODULE_NAME", dest_name)] {
            if name.ends_with(".o") || name.ends_with(".ko") {
                problems.push(format!("{variable}[{index}] must not end in .o or .ko"));
            }
            if let Err(error) = name.parse::<ModuleName>() {
                problems.push(format!("{variable}[{index}]: {error}"));
            }
        }
        let location = raw.at("BUILT_MODULE_LOCATION", index);
        let location = built_location(location).unwrap_or_else(|| {
            problems.push(format!("BUILT_MODULE_LOCATION[{index}] points outside the build directory"));
            String::new()
        });
        if !plain(&location) {
            problems.push(odd("BUILT_MODULE_LOCATION", index));
        }
        let built = format!("{location}/{built_name}").trim_start_matches('/').to_owned();
        let dest_location = raw.at("DEST_MODULE_LOCATION", index);
        if dest_location.is_empty() {
            problems.push(format!("DEST_MODULE_LOCATION[{index}] is not set"));
        } else if !["/kernel", "/updates", "/extra"].iter().any(|start| dest_location.starts_with(start)) {
            problems.push(format!(
                "DEST_MODULE_LOCATION[{index}] must begin with /kernel, /updates or /extra, not {dest_location}"
            ));
        }
        let dest_location = normal(dest_location).unwrap_or_else(|| {
            problems
                .push(format!("DEST_MODULE_LOCATION[{index}] points outside the kernel's module directory"));
            String::new()
        });
        if !plain(&dest_location) {
            problems.push(odd("DEST_MODULE_LOCATION", index));
        }
        if !built_names.insert(built.clone()) {
            problems.push(format!("BUILT_MODULE_NAME[{index}] repeats {built}"));
        }
        if !dest_names.insert(dest_name.to_owned()) {
            problems.push(format!("DEST_MODULE_NAME[{index}] repeats {dest_name}"));
        }
        let own = raw.at("STRIP", index);
        let strip = if own.is_empty() { raw.get("STRIP") } else { own };
        modules.push(ModuleSpec {
            built,
            dest_name: dest_name.to_owned(),
            dest_location,
            strip: !strip.starts_with(['n', 'N']),
        });
    }
    modules
}

/// Whether a path consists of plain components.
fn plain(path: &str) -> bool {
    path.bytes().all(|byte| byte == b'/' || is_plain(byte))
}

fn odd(variable: &str, index: usize) -> String {
    format!("{variable}[{index}] contains a character other than letters, digits and / . _ + ~ : @ ^ -")
}

/// A directory as seen from the build directory: below it, or in the source directory beside it.
fn built_location(location: &str) -> Option<String> {
    let from_version = normal(&format!("build/{location}")).filter(|_| !location.starts_with('/'))?;
    if let Some(below) =
        from_version.strip_prefix("/build").filter(|below| below.is_empty() || below.starts_with('/'))
    {
        return Some(below.to_owned());
    }
    let source =
        from_version.strip_prefix('/').filter(|path| *path == "source" || path.starts_with("source/"))?;
    Some(format!("../{source}"))
}

/// A normalized path below the kernel's directory (`/kernel/../misc/` → `/misc`); `None` if it leads out of it.
fn normal(location: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in location.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(format!("/{}", parts.join("/")))
}

/// The patches for this kernel.
pub(super) fn patches(raw: &RawConf) -> Vec<String> {
    let wanted =
        |index: &usize| raw.at("PATCH_MATCH", *index).is_empty() || raw.patch_matches.contains(index);
    raw.all("PATCH")
        .filter(|(index, patch)| !patch.is_empty() && wanted(index))
        .map(|(_, patch)| patch.to_owned())
        .collect()
}

fn yes(raw: &RawConf, name: &str, problems: &mut Vec<String>) -> bool {
    match raw.get(name).to_ascii_lowercase().as_str() {
        "yes" => true,
        "" | "no" => false,
        other => {
            problems.push(format!("{name} must be yes or no, not {other}"));
            false
        }
    }
}

/// The last matching `MAKE[]` applies; without any, the kernel's build system is called.
pub(super) fn make_command(raw: &RawConf, context: &Context<'_>, config: Option<&Config>) -> String {
    let general = if raw.get("MAKE_MATCH").is_empty() { raw.get("MAKE") } else { "" };
    let matching = raw.make_matches.iter().map(|index| raw.at("MAKE", *index)).rfind(|make| !make.is_empty());
    let mut make = matching.unwrap_or(general).to_owned();
    if make.is_empty() {
        let build = context.layout.build(context.module);
        make = format!("make -C {} M={}", context.headers.display(), build.display());
    }
    if config.is_some_and(Config::clang) {
        make.push_str(" LLVM=1");
    }
    make
}
