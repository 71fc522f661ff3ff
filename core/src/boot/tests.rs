//! Tables of decisions.

use super::grub::{self, Grub};
use super::loader_conf::{self, LoaderConf};
use super::*;

const OLD: &str = "6.12.1-amd64";
const NEW: &str = "6.12.2-amd64";
const NEWER: &str = "6.12.3-amd64";

/// A menu as written by Debian's 10_linux.
const MENU: &str = "function gfxmode {
\tset gfxpayload=\"${1}\"
}
menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'gnulinux-simple-5ad1' {
\tlinux\t/boot/vmlinuz-6.12.1-amd64 root=UUID=5ad1 ro
}
submenu 'Advanced options for Debian GNU/Linux' $menuentry_id_option 'gnulinux-advanced-5ad1' {
\tmenuentry 'Debian GNU/Linux, with Linux 6.12.1-amd64' --class debian $menuentry_id_option 'gnulinux-6.12.1-amd64-advanced-5ad1' {
\t\tlinux\t/boot/vmlinuz-6.12.1-amd64 root=UUID=5ad1 ro
\t}
\tmenuentry 'Debian GNU/Linux, with Linux 6.12.1-amd64 (recovery mode)' --class debian $menuentry_id_option 'gnulinux-6.12.1-amd64-recovery-5ad1' {
\t}
}
";

fn release(text: &str) -> KernelRelease {
    text.parse().unwrap()
}

/// `KERNEL`, or `KERNEL lacks MODULE…`.
fn kernels(lines: &[&str]) -> Vec<Candidate> {
    let candidate = |line: &&str| {
        let (kernel, lacks) = line.split_once(" lacks ").unwrap_or((line, ""));
        let lacks = lacks.split_whitespace().map(|name| name.parse().unwrap()).collect();
        Candidate { kernel: release(kernel), lacks }
    };
    lines.iter().map(candidate).collect()
}

fn grub() -> Loader {
    Loader::Grub(Grub {
        file: "/etc/default/grub.d/zz-dkms.cfg".into(),
        menu: MENU.into(),
        chosen: None,
        state: "/state.json".into(),
        boot: "/boot".into(),
    })
}

fn conf(text: &str) -> Loader {
    let entries = [OLD, NEW, NEWER].map(|kernel| (release(kernel), format!("m-{kernel}.conf")));
    Loader::LoaderConf(LoaderConf {
        file: "/efi/loader/loader.conf".into(),
        text: text.into(),
        entries: entries.into(),
        chosen: false,
    })
}

fn pin(text: Option<&str>) -> Loader {
    let file = "/etc/kernel/proxmox-boot-pin".into();
    Loader::Pin(pin::Pin { file, text: text.map(str::to_owned) })
}

fn tool(default: &str) -> Loader {
    let image = |kernel: &str| (release(kernel), format!("/boot/vmlinuz-{kernel}"));
    Loader::Tool(Tool {
        default: format!("/boot/vmlinuz-{default}"),
        images: [OLD, NEW, NEWER].map(image).into(),
    })
}

fn facts(lines: &[&str], loader: Loader) -> Facts {
    Facts { wanted: true, kernels: kernels(lines), loader, kept_default: None }
}

/// Applies a decision to the facts, as the step does to the machine.
fn after(facts: &Facts) -> Facts {
    let mut next = facts.clone();
    let Some(decision) = decide(facts) else { return next };
    let mut now = facts.kept_default.as_ref().and_then(|(_, now)| now.clone());
    let mut act = |act: &Act| {
        next.loader.after(act);
        now = match act {
            Act::Write(_, text) => Some(text.clone()),
            Act::Delete(_) => None,
            Act::Set(image) => Some(image.clone()),
        };
    };
    decision.undo.iter().flatten().for_each(&mut act);
    decision.change.iter().for_each(|(_, made)| act(made));
    next.kept_default = decision.change.map(|(made, _)| (KeptDefault { done: true, ..made }, now));
    next
}

const LACKING: [&str; 2] = [OLD, "6.12.2-amd64 lacks zfs"];

#[test]
fn only_a_newest_kernel_that_lacks_something_another_one_has() {
    for (lines, expected) in [
        (&[][..], None),
        (&[OLD], None),
        (&[OLD, NEW], None),
        (&["6.12.1-amd64 lacks zfs", NEW], None),
        // No kernel has all modules: there is no better one to boot.
        (&["6.12.1-amd64 lacks nvidia", "6.12.2-amd64 lacks zfs"], None),
        (&LACKING, Some((OLD, NEW))),
        (&[OLD, NEW, "6.12.3-amd64 lacks zfs nvidia"], Some((NEW, NEWER))),
        (&[OLD, "6.12.2-amd64 lacks zfs", "6.12.3-amd64 lacks zfs"], Some((OLD, NEWER))),
    ] {
        let decision = decide(&facts(lines, grub()));
        let made = decision.and_then(|decision| decision.change).map(|(made, _)| (made.keep, made.instead));
        let expected = expected.map(|(keep, instead)| (release(keep), release(instead)));
        assert_eq!(made, expected, "{lines:?}");
    }
}

#[test]
fn nothing_is_done_where_it_is_not_wanted_or_the_loader_is_not_known() {
    assert_eq!(decide(&Facts { wanted: false, ..facts(&LACKING, grub()) }), None);
    assert_eq!(decide(&facts(&LACKING, Loader::Unknown)), None);
    let decision = decide(&facts(&LACKING, Loader::Closed("of something".into()))).unwrap();
    assert!(decision.change.is_none() && decision.undo.is_none() && !decision.menu);
    let remark = decision.remark.unwrap();
    assert!(remark.contains("zfs") && remark.ends_with("was not changed: of something"), "{remark}");
}

#[test]
fn it_is_made_once_and_undone_when_it_is_over() {
    for loader in [grub(), conf("timeout 3\n"), pin(None), tool(NEW)] {
        let before = facts(&LACKING, loader.clone());
        let made = after(&before);
        assert!(made.kept_default.is_some(), "{loader:?}");
        assert_eq!(decide(&made), None, "a second look finds nothing to do: {loader:?}");
        for (why, lines, wanted) in [
            ("zfs is no longer missing", &[OLD, NEW][..], true),
            ("6.12.2-amd64 was removed", &[OLD], true),
            ("6.12.1-amd64 was removed", &["6.12.2-amd64 lacks zfs"], true),
            ("keep_boot_default no longer applies", &LACKING, false),
        ] {
            let over = Facts { wanted, kernels: kernels(lines), ..made.clone() };
            let remark = decide(&over).unwrap().remark.unwrap();
            assert!(remark.starts_with("6.12.1-amd64 is no longer kept as the boot default: "), "{remark}");
            assert!(remark.contains(why), "{remark}");
            let undone = after(&over);
            assert_eq!(undone.kept_default, None);
            assert_eq!(undone.loader, loader, "everything is as it was");
        }
    }
}

#[test]
fn a_newer_kernel_that_lacks_it_too_changes_what_is_said_and_nothing_else() {
    for loader in [grub(), conf("timeout 3\n"), pin(None), tool(NEW)] {
        let made = after(&facts(&LACKING, loader.clone()));
        let lines = [OLD, "6.12.2-amd64 lacks zfs", "6.12.3-amd64 lacks zfs"];
        let mut more = Facts { kernels: kernels(&lines), ..made };
        // The distribution makes a new kernel the default at its installation.
        if let Loader::Tool(tool) = &mut more.loader {
            tool.default = format!("/boot/vmlinuz-{NEWER}");
            if let Some((_, now)) = &mut more.kept_default {
                *now = Some(tool.default.clone());
            }
        }
        let made = after(&more);
        let (kept, _) = made.kept_default.clone().unwrap();
        assert_eq!((kept.keep, kept.instead), (release(OLD), release(NEWER)));
        let undone = after(&Facts { kernels: kernels(&[OLD, NEW, NEWER]), ..made });
        match (&loader, &undone.loader) {
            (Loader::Tool(_), after) => assert_eq!(*after, tool(NEWER)),
            (before, after) => assert_eq!(after, before),
        }
    }
}

#[test]
fn what_the_admin_changes_is_left_alone() {
    for (loader, changed) in [
        (grub(), None),
        (grub(), Some("his")),
        (conf("timeout 3\n"), Some("default his.conf\n")),
        (pin(None), None),
        (pin(None), Some("6.12.3-amd64\n")),
        (tool(NEW), Some("his")),
    ] {
        let made = after(&facts(&LACKING, loader.clone()));
        let (made, _) = made.kept_default.unwrap();
        let changed = Some((made, changed.map(str::to_owned)));
        // It is not repeated for the same reason; at the end it is only forgotten.
        assert_eq!(decide(&Facts { kept_default: changed.clone(), ..facts(&LACKING, loader.clone()) }), None);
        let over = decide(&Facts { kept_default: changed, ..facts(&[OLD, NEW], loader) }).unwrap();
        assert_eq!((over.undo, over.change, over.remark), (Some(None), None, None));
    }
}

#[test]
fn a_run_that_was_killed_is_completed() {
    for loader in [grub(), conf("timeout 3\n"), pin(None), tool(NEW)] {
        let before = facts(&LACKING, loader);
        let whole = after(&before);
        let (made, now) = whole.kept_default.clone().unwrap();
        let noted = KeptDefault { done: false, ..made.clone() };
        // Killed before the change, and after it.
        let untouched = match &before.loader {
            Loader::LoaderConf(conf) => Some(conf.text.clone()),
            Loader::Tool(tool) => Some(tool.default.clone()),
            _ => None,
        };
        let early = Facts { kept_default: Some((noted.clone(), untouched)), ..before };
        assert_eq!(after(&early), whole);
        let late = Facts { kept_default: Some((noted, now)), ..whole.clone() };
        assert_eq!(after(&late), whole);
    }
}

#[test]
fn grub_finds_the_entry_in_its_own_menu() {
    let entry = |menu: &str, kernel: &str| grub::entry_of(menu, &release(kernel));
    assert_eq!(entry(MENU, OLD).unwrap(), "gnulinux-advanced-5ad1>gnulinux-6.12.1-amd64-advanced-5ad1");
    // Not in the menu yet.
    assert_eq!(entry(MENU, NEW).unwrap(), "gnulinux-advanced-5ad1>gnulinux-6.12.2-amd64-advanced-5ad1");
    // GRUB_DISABLE_SUBMENU.
    let flat = "menuentry 'a' $menuentry_id_option 'gnulinux-6.12.1-amd64-advanced-/dev/vda' {\n}\n";
    assert_eq!(entry(flat, OLD).unwrap(), "gnulinux-6.12.1-amd64-advanced-/dev/vda");
    assert_eq!(entry("menuentry 'Windows' --id windows {\n}\n", OLD), None);
}

#[test]
fn grubs_default_may_have_been_chosen() {
    for (one, other, chosen) in [
        ("", "", None),
        ("GRUB_DEFAULT=0\n", "", None),
        ("GRUB_DEFAULT=\"0\" # the first\nGRUB_TIMEOUT=5\n", "", None),
        ("# GRUB_DEFAULT=saved\nGRUB_DEFAULT_BUTTON=2\n", "", None),
        ("GRUB_DEFAULT=saved\n", "", Some("grub")),
        ("GRUB_DEFAULT=2\n", "", Some("grub")),
        ("GRUB_DEFAULT=saved\n", "export GRUB_DEFAULT='0'\n", None),
        ("GRUB_DEFAULT=0\n", "GRUB_DEFAULT='1>2'\n", Some("d/x.cfg")),
        ("GRUB_DEFAULT=0\nGRUB_TOP_LEVEL=/boot/vmlinuz-6.12.1-amd64\n", "GRUB_DEFAULT=0\n", Some("grub")),
        ("GRUB_DEFAULT=0\n", ": ${GRUB_DEFAULT:=saved}\n", Some("d/x.cfg")),
    ] {
        let files = [("grub".into(), one.to_owned()), ("d/x.cfg".into(), other.to_owned())];
        assert_eq!(grub::chosen(&files).map(|path| path.to_str().unwrap()), chosen, "{one:?} {other:?}");
    }
}

#[test]
fn what_grub_reads_is_void_when_anything_it_rests_on_is_gone() {
    let decision = decide(&facts(&LACKING, grub())).unwrap();
    let (_, Act::Write(file, text)) = decision.change.unwrap() else { panic!("no file") };
    assert_eq!(file.to_str(), Some("/etc/default/grub.d/zz-dkms.cfg"));
    assert!(decision.menu);
    let test = "if [ \"${GRUB_DEFAULT:-0}\" = 0 ] && [ -e '/boot/vmlinuz-6.12.1-amd64' ] && [ -e '/state.json' ]; then\n";
    assert!(text.contains(test), "{text}");
    assert!(text.contains("zfs is not built for 6.12.2-amd64"), "{text}");
}

#[test]
fn loader_conf_gets_two_lines_and_loses_them_exactly() {
    let ours = "# set by dkms until zfs is built for 6.12.2-amd64\ndefault m-6.12.1-amd64.conf\n";
    for (before, expected) in [
        ("", ours.to_owned()),
        ("timeout 3", format!("{ours}timeout 3")),
        ("#default x\ntimeout 3\n", format!("{ours}#default x\ntimeout 3\n")),
        // A pattern picks the newest of those that match.
        ("timeout 3\n default  m-*\neditor no\n", format!("timeout 3\n{ours}editor no\n")),
        ("default m-6.12.?-amd64.conf", ours.to_owned()),
        ("# default m-*\ndefault m-*\n# default m-*\n", format!("# default m-*\n{ours}# default m-*\n")),
    ] {
        let made = after(&facts(&LACKING, conf(before)));
        assert_eq!(made.kept_default.as_ref().unwrap().1.as_deref(), Some(expected.as_str()), "{before:?}");
        // The admin adds a line: it stays.
        let Some((_, now)) = &made.kept_default else { unreachable!() };
        let more = Some(format!("{}timeout 9\n", now.clone().unwrap()));
        let over = Facts { kernels: kernels(&[OLD, NEW]), ..made.clone() };
        let over = Facts { kept_default: made.kept_default.map(|(made, _)| (made, more)), ..over };
        let Some(Some(Act::Write(_, text))) = decide(&over).unwrap().undo else { panic!("{before:?}") };
        assert_eq!(text, format!("{before}timeout 9\n"));
    }
}

#[test]
fn loader_conf_may_have_been_chosen() {
    for (text, why) in [
        ("default @saved\n", "sets default @saved"),
        ("default m-6.12.2-amd64.conf\n", "sets default m-6.12.2-amd64.conf"),
        ("default auto-windows\n", "sets default auto-windows"),
        ("default other-*\n", "sets default other-*"),
        ("default m-*\ndefault windows.conf\n", "sets default windows.conf"),
    ] {
        let decision = decide(&facts(&LACKING, conf(text))).unwrap();
        assert!(decision.change.is_none() && decision.remark.as_ref().unwrap().contains(why), "{decision:?}");
    }
    let Loader::LoaderConf(plain) = conf("") else { unreachable!() };
    let chosen = Loader::LoaderConf(LoaderConf { chosen: true, ..plain.clone() });
    assert!(decide(&facts(&LACKING, chosen)).unwrap().change.is_none());
    let nowhere = Loader::LoaderConf(LoaderConf { entries: Vec::new(), ..plain });
    assert!(
        decide(&facts(&LACKING, nowhere))
            .unwrap()
            .remark
            .unwrap()
            .contains("no boot loader entry for 6.12.1-amd64")
    );
}

#[test]
fn a_kernel_may_have_been_pinned() {
    let decision = decide(&facts(&LACKING, pin(Some("6.12.2-amd64\n")))).unwrap();
    let remark = decision.remark.unwrap();
    assert!(decision.change.is_none() && !decision.menu);
    assert!(remark.ends_with("was not changed: /etc/kernel/proxmox-boot-pin pins 6.12.2-amd64"), "{remark}");
    let (made, act) = decide(&facts(&LACKING, pin(None))).unwrap().change.unwrap();
    assert_eq!(act, Act::Write("/etc/kernel/proxmox-boot-pin".into(), "6.12.1-amd64\n".into()));
    assert_eq!(made.change.place(), "/etc/kernel/proxmox-boot-pin");
}

#[test]
fn entries_are_called_in_many_ways() {
    let names = [
        (release("6.12.1-amd64"), vec!["6.12.1-amd64".to_owned()]),
        (release("7.2.13-arch1-1"), vec!["7.2.13-arch1-1".to_owned(), "linux".to_owned()]),
        (release("6.12.58-1-lts"), vec!["6.12.58-1-lts".to_owned(), "linux-lts".to_owned()]),
    ];
    for (file, text, expected) in [
        (
            "4f1c-6.12.1-amd64.conf",
            "title Debian\nversion    6.12.1-amd64\n",
            Some("4f1c-6.12.1-amd64.conf 6.12.1-amd64"),
        ),
        ("4f1c-6.12.1-amd64+3-1.conf", "version 6.12.1-amd64\n", Some("4f1c-6.12.1-amd64.conf 6.12.1-amd64")),
        ("debian.conf", "linux /debian/6.12.1-amd64/linux\n", Some("debian.conf 6.12.1-amd64")),
        (
            "arch.conf",
            "title Arch\nlinux   /vmlinuz-linux\ninitrd /initramfs-linux.img\n",
            Some("arch.conf 7.2.13-arch1-1"),
        ),
        ("lts.conf", "linux /vmlinuz-linux-lts\n", Some("lts.conf 6.12.58-1-lts")),
        ("4f1c-6.12.1-amd64.efi", "", Some("4f1c-6.12.1-amd64.efi 6.12.1-amd64")),
        ("4f1c-6.12.1-amd64+2.efi", "", Some("4f1c-6.12.1-amd64.efi 6.12.1-amd64")),
        ("arch-linux.efi", "", Some("arch-linux.efi 7.2.13-arch1-1")),
        ("old.conf", "version 6.12.0-amd64\nlinux /6.12.0-amd64/linux\n", None),
        ("x16.12.1-amd64.efi", "", None),
        ("memtest.conf", "efi /memtest.efi\n", None),
    ] {
        let found = loader_conf::entry(file, text, &names).map(|(kernel, id)| format!("{id} {kernel}"));
        assert_eq!(found.as_deref(), expected, "{file}");
    }
}

#[test]
fn the_program_is_told_only_when_the_newest_kernel_is_the_default() {
    let decision = decide(&facts(&LACKING, tool(NEW))).unwrap();
    assert_eq!(decision.change.map(|(_, act)| act), Some(Act::Set("/boot/vmlinuz-6.12.1-amd64".into())));
    assert!(!decision.menu);
    let decision = decide(&facts(&LACKING, tool("rescue"))).unwrap();
    assert!(decision.change.is_none() && decision.remark.unwrap().contains("rescue was set as the default"));
}
