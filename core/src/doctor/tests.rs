use super::*;
use crate::distro::Distribution;
use crate::layout::Layout;
use crate::page::{documented, values};
use crate::report::{Failing, Fault};
use crate::sys::file::Unwritable;
use crate::tree::{Source, Stale};

fn target() -> Target {
    Target { kernel: "6.1".parse().unwrap(), arch: "x86_64".parse().unwrap() }
}

fn id(text: &str) -> ModuleId {
    text.parse().unwrap()
}

/// A file, and the builds that have a module of its name: whether their content is the same, and whether they are installed.
fn stray(file: &str, builds: &[(&str, bool, bool)]) -> Stray {
    let builds = builds.iter().map(|(name, same, active)| (id(name), *same, *active)).collect();
    Stray { target: target(), file: file.into(), builds }
}

/// What the next run would do with these modules.
fn facts(modules: Vec<(&str, Prospect)>) -> Facts {
    let prospects = Prospects {
        target: target(),
        modules: modules.into_iter().map(|(name, prospect)| (id(name), prospect)).collect(),
        package: HeadersPackage::install("linux-headers-6.1"),
        tools: vec!["gcc-12".into(), "make".into()],
        index_outdated: false,
        installed: BTreeSet::new(),
        blocked: BTreeSet::new(),
        index_blocked: false,
    };
    Facts { prospects: vec![prospects], automatic: true, ..Facts::default() }
}

fn deferred(waits: Waits) -> Prospect {
    Prospect::Settled(Outcome::Deferred { why: "it waits".into(), advice: "wait".into(), waits })
}

fn failed() -> Prospect {
    Prospect::Settled(Outcome::Failed(Failing::new(Fault::Module, Exit::BUILD_FAILED, "make failed".into())))
}

fn refused(code: Exit) -> Prospect {
    Prospect::Settled(Outcome::Refused { why: "bad dkms.conf".into(), advice: "mend it".into(), code })
}

fn keys(has_key: bool, has_certificate: bool, exposed: bool) -> Facts {
    let (key, certificate) = ("/keys/mok.key".into(), "/keys/mok.pub".into());
    Facts {
        keys: Some(Keys { key, certificate, has_key, has_certificate, exposed, damaged: None }),
        ..Facts::default()
    }
}

/// Each finding: the facts that it follows from, its kind, its sentence, its command, and whether `--fix` repairs it.
fn table() -> Vec<(Facts, &'static str, &'static str, &'static str, bool)> {
    let none = Facts::default;
    let stale = Stale { modules: ["a".parse().unwrap()].into(), why: "no space".into(), ..Stale::default() };
    let replaced =
        Replaced { id: id("nvidia/2"), name: "nvidia".into(), loaded: "1".into(), installed: "2".into() };
    let index = |facts: Facts| {
        let prospects = facts.prospects.into_iter();
        let prospects = prospects.map(|one| Prospects { index_outdated: true, ..one }).collect();
        Facts { prospects, ..Facts::default() }
    };
    vec![
        (
            Facts { policy: Some("policy.toml:2: unknown key critcal".into()), ..none() },
            "bad-policy",
            "policy.toml:2: unknown key critcal",
            "${EDITOR:-vi} /etc/dkms/policy.toml",
            false,
        ),
        (
            Facts {
                framework: Some("line 1: syntax error".into()),
                framework_files: vec!["/c/a.conf".into(), "/c/b.conf".into()],
                ..none()
            },
            "bad-framework-conf",
            "framework.conf has no effect: line 1: syntax error",
            "${EDITOR:-vi} /c/a.conf /c/b.conf",
            false,
        ),
        (
            Facts {
                unknown_options: vec!["--nonsense".into()],
                framework_files: vec!["/c/a.conf".into()],
                ..none()
            },
            "unknown-options",
            "framework.conf: options without a meaning: --nonsense",
            "${EDITOR:-vi} /c/a.conf",
            false,
        ),
        (
            Facts { other_program: Some("/usr/local/sbin/dkms".into()), ..none() },
            "other-program",
            "the command dkms starts /usr/local/sbin/dkms, which is not dkms-rs",
            "mv /usr/local/sbin/dkms /usr/local/sbin/dkms.old",
            false,
        ),
        (
            Facts { missing_hooks: vec!["/hooks/a".into(), "/hooks/b".into()], ..none() },
            "missing-hooks",
            "package transactions do not start dkms; missing: /hooks/a, /hooks/b",
            "apt-get install --reinstall -o Dpkg::Options::=--force-confmiss dkms-rs",
            false,
        ),
        (
            Facts {
                misplaced: vec![Misplaced {
                    path: "/var/lib/dkms/.dkms-rs/intent".into(),
                    is: "a fifo",
                    needed: "a directory",
                }],
                ..none()
            },
            "wrong-file-type",
            "/var/lib/dkms/.dkms-rs/intent is a fifo; dkms needs a directory there",
            "mv /var/lib/dkms/.dkms-rs/intent /var/lib/dkms/.dkms-rs/intent.old",
            false,
        ),
        (
            Facts { unwritable: vec![("/var/lib/dkms".into(), Unwritable::Immutable)], ..none() },
            "unwritable",
            "/var/lib/dkms has an attribute that forbids changes, also to root; nothing can be built or installed there",
            "lsattr -d /var/lib/dkms",
            false,
        ),
        (
            Facts { space: vec![Space { dir: "/boot".into(), free: 3 << 20, needed: 60 << 20 }], ..none() },
            "low-space",
            "/boot has 3 MiB left; an update can need 60 MiB",
            "du -xh -d 1 /boot",
            false,
        ),
        (
            keys(true, false, false),
            "half-key-pair",
            "/keys/mok.pub is missing; modules cannot be signed with /keys/mok.key alone",
            "mv /keys/mok.key /keys/mok.key.old && dkms generate_mok",
            false,
        ),
        (
            {
                let mut facts = keys(true, true, false);
                facts.keys.as_mut().unwrap().damaged = Some("/keys/mok.pub is damaged".into());
                facts
            },
            "damaged-key",
            "modules cannot be signed: /keys/mok.pub is damaged",
            "mv /keys/mok.key /keys/mok.key.old && mv /keys/mok.pub /keys/mok.pub.old && dkms generate_mok",
            false,
        ),
        (
            keys(true, true, true),
            "exposed-key",
            "other users can read the private key /keys/mok.key",
            "chmod 600 /keys/mok.key",
            false,
        ),
        (
            Facts {
                rejected: vec![Rejection {
                    why: "modules for 6.1 are rejected".into(),
                    enroll: Some("mokutil --import K".into()),
                }],
                ..none()
            },
            "rejected",
            "modules for 6.1 are rejected",
            "mokutil --import K",
            false,
        ),
        (
            Facts { unfinished: 1, ..none() },
            "unfinished",
            "1 transaction was interrupted; the next run completes this",
            "dkms doctor --fix",
            true,
        ),
        (
            Facts { temporary: vec!["/t/.dkms-tmp-1-0-a".into()], ..none() },
            "temporary-files",
            "an interrupted run left /t/.dkms-tmp-1-0-a",
            "dkms doctor --fix",
            true,
        ),
        (
            Facts {
                removed_kernels: vec![Leftover { target: target(), modules: [id("a/1")].into() }],
                ..none()
            },
            "removed-kernel",
            "builds for 6.1, whose modules are not installed: a/1",
            "dkms kernel_prerm -k 6.1/x86_64",
            false,
        ),
        (
            Facts { unowned: vec![stray("/m/a.ko", &[])], ..none() },
            "unowned-module",
            "/m/a.ko belongs to no module in the DKMS tree",
            "rm /m/a.ko && depmod 6.1",
            false,
        ),
        (
            Facts { unowned: vec![stray("/m/a.ko", &[("a/1", true, false)])], ..none() },
            "unrecorded-module",
            "/m/a.ko has the name of a module of a/1, and is not recorded as installed",
            "dkms install a/1 -k 6.1/x86_64",
            false,
        ),
        (
            Facts {
                lost_originals: vec![LostOriginal {
                    target: target(),
                    place: "/m/kernel/a.ko".into(),
                    why: "its copy /t/a.ko is missing".into(),
                    package: Some("linux-image-6.1".into()),
                }],
                ..none()
            },
            "lost-original",
            "the kernel's original /m/kernel/a.ko cannot be restored: its copy /t/a.ko is missing",
            "apt-get install --reinstall linux-image-6.1",
            false,
        ),
        (
            Facts { damaged: vec![(target(), id("a/1"))], ..none() },
            "damaged-files",
            "files of a/1 for 6.1 are missing or were changed",
            "dkms install a/1 -k 6.1/x86_64 --force",
            false,
        ),
        (
            Facts { damaged_packages: vec![(target(), id("a/1"), "a-modules-6.1".into())], ..none() },
            "damaged-package",
            "files of package a-modules-6.1 are missing or were changed: a/1 for 6.1",
            "apt-get install --reinstall a-modules-6.1",
            false,
        ),
        (
            Facts { unrestored: vec![(target(), "/t/a.ko".into(), "/m/kernel/a.ko".into())], ..none() },
            "unrestored-module",
            "/t/a.ko is a module of 6.1 that was not restored",
            "mkdir -p /m/kernel && mv /t/a.ko /m/kernel/a.ko && rm -f /t/a.ko.origin && depmod 6.1",
            false,
        ),
        (
            Facts { broken: vec![(id("a/1"), Source::Dangling("/s".into()))], ..none() },
            "broken",
            "a/1 is broken: source directory /s not found",
            "dkms remove a/1 --all",
            false,
        ),
        (
            facts(vec![("a/1", deferred(Waits::Headers)), ("b/1", deferred(Waits::Headers))]),
            "no-headers",
            "kernel headers for 6.1 are not installed; not built: a/1, b/1",
            "apt install linux-headers-6.1",
            false,
        ),
        (
            facts(vec![("a/1", deferred(Waits::Tools))]),
            "no-tools",
            "not installed: gcc-12 make; not built for 6.1: a/1",
            "apt install gcc-12 make && dkms autoinstall -k 6.1",
            false,
        ),
        (
            facts(vec![("a/1", Prospect::Build("x")), ("b/1", Prospect::Install("x"))]),
            "missing-builds",
            "not up to date for 6.1: a/1, b/1",
            "dkms autoinstall -k 6.1",
            true,
        ),
        (
            facts(vec![("a/1", failed())]),
            "failed",
            "a/1 does not build for 6.1: make failed",
            "dkms log a/1 -k 6.1",
            false,
        ),
        (
            facts(vec![("a/1", refused(Exit::BAD_CONF))]),
            "hindered",
            "a/1 is not built for 6.1: bad dkms.conf",
            "dkms why a/1 -k 6.1",
            false,
        ),
        (
            Facts { upcoming: vec!["a/1 does not build for 6.1, which is available".into()], ..none() },
            "upcoming",
            "a/1 does not build for 6.1, which is available",
            "dkms upcoming",
            false,
        ),
        (
            Facts { kept_back: Some(KeptLong { what: "k is kept back".into(), days: 7 }), ..none() },
            "kept-back",
            "k is kept back, for 7 days",
            "${EDITOR:-vi} /etc/dkms/policy.toml",
            false,
        ),
        (
            Facts { hold_differs: true, ..none() },
            "hold-differs",
            "upgrades keep back other packages than dkms has recorded",
            "dkms preflight --upcoming",
            false,
        ),
        (
            index(facts(Vec::new())),
            "outdated-index",
            "modules.dep of 6.1 lacks installed modules",
            "depmod 6.1",
            true,
        ),
        (
            Facts { boot_default: Some("6.0 remains the boot default".into()), ..none() },
            "boot-default",
            "the boot default is out of date: 6.0 remains the boot default",
            "dkms doctor --fix",
            true,
        ),
        (
            Facts { stale: vec![(target(), stale)], ..none() },
            "outdated-initramfs",
            "the initramfs for 6.1 is out of date: it lacks the installed version of a: no space",
            "dkms autoinstall -k 6.1",
            true,
        ),
        (
            Facts { loaded: vec![replaced], ..none() },
            "loaded-differs",
            "nvidia/2: nvidia 1 is loaded, 2 is installed",
            "modprobe -r nvidia && modprobe nvidia",
            false,
        ),
    ]
}

#[test]
fn each_fault_has_a_sentence_and_a_command() {
    let debian = Distribution::from_os_release("ID=debian");
    for (facts, kind, what, command, fixable) in table() {
        let found = findings(&facts);
        let advice: Vec<Advice> = found.iter().map(|one| one.advice(&debian, &Layout::default())).collect();
        let [advice] = advice.as_slice() else { panic!("{kind}: {found:?}") };
        assert_eq!(
            (advice.kind, advice.what.as_str(), advice.command.as_str(), advice.repair.is_some()),
            (kind, what, command, fixable)
        );
        assert!(!advice.purpose.is_empty() && !advice.purpose.contains(':'), "{advice:?}");
    }
}

#[test]
fn a_command_that_is_pasted_does_what_it_says() {
    let debian = Distribution::from_os_release("ID=debian");
    let unowned = Facts { unowned: vec![stray("/m/a; $(id)'.ko", &[])], ..Facts::default() };
    let replaced = Facts { other_program: Some(Layout::PROGRAM.into()), ..Facts::default() };
    for (why, facts, command) in [
        ("a path is one word", unowned, r"rm '/m/a; $(id)'\''.ko' && depmod 6.1"),
        ("without it there would be none", replaced, &debian.restore_hooks()),
    ] {
        let found = findings(&facts);
        let advice = found.first().unwrap().advice(&debian, &Layout::default());
        assert_eq!(advice.command, command, "{why}");
    }
}

#[test]
fn every_kind_is_in_the_table_and_described() {
    let kinds: BTreeSet<String> = table().iter().map(|(_, kind, ..)| (*kind).to_owned()).collect();
    assert_eq!(kinds.len(), table().len());
    assert_eq!(values(".SS doctor \\-\\-json", "findings[].kind"), kinds);
    let described = documented(".SS doctor \\-\\-json");
    assert!(described.contains("findings[].command"), "{described:?}");
}

#[test]
fn what_only_one_module_lacks_is_named_with_it() {
    let mut facts = facts(vec![("a/1", deferred(Waits::Tools)), ("b/1", deferred(Waits::Dependency))]);
    facts.prospects[0].tools.clear();
    let hindered = |name: &str| Finding::Hindered {
        target: target(),
        module: id(name),
        installed: false,
        why: "it waits".into(),
    };
    assert_eq!(findings(&facts), [hindered("a/1"), hindered("b/1")]);
}

#[test]
fn a_broken_module_is_found_once_and_one_without_a_readable_dkms_conf_is_found() {
    let facts = facts(vec![("a/1", refused(Exit::BROKEN))]);
    let hindered = Finding::Hindered {
        target: target(),
        module: id("a/1"),
        installed: false,
        why: "bad dkms.conf".into(),
    };
    assert_eq!(findings(&facts), [hindered]);
    let broken = vec![(id("a/1"), Source::Unlinked)];
    let found = findings(&Facts { broken, ..facts });
    assert!(matches!(found.as_slice(), [Finding::Broken { .. }]), "{found:?}");
    // Its source is there.
    let advice = found[0].advice(&Distribution::from_os_release("ID=debian"), &Layout::default());
    assert_eq!(advice.command, "dkms add a/1");
}

#[test]
fn what_is_installed_is_not_said_to_be_not_built() {
    let mut facts = facts(vec![("a/1", refused(Exit::BAD_CONF))]);
    facts.prospects[0].installed.insert(id("a/1"));
    let found = findings(&facts);
    let advice = found[0].advice(&Distribution::from_os_release("ID=debian"), &Layout::default());
    assert_eq!(advice.what, "a/1 is installed for 6.1, and cannot be built again: bad dkms.conf");
}

#[test]
fn headers_whose_package_is_installed_are_installed_again() {
    let mut facts = facts(vec![("a/1", deferred(Waits::Headers))]);
    facts.prospects[0].package = HeadersPackage::Reinstall("linux-headers-6.1".into());
    let found = findings(&facts);
    let advice = found[0].advice(&Distribution::from_os_release("ID=debian"), &Layout::default());
    assert_eq!(advice.kind, "no-headers");
    assert_eq!(advice.what, "kernel headers for 6.1 are damaged: their package is installed; not built: a/1");
    assert_eq!(advice.command, "apt-get install --reinstall linux-headers-6.1");
}

#[test]
fn no_repair_is_promised_that_something_else_prevents() {
    let misplaced = Misplaced { path: "/m/a.ko".into(), is: "a directory", needed: "a regular file" };
    let mut facts = facts(vec![("a/1", Prospect::Install("x")), ("b/1", Prospect::Build("x"))]);
    facts.prospects[0].blocked.insert(id("a/1"));
    facts.prospects[0].index_outdated = true;
    facts.prospects[0].index_blocked = true;
    facts.damaged = vec![(target(), id("a/1"))];
    facts.misplaced = vec![misplaced.clone()];
    let missing = Finding::Missing { target: target(), modules: [id("b/1")].into() };
    assert_eq!(findings(&facts), [Finding::Misplaced(misplaced), missing]);
}

#[test]
fn a_link_out_of_the_modules_directory_is_replaced_by_its_content() {
    let misplaced = Misplaced { path: "/m/updates/dkms".into(), is: facts::OUTSIDE, needed: "a directory" };
    let found = findings(&Facts { misplaced: vec![misplaced], ..Facts::default() });
    let advice = found[0].advice(&Distribution::from_os_release("ID=debian"), &Layout::default());
    assert_eq!(
        advice.command,
        "to=$(realpath /m/updates/dkms) && rm /m/updates/dkms && cp -a \"$to\" /m/updates/dkms"
    );
}

#[test]
fn a_directory_that_cannot_be_changed_has_a_command_that_shows_why() {
    let debian = Distribution::from_os_release("ID=debian");
    for (why, command) in [
        (Unwritable::ReadOnly, "findmnt -T /usr/lib/modules"),
        (Unwritable::Immutable, "lsattr -d /usr/lib/modules"),
        (Unwritable::Denied, "ls -ld /usr/lib/modules"),
    ] {
        let found =
            findings(&Facts { unwritable: vec![("/usr/lib/modules".into(), why)], ..Facts::default() });
        assert_eq!(found[0].advice(&debian, &Layout::default()).command, command);
    }
}

#[test]
fn what_is_intended_is_no_fault() {
    let excluded = || Prospect::Settled(Outcome::Excluded { why: "not for this kernel".into() });
    let stale = || Stale { modules: ["a".parse().unwrap()].into(), ..Stale::default() };
    for (facts, why) in [
        (facts(vec![("a/1", Prospect::Unchanged("installed"))]), "up to date"),
        (facts(vec![("a/1", excluded())]), "excluded"),
        (
            Facts { automatic: false, ..facts(vec![("a/1", Prospect::Build("x"))]) },
            "the admin has disabled automatic builds",
        ),
        (
            Facts {
                running: Some("1".into()),
                unfinished: 1,
                temporary: vec!["/t".into()],
                stale: vec![(target(), stale())],
                ..Facts::default()
            },
            "another dkms is at its work",
        ),
        (keys(false, false, false), "no key is needed yet"),
        (
            Facts { space: vec![Space { dir: "/".into(), free: 9, needed: 9 }], ..Facts::default() },
            "enough space",
        ),
    ] {
        assert_eq!(findings(&facts), [], "{why}");
    }
}

#[test]
fn repaired_is_what_is_gone_and_could_be_repaired() {
    let missing = |names: &[&str]| Finding::Missing {
        target: target(),
        modules: names.iter().map(|name| id(name)).collect(),
    };
    let low = |free| Finding::LowSpace { dir: "/".into(), free, needed: 9 };
    let failed = Finding::Failed { target: target(), module: id("b/1"), why: "x".into() };
    let unfinished = |number| Finding::Unfinished { number };
    for (before, left, expected) in [
        (vec![missing(&["a/1"])], vec![], vec![missing(&["a/1"])]),
        // One of them does not build.
        (vec![missing(&["a/1", "b/1"])], vec![failed.clone()], vec![missing(&["a/1"])]),
        (vec![missing(&["b/1"])], vec![failed], vec![]),
        // Another amount is no repair, and what only the admin can change was not repaired.
        (vec![low(1)], vec![low(2)], vec![]),
        (vec![low(1)], vec![], vec![]),
        (vec![unfinished(2)], vec![unfinished(1)], vec![]),
        (vec![unfinished(2)], vec![], vec![unfinished(2)]),
    ] {
        assert_eq!(repaired(&before, &left), expected, "{before:?} {left:?}");
    }
}

/// The commands that are printed.
fn commands(facts: &Facts) -> Vec<String> {
    let debian = Distribution::from_os_release("ID=debian");
    findings(facts).iter().map(|one| one.advice(&debian, &Layout::default()).command).collect()
}

#[test]
fn no_command_replaces_the_version_that_the_next_run_installs() {
    let damaged = vec![(target(), id("a/1")), (target(), id("b/1"))];
    let coming = || vec![("a/10", Prospect::Install("x")), ("a/9", Prospect::Unchanged("x"))];
    let all = Facts { damaged, ..facts(coming()) };
    assert_eq!(commands(&all), ["dkms autoinstall -k 6.1", "dkms install b/1 -k 6.1/x86_64 --force"]);
    // If the next run installs nothing, the version that it would install is named.
    let off = Facts { automatic: false, ..all };
    assert_eq!(
        commands(&off),
        ["dkms install a/10 -k 6.1/x86_64 --force", "dkms install b/1 -k 6.1/x86_64 --force"]
    );
    // One that does not build is not meant.
    let failing = Facts { damaged: vec![(target(), id("a/1"))], ..facts(vec![("a/10", failed())]) };
    assert_eq!(commands(&failing), ["dkms log a/10 -k 6.1", "dkms install a/1 -k 6.1/x86_64 --force"]);
}

#[test]
fn a_file_with_the_name_of_a_built_module_is_never_deleted() {
    for (builds, command) in [
        (&[("a/1", true, false)][..], "dkms install a/1 -k 6.1/x86_64"),
        (
            &[("a/1", true, false), ("a/9", true, false), ("a/10", true, false)],
            "dkms install a/10 -k 6.1/x86_64",
        ),
        (&[("a/1", true, false), ("a/10", false, false)], "dkms install a/1 -k 6.1/x86_64"),
        (&[("a/9", false, false), ("a/10", false, false)], "dkms install a/10 -k 6.1/x86_64 --force"),
        // Beside the file of the installed version.
        (&[("a/1", false, true), ("a/10", true, false)], "dkms install a/1 -k 6.1/x86_64 --force"),
        (&[], "rm /m/a.ko && depmod 6.1"),
    ] {
        let unowned = vec![stray("/m/a.ko", builds)];
        assert_eq!(commands(&Facts { unowned, ..Facts::default() }), [command], "{builds:?}");
    }
    let unowned =
        || vec![stray("/m/a.ko", &[("a/1", true, false)]), stray("/m/b.ko", &[("a/1", true, false)])];
    assert_eq!(commands(&Facts { unowned: unowned(), ..Facts::default() }).len(), 1, "one for both files");
    let next = facts(vec![("a/2", Prospect::Install("x"))]);
    assert_eq!(commands(&Facts { unowned: unowned(), ..next }), ["dkms autoinstall -k 6.1"]);
}

#[test]
fn a_damaged_package_is_one_finding() {
    let refused = facts(vec![("a/1", refused(Exit::NEWER_IN_KERNEL)), ("b/1", failed())]);
    let all = Facts { damaged_packages: vec![(target(), id("a/1"), "p".into())], ..refused };
    assert_eq!(commands(&all), ["apt-get install --reinstall p", "dkms log b/1 -k 6.1"]);
}

#[test]
fn an_original_that_belongs_to_no_known_package_names_the_kernel() {
    let lost = LostOriginal {
        target: target(),
        place: "/m/a.ko".into(),
        why: "its copy is missing".into(),
        package: None,
    };
    let facts = Facts { lost_originals: vec![lost], ..Facts::default() };
    assert_eq!(commands(&facts), ["ls -l /m"]);
}
