//! Mounts a state, lets dkms run again, and says what is wrong.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::disk::{self, Layout};
use super::story::Story;
use crate::{Kernel, Root, host};

/// The module files of a kernel, with their hashes.
pub type Files = BTreeMap<String, String>;

/// Prints the module files of the kernel $K with their hashes, without temporary ones.
const LIST: &str =
    "find /usr/lib/modules/$K -name '*.ko*' ! -name '.dkms-tmp-*' -print0 | sort -z | xargs -0r sha256sum";

/// What is examined in each state. Sections begin with a line `== NAME`.
const EXAMINE: &str = r#"
echo "== before"; list
echo "== next"; { eval "$NEXT"; } >/run/next 2>&1 || { echo "exit $?"; cat /run/next; }
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
picture() { find /usr/lib/modules /var/lib/dkms /var/cache/dkms -printf '%p %y %i %s %T@\n' | grep -v '/.dkms-rs/lock'; }
picture >/run/one; { eval "$NEXT"; } >/run/again 2>&1 || true; picture >/run/two
diff /run/one /run/two || { echo 'the second run changed something'; cat /run/again; }
echo "== status"; dkms status
echo "== end"
"#;

/// The module files of a root's kernel.
pub fn modules(root: &Root, kernel: &Kernel) -> Files {
    parse(&root.run(&format!("K={}; {LIST}", kernel.release)).ok().stdout)
}

fn parse(listed: &str) -> Files {
    let pairs = listed.lines().filter_map(|line| line.split_once("  "));
    pairs.map(|(hash, path)| (path.to_owned(), hash.to_owned())).collect()
}

/// Judges states.
#[derive(Debug)]
pub struct Judge<'a> {
    /// Where dkms runs.
    pub root: &'a Root,
    /// The kernel.
    pub kernel: &'a Kernel,
    /// The file systems.
    pub layout: &'a Layout,
    /// What was done.
    pub story: &'a Story,
    /// The module files before and after it.
    pub known: &'a [Files; 2],
}

/// What a state is.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Whether the module files were exactly the old ones, or exactly the new ones.
    pub is: [bool; 2],
    /// What is wrong.
    pub bad: Vec<String>,
}

impl Judge<'_> {
    /// Mounts the images of a state and judges them; `check` also checks the file systems.
    pub fn judge(&self, pictures: &[PathBuf], check: bool) -> Verdict {
        self.judge_after(pictures, "true", check)
    }

    /// The same after a command.
    pub fn judge_after(&self, pictures: &[PathBuf], command: &str, check: bool) -> Verdict {
        let (kernel, story) = (&self.kernel.release, self.story);
        let quoted = |text: &str| text.replace('\'', r"'\''");
        let output = self.root.run_within(
            120,
            &format!(
                "K={kernel} NEXT='{}' CHECK='{}'\nlist() {{ {LIST}; }}\n{} || {{ echo cannot mount; exit; }}\n{command}\n{EXAMINE}\n{}",
                quoted(story.next),
                quoted(story.check),
                disk::mount(self.layout, pictures),
                disk::UNMOUNT
            ),
        );
        let mut verdict = Verdict::default();
        if output.status != 0 || !output.stdout.contains("== end") {
            verdict.bad.push(format!("not judged: {output}"));
            self.root.run(disk::UNMOUNT);
            return verdict;
        }
        let section = |name: &str| {
            let rest = output.stdout.split_once(&format!("== {name}\n")).map_or("", |(_, rest)| rest);
            rest.split("== ").next().unwrap_or_default().to_owned()
        };
        let (before, after) = (parse(&section("before")), parse(&section("after")));
        verdict.is = [0, 1].map(|which| before == self.known[which]);
        verdict.bad.extend(self.strange(&before).map(|bad| format!("before the next run: {bad}")));
        verdict.bad.extend(self.strange(&after).map(|bad| format!("after the next run: {bad}")));
        if !self.known.contains(&after) {
            verdict.bad.push(format!("neither old nor new: {after:#?}"));
        }
        for name in ["next", "wrong"] {
            verdict.bad.extend(section(name).lines().map(|line| format!("{name}: {line}")));
        }
        let installed = section("status").lines().filter(|line| line.contains(": installed")).count();
        if (installed == 0) != after.keys().all(|path| !path.contains("/updates/")) {
            verdict.bad.push(format!("status disagrees: {}", section("status")));
        }
        if check {
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
        let [old, new] = self.known;
        let other = files
            .iter()
            .filter(move |(path, hash)| old.get(*path) != Some(hash) && new.get(*path) != Some(hash));
        let missing = old.keys().filter(move |path| new.contains_key(*path) && !files.contains_key(*path));
        other
            .map(|(path, hash)| format!("{path} is neither old nor new ({hash})"))
            .chain(missing.map(|path| format!("{path} is missing")))
    }
}
