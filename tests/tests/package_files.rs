//! The package's files besides its programs: readable manual pages, working completions, a boot service that systemd
//! accepts and whose state the administrator controls.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_tests::modules::Sources;
use dkms_tests::{Root, Suite, stage};

/// A root with shells, man and systemd, and the product installed over them.
fn root() -> Root {
    let packages = ["bash-completion", "fish", "zsh", "mandoc", "man-db", "systemd"];
    let layer = Suite::trixie().base().prepared("readers", &packages.join(" "), |root| {
        root.apt_install(&packages).ok();
    });
    let root = Root::on(&layer);
    stage::install_product(&root).ok();
    root
}

/// The same with two modules in the DKMS tree.
fn with_modules() -> Root {
    let root = root();
    for (name, version) in [("alpha", "1.0"), ("alpha", "2.0"), ("beta", "0.9")] {
        let source = Sources::new(name, version);
        source.unpack(&root);
        root.run(&format!("dkms add {}", source.id())).ok();
    }
    root
}

#[test]
fn manual_pages_are_packed_and_without_fault() {
    let root = root();
    // The roots omit manual pages when packages are installed.
    root.run("rm -rf /opt/x && dpkg-deb -x /opt/product.deb /opt/x").ok();
    let pages = root.find("/opt/x/usr/share/man", "-type f");
    let names: Vec<&str> = pages.iter().map(|page| page.rsplit_once("/man/").unwrap().1).collect();
    assert_eq!(names, ["man5/dkms.conf.5.gz", "man5/policy.toml.5.gz", "man8/dkms.8.gz"]);
    for page in &pages {
        root.run(&format!("gunzip -c {page} | mandoc -T lint -W warning"))
            .ok()
            .never_says(&["WARNING", "ERROR"]);
        let said = root
            .run(&format!("MANROFFSEQ= MANWIDTH=80 man --warnings -E UTF-8 -l -Tutf8 {page} >/tmp/page"))
            .ok();
        assert_eq!(said.stderr, "", "{page}");
        let text = root.read("/tmp/page");
        assert!(text.contains("NAME") && text.contains("SEE ALSO") && !text.contains("@"), "{page}: {text}");
        assert_eq!(root.read_bytes(page)[4..8], [0; 4], "{page} carries a time");
    }
    root.run("lexgrog /opt/x/usr/share/man/man*/*").ok().says(&["dkms - build and install"]);
    let help = root.run("dkms --help").ok().stdout;
    root.run("man -l /opt/x/usr/share/man/man8/dkms.8.gz | col -b >/tmp/page").ok();
    let page = root.read("/tmp/page");
    for option in help.split_whitespace().filter(|word| word.starts_with("--")) {
        assert!(page.contains(option.trim_end_matches(',')), "{option} is not in dkms(8)");
    }
}

#[test]
fn bash_completes_from_the_registry() {
    let root = with_modules();
    let load = ". /usr/share/bash-completion/bash_completion; _comp_load dkms; complete -p dkms; \
        try() { COMP_WORDS=(dkms \"$@\"); COMP_CWORD=$#; COMPREPLY=(); _dkms; echo \"<${COMPREPLY[*]}>\"; }; ";
    for (words, expected) in [
        ("stat", "<status>"),
        ("remove ''", "<alpha/1.0 alpha/2.0 beta/0.9>"),
        ("remove -m al", "<alpha>"),
        ("remove -m alpha -v ''", "<1.0 2.0>"),
        ("status --module = b", "<beta>"),
        ("install --no-de", "<--no-depmod>"),
        ("status --no-de", "<>"),
        ("check --enrolled /etc/debian", "</etc/debian_version>"),
        ("remove beta/0.9 ''", "<>"),
    ] {
        let said = root.run(&format!("bash --norc -c \"$(cat <<'END'\n{load} try {words}\nEND\n)\"")).ok();
        assert_eq!(said.stdout, format!("complete -F _dkms dkms\n{expected}\n"), "{words}");
    }
}

#[test]
fn fish_completes_from_the_registry() {
    let root = with_modules();
    for (typed, expected) in [
        ("dkms remove ", "alpha/1.0\nalpha/2.0\nbeta/0.9\n"),
        ("dkms remove -m alpha -v ", "1.0\n2.0\n"),
        ("dkms install --no-de", "--no-depmod\tDo not run depmod\n"),
        ("dkms check --enrolled /etc/debian", "/etc/debian_version\n"),
    ] {
        assert_eq!(root.run(&format!("fish -c 'complete -C \"{typed}\"'")).ok().stdout, expected, "{typed}");
    }
}

#[test]
fn zsh_completes_from_the_registry() {
    let root = with_modules();
    // On a terminal, which zsh requires for completion. Each line is completed and cleared.
    root.write(
        "/opt/z.zsh",
        "zmodload zsh/zpty\nzpty -b z 'TERM=dumb zsh -f -i'\n\
         zpty -w z $'bindkey -e; autoload -U compinit; compinit -u; print READY:$((6*7))'\n\
         until [[ $all == *READY:42* ]]; do zpty -r -t z line && all+=$line || sleep 0.1; done\n\
         for typed in 'dkms remove b' 'dkms remove -m alpha -v 2' 'dkms install --no-de' 'dkms check --enrolled /etc/debian_v'; do\n\
         zpty -w -n z $typed$'\\t'\n\
         n=0; all=; until (( n++ > 50 )); do zpty -r -t z line && { all+=$line; n=0 } || sleep 0.1; done\n\
         print -r -- \"<$all>\"; zpty -w -n z $'\\x15'\ndone\n",
    );
    root.run("zsh -f /opt/z.zsh").ok().says(&[
        "dkms remove beta/0.9",
        "dkms remove -m alpha -v 2.0",
        "dkms install --no-depmod",
        "dkms check --enrolled /etc/debian_version",
    ]);
}

#[test]
fn the_units_are_enabled_once_and_are_valid() {
    let root = root();
    let units = ["dkms.service", "dkms-ahead.service", "dkms-ahead.timer"];
    let files = units.map(|unit| format!("/usr/lib/systemd/system/{unit}")).join(" ");
    root.run(&format!("systemd-analyze verify --man=no {files}")).ok().never_says(&units);
    for (unit, wanted_by) in [("dkms.service", "multi-user.target"), ("dkms-ahead.timer", "timers.target")] {
        let enabled = format!("/etc/systemd/system/{wanted_by}.wants/{unit}");
        assert!(root.exists(&enabled), "{unit} is enabled with the package");
        root.run(&format!("systemctl disable {unit}")).ok();
        assert!(!root.exists(&enabled), "{unit}");
        stage::install_product(&root).ok();
        root.run("apt-get -q -y reinstall /opt/product.deb").ok();
        assert!(!root.exists(&enabled), "{unit}: what the administrator has switched off stays off");
        root.run(&format!("systemctl enable {unit}")).ok();
    }
    root.run("apt-get -q -y purge dkms-rs").ok();
    for (unit, wanted_by) in [("dkms.service", "multi-user.target"), ("dkms-ahead.timer", "timers.target")] {
        assert!(!root.exists(&format!("/etc/systemd/system/{wanted_by}.wants/{unit}")), "{unit}");
        let note = format!("/var/lib/systemd/deb-systemd-helper-enabled/{unit}.dsh-also");
        assert!(!root.exists(&note), "{note}");
    }
}

#[test]
fn what_the_boot_service_starts_builds_for_the_kernel_that_runs() {
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    let root = Root::on(&layer);
    let source = Sources::new("late", "1.0");
    source.unpack(&root);
    root.run("dkms add late/1.0").ok();
    let unit = root.read("/usr/lib/systemd/system/dkms.service").replace("%v", &kernel.release);
    let value = |key: &str| {
        unit.lines().filter_map(|line| line.strip_prefix(key)).map(str::to_owned).collect::<Vec<_>>()
    };
    for path in value("ConditionPathExists=") {
        let there = root.exists(path.trim_start_matches('!'));
        assert_eq!(there, !path.starts_with('!'), "{path}");
    }
    let start = value("ExecStart=").remove(0);
    root.run(&start).ok();
    root.expect_installed(&["late/1.0"], &kernel.release);
    // If everything is up to date, it starts nothing.
    root.run(&start).ok().never_says(&["building"]);
}
