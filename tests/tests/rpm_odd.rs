//! Unusual cases on machines with rpm: hooks that crash, critical modules, another dkms, kernels that share modules,
//! boot partitions.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)] // tests stop at the first surprise

use dkms_tests::count::Counters;
use dkms_tests::rpm::{Machine, Manager, version};
use dkms_tests::{Kernel, Root, host};

/// Only a critical module makes a run fail. dnf is aborted before the transaction; if the module is allowed to fail, it
/// succeeds.
fn critical_before(manager: Manager, dnf: &str) {
    let machine = Machine::new(manager);
    let Machine { root, newer, .. } = &machine;
    root.write("/etc/dkms/policy.toml", "critical = [\"broken\"]\n");
    machine.install(&["dkms-broken"], 0);
    let packages = machine.packages(newer);
    machine.install(&packages, 1).says(&[
        "FAILED (critical): broken/1.0",
        "no_such_symbol_here",
        "transaction aborted",
    ]);
    root.run("rpm -q kernel-core").fails();
    root.run(&format!("DKMS_ALLOW=broken {dnf} -y --releasever=1 install {}", packages.join(" "))).ok();
    assert!(root.exists(&manager.family().initramfs(newer)), "the kernel is bootable");
}

#[test]
fn a_critical_module_stops_dnf() {
    critical_before(Manager::Dnf4, "dnf");
    critical_before(Manager::Dnf5, "dnf5");
}

/// Other managers cannot be stopped before: the kernel is installed anyway.
fn critical_afterwards(manager: Manager, code: i32) {
    let machine = Machine::new(manager);
    machine.root.write("/etc/dkms/policy.toml", "critical = [\"broken\"]\n");
    machine.install(&["dkms-broken"], 0);
    machine
        .install(&machine.packages(&machine.newer), code)
        .says(&["FAILED (critical): broken/1.0", "no_such_symbol_here"]);
    let image = manager.family().initramfs(&machine.newer);
    assert!(machine.root.exists(&image), "the kernel is bootable");
    let installed = machine.root.run("rpm -q kernel-core kernel-default | grep -v 'not installed'").stdout;
    assert!(installed.contains(&version(&machine.newer)), "{installed}");
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn a_critical_module_fails_the_run_of_zypper_and_rpm() {
    critical_afterwards(Manager::Zypper, 107);
    // rpm returns the number of packages.
    critical_afterwards(Manager::Rpm, 3);
}

/// A missed build is done by the next transaction that installs headers or a kernel.
fn made_up_for(machine: &Machine, command: &str) {
    let root = &machine.root;
    root.run("mv /usr/lib/dkms/away /usr/lib/dkms/dnf-hook").ok();
    root.run(&format!("{command} reinstall kernel-devel-{}", version(&machine.newer))).ok();
    machine.expect_modules(&machine.newer, &["bbswitch/1.0"]);
}

/// dnf4 continues without our program, and with one that crashes.
#[test]
#[ignore = "long: run by `make test-long`"]
fn a_missing_or_crashing_core_does_not_take_dnf4_down() {
    let machine = Machine::new(Manager::Dnf4);
    let root = &machine.root;
    root.run("mv /usr/lib/dkms/dnf-hook /usr/lib/dkms/away").ok();
    machine.install(&machine.packages(&machine.newer), 0).says(&["could not check kernel modules"]);
    root.write_script("/usr/lib/dkms/dnf-hook", "#!/bin/sh\nkill -SEGV $$\n");
    machine.install(&["dkms-bbswitch-1.0"], 0).says(&["was killed by signal 11"]);
    for (ends, said) in CRASHES {
        root.write_script("/usr/lib/dkms/dnf-hook", ends);
        root.run("dnf -y --releasever=1 reinstall dkms-bbswitch-1.0").ok().says(&[said, "dkms autoinstall"]);
    }
    made_up_for(&machine, "dnf -y --releasever=1");
}

/// Ends of a hook that are none of its verdicts, and the line about it.
const CRASHES: [(&str, &str); 3] = [
    ("#!/bin/sh\nkill -KILL $$\n", "exited with status 137"),
    ("#!/bin/sh\nexit 77\n", "exited with status 77"),
    ("#!/nonexistent/loader\n", "exited with status 12"),
];

/// zypper has no plugin of ours: rpm's triggers and kernel-install are all there is.
#[test]
fn a_missing_or_crashing_core_does_not_take_zypper_down() {
    let machine = Machine::new(Manager::Zypper);
    let root = &machine.root;
    root.run("mv /usr/lib/dkms/dnf-hook /usr/lib/dkms/away").ok();
    for (ends, said) in CRASHES {
        root.write_script("/usr/lib/dkms/dnf-hook", ends);
        machine.install(&["dkms-bbswitch-1.0"], 0).says(&[said, "dkms autoinstall"]);
        machine.remove(&["dkms-bbswitch"]);
    }
    machine.install(&machine.packages(&machine.newer), 0).says(&["dkms autoinstall"]);
    root.run("mv /usr/lib/dkms/away /usr/lib/dkms/dnf-hook").ok();
    machine.install(&["dkms-bbswitch-1.0"], 0);
    machine.expect_modules(&machine.newer, &["bbswitch/1.0"]);
}

/// dnf5 does, too, even if it has received a request whose reply is not read.
#[test]
fn a_missing_or_dying_core_does_not_take_dnf5_down() {
    let machine = Machine::new(Manager::Dnf5);
    let root = &machine.root;
    let log = || root.read("/var/log/dnf5.log");
    root.run("mv /usr/lib/dkms/dnf-hook /usr/lib/dkms/away").ok();
    machine.install(&machine.packages(&machine.newer), 0).says(&["dnf-hook exited with status 127"]);
    assert!(log().contains("dnf-hook exited with status 127: kernel modules may be missing"), "{}", log());
    // The request is complete, or partial.
    for (request, heard) in [
        (r#"{"op":"get","domain":"conf","args":{"key":"installroot"}}"#, true),
        (r#"{"op":"get","domain":"trans_packages","args":{"output":["direction","name","version"]}}"#, true),
        ("{", false),
    ] {
        root.run(": >/var/log/dnf5.log").ok();
        root.write_script(
            "/usr/lib/dkms/dnf-hook",
            &format!("#!/bin/sh\n[ \"$1\" = dnf5 ] || exit 0\nprintf '%s\\n' '{request}'\nkill -KILL $$\n"),
        );
        let verb = if root.run("rpm -q dkms-bbswitch").status == 0 { "reinstall" } else { "install" };
        root.run(&format!("dnf5 -y --releasever=1 {verb} dkms-bbswitch-1.0")).ok();
        assert!(!heard || log().contains("dnf-hook exited with status 137"), "{request}\n{}", log());
    }
    made_up_for(&machine, "dnf5 -y --releasever=1");
}

/// On distributions with a stable kernel ABI, a program offers modules to other kernels. The real one is not available
/// here: a stand-in records its input.
fn offered(program: &str, id: &str, destination: &str, options: [&str; 2]) {
    let machine = Machine::new(if id == "rhel" { Manager::Dnf4 } else { Manager::Zypper });
    let Machine { root, newer, .. } = &machine;
    root.run(&format!("sed -i 's/^ID=.*/ID={id}/' /etc/os-release")).ok();
    // Its arguments, the files that it reads, and whether they exist then.
    root.write_script(
        program,
        "#!/bin/bash\nexec >>/var/tmp/weak\necho \"called $*\"\n\
         while read -r file; do [ -f \"$file\" ] && echo \"there $file\" || echo \"gone $file\"; done\n",
    );
    let noted = || {
        let text = root.read("/var/tmp/weak");
        root.run("rm /var/tmp/weak").ok();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let mut packages = machine.packages(newer);
    packages.push("dkms-bbswitch-1.0".to_owned());
    machine.install(&packages, 0);
    let options = options.map(|words| words.replace("{kernel}", &newer.release));
    let file = format!("/lib/modules/{newer}/{destination}/bbswitch.ko.xz");
    assert_eq!(noted(), [format!("called {}", options[0]), format!("there {file}")]);
    machine.remove(&["dkms-bbswitch"]);
    let noted = noted();
    assert_eq!(noted.first(), Some(&format!("called {}", options[1])), "{noted:?}");
    assert_eq!(noted.len(), 2, "{noted:?}");
    assert!(noted[1].ends_with(&file), "{noted:?}");
}

#[test]
fn rhel_offers_modules_to_its_other_kernels() {
    let options = ["--no-initramfs --add-modules", "--no-initramfs --remove-modules"];
    offered("/usr/sbin/weak-modules", "rhel", "extra", options);
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn suse_offers_modules_to_its_other_kernels() {
    let options = ["--add-kernel-modules {kernel}", "--remove-kernel-modules {kernel}"];
    offered("/usr/lib/module-init-tools/weak-modules2", "opensuse-tumbleweed", "updates", options);
}

/// If the boot loader reads a kernel's files from its own partition, the initramfs without the modules is found there.
#[test]
fn an_initramfs_on_a_boot_partition_is_remade() {
    let machine = Machine::new(Manager::Dnf5);
    let Machine { root, newer, .. } = &machine;
    root.run("rm /etc/kernel/install.d/95-fedora.install; mkdir -p /boot/loader/entries").ok();
    root.write(
        "/etc/kernel/install.conf",
        "layout=bls\nBOOT_ROOT=/boot\ninitrd_generator=dracut\nuki_generator=none\n",
    );
    root.write("/etc/kernel/entry-token", "fedora\n");
    machine.install(&["dkms-bbswitch-1.0"], 0);
    let counters = Counters::install(root);
    let mut packages = machine.packages(newer);
    let devel = packages.split_off(packages.len() - 1);
    machine.install(&packages, 0);
    let image = format!("/boot/fedora/{newer}/initrd");
    let images = root.find("/boot", "-name 'initr*'");
    assert_eq!(images, std::slice::from_ref(&image), "kernel-install has put it there");
    root.run(&format!("lsinitrd {image}")).ok().never_says(&["bbswitch.ko"]);
    assert_eq!(counters.take().initramfs, 0);
    machine.install(&devel, 0);
    assert_eq!(counters.take().initramfs, 1);
    machine.expect_in_image(newer, &image);
    assert_eq!(root.find("/boot", "-name 'initr*'"), [image]);
}

/// The lines of README's installation that begin with this program, then those that replace an installed dkms.
fn readme(program: &str) -> Vec<String> {
    let read = |path: &str| std::fs::read_to_string(host::workspace().join(path)).unwrap();
    let text = read("README.md");
    let section = text.split("\n## Install\n").nth(1).expect("the section").split("\n## ").next().unwrap();
    let code = section.split("```").skip(1).step_by(2);
    let lines = code.flat_map(str::lines).map(|line| line.split('#').next().unwrap().trim());
    let lines = lines.filter(|line| line.starts_with(program) && line.contains(' '));
    let mut lines: Vec<String> = lines.map(str::to_owned).collect();
    let details = read("docs/fedora-opensuse.md");
    let swap = format!("{program} swap");
    lines.extend(details.split('`').filter(|word| word.starts_with(&swap)).map(str::to_owned));
    lines
}

/// Regenerates the repository's index, which cannot be renamed in a lower layer.
const INDEX: &str = "rm -rf /opt/repo/repodata && createrepo_c -q /opt/repo";

/// A machine without the product, with the package in `~/dist`, where dnf's prompts are answered with `y`.
fn without_us(manager: Manager) -> Machine {
    let machine = Machine::new(manager);
    let root = &machine.root;
    root.run("rpm -e dkms-rs && mkdir -p /etc/dnf/vars && echo 1 >/etc/dnf/vars/releasever").ok();
    let rpm = host::product_rpm();
    let name = rpm.file_name().unwrap().to_string_lossy().into_owned();
    root.copy_in(&rpm, &format!("/root/dist/{name}"));
    // It is not in the repository: the file is installed.
    root.run(&format!("rm /opt/repo/x86_64/dkms-rs*.rpm && {INDEX} && zypper -n refresh -f")).ok();
    machine
}

/// Runs a line of README on a terminal, and answers prompts with `y`; `dnf` is the version on the machine.
fn typed(machine: &Machine, line: &str) -> dkms_tests::Output {
    let root = &machine.root;
    let dnf = if machine.manager == Manager::Dnf5 { "dnf5" } else { "dnf" };
    root.write_script("/opt/typed/dnf", &format!("#!/bin/sh\nexec /usr/bin/{dnf} \"$@\"\n"));
    // Not `yes`: script keeps unread input in memory without limit.
    let types = "while sleep 0.3 && echo y; do :; done";
    root.run(&format!("cd; PATH=/opt/typed:$PATH; {{ {types}; }} | script -qec '{line}' /dev/null")).ok()
}

/// README's commands work as described.
fn readme_installs(manager: Manager, program: &str, kernel: &str) {
    let machine = without_us(manager);
    let root = &machine.root;
    let lines = readme(program);
    assert!(lines.len() >= 2 && lines[0].contains("./dist/"), "{lines:?}");
    // The installed kernel.
    let core = machine.packages(&machine.newer);
    machine.install(&core[..core.len() - 1], 0);
    typed(&machine, &lines[0]);
    root.run("rpm -q dkms-rs && dkms --version").ok();
    machine.install(&["dkms-bbswitch-1.0"], 0);
    // The newest headers, matching the kernel: rpm sorts "cloud" as newer.
    typed(&machine, &lines[1]);
    let headers = root.run(&format!("rpm -q {kernel}")).ok().stdout;
    assert!(headers.contains(&version(&machine.newer)), "{headers}");
    machine.expect_modules(&machine.newer, &["bbswitch/1.0"]);
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn the_commands_of_the_readme_install_with_dnf4() {
    readme_installs(Manager::Dnf4, "dnf", "kernel-devel");
}

#[test]
fn the_commands_of_the_readme_install_with_dnf5() {
    readme_installs(Manager::Dnf5, "dnf", "kernel-devel");
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn the_commands_of_the_readme_install_with_zypper() {
    readme_installs(Manager::Zypper, "zypper", "kernel-default-devel");
}

/// The module files of a kernel with their mtimes, which changing the dkms package must not modify.
fn files_of(root: &Root, kernel: &Kernel) -> Vec<String> {
    root.find(&kernel.modules_dir(), "-path '*/extra/*' -name '*.ko*' -printf '%p %s %i %T@\\n'")
}

/// Our package is upgraded and removed: neither affects the modules.
#[test]
fn modules_outlive_our_package() {
    let machine = Machine::new(Manager::Dnf4);
    let Machine { root, newer, .. } = &machine;
    let mut packages = machine.packages(newer);
    packages.push("dkms-bbswitch-1.0".to_owned());
    machine.install(&packages, 0);
    let before = files_of(root, newer);
    let spec = std::fs::read_to_string(host::workspace().join("packaging/rpm/dkms-rs.spec.in")).unwrap();
    let spec = [("VERSION", "9.0"), ("PROVIDED", "3.4.3"), ("ROOT", "/opt/next")]
        .iter()
        .fold(spec, |spec, (name, value)| spec.replace(&format!("@{name}@"), value));
    root.write("/opt/next.spec", spec);
    root.run(
        "mkdir /opt/next && rpm -ql dkms-rs | while read -r f; do [ -d $f ] || echo $f; done >/opt/next.files && \
         xargs cp -a --parents -t /opt/next </opt/next.files && \
         sed -i -e '/@FILES@/{r /opt/next.files' -e 'd}' /opt/next.spec && \
         rpmbuild -bb --quiet --define '_topdir /opt/top' --define '_rpmdir /opt/newer' /opt/next.spec",
    )
    .ok();
    let counters = Counters::install(root);
    root.run("rpm -U --nosignature /opt/newer/x86_64/dkms-rs-9.0*.rpm && rpm -q dkms-rs-9.0 && [ ! -e /run/dkms-rs-leaves ]").ok();
    machine.expect_modules(newer, &["bbswitch/1.0"]);
    assert_eq!(files_of(root, newer), before);
    assert_eq!(counters.take().builds_and_depmods(), (0, 0));
    root.run("rpm -e --nodeps dkms-rs").ok();
    assert_eq!(files_of(root, newer), before);
    assert!(root.exists("/var/lib/dkms/bbswitch/1.0/source"));
    assert!(!root.exists("/run/dkms-rs-leaves"));
    assert_eq!(counters.take().depmods, 0);
}

/// From another dkms to ours and back: they conflict, and are swapped; registered and installed modules are kept.
fn swapped(manager: Manager, there: &str) {
    let machine = without_us(manager);
    let Machine { root, newer, .. } = &machine;
    let deb = root.download(&["dkms"]).remove(0);
    root.copy_in(&deb, "/opt/dkms.deb");
    root.write("/opt/dkms.sh", include_str!("../src/rpm/dkms.sh"));
    root.run(&format!("bash /opt/dkms.sh /opt/dkms.deb /opt/repo && {INDEX}")).ok();
    root.run("rpm -i --nosignature /opt/repo/noarch/dkms-[0-9]*.rpm && dnf clean all && dnf5 clean all").ok();
    machine.install(&machine.packages(newer), 0);
    machine.install(&["dkms-bbswitch-1.0"], 0);
    root.run(&format!("dkms install bbswitch/1.0 -k {newer}")).ok();
    machine.expect_modules(newer, &["bbswitch/1.0"]);
    let before = files_of(root, newer);

    let refused = root.run(&format!("cd; {} -y install ./dist/dkms-rs-*.rpm 2>&1", dnf(manager)));
    refused.fails().says(&["conflicts"]);
    typed(&machine, there);
    root.run("rpm -q dkms-rs && ! rpm -q dkms && rpm -V dkms-rs").ok();
    machine.expect_modules(newer, &["bbswitch/1.0"]);
    assert_eq!(files_of(root, newer), before);
    // They are up to date, and not rebuilt.
    let counters = Counters::install(root);
    root.run(&format!("dkms autoinstall -k {newer}")).ok();
    assert_eq!(counters.take().builds_and_depmods(), (0, 0));

    let back = readme("dnf").into_iter().find(|line| line.contains("swap dkms-rs")).expect("the way back");
    typed(&machine, &back).never_says(&["could not check kernel modules"]);
    root.run("rpm -q dkms && ! rpm -q dkms-rs").ok();
    machine.expect_modules(newer, &["bbswitch/1.0"]);
    assert_eq!(files_of(root, newer), before);
}

fn dnf(manager: Manager) -> &'static str {
    if manager == Manager::Dnf5 { "dnf5" } else { "dnf" }
}

/// README's commands.
#[test]
#[ignore = "long: run by `make test-long`"]
fn dnf4_swaps_another_dkms_for_us_and_back() {
    let swap = readme("dnf").into_iter().find(|line| line.contains("swap dkms ")).expect("the way here");
    swapped(Manager::Dnf4, &swap);
}

#[test]
fn dnf5_swaps_another_dkms_for_us_and_back() {
    let swap = readme("dnf").into_iter().find(|line| line.contains("swap dkms ")).expect("the way here");
    swapped(Manager::Dnf5, &swap);
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn dnf_may_erase_another_dkms_for_us() {
    swapped(Manager::Dnf4, "dnf install --allowerasing ./dist/dkms-rs-*.rpm");
}

/// The package installs with an older rpm, too, and its hook runs.
#[test]
fn rpm_of_debian_13_installs_the_package() {
    let suite = dkms_tests::Suite::trixie();
    let layer = suite.base().prepared("rpm-only", "1", |root| {
        root.apt_install(&["rpm"]).ok();
    });
    let root = Root::on(&layer);
    root.copy_in(&host::product_rpm(), "/opt/dkms-rs.rpm");
    root.run("rpm -i --nosignature --nodeps /opt/dkms-rs.rpm").ok();
    root.run("dkms --version").ok();
    root.run("/usr/lib/dkms/rpm-trigger transaction-end </dev/null").ok().quiet_stdout();
    root.run("rpm -e dkms-rs").ok();
    assert_eq!(root.find("/usr/lib/dkms", ""), [""; 0]);
}
