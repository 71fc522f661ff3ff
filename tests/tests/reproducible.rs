//! The same inputs give the same fingerprint and the same bytes on machines that differ in everything else: name, users,
//! language, time zone, umask, processors, times of files. A few packages in `make test`, all in `make test-long`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use std::collections::BTreeMap;

use dkms_tests::modules::{REAL, Sources};
use dkms_tests::{Kernel, Root, Suite, bench, stage};

/// What a machine is like, before it builds.
const DRESS: &str = r#"
userdel dkms-build 2>/dev/null; useradd --system --uid 777 dkms-build 2>/dev/null
# Other times, other inodes, another order of entries. Not in the future: then a makefile that another one generates is generated
# for ever.
for dir in /usr/src/*; do
    cp -r "$dir" "$dir.copy" && rm -r "$dir" && mv "$dir.copy" "$dir"
    find "$dir" -exec touch -h -d '2011-05-06 07:08:09' {} +
done
# Other settings, which change no build.
printf 'parallel_jobs=1\nmodprobe_on_install=false\n' >/etc/dkms/framework.conf.d/elsewhere.conf
printf 'critical = ["acpi-call"]\ncache_mib = 99\nbuild_minutes = 67\n[store]\nurl = ["file:///srv/store"]\n' >/etc/dkms/policy.toml
mkdir -p /etc/dkms/other-module /root/elsewhere && cd /root/elsewhere
"#;

/// How the second machine starts a command: another name, zone, language, user name, umask, and one processor.
const ELSEWHERE: &str = "unshare --uts sh -c 'hostname elsewhere; umask 077; cd /root/elsewhere; export TZ=Pacific/Chatham \
     LANG=C LC_ALL=POSIX USER=other LOGNAME=other HOME=/root/elsewhere TMPDIR=/root/elsewhere COLUMNS=40; exec taskset -c 0 \"$@\"' --";

/// The fingerprint of each module, and the hash of each of its files without compression.
type Builds = BTreeMap<String, String>;

fn builds(root: &Root, kernel: &Kernel) -> Builds {
    let records = root.run(&format!(
        "cd /var/lib/dkms; for record in $(find .dkms-rs -name '*.json' | xargs grep -l '\"fingerprint\"'); do \
           echo \"fingerprint of $record $(grep -o '\"fingerprint\": *\"[0-9a-f]*' $record | grep -o '[0-9a-f]*$')\"; done; \
         find . -path '*/{}/*/module/*' -type f | sort | while read -r file; do \
           echo \"$file $(xz -dc \"$file\" | sha256sum | cut -c1-64)\"; done",
        kernel.release
    ));
    let lines = records.ok().stdout;
    lines
        .lines()
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(what, hash)| (what.to_owned(), hash.to_owned()))
        .collect()
}

fn alike(packages: &[&str]) {
    let (layer, kernel) = stage::with_kernel(Suite::trixie());
    let layer = layer.prepared(&format!("sources-{}", packages.len()), &format!("{packages:?}3"), |root| {
        root.write("/etc/dkms/no-autoinstall", "");
        root.apt_install(packages).ok();
        // As drivers of graphics cards do: the second machine has one processor.
        let jobs = "MAKE[0]=\"make -j$(nproc) -C ${kernel_source_dir} M=${dkms_tree}/jobs/1.0/build modules\"";
        Sources::new("jobs", "1.0").conf(jobs).unpack(root);
        // Each machine has a key of its own.
        root.write("/etc/dkms/framework.conf.d/unsigned.conf", "try_sign_modules=false\n");
        root.run("rm /etc/dkms/no-autoinstall; for conf in /usr/src/*/dkms.conf; do dkms add \"${conf%/*}\" || exit; done").ok();
    });
    let command = format!("dkms autoinstall -k {}", kernel.release);
    let here = Root::on(&layer);
    here.run(&command);
    let there = Root::on(&layer);
    there.run(DRESS);
    there.run(&format!("{ELSEWHERE} {command}"));
    let (here, there) = (builds(&here, &kernel), builds(&there, &kernel));
    eprintln!("{} fingerprints and files", here.len());
    assert!(here.len() >= 2 * packages.len() + 2, "{here:#?}");
    let differ: Vec<_> = here.iter().filter(|(what, hash)| there.get(*what) != Some(hash)).collect();
    assert!(differ.is_empty() && here.len() == there.len(), "{differ:#?}\n{there:#?}");
}

#[test]
fn differently_dressed_machines_build_the_same() {
    alike(bench::FEW);
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn also_of_all_small_packages() {
    alike(REAL);
}
