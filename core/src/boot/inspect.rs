//! Reads the facts that the decision needs. Changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::grub::{self, Grub};
use super::loader_conf::{self, LoaderConf};
use super::pin::Pin;
use super::{Candidate, Change, Facts, KeptDefault, Loader, Tool};
use crate::in_use::in_use;
use crate::kernel::{self, Index, elf};
use crate::layout::Layout;
use crate::policy::Policy;
use crate::sys::file::{self, sorted_entries};
use crate::sys::run::{Cmd, Output, which};
use crate::tree::Snapshot;
use crate::types::{Arch, KernelRelease, ModuleName, Target};

/// The vendor GUID of the variables that systemd shares with boot loaders.
const LOADER: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// The change of an earlier run, if it was not undone.
fn state(layout: &Layout) -> Option<KeptDefault> {
    serde_json::from_slice(&file::read_optional(&layout.boot_default()).ok()??).ok()
}

/// Reads all facts. `gone`: kernels that are about to be removed.
pub fn inspect(
    layout: &Layout,
    policy: &Policy,
    snapshot: &Snapshot,
    arch: &Arch,
    gone: &BTreeSet<KernelRelease>,
) -> Facts {
    let mut kernels = kernel::installed(layout);
    kernels.retain(|kernel| {
        !gone.contains(kernel) && (layout.boot_image(kernel).exists() || layout.image(kernel).exists())
    });
    let kept_default = state(layout);
    let candidates = candidates(layout, snapshot, arch, &kernels);
    // Without a missing module and an earlier change, the boot loader need not be read.
    let idle = kept_default.is_none() && candidates.iter().all(|candidate| candidate.lacks.is_empty());
    let loader = if idle { Loader::Unknown } else { loader(layout, policy, &kernels) };
    let kept_default = kept_default.map(|kept_default| {
        let now = match (&kept_default.change, &loader) {
            (Change::Grub { file, .. } | Change::LoaderConf { file, .. } | Change::Pin { file, .. }, _) => {
                file::text(file).ok()
            }
            (Change::Tool { .. }, Loader::Tool(tool)) => Some(tool.default.clone()),
            (Change::Tool { .. }, _) => None,
        };
        (kept_default, now)
    });
    Facts { wanted: policy.admin.keep_boot_default(), kernels: candidates, loader, kept_default }
}

/// The modules in use that each kernel lacks.
fn candidates(
    layout: &Layout,
    snapshot: &Snapshot,
    arch: &Arch,
    kernels: &[KernelRelease],
) -> Vec<Candidate> {
    let used = in_use(layout);
    let target = |kernel: &KernelRelease| Target { kernel: kernel.clone(), arch: arch.clone() };
    // By module package: its module files in use, as they are installed for any of the kernels.
    let mut vital: BTreeMap<&ModuleName, BTreeSet<String>> = BTreeMap::new();
    for (id, entry) in &snapshot.modules {
        for kernel in kernels {
            let build = entry.builds.get(&target(kernel)).filter(|build| build.active);
            let names = build.iter().flat_map(|build| &build.files).map(|file| elf::module_name(file));
            let names: BTreeSet<String> = names.filter(|name| used.contains(name)).collect();
            if !names.is_empty() {
                vital.entry(&id.name).or_default().extend(names);
            }
        }
    }
    let candidate = |kernel: KernelRelease| {
        let missing = |name: &ModuleName| snapshot.active(name, &target(&kernel)).is_none();
        let mut lacks: BTreeSet<ModuleName> =
            vital.keys().copied().filter(|name| missing(name)).cloned().collect();
        if !lacks.is_empty() {
            // The kernel may provide them, or another package.
            let has = modules_of(layout, &kernel);
            lacks.retain(|name| vital.get(name).is_some_and(|names| !names.is_subset(&has)));
        }
        Candidate { kernel, lacks }
    };
    kernels.iter().cloned().map(candidate).collect()
}

/// The names of all modules that a kernel has, including built-in ones.
fn modules_of(layout: &Layout, kernel: &KernelRelease) -> BTreeSet<String> {
    let indexed = file::content(layout.modules_dep(kernel)).unwrap_or_default();
    let builtin = file::text(layout.modules_builtin(kernel)).unwrap_or_default();
    let index = Index::new(indexed);
    let paths = index.paths().chain(builtin.lines());
    paths.map(elf::module_name).collect()
}

/// The boot loader, determined by its files and by the variable that it set at the last boot.
fn loader(layout: &Layout, policy: &Policy, kernels: &[KernelRelease]) -> Loader {
    if let Some(tool) = tool(layout, policy, kernels) {
        return tool;
    }
    let ran = variable(layout, "LoaderInfo");
    if let Some(pin) = pin(layout, policy, ran.as_deref()) {
        return pin;
    }
    if let Some(other) = other(layout, ran.as_deref()) {
        return Loader::Closed(format!("dkms does not change what {other} starts"));
    }
    let grub = grub(layout).filter(|_| !ran.as_ref().is_some_and(|ran| ran.starts_with("systemd-boot")));
    let conf = systemd_boot(layout, kernels)
        .filter(|_| ran.as_ref().is_none_or(|ran| ran.starts_with("systemd-boot")));
    match (grub, conf) {
        (Some(loader), None) | (None, Some(loader)) => loader,
        (None, None) => Loader::Unknown,
        (Some(_), Some(_)) => Loader::Closed("both GRUB and systemd-boot are installed".into()),
    }
}

/// Another boot loader than GRUB and systemd-boot: the one that started this machine, or one whose files are there. GRUB's files
/// may be left over, and a change of them would have no effect.
fn other(layout: &Layout, ran: Option<&str>) -> Option<String> {
    let files = layout.other_loaders().into_iter().find(|(_, file)| file.exists());
    let files = files.map(|(name, _)| name.to_owned());
    let managed = files.as_deref() == Some("proxmox-boot-tool");
    match ran.filter(|ran| !ran.is_empty() && !managed) {
        Some(ran) if ran.starts_with("GRUB") || ran.starts_with("systemd-boot") => None,
        Some(ran) => Some(files.unwrap_or_else(|| ran.to_owned())),
        None => files,
    }
}

/// The facts about the boot tool of the distribution, if it manages this machine's boot partitions.
fn pin(layout: &Layout, policy: &Policy, ran: Option<&str>) -> Option<Loader> {
    let known = |ran: &str| ran.is_empty() || ran.starts_with("GRUB") || ran.starts_with("systemd-boot");
    let (program, _) = policy.distribution.boot_tool.0.split_first()?;
    if !layout.proxmox_partitions().exists() || !ran.is_none_or(known) || which(program).is_none() {
        return None;
    }
    let file = layout.proxmox_pin();
    let text = file::text(&file).ok().filter(|text| !text.trim().is_empty());
    Some(Loader::Pin(Pin { file, text }))
}

/// The facts from the distribution's program.
fn tool(layout: &Layout, policy: &Policy, kernels: &[KernelRelease]) -> Option<Loader> {
    let (program, args) = policy.distribution.default_kernel.0.split_first()?;
    which(program)?;
    let done = Cmd::new(*program).args(args).output(Output::Split).run().ok()?;
    let default = String::from_utf8_lossy(&done.output).trim().to_owned();
    if !done.status.success() || default.is_empty() {
        return Some(Loader::Closed(format!("{program} did not report the default kernel")));
    }
    let image = |kernel: &KernelRelease| (kernel.clone(), layout.boot_image(kernel).display().to_string());
    Some(Loader::Tool(Tool { default, images: kernels.iter().map(image).collect() }))
}

fn grub(layout: &Layout) -> Option<Loader> {
    let path = layout.grub_menus().into_iter().find(|menu| menu.exists())?;
    let mkconfig = mkconfig()?;
    let mut files = vec![layout.grub_defaults()];
    if !files[0].exists() {
        return None;
    }
    if !file::text(&mkconfig).is_ok_and(|script| script.contains(Layout::GRUB_DROP_INS)) {
        let place = layout.grub_drop_in();
        let place = place.parent().unwrap_or(&place).display();
        return Some(Loader::Closed(format!("{} does not read {place}", mkconfig.display())));
    }
    files.extend(layout.grub_drop_ins().into_iter().filter(|path| *path != layout.grub_drop_in()));
    let texts: Vec<(PathBuf, String)> =
        files.into_iter().map(|path| (path.clone(), file::text(path).unwrap_or_default())).collect();
    Some(Loader::Grub(Grub {
        file: layout.grub_drop_in(),
        menu: file::text(path).unwrap_or_default(),
        chosen: grub::chosen(&texts).map(Into::into),
        state: layout.boot_default(),
        boot: layout.boot.clone(),
    }))
}

/// The program that generates GRUB's menu.
pub fn mkconfig() -> Option<PathBuf> {
    which("grub-mkconfig").or_else(|| which("grub2-mkconfig"))
}

fn systemd_boot(layout: &Layout, kernels: &[KernelRelease]) -> Option<Loader> {
    let esps = layout.esps();
    let file = esps.iter().map(|esp| Layout::loader_conf(esp)).find(|file| file.is_file())?;
    let text = file::text(&file).ok()?;
    let called = |kernel: &KernelRelease| {
        let mut names = vec![kernel.as_str().to_owned()];
        names.extend(kernel::pkgbase(layout, kernel));
        (kernel.clone(), names)
    };
    let names: Vec<(KernelRelease, Vec<String>)> = kernels.iter().map(called).collect();
    let mut entries = Vec::new();
    for path in esps.iter().flat_map(|esp| Layout::loader_entries(esp)).flat_map(|dir| sorted_entries(&dir)) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = if name.ends_with(".conf") {
            file::text(&path).unwrap_or_default()
        } else if name.ends_with(".efi") {
            String::new()
        } else {
            continue;
        };
        entries.push((name, text));
    }
    if entries.is_empty() {
        return None;
    }
    let entries = entries.iter().filter_map(|(name, text)| loader_conf::entry(name, text, &names)).collect();
    let chosen = variable(layout, "LoaderEntryDefault").is_some_and(|entry| !entry.is_empty());
    Some(Loader::LoaderConf(LoaderConf { file, text, entries, chosen }))
}

/// The text of a variable, which follows four bytes of attributes.
fn variable(layout: &Layout, name: &str) -> Option<String> {
    let value = file::read_optional(&layout.efi_variable(name, LOADER)).ok().flatten()?;
    let units = value.get(4..)?.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
    let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
    Some(String::from_utf16_lossy(&units))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Framework;
    use crate::sys::file::write_atomic;
    use crate::tree::{Build, Entry, Source};

    struct Machine {
        dir: tempfile::TempDir,
        layout: Layout,
    }

    impl Machine {
        /// `FILE = TEXT`; `FILE = variable TEXT` is an EFI variable.
        fn new(lines: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            for (path, text) in lines.lines().filter_map(|line| line.trim().split_once(" = ")) {
                let content = match text.strip_prefix("variable ") {
                    Some(text) => [
                        &[7, 0, 0, 0][..],
                        &text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>(),
                    ]
                    .concat(),
                    None => text.replace('|', "\n").into_bytes(),
                };
                write_atomic(&dir.path().join(path), &content, 0o644).unwrap();
            }
            let at = |path: &str| dir.path().join(path);
            let layout = Layout {
                dkms_tree: at("lib"),
                install_tree: at("modules"),
                etc: at("etc"),
                sys: at("sys"),
                proc: at("proc"),
                boot: at("boot"),
                ..Layout::default()
            };
            Self { dir, layout }
        }

        /// With a build of zfs for the oldest kernel.
        fn facts(&self) -> Facts {
            let policy = Policy::load(&self.layout, Framework::default(), "");
            let arch: Arch = "x86_64".parse().unwrap();
            let target = Target { kernel: "6.1".parse().unwrap(), arch: arch.clone() };
            let build = Build { files: vec!["zfs.ko.xz".into()], active: true, record: None };
            let entry = Entry { source: Source::Gone, builds: [(target, build)].into() };
            let modules = [("zfs/2".parse().unwrap(), entry)].into();
            let snapshot = Snapshot { modules, ..Snapshot::default() };
            inspect(&self.layout, &policy, &snapshot, &arch, &BTreeSet::new())
        }

        fn lacking(&self) -> Vec<String> {
            let lacks = |candidate: &&Candidate| !candidate.lacks.is_empty();
            self.facts().kernels.iter().filter(lacks).map(|candidate| candidate.kernel.to_string()).collect()
        }
    }

    const ZFS: &str = "proc/self/mountinfo = 27 1 0:25 / / rw - zfs rpool rw
        modules/6.1/modules.dep = updates/dkms/zfs.ko.xz:|
        modules/6.2/modules.dep = kernel/fs/ext4/ext4.ko:|
        boot/vmlinuz-6.1 = x
        boot/vmlinuz-6.2 = x";

    #[test]
    fn a_kernel_may_have_it_itself_or_not_boot_at_all() {
        for (more, lacking) in [
            ("", &["6.2"][..]),
            ("proc/self/mountinfo = 27 1 8:1 / / rw - ext4 /dev/sda1 rw", &[]),
            ("modules/6.2/modules.dep = kernel/zfs.ko.zst: kernel/spl.ko.zst|", &[]),
            ("modules/6.2/modules.builtin = kernel/fs/zfs/zfs.ko|", &[]),
            // Leftover directories, and kernels without an image, do not count.
            ("modules/6.3/modules.dep = x:", &["6.2"]),
            ("modules/6.3/modules.dep = x:|\nmodules/6.3/vmlinuz = x", &["6.2", "6.3"]),
        ] {
            assert_eq!(Machine::new(&format!("{ZFS}\n{more}")).lacking(), lacking, "{more}");
        }
    }

    const SYSTEMD: &str = "efi/loader/loader.conf = timeout 3|
        efi/loader/entries/m-6.1.conf = version 6.1|
        boot/loader/entries/m-6.2.conf = version 6.2|
        efi/EFI/Linux/readme.txt = x";

    #[test]
    fn the_loader_is_told_by_its_files_and_by_what_it_says_of_itself() {
        let var =
            |name: &str, text: &str| format!("sys/firmware/efi/efivars/{name}-{LOADER} = variable {text}");
        for (more, expected) in [
            (String::new(), Some(false)),
            (var("LoaderInfo", "systemd-boot 257.13-1"), Some(false)),
            (var("LoaderInfo", "GRUB 2.12-9"), None),
            (var("LoaderEntryDefault", "m-6.1.conf"), Some(true)),
        ] {
            let machine = Machine::new(&format!("{ZFS}\n{SYSTEMD}\n{more}"));
            let chosen = match machine.facts().loader {
                Loader::LoaderConf(conf) => {
                    assert_eq!(conf.file, machine.dir.path().join("efi/loader/loader.conf"));
                    let entries: Vec<&str> = conf.entries.iter().map(|(_, id)| id.as_str()).collect();
                    assert_eq!(entries, ["m-6.1.conf", "m-6.2.conf"]);
                    Some(conf.chosen)
                }
                Loader::Unknown => None,
                other => panic!("{other:?}"),
            };
            assert_eq!(chosen, expected, "{more}");
        }
        assert_eq!(Machine::new(ZFS).facts().loader, Loader::Unknown);
        // Another one, whatever is left over of the known ones.
        for (more, expected) in [
            (var("LoaderInfo", "Limine 9.3.0"), "Limine 9.3.0"),
            (var("LoaderInfo", "rEFInd 0.14.2") + "\nefi/EFI/refind/refind.conf = x", "rEFInd"),
            ("boot/limine.conf = timeout: 3".into(), "Limine"),
            ("efi/limine.conf = timeout: 3".into(), "Limine"),
            ("boot/extlinux/extlinux.conf = default l0".into(), "extlinux"),
            ("etc/kernel/proxmox-boot-uuids = 1A2B-3C4D".into(), "proxmox-boot-tool"),
            (
                var("LoaderInfo", "systemd-boot 257.13-1") + "\netc/kernel/proxmox-boot-uuids = 1A2B-3C4D",
                "proxmox-boot-tool",
            ),
        ] {
            let found = Machine::new(&format!("{ZFS}\n{SYSTEMD}\n{more}")).facts().loader;
            assert_eq!(
                found,
                Loader::Closed(format!("dkms does not change what {expected} starts")),
                "{more}"
            );
        }
        let known = var("LoaderInfo", "systemd-boot 257.13-1") + "\nboot/limine.conf = x";
        let found = Machine::new(&format!("{ZFS}\n{SYSTEMD}\n{known}")).facts().loader;
        assert!(matches!(found, Loader::LoaderConf(_)), "{found:?}");
        // Without a missing module, the boot loader is not read.
        let fine = format!("{ZFS}\n{SYSTEMD}\nmodules/6.2/modules.builtin = kernel/zfs.ko|");
        assert_eq!(Machine::new(&fine).facts().loader, Loader::Unknown);
    }
}
