//! What a wrong or idle command answers: every row of `answers.txt`, each on the same machine.

use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use dkms_core::sys::file;

use super::*;

/// The table. Its rows are compared with what the program prints.
const TABLE: &str = include_str!("answers.txt");

/// One command, its exit code and what is on the screen after it.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    command: String,
    code: i32,
    screen: String,
}

impl Row {
    /// Reads `$ COMMAND [CODE]`, and the lines up to the next row or comment.
    fn read(text: &str) -> Self {
        let (head, screen) = text.split_once('\n').unwrap_or((text, ""));
        let (command, code) =
            head.trim_end().rsplit_once('[').unwrap_or_else(|| panic!("no exit code: {head}"));
        Self {
            command: command.trim().into(),
            code: code.trim_end_matches(']').parse().unwrap(),
            screen: screen.trim_end().into(),
        }
    }

    fn text(&self) -> String {
        format!("$ {:<55} [{}]\n{}\n", self.command, self.code, self.screen)
    }
}

fn rows() -> Vec<Row> {
    let lines: Vec<&str> = TABLE.lines().filter(|line| !line.starts_with('#')).collect();
    format!("\n{}", lines.join("\n")).split("\n$ ").skip(1).map(Row::read).collect()
}

/// The machine that the table describes, and a copy of it as it was.
struct Machine {
    root: Root,
    saved: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let conf = |name: &str, version: &str, more: &str| {
            let named =
                format!("PACKAGE_NAME={name}\\nPACKAGE_VERSION={version}\\nAUTOINSTALL=yes\\nCLEAN=true\\n");
            let built = format!("BUILT_MODULE_NAME={name}\\nDEST_MODULE_LOCATION=/updates\\nSTRIP=no\\n");
            format!("usr/src/{name}-{version}/dkms.conf = {named}{built}{more}\n")
        };
        let copies = "MAKE='cp built.ko hello.ko'\\n";
        let confs = [
            conf("hello", "1.0", copies),
            conf("v4l2loopback", "0.14", "AUTOINSTALL=\\n"),
            conf("v4l2loopback", "0.15", "AUTOINSTALL=\\n"),
            conf("picky", "1", "BUILD_EXCLUSIVE_KERNEL=^5\\n"),
            conf("kaput", "1", "MAKE='echo kaput.c:7:1: error: no such thing; exit 2'\\n"),
            conf("gone", "1", ""),
            conf("new", "1", ""),
        ];
        let root = Root::new(&confs.concat());
        root.add(
            "lib/modules/6.1/modules.order =
            lib/modules/6.1/modules.builtin =
            lib/modules/6.1/build/include/generated/utsrelease.h = #define UTS_RELEASE \"6.1\"
            lib/modules/6.1/build/include/config/auto.conf = CONFIG_MODULES=y\\n
            lib/modules/6.2/modules.dep =
            home/text = not a tarball
            var/lib/dkms/",
        );
        std::fs::write(root.join("usr/src/hello-1.0/built.ko"), support::module("6.1", "1.0")).unwrap();
        let trees =
            "--dkmstree \"$R/var/lib/dkms\" --sourcetree \"$R/usr/src\" --installtree \"$R/lib/modules\"";
        let program = env!("CARGO_BIN_EXE_dkms");
        let wrapper = format!("#!/bin/sh\nR={}\nexec {program} \"$@\" {trees}\n", root.path().display());
        std::fs::create_dir(root.join("bin")).unwrap();
        std::fs::write(root.join("bin/dkms"), wrapper).unwrap();
        std::fs::set_permissions(root.join("bin/dkms"), std::fs::Permissions::from_mode(0o755)).unwrap();
        let machine = Self { root, saved: tempfile::tempdir().unwrap() };
        for line in [
            "install hello/1.0 -k 6.1",
            "add v4l2loopback/0.14",
            "add v4l2loopback/0.15",
            "add picky/1",
            "add kaput/1",
            "add gone/1",
        ] {
            let (code, screen) = machine.play(&format!("dkms {line}"));
            assert_eq!(code, 0, "{line}: {screen}");
        }
        file::remove_all(&machine.root.join("usr/src/gone-1")).unwrap();
        copy(machine.root.path(), machine.saved.path());
        machine
    }

    /// Runs a command; returns its exit code, and what both of its outputs show.
    fn play(&self, command: &str) -> (i32, String) {
        let screen = self.root.join("screen");
        let out = File::create(&screen).unwrap();
        let path = format!("{}:{}", self.root.join("bin").display(), std::env::var("PATH").unwrap());
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &format!("{command}\nexit $?")]).current_dir(self.root.join("home"));
        shell.env_clear().env("PATH", path).env("DKMS_UNCONFINED", "1");
        let ended = shell.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out).status().unwrap();
        let text = self.root.text(&std::fs::read_to_string(&screen).unwrap());
        let running = rustix::system::uname().release().to_str().unwrap().to_owned();
        (ended.code().unwrap_or(-1), text.replace(&running, "RUNNING").trim_end().to_owned())
    }

    /// What commands change: a run that changed something, or failed, has an entry in the history.
    fn state(&self) -> (String, Vec<String>) {
        let own = self.root.join("var/lib/dkms/.dkms-rs/history");
        let history = file::sorted_entries(&own).iter().map(|path| path.display().to_string()).collect();
        (["var", "lib", "usr"].map(|dir| self.root.list(dir)).concat(), history)
    }

    fn restore(&self) {
        copy(self.saved.path(), self.root.path());
    }
}

/// Replaces `to` by a copy of `from`. Nothing has to survive a crash: no file is synced.
fn copy(from: &Path, to: &Path) {
    for entry in file::sorted_entries(to) {
        file::remove_all(&entry).unwrap();
    }
    let done = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().unwrap();
    assert!(done.success());
}

#[test]
fn every_wrong_or_idle_command_has_its_answer() {
    let machine = Machine::new();
    let before = machine.state();
    let rows = rows();
    assert!(rows.len() >= 60, "{}", rows.len());
    let mut wrong = String::new();
    for row in rows {
        let silent = ["dkms -q ", "/dev/full"].iter().any(|word| row.command.contains(word));
        assert!(silent || !row.screen.is_empty(), "{} must have an answer", row.command);
        let (code, screen) = machine.play(&row.command);
        if machine.state() != before {
            machine.restore();
        }
        let played = Row { command: row.command.clone(), code, screen };
        if played != row {
            wrong.push_str(&played.text());
            wrong.push('\n');
        }
    }
    assert!(wrong.is_empty(), "these rows of answers.txt differ from what is printed now:\n\n{wrong}");
}
