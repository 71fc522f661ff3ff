//! A world without a disk: modules, kernels and builds as plain values. It provides the DKMS tree and the survey to the
//! planner, and executes a plan as `apply` does.
//!
//! As text, statements are separated by `;`:
//!
//! | statement | meaning |
//! |---|---|
//! | `a/1` | registered, with AUTOINSTALL, compiles |
//! | `a/1 manual` | without AUTOINSTALL |
//! | `a/1 needs b,c`, `follows b,c` | BUILD_DEPENDS; with BUILD_DEPENDS_REBUILD |
//! | `a/1 excluded`, `bad`, `unreadable`, `fails` | its dkms.conf excludes the kernel, is invalid, is missing; it does not compile |
//! | `a/1 gone`, `dangling`, `unlinked`, `unregistered` | no link, no source; a dangling link; a source, no link; only a source |
//! | `a/1@k1 built`, `installed` | has that build, with the current inputs |
//! | `… loaded` | from a tarball; if installed, the installed files are older |
//! | `… old`, `shell`, `damaged`, `unindexed` | other inputs; by shell DKMS; its file is missing; not in modules.dep |
//! | `… rotten` | the file of the build itself was changed |
//! | `a/1@k1 packaged` | a native package has installed it; it need not be registered |
//! | `a/1@k1 package-damaged` | the same, and a file of the package was changed since |
//! | `a/1@k1 failed`, `failed old` | a recorded failure, with the current or other inputs |
//! | `k1 bare`, `toolless`, `absent`, `initramfs` | no headers; no gcc; only headers in another directory; has an initramfs |

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::conf::{ConfError, ModuleSpec, Recipe, Scripts};
use crate::distro::Distribution;
use crate::event::Event;
use crate::kernel::{Compression, Index, Kernel};
use crate::marker::Marker;
use crate::plan::{Case, Plan, Survey, plan, scope};
use crate::tree::{Build, Entry, Failure, Installed, Record, Snapshot, Source};
use crate::types::{Fingerprint, ModuleId, ModuleName, Placement, Target};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Conf {
    Good,
    Bad,
    Unreadable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    Good,
    Dangling,
    None,
}

/// One version of one module.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Module {
    pub link: Link,
    /// It has a directory in the DKMS tree.
    pub dir: bool,
    /// Its package is being replaced: a missing link is not damage.
    pub kept: bool,
    /// Its source is in the source tree.
    pub source: bool,
    pub conf: Conf,
    pub automatic: bool,
    pub excluded: bool,
    pub compiles: bool,
    pub needs: Vec<ModuleName>,
    /// It is rebuilt when one of those is reinstalled.
    pub follows: bool,
    pub builds: BTreeMap<Target, Built>,
    /// Fingerprints of recorded failures.
    pub failed: BTreeMap<Target, String>,
}

/// A build.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Built {
    /// Its actual inputs.
    pub inputs: String,
    /// The recorded inputs; `None` if shell DKMS built it.
    pub record: Option<String>,
    /// The inputs of the file in the kernel's module directory.
    pub published: Option<String>,
    pub active: bool,
    pub indexed: bool,
    pub rotten: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kern {
    pub headers: bool,
    pub tools: bool,
    pub exists: bool,
    pub initramfs: bool,
}

#[derive(Clone, Default, PartialEq)]
pub(super) struct World {
    pub modules: BTreeMap<ModuleId, Module>,
    pub kernels: BTreeMap<Target, Kern>,
    /// Modules that native packages have installed.
    pub packaged: BTreeSet<Placement>,
    pub damaged_packages: BTreeSet<Placement>,
    /// Every build that was started, in order.
    pub compiled: Vec<Placement>,
}

pub(super) fn target(kernel: &str) -> Target {
    Target { kernel: kernel.parse().unwrap(), arch: "x86_64".parse().unwrap() }
}

/// The inputs of a build from a tarball, which are unknown.
const LOADED: &str = "loaded";

/// The current fingerprint.
pub(super) fn today(id: &ModuleId, target: &Target) -> String {
    format!("{id}@{}", target.kernel)
}

fn file(id: &ModuleId) -> String {
    format!("{}.ko", id.name)
}

impl Default for Module {
    fn default() -> Self {
        Self {
            link: Link::Good,
            dir: true,
            kept: false,
            source: true,
            conf: Conf::Good,
            automatic: true,
            excluded: false,
            compiles: true,
            needs: Vec::new(),
            follows: false,
            builds: BTreeMap::new(),
            failed: BTreeMap::new(),
        }
    }
}

impl Default for Kern {
    fn default() -> Self {
        Self { headers: true, tools: true, exists: true, initramfs: false }
    }
}

/// A world that violates a property is printed in the notation above.
impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = |on: bool, word: &'static str| if on { word } else { "" };
        for (id, module) in &self.modules {
            let source = match (module.link, module.dir, module.source) {
                (Link::Good, ..) => "",
                (Link::Dangling, ..) => "dangling",
                (Link::None, true, true) => "unlinked",
                (Link::None, false, true) => "unregistered",
                (Link::None, _, false) => "gone",
            };
            let conf = match module.conf {
                Conf::Good => "",
                Conf::Bad => "bad",
                Conf::Unreadable => "unreadable",
            };
            let (manual, excluded) = (word(!module.automatic, "manual"), word(module.excluded, "excluded"));
            write!(f, "{id} {source} {conf} {manual} {excluded} {}", word(!module.compiles, "fails"))?;
            if !module.needs.is_empty() {
                write!(
                    f,
                    " {} {}",
                    if module.follows { "follows" } else { "needs" },
                    module.needs.iter().map(ModuleName::as_str).collect::<Vec<_>>().join(",")
                )?;
            }
            f.write_str("; ")?;
            for (target, build) in &module.builds {
                let old = word(build.inputs == "old", "old");
                let shell = word(build.record.is_none(), "shell");
                let damaged = word(build.active && build.published.is_none(), "damaged");
                let unindexed = word(build.active && !build.indexed, "unindexed");
                let state = if build.active { "installed" } else { "built" };
                let rotten = word(build.rotten, "rotten");
                write!(f, "{id}@{} {state} {old} {shell} {damaged} {unindexed} {rotten}; ", target.kernel)?;
            }
            for target in module.failed.keys() {
                write!(f, "{id}@{} failed; ", target.kernel)?;
            }
        }
        for Placement { module, target } in &self.packaged {
            write!(f, "{module}@{} packaged; ", target.kernel)?;
        }
        for Placement { module, target } in &self.damaged_packages {
            write!(f, "{module}@{} package-damaged; ", target.kernel)?;
        }
        for (target, kernel) in &self.kernels {
            let (bare, toolless) = (word(!kernel.headers, "bare"), word(!kernel.tools, "toolless"));
            let (absent, initramfs) = (word(!kernel.exists, "absent"), word(kernel.initramfs, "initramfs"));
            write!(f, "{} {bare} {toolless} {absent} {initramfs}; ", target.kernel)?;
        }
        Ok(())
    }
}

impl World {
    /// Reads the notation above.
    pub fn new(text: &str) -> Self {
        let mut world = Self::default();
        for statement in text.split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
            let (subject, words) = statement.split_once(' ').unwrap_or((statement, ""));
            match subject.split_once('@') {
                Some((id, kernel)) => world.build(&id.parse().unwrap(), &target(kernel), words),
                None if subject.contains('/') => world.module(&subject.parse().unwrap(), words),
                None => world.kernel(&target(subject), words),
            }
        }
        world
    }

    fn module(&mut self, id: &ModuleId, words: &str) {
        let module = self.modules.entry(id.clone()).or_default();
        let mut words = words.split_whitespace();
        while let Some(word) = words.next() {
            match word {
                "manual" => module.automatic = false,
                "needs" | "follows" => {
                    module.follows = word == "follows";
                    module.needs =
                        words.next().unwrap().split(',').map(|name| name.parse().unwrap()).collect();
                }
                "excluded" => module.excluded = true,
                "bad" => module.conf = Conf::Bad,
                "unreadable" => module.conf = Conf::Unreadable,
                "fails" => module.compiles = false,
                "gone" => (module.link, module.source) = (Link::None, false),
                "dangling" => (module.link, module.source) = (Link::Dangling, false),
                "unlinked" => module.link = Link::None,
                "unregistered" => (module.link, module.dir) = (Link::None, false),
                other => panic!("no such word for a module: {other}"),
            }
        }
    }

    fn build(&mut self, id: &ModuleId, target: &Target, words: &str) {
        self.kernels.entry(target.clone()).or_default();
        match words {
            "packaged" => {
                self.packaged.insert(Placement::of(id, target));
            }
            "package-damaged" => {
                self.damaged_packages.insert(Placement::of(id, target));
            }
            _ => self.own_build(id, target, words),
        }
    }

    fn own_build(&mut self, id: &ModuleId, target: &Target, words: &str) {
        let module = self.modules.entry(id.clone()).or_default();
        let words: BTreeSet<&str> = words.split_whitespace().collect();
        let other = ["old", LOADED].into_iter().find(|word| words.contains(word));
        let inputs = other.map_or_else(|| today(id, target), str::to_owned);
        if words.contains("failed") {
            module.failed.insert(target.clone(), inputs);
            return;
        }
        let active = words.contains("installed");
        assert!(active || words.contains("built"), "neither failed, built nor installed");
        let build = Built {
            record: (!words.contains("shell")).then(|| inputs.clone()),
            published: (active && !words.contains("damaged") && inputs != LOADED).then(|| inputs.clone()),
            indexed: active && !words.contains("unindexed"),
            rotten: words.contains("rotten"),
            active,
            inputs,
        };
        module.builds.insert(target.clone(), build);
    }

    fn kernel(&mut self, target: &Target, words: &str) {
        let kernel = self.kernels.entry(target.clone()).or_default();
        for word in words.split_whitespace() {
            match word {
                "bare" => kernel.headers = false,
                "toolless" => kernel.tools = false,
                "absent" => kernel.exists = false,
                "initramfs" => kernel.initramfs = true,
                other => panic!("no such word for a kernel: {other}"),
            }
        }
    }

    /// The result of `Snapshot::load`.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for (id, module) in &self.modules {
            // Also of a module that is not in the DKMS tree: a pre-build has recorded it.
            for (target, inputs) in &module.failed {
                snapshot.failures.insert(Placement::of(id, target), failure(inputs));
            }
            let source = match (module.link, module.source) {
                (Link::Good, _) => Source::Linked(source(id)),
                (Link::Dangling, _) => Source::Dangling(source(id)),
                (Link::None, true) if module.kept => Source::Kept(source(id)),
                (Link::None, true) if module.dir => Source::Unlinked,
                (Link::None, false) if !module.builds.is_empty() => Source::Gone,
                (Link::None, _) => continue,
            };
            let builds =
                module.builds.iter().map(|(target, build)| (target.clone(), entry(id, target, build)));
            snapshot.modules.insert(id.clone(), Entry { source, builds: builds.collect() });
        }
        snapshot
    }

    /// The result of `survey` for these events.
    pub fn survey(&self, events: &[Event]) -> Survey {
        let scope = scope(events, &self.snapshot());
        let mut survey = Survey { source_tree: "/usr/src".into(), ..Survey::default() };
        for target in &scope.kernels {
            survey.kernels.insert(target.clone(), self.look(target));
        }
        let there = |places: &BTreeSet<Placement>| {
            let places = places.iter().filter(|place| scope.kernels.contains(&place.target));
            places.map(|place| (place.by_name(), marker(place))).collect()
        };
        survey.packaged = there(&self.packaged);
        survey.damaged_packages = there(&self.damaged_packages);
        let mut cases = scope.cases.clone();
        let over = |id: &ModuleId| {
            let module = self.modules.get(id).filter(|module| usable(module));
            module.is_some_and(|module| module.conf == Conf::Good && module.automatic && module.excluded)
        };
        for (newest, older) in &scope.older {
            let mut newer = &newest.module;
            for id in older.iter() {
                if !over(newer) {
                    break;
                }
                cases.insert(Placement::of(id, &newest.target));
                newer = id;
            }
        }
        let snapshot = self.snapshot();
        let follows = |id: &ModuleId| Some(&self.modules[id]).filter(|module| module.follows);
        let candidates = snapshot.modules.iter().filter(|(_, entry)| entry.source_dir().is_some());
        let candidates = candidates.flat_map(|(id, entry)| {
            let keys = entry.builds.keys().map(move |target| Placement::of(id, target));
            let keys = keys.filter(|key| !scope.cases.contains(key) && scope.kernels.contains(&key.target));
            keys.filter_map(|key| Some((key.clone(), follows(&key.module)?.needs.clone())))
        });
        let scoped = scope.cases.iter().map(Placement::by_name);
        cases.extend(crate::plan::followers(scoped, candidates.collect()));
        for Placement { module: id, target } in &cases {
            let Some(module) = self.modules.get(id).filter(|module| usable(module)) else { continue };
            let kernel = self.kernels.get(target).cloned().unwrap_or_default();
            let known = kernel.headers && module.conf == Conf::Good;
            let fingerprint = known.then(|| Fingerprint(today(id, target)));
            survey.cases.insert(
                Placement::of(id, target),
                Case {
                    recipe: recipe(id, module),
                    fingerprint,
                    signer: None,
                    cached: false,
                    lack: None,
                    without_headers: None,
                    verdict: None,
                    unconfined: false,
                },
            );
            survey.sources.insert(id.clone(), source(id));
            let build = module.builds.get(target);
            if build.is_some_and(|build| {
                build.active && build.record.is_some() && build.published.as_ref() != Some(&build.inputs)
            }) {
                survey.damaged.insert(Placement::of(id, target));
            }
            if build.is_some_and(|build| build.rotten) {
                survey.unusable.insert(Placement::of(id, target));
            }
        }
        for event in events {
            if let Event::SourceAdded { module: id, .. } = event {
                self.find_source(&mut survey, id);
            } else if let Event::Requested(request) = event {
                self.find_source(&mut survey, &request.module);
            }
        }
        survey
    }

    fn find_source(&self, survey: &mut Survey, id: &ModuleId) {
        if self.modules.get(id).is_some_and(usable) {
            survey.sources.insert(id.clone(), source(id));
        }
    }

    fn look(&self, target: &Target) -> Kernel {
        let kernel = self.kernels.get(target).cloned().unwrap_or_default();
        let indexed = |module: &Module| module.builds.get(target).is_some_and(|build| build.indexed);
        let published = self.modules.iter().filter(|(_, module)| indexed(module));
        let published: String = published.map(|(id, _)| format!("updates/dkms/{}:\n", file(id))).collect();
        Kernel {
            target: target.clone(),
            exists: kernel.exists,
            headers: None,
            compression: Compression::of("a.ko"),
            indexed: Some(Index::new(published)),
            index_damaged: false,
            pkgbase: None,
            headers_package: None,
            has_initramfs: kernel.initramfs,
            has_other_initramfs: false,
            other_architecture: None,
            missing_tools: if kernel.tools { Vec::new() } else { vec!["gcc".into()] },
        }
    }

    /// The plan for the events.
    pub fn plan(&self, events: &[Event]) -> Plan {
        plan(events, &self.snapshot(), &self.survey(events), &Distribution::from_os_release("ID=debian"))
    }

    /// Executes a plan, in the same order as `apply`.
    pub fn apply(&mut self, plan: &Plan) {
        for Placement { module: id, target } in &plan.forget {
            self.at(id).failed.remove(target);
        }
        for registration in &plan.register {
            let module = self.at(&registration.module);
            (module.link, module.dir, module.kept) = (Link::Good, true, false);
        }
        let mut failed = BTreeSet::new();
        for task in &plan.tasks {
            let (id, target) = (&task.module, &task.target);
            let lost = |other: &ModuleId| failed.contains(&Placement::of(other, target));
            let unmet = task.build && task.after.iter().any(lost);
            if unmet && !task.force || task.build && !self.compile(id, target) {
                failed.insert(Placement::of(id, target));
            } else if task.install {
                self.publish(id, target, &task.fingerprint);
            }
        }
        for removal in &plan.removals {
            let module = self.at(&removal.module);
            if let Some(build) = module.builds.get_mut(&removal.target).filter(|_| removal.withdraw) {
                (build.active, build.published, build.indexed) = (false, None, false);
            }
            if removal.unbuild {
                module.builds.remove(&removal.target);
                module.failed.remove(&removal.target);
            }
        }
        for unregister in &plan.unregister {
            let module = self.at(&unregister.module);
            (module.link, module.kept) = (Link::None, unregister.keep_builds);
            if !unregister.keep_builds {
                module.dir = false;
                module.builds.clear();
                module.failed.clear();
            }
        }
        for (id, target, fingerprint) in &plan.adopt {
            if let Some(build) = self.at(id).builds.get_mut(target) {
                build.record = Some(fingerprint.0.clone());
            }
        }
        for module in self.modules.values_mut() {
            for (_, build) in module.builds.iter_mut().filter(|(target, _)| plan.depmod.contains(target)) {
                build.indexed = build.active;
            }
        }
    }

    fn compile(&mut self, id: &ModuleId, target: &Target) -> bool {
        self.compiled.push(Placement::of(id, target));
        let inputs = today(id, target);
        let module = self.at(id);
        if !module.compiles {
            module.failed.insert(target.clone(), inputs);
            return false;
        }
        module.failed.remove(target);
        let build = module.builds.entry(target.clone()).or_default();
        build.record = Some(inputs.clone());
        build.inputs = inputs;
        true
    }

    fn publish(&mut self, id: &ModuleId, target: &Target, fingerprint: &Fingerprint) {
        for (other, module) in
            self.modules.iter_mut().filter(|(other, _)| other.name == id.name && *other != id)
        {
            if let Some(build) = module.builds.get_mut(target) {
                (build.active, build.published, build.indexed) = (false, None, false);
            }
            // A stand-in is no longer needed.
            if module.link == Link::None {
                module.builds.remove(target);
            }
            assert_ne!(other, id);
        }
        let build = self.at(id).builds.get_mut(target).expect("a build before its publication");
        build.record = Some(fingerprint.0.clone());
        build.published = Some(build.inputs.clone());
        (build.active, build.indexed) = (true, true);
    }

    fn at(&mut self, id: &ModuleId) -> &mut Module {
        self.modules.get_mut(id).expect("only known modules in a plan")
    }
}

fn marker(place: &Placement) -> Marker {
    Marker {
        format: 1,
        module: place.module.clone(),
        target: place.target.clone(),
        package: format!("{}-modules-{}", place.module.name, place.target.kernel),
        files: BTreeMap::new(),
    }
}

fn usable(module: &Module) -> bool {
    module.link == Link::Good || module.source
}

fn source(id: &ModuleId) -> PathBuf {
    PathBuf::from(format!("/src/{}-{}", id.name, id.version))
}

fn recipe(id: &ModuleId, module: &Module) -> Result<Recipe, ConfError> {
    let conf = source(id).join("dkms.conf");
    match module.conf {
        Conf::Good => Ok(Recipe {
            deprecated: Vec::new(),
            modules: vec![ModuleSpec {
                built: id.name.to_string(),
                dest_name: id.name.to_string(),
                dest_location: "/updates".into(),
                strip: true,
            }],
            make: "make".into(),
            patches: Vec::new(),
            scripts: Scripts::default(),
            autoinstall: module.automatic,
            build_depends: module.needs.clone(),
            left_out: Vec::new(),
            said: Vec::new(),
            follows: module.follows,
            weak_modules: true,
            excluded: module.excluded.then(|| "it is only for other kernels".to_owned()),
        }),
        Conf::Bad => Err(ConfError::Bad { file: conf, problems: vec!["MAKE is wrong".into()] }),
        Conf::Unreadable => Err(ConfError::Unreadable { file: conf, why: "No such file".into() }),
    }
}

fn entry(id: &ModuleId, target: &Target, build: &Built) -> Build {
    let path = format!("/lib/modules/{}/updates/dkms/{}", target.kernel, file(id)).into();
    let installed = if build.active { vec![Installed { path, sha256: String::new() }] } else { Vec::new() };
    // Only the inputs: other recorded data does not affect the plan.
    let record = build.record.as_ref().map(|inputs| -> Record {
        let json =
            serde_json::json!({ "fingerprint": inputs, "installed": installed, "loaded": inputs == LOADED });
        serde_json::from_value(json).unwrap()
    });
    Build { files: vec![file(id)], active: build.active, record }
}

fn failure(inputs: &str) -> Failure {
    Failure {
        fingerprint: Fingerprint(inputs.to_owned()),
        why: "make failed".into(),
        errors: vec!["a.c:1: error".into()],
        log: "/log".into(),
        code: crate::exit::Exit::BUILD_FAILED,
        environment: String::new(),
        view: None,
        boot: None,
    }
}
