//! Mounts a state, lets dkms run again, and says what is wrong.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::disk::{self, Layout};
use super::place::Place;
use super::story::{self, Story};
use crate::boot::initrd::Initrd;
use crate::{Kernel, Root, boot, host};

/// The module files of a kernel, with their hashes.
pub type Files = BTreeMap<String, String>;

/// Prints the module files of the kernel $K with their hashes, without temporary ones.
const LIST: &str =
    "find /usr/lib/modules/$K -name '*.ko*' ! -name '.dkms-tmp-*' -print0 | sort -z | xargs -0r sha256sum";

/// What is examined in each state. Sections begin with a line `== NAME`.
const EXAMINE: &str = r#"
echo "== before"; list
echo "== next"; { eval "$NEXT"; } >/run/next 2>&1 || { echo "exit $?"; cat /run/next; }
echo "== doctor"; [ -z "$DOCTOR" ] || dkms doctor
echo "== after"; list
echo "== wrong"
rm -rf /run/dep; mkdir -p /run/dep; depmod -o /run/dep $K
for index in modules.dep modules.dep.bin modules.alias modules.alias.bin modules.symbols modules.symbols.bin modules.softdep; do
    cmp -s /run/dep/lib/modules/$K/$index /usr/lib/modules/$K/$index || echo "$index does not agree"
done
find /usr/lib/modules /var/lib/dkms /var/cache/dkms /boot -name '.dkms-tmp-*' -printf 'left: %p\n'
find /var/lib/dkms/.dkms-rs/intent -type f -printf 'left: %p\n' 2>/dev/null
find /var/lib/dkms /usr/lib/modules -name '*.ko*' -size 0 -printf 'empty: %p\n'
find /var/lib/dkms/.dkms-rs -name '*.json' ! -path '*/history/*' -size 0 -printf 'empty: %p\n'
(eval "$CHECK")
picture() { find /usr/lib/modules /var/lib/dkms /var/cache/dkms -printf '%p %y %i %s %T@\n' | grep -v -e '/.dkms-rs/lock' -e '/.dkms-rs/incoming ' -e '/.dkms-rs/hashes'; }
picture >/run/one; { eval "$NEXT"; } >/run/again 2>&1 || true; picture >/run/two
diff /run/one /run/two || { echo 'the second run changed something'; cat /run/again; }
echo "== status"; dkms status
[ -z "$KEEP" ] || tar -C / -cf $KEEP usr/lib/modules/$K || echo cannot keep
echo "== end"
"#;

/// Repairs without being told what; it cannot make the machine better than [`Known::doctor`]. One thing is left to the next
/// command: that there is no key is no fault.
fn doctor(story: &Story) -> String {
    let left = story.act == story::GENERATE;
    format!("dkms doctor --fix || true; {}", if left { story.next } else { "true" })
}

/// What is known of a story's ends, before and after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The module files.
    pub files: [Files; 2],
    /// What `dkms doctor` says.
    pub doctor: [String; 2],
}

/// The module files of a kernel, and what `dkms doctor` says.
pub fn now(place: &Place, kernel: &Kernel) -> (Files, String) {
    let files = place.run(&format!("K={}; {LIST}", kernel.release)).ok().stdout;
    (parse(&files), place.run("dkms doctor").stdout)
}

fn parse(listed: &str) -> Files {
    let pairs = listed.lines().filter_map(|line| line.split_once("  "));
    pairs.map(|(hash, path)| (path.to_owned(), hash.to_owned())).collect()
}

/// Loads each module by its name.
const BOOT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mkdir -p /lib /sbin; [ -e /lib/modules ] || ln -s /usr/lib/modules /lib/modules
ln -sf /usr/bin/kmod /sbin/modprobe
for file in $(find /usr/lib/modules/*/updates -name '*.ko*'); do
    name=${file##*/}; name=${name%%.*}
    /sbin/modprobe $name && grep -q "^$name " /proc/modules && echo "LOADED $name"
done
echo BOOT-DONE
poweroff -f
"#;

/// Judges states.
pub struct Judge<'a> {
    /// Where dkms runs.
    pub place: &'a Place,
    /// The kernel.
    pub kernel: &'a Kernel,
    /// The file systems.
    pub layout: &'a Layout,
    /// What was done.
    pub story: &'a Story,
    /// What is known of both ends.
    pub known: &'a Known,
}

/// What else is done with a state.
#[derive(Debug, Clone, Copy, Default)]
pub struct Also {
    /// Check the file systems, and what `dkms doctor` says.
    pub check: bool,
    /// Let `dkms doctor --fix` repair, instead of the next run.
    pub doctor: bool,
    /// Keep the modules, to boot with them.
    pub keep: bool,
}

/// What a state is.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Whether the module files were exactly the old ones, or exactly the new ones.
    pub is: [bool; 2],
    /// What is wrong.
    pub bad: Vec<String>,
    /// The archive with the modules that was kept.
    pub kept: Option<PathBuf>,
}

impl Judge<'_> {
    /// Mounts the volumes with a state, runs a command, and judges what is there.
    pub fn judge(&self, pictures: &[PathBuf], command: &str, also: Also) -> Verdict {
        let (kernel, story) = (&self.kernel.release, self.story);
        let quoted = |text: &str| text.replace('\'', r"'\''");
        let by_doctor = doctor(story);
        let (inside, here) = self.place.shared("kept.tar");
        let keep = if also.keep { inside.as_str() } else { "" };
        // It asks the package manager, which takes longer than everything else.
        let doctor = if also.doctor || also.check { "yes" } else { "" };
        let output = self.place.run_within(
            120,
            &format!(
                "K={kernel} KEEP={keep} DOCTOR={doctor} NEXT='{}' CHECK='{}'\nlist() {{ {LIST}; }}\n{} || {{ echo cannot mount; exit; }}\n{command}\n{EXAMINE}\n{}",
                quoted(if also.doctor { &by_doctor } else { story.next }),
                quoted(story.check),
                disk::mount(self.layout, &self.place.devices),
                disk::UNMOUNT
            ),
        );
        let mut verdict = Verdict { kept: also.keep.then_some(here), ..Verdict::default() };
        if output.status != 0 || !output.stdout.contains("== end") {
            verdict.bad.push(format!("not judged: {output}"));
            self.place.run(disk::UNMOUNT);
            return verdict;
        }
        let section = |name: &str| {
            let rest = output.stdout.split_once(&format!("== {name}\n")).map_or("", |(_, rest)| rest);
            rest.split("== ").next().unwrap_or_default().to_owned()
        };
        let (before, after) = (parse(&section("before")), parse(&section("after")));
        verdict.is = self.known.files.each_ref().map(|files| before == *files);
        verdict.bad.extend(self.strange(&before).map(|bad| format!("before the next run: {bad}")));
        verdict.bad.extend(self.strange(&after).map(|bad| format!("after the next run: {bad}")));
        if !self.known.files.contains(&after) {
            verdict.bad.push(format!("neither old nor new: {after:#?}"));
        }
        for name in ["next", "wrong"] {
            verdict.bad.extend(section(name).lines().map(|line| format!("{name}: {line}")));
        }
        if !doctor.is_empty() && !self.known.doctor.contains(&section("doctor")) {
            verdict.bad.push(format!("doctor still finds: {}", section("doctor")));
        }
        let installed = section("status").lines().filter(|line| line.contains(": installed")).count();
        if (installed == 0) != after.keys().all(|path| !path.contains("/updates/")) {
            verdict.bad.push(format!("status disagrees: {}", section("status")));
        }
        if also.doctor {
            verdict.bad.iter_mut().for_each(|bad| bad.insert_str(0, "dkms doctor --fix: "));
        }
        if also.check {
            for (picture, (system, _)) in pictures.iter().zip(self.layout.volumes) {
                let checked =
                    host::run_host(&format!("{} {} 2>&1 || echo BAD", system.check, picture.display()));
                if checked.contains("BAD") {
                    verdict.bad.push(format!("file system: {checked}"));
                }
            }
        }
        verdict
    }

    /// Files that are neither the old nor the new one, and those that both states have and this one lacks.
    fn strange<'f>(&'f self, files: &'f Files) -> impl Iterator<Item = String> + 'f {
        let [old, new] = &self.known.files;
        let other = files
            .iter()
            .filter(move |(path, hash)| old.get(*path) != Some(hash) && new.get(*path) != Some(hash));
        let missing = old.keys().filter(move |path| new.contains_key(*path) && !files.contains_key(*path));
        other
            .map(|(path, hash)| format!("{path} is neither old nor new ({hash})"))
            .chain(missing.map(|path| format!("{path} is missing")))
    }
}

/// Boots the kernel of a root with the modules of a state, and loads a story's modules by the indexes of that state. Says what
/// is wrong.
pub fn boot(root: &Root, kernel: &Kernel, kept: &Path) -> Option<String> {
    let initrd = Initrd::new(root);
    initrd.add_program("/usr/bin/kmod");
    root.copy_in(kept, "/opt/kept.tar");
    let dir = initrd.inside("");
    root.run(&format!("tar -C {dir} -xf /opt/kept.tar")).ok();
    let ours =
        root.find(&format!("{dir}/usr/lib/modules/{}", kernel.release), "-path '*/updates/*' -name '*.ko*'");
    let console = boot::start(root, kernel, &initrd.pack(BOOT), "");
    let modules = ours.iter().filter_map(|path| path.rsplit('/').next()?.split('.').next());
    let missing: Vec<&str> =
        modules.filter(|module| !console.contains(&format!("LOADED {module}"))).collect();
    (!missing.is_empty()).then(|| format!("not loaded: {missing:?}\n{console}"))
}
