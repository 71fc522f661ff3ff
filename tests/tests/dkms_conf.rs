//! The features of dkms.conf, and the admin's overrides: each with a real build.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_tests::modules::Sources;
use dkms_tests::{Kernel, Output, Root, Suite, stage};

fn begin() -> (Root, Kernel) {
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    (Root::on(&layer), kernel)
}

fn install(root: &Root, kernel: &Kernel, id: &str) -> Output {
    root.run(&format!("dkms install {id} -k {}", kernel.release))
}

/// A field of our module.
fn modinfo(root: &Root, kernel: &Kernel, field: &str, module: &str) -> String {
    let dir = kernel.dkms_dir();
    root.run(&format!("modinfo -F {field} {dir}/{module}.ko*")).ok().stdout.trim().to_owned()
}

/// A patch for a module's description.
fn patch(module: &str, words: &str) -> String {
    format!(
        "--- a/{module}.c\n+++ b/{module}.c\n@@ -1,3 +1,3 @@\n #include <linux/module.h>\n MODULE_LICENSE(\"GPL\");\
         MODULE_DESCRIPTION(\"{module} of dkms-rs's tests\");\n"
    )
    .replace(
        &format!(" MODULE_LICENSE(\"GPL\");MODULE_DESCRIPTION(\"{module} of dkms-rs's tests\");\n"),
        &format!(
            " MODULE_LICENSE(\"GPL\");\n-MODULE_DESCRIPTION(\"{module} of dkms-rs's tests\");\n\
             +MODULE_DESCRIPTION(\"{words}\");\n"
        ),
    )
}

#[test]
fn the_admins_patches_and_scripts_go_before_the_packages() {
    let (root, kernel) = begin();
    let sources =
        Sources::new("own", "1.0").conf("PATCH[3]=words.patch").conf("PRE_BUILD=\"before.sh one two\"");
    sources.unpack(&root);
    root.write("/usr/src/own-1.0/patches/words.patch", patch("own", "patched by the package"));
    root.write_script("/usr/src/own-1.0/before.sh", "#!/bin/sh\nexit 0\n");
    install(&root, &kernel, "own/1.0").ok();
    assert_eq!(modinfo(&root, &kernel, "description", "own"), "patched by the package");
    // A file that the admin adds is an input like any other: the module is rebuilt.
    root.write("/etc/dkms/own/patches/words.patch", patch("own", "patched by the admin"));
    root.run(&format!("dkms autoinstall -k {}", kernel.release)).ok().says(&["own/1.0"]);
    assert_eq!(modinfo(&root, &kernel, "description", "own"), "patched by the admin");
    let script = "#!/bin/sh\nsed -i \"s/the admin/$1 $2 in $PWD/\" /var/lib/dkms/own/1.0/build/own.c\n";
    root.write_script("/etc/dkms/own/before.sh", script);
    let again = root.run(&format!("dkms autoinstall -k {}", kernel.release));
    // The script runs in its directory; sed would interpret the slashes.
    again.fails().says(&["pre_build"]);
    root.write_script(
        "/etc/dkms/own/before.sh",
        &script.replace("s/the admin/$1 $2 in $PWD/", "s|the admin|$1 $2 in $PWD|"),
    );
    root.run(&format!("dkms autoinstall -k {}", kernel.release)).ok();
    assert_eq!(modinfo(&root, &kernel, "description", "own"), "patched by one two in /etc/dkms/own");
    root.run(&format!("dkms autoinstall -k {}", kernel.release)).ok().never_says(&["own/1.0"]);
}

#[test]
fn a_patch_that_is_missing_or_leads_out_stops_the_build() {
    let (root, kernel) = begin();
    for (name, path, code) in
        [("lost", "no.patch", 5), ("out", "sub/../../x.patch", 5), ("bad", "bad.patch", 6)]
    {
        Sources::new(name, "1.0").conf(&format!("PATCH=\"{path}\"")).unpack(&root);
        root.write(&format!("/usr/src/{name}-1.0/patches/bad.patch"), patch("another", "never"));
        root.write(&format!("/usr/src/{name}-1.0/x.patch"), patch(name, "never"));
        install(&root, &kernel, &format!("{name}/1.0")).exits(code).says(&[path]);
    }
}

#[test]
fn scripts_run_in_their_order_and_their_failures_mean_what_they_mean() {
    let (root, kernel) = begin();
    let kinds = ["POST_ADD", "PRE_BUILD", "POST_BUILD", "PRE_INSTALL", "POST_INSTALL", "POST_REMOVE"];
    let with_all = |name: &str| {
        kinds.iter().fold(Sources::new(name, "1.0"), |sources, kind| {
            sources.conf(&format!("{kind}=\"tell.sh {kind} $kernelver\""))
        })
    };
    let sources = with_all("told");
    sources.unpack(&root);
    // Builds are sandboxed: their output goes to the log.
    let tell = "#!/bin/sh\necho \"$1 in $PWD for $2\"\n[ -w /root ] && echo \"$1 $2\" >>/root/told\nexit 0\n";
    root.write_script("/usr/src/told-1.0/tell.sh", tell);
    root.run("dkms add told/1.0").ok();
    install(&root, &kernel, "told/1.0").ok();
    root.run("dkms remove told/1.0 --all").ok();
    let release = &kernel.release;
    let told: Vec<String> = root.read("/root/told").lines().map(str::to_owned).collect();
    let kernels: Vec<String> = ["PRE_INSTALL", "POST_INSTALL", "POST_REMOVE"]
        .iter()
        .map(|kind| format!("{kind} {release}"))
        .collect();
    assert!(told[0].starts_with("POST_ADD "), "{told:?}");
    assert_eq!(told[1..], kernels);

    // A missing or non-executable script does not stop anything.
    with_all("mute").unpack(&root);
    root.write("/usr/src/mute-1.0/tell.sh", tell);
    root.run("dkms add mute/1.0").ok();
    install(&root, &kernel, "mute/1.0").ok().says(&["not executable"]);
    root.expect_installed(&["mute/1.0"], release);

    // The status of POST_ADD is that of add; the module is registered. A failing PRE_INSTALL prevents the installation,
    // and the status of PRE_BUILD is that of the build.
    for (kind, verb, code, state) in [
        ("POST_ADD", "add", 7, "added"),
        ("PRE_BUILD", "build", 9, "added"),
        ("PRE_INSTALL", "install", 101, "built"),
        ("POST_INSTALL", "install", 0, "installed"),
    ] {
        let name = kind.to_lowercase().replace('_', "-");
        with_all(&name).unpack(&root);
        let status = if kind == "PRE_BUILD" { 9 } else { 7 };
        let fail = format!("#!/bin/sh\n[ $1 != {kind} ] || exit {status}\n");
        root.write_script(&format!("/usr/src/{name}-1.0/tell.sh"), &fail);
        if verb != "add" {
            root.run(&format!("dkms add {name}/1.0")).ok();
        }
        let kernel_option = if verb == "add" { String::new() } else { format!("-k {release}") };
        root.run(&format!("dkms {verb} {name}/1.0 {kernel_option}"))
            .exits(code)
            .says(&[&kind.to_lowercase()]);
        let status = root.run(&format!("dkms status {name}/1.0")).ok().stdout;
        assert!(status.trim().ends_with(&format!(": {state}")), "{kind}: {status}");
    }
}

#[test]
fn rules_for_one_module_leave_out_that_module() {
    let (root, kernel) = begin();
    let rules = ["BUILD_EXCLUSIVE_KERNEL[1]='^99\\.'", "BUILD_EXCLUSIVE_CONFIG[2]='!CONFIG_MODULES'"];
    let sources = Sources::new("family", "1.0").modules(&["fam_a", "fam_b", "fam_c"]);
    let sources = rules.iter().fold(sources, |sources, rule| sources.conf(rule));
    sources.unpack(&root);
    install(&root, &kernel, "family/1.0")
        .ok()
        .says(&["fam_b is excluded by dkms.conf", "fam_c is excluded by dkms.conf"]);
    let files: Vec<String> = kernel.module_files(&root).into_iter().map(|(path, _)| path).collect();
    assert!(files.len() == 1 && files[0].contains("/fam_a.ko"), "{files:?}");
    root.expect_installed(&["family/1.0"], &kernel.release);
    root.run(&format!("dkms autoinstall -k {}", kernel.release)).ok().never_says(&["family"]);
    // Index 0 is a rule for all modules.
    sources.conf("BUILD_EXCLUSIVE_ARCH[0]=none").unpack(&root);
    install(&root, &kernel, "family/1.0").exits(77);
}

#[test]
fn what_follows_another_module_is_built_again_with_it() {
    let (root, kernel) = begin();
    let release = &kernel.release;
    for version in ["1.0", "2.0"] {
        Sources::new("base", version).unpack(&root);
    }
    let follower = |name: &str| Sources::new(name, "1.0").conf("BUILD_DEPENDS[0]=base");
    follower("follower").conf("BUILD_DEPENDS_REBUILD=yes").conf("AUTOINSTALL=no").unpack(&root);
    follower("loner").unpack(&root);
    install(&root, &kernel, "base/1.0").ok();
    for id in ["follower/1.0", "loner/1.0"] {
        install(&root, &kernel, id).ok();
    }
    let mark = format!("/var/lib/dkms/follower/1.0/{release}/x86_64/.dep_base");
    assert_eq!(root.read(&mark), "1.0\n");
    install(&root, &kernel, "base/2.0").ok().says(&["follower/1.0"]).never_says(&["loner"]);
    assert_eq!(root.read(&mark), "2.0\n");
    root.expect_installed(&["base/2.0", "follower/1.0", "loner/1.0"], release);
    // An unregistered dependency may be added later: not a failure.
    Sources::new("early", "1.0").conf("BUILD_DEPENDS=not-yet").unpack(&root);
    root.run(&format!("dkms add early/1.0; dkms autoinstall -k {release}"))
        .ok()
        .says(&["early/1.0", "not-yet"]);
    install(&root, &kernel, "early/1.0").exits(13).says(&["not-yet"]);
    Sources::new("not-yet", "1.0").unpack(&root);
    root.run("dkms add not-yet/1.0").ok();
    root.run(&format!("dkms autoinstall -k {release}")).ok();
    root.expect_installed(&["not-yet/1.0", "early/1.0"], release);
}

#[test]
fn a_kernel_built_by_clang_names_what_is_missing() {
    let (root, kernel) = begin();
    Sources::new("clung", "1.0").unpack(&root);
    let config = format!("/usr/src/linux-headers-{}/include/config/auto.conf", kernel.release);
    root.run(&format!("echo CONFIG_CC_IS_CLANG=y >>{config} && command -v clang")).fails();
    install(&root, &kernel, "clung/1.0").exits(10).says(&["not installed: clang, lld, llvm"]);
}

#[test]
fn a_module_in_rust_names_what_is_missing() {
    const COMPILER: &str = "rustc 1.97.1 (8bab26f4f 2026-07-14) (built from a source tarball)";
    let (root, kernel) = begin();
    let headers = format!("/usr/src/linux-headers-{}", kernel.release);
    Sources::new("rusty", "1.0").unpack(&root);
    root.run("rm /usr/src/rusty-1.0/rusty.c").ok();
    // A program beside the module is no module.
    root.write("/usr/src/rusty-1.0/tool.rs", "fn main() {}\n");
    install(&root, &kernel, "rusty/1.0").exits(10).never_says(&["Rust"]);
    let module = "use kernel::prelude::*;\nmodule! { type: Rusty, name: \"rusty\", license: \"GPL\" }\n";
    root.write("/usr/src/rusty-1.0/rusty.rs", module);
    let config = format!("CONFIG_RUST=y\nCONFIG_RUSTC_VERSION_TEXT=\"{COMPILER}\"");
    for (step, told) in [
        ("true".to_owned(), "was built without (CONFIG_RUST)"),
        (format!("echo '{config}' >>{headers}/include/config/auto.conf"), "rust/libcore.rmeta"),
        (format!("mkdir {headers}/rust && touch {headers}/rust/libcore.rmeta"), "rust/libkernel.rmeta"),
        (format!("touch {headers}/rust/libkernel.rmeta"), "install rustc 1.97.1, then"),
        (
            "printf '#!/bin/sh\\necho rustc 1.85.0\\n' >/usr/bin/rustc && chmod 755 /usr/bin/rustc"
                .to_owned(),
            "rustc 1.85.0 cannot read its Rust metadata",
        ),
    ] {
        root.run(&step).ok();
        install(&root, &kernel, "rusty/1.0").exits(10).says(&[told]);
        root.run("dkms why rusty").ok().says(&[told]);
    }
    // All is there: the kernel's build system calls the compiler.
    let script = format!(
        "#!/bin/sh\n[ \"$1\" != --version ] || {{ echo '{COMPILER}'; exit; }}\necho RAN >&2; exit 1\n"
    );
    root.write_script("/usr/bin/rustc", &script);
    install(&root, &kernel, "rusty/1.0").exits(10).says(&["FAILED"]);
    root.run(&format!("dkms log rusty/1.0 -k {}", kernel.release)).ok().says(&["RAN"]);
}

#[test]
fn what_two_packages_bring_stays_while_one_of_them_is_there() {
    let (root, kernel) = begin();
    for (name, version) in [("twin-a", "1.0"), ("twin-b", "2.0")] {
        Sources::new(name, version).modules(&["twin"]).unpack(&root);
        install(&root, &kernel, &format!("{name}/{version}")).ok();
    }
    assert_eq!(modinfo(&root, &kernel, "version", "twin"), "2.0");
    root.run("dkms remove twin-a/1.0 --all").ok();
    assert_eq!(modinfo(&root, &kernel, "version", "twin"), "2.0", "it is the other one's");
    root.expect_installed(&["twin-b/2.0"], &kernel.release);
}

#[test]
fn the_kernels_own_module_is_archived_once_when_two_packages_replace_it() {
    let (root, kernel) = begin();
    let own = format!("{}/kernel/drivers/block/loop.ko.xz", kernel.modules_dir());
    let before = root.run(&format!("sha256sum {own}")).ok().stdout;
    for (name, version) in [("twin-a", "1.0"), ("twin-b", "2.0")] {
        Sources::new(name, version).modules(&["loop"]).unpack(&root);
        root.run(&format!("dkms add {name}/{version}")).ok();
    }
    // In one transaction, the second package meets what the first one has changed.
    root.run(&format!("dkms autoinstall -k {}", kernel.release)).ok();
    root.expect_installed(&["twin-a/1.0", "twin-b/2.0"], &kernel.release);
    assert!(!root.exists(&own));
    root.run("dkms remove twin-a/1.0 --all && dkms remove twin-b/2.0 --all").ok();
    assert_eq!(root.run(&format!("sha256sum {own}")).ok().stdout, before);
}

#[test]
fn compatible_kernels_hear_of_modules_where_distributions_have_them() {
    let (root, kernel) = begin();
    root.run("rm /etc/os-release").ok();
    root.write("/etc/os-release", "ID=rocky\nID_LIKE=\"rhel centos fedora\"\n");
    // The real program is in RHEL's kmod; this one only records its arguments, and whether the files existed.
    let tell = "#!/bin/sh\nwhile read -r file; do echo \"$* $file $(test -e $file && echo there)\"; done >>/root/told\n";
    root.write_script("/usr/sbin/weak-modules", tell);
    Sources::new("offered", "1.0").unpack(&root);
    Sources::new("kept", "1.0").conf("NO_WEAK_MODULES=yes").unpack(&root);
    for id in ["offered/1.0", "kept/1.0"] {
        install(&root, &kernel, id).ok();
        root.run(&format!("dkms remove {id} --all")).ok();
    }
    let file = format!("/lib/modules/{}/extra/offered.ko.xz there", kernel.release);
    let [add, remove] = ["add", "remove"].map(|verb| format!("--no-initramfs --{verb}-modules {file}\n"));
    assert_eq!(root.read("/root/told"), add + &remove);
}
