//! The plan of a command, and what makes it repeat actions.

use super::*;
use support::schemas::valid;

/// A kernel with headers that can be surveyed, but not built with; `a` needs `b`, which shell DKMS installed.
fn with_a_kernel() -> Root {
    let b = CONF.replace("PACKAGE_NAME=a", "PACKAGE_NAME=b");
    Root::new(&format!(
        "modules/6.1/modules.dep = updates/dkms/b.ko:\\n
        modules/6.1/build/include/generated/utsrelease.h
        modules/6.1/build/include/config/auto.conf = CONFIG_MODULES=y\\n
        modules/6.1/updates/dkms/b.ko = built
        src/a-1/dkms.conf = {CONF}BUILD_DEPENDS=b\\n
        lib/a/1/source -> $ROOT/src/a-1
        src/b-1/dkms.conf = {b}
        lib/b/1/source -> $ROOT/src/b-1
        lib/b/1/6.1/x86_64/module/b.ko = built
        lib/b/kernel-6.1-x86_64 -> 1/6.1/x86_64"
    ))
}

/// The plan for a command.
fn plan(root: &Root, words: &[&str]) -> serde_json::Value {
    let run = root.dkms(&[words, &["-k", "6.1/x86_64", "--dry-run"]].concat());
    valid("plan", run.ok())
}

/// The fingerprint of a module in a plan.
fn fingerprint(plan: &serde_json::Value, name: &str) -> String {
    let makes = plan["make"].as_array().unwrap();
    let make = makes.iter().find(|make| make["module"]["name"] == name).unwrap_or_else(|| panic!("{plan:#}"));
    make["fingerprint"].as_str().unwrap().to_owned()
}

#[test]
fn the_plan_in_json() {
    let root = with_a_kernel();
    let before = root.list("");
    let mut plan = plan(&root, &["autoinstall"]);
    for make in plan["make"].as_array_mut().unwrap() {
        make["fingerprint"] = "…".into();
    }
    plan["adopt"][0][2] = "…".into();
    insta::assert_snapshot!(serde_json::to_string_pretty(&plan).unwrap(), @r#"
    {
      "adopt": [
        [
          {
            "name": "b",
            "version": "1"
          },
          {
            "arch": "x86_64",
            "kernel": "6.1"
          },
          "…"
        ]
      ],
      "clear": [],
      "depmod": [],
      "forget": [],
      "gone": [],
      "initramfs": [],
      "make": [
        {
          "after": [
            {
              "name": "b",
              "version": "1"
            }
          ],
          "arch": "x86_64",
          "build": true,
          "cached": false,
          "fingerprint": "…",
          "force": false,
          "install": true,
          "kernel": "6.1",
          "module": {
            "name": "a",
            "version": "1"
          },
          "replaces": null
        }
      ],
      "register": [],
      "settled": [
        {
          "arch": "x86_64",
          "kernel": "6.1",
          "module": {
            "name": "b",
            "version": "1"
          },
          "outcome": "up-to-date"
        }
      ],
      "unregister": []
    }
    "#);
    assert_eq!(root.list(""), before, "a dry run changes nothing");
}

#[test]
fn a_fingerprint_is_the_same_every_time_and_changes_with_its_inputs() {
    let root = with_a_kernel();
    let first = fingerprint(&plan(&root, &["autoinstall"]), "a");
    assert_eq!(fingerprint(&plan(&root, &["autoinstall"]), "a"), first);
    assert_eq!(fingerprint(&plan(&root, &["kernel_postinst"]), "a"), first);
    for change in [
        "src/a-1/new.c",
        "src/b-1/new.c",
        "modules/6.1/build/include/config/auto.conf = CONFIG_MODULES=y\\nCONFIG_X=y\\n",
        "modules/6.1/build/Module.symvers = 0x1 x vmlinux EXPORT_SYMBOL\\n",
    ] {
        let root = with_a_kernel();
        assert_eq!(root.text(&fingerprint(&plan(&root, &["autoinstall"]), "a")).len(), 64);
        let before = fingerprint(&plan(&root, &["autoinstall"]), "a");
        root.add(change);
        assert_ne!(fingerprint(&plan(&root, &["autoinstall"]), "a"), before, "{change}");
    }
}

#[test]
fn a_fingerprint_does_not_depend_on_who_asks() {
    let root = with_a_kernel();
    let by_kernel = fingerprint(&plan(&root, &["autoinstall"]), "a");
    let by_hand = fingerprint(&plan(&root, &["install", "a/1"]), "a");
    assert_eq!(by_hand, by_kernel, "installed by hand, it is built again by the next hook");
}

#[test]
fn a_fingerprint_contains_the_variables_that_a_build_gets() {
    let root = with_a_kernel();
    let with = |variables: &[(&str, &str)]| {
        let mut command = root.command(&["autoinstall", "-k", "6.1/x86_64", "--dry-run"]);
        let output = command.envs(variables.iter().copied()).output().unwrap();
        fingerprint(&valid("plan", &String::from_utf8(output.stdout).unwrap()), "a")
    };
    let without = with(&[]);
    assert_ne!(with(&[("LLVM", "1")]), without);
    assert_ne!(with(&[("LLVM", "1")]), with(&[("LLVM", "2")]));
    assert_eq!(with(&[("CFLAGS", "-g"), ("TERM", "dumb"), ("API_TOKEN", "x")]), without);
    assert_eq!(with(&[("LLVM", "1"), ("DPKG_MAINTSCRIPT_NAME", "postinst")]), without, "in a transaction");
}

/// Records that `b` was built and installed by us, from the current inputs; an empty hash means that the installed
/// files are older than the build.
fn noted(root: &Root, sha256: &str) {
    let plan = plan(root, &["autoinstall"]);
    let fingerprint = plan["adopt"][0][2].as_str().unwrap().to_owned();
    root.add(&format!(
        r#"lib/.dkms-rs/records/b/1/6.1/x86_64.json = {{"fingerprint": "{fingerprint}", "installed": [{{"path": "$ROOT/modules/6.1/updates/dkms/b.ko", "sha256": "{sha256}"}}]}}"#
    ));
}

/// Whether a plan publishes `b` again.
fn publishes(plan: &serde_json::Value) -> bool {
    plan["make"]
        .as_array()
        .unwrap()
        .iter()
        .any(|make| make["module"]["name"] == "b" && make["install"] == true)
}

#[test]
fn a_published_file_that_is_gone_is_published_again() {
    let root = with_a_kernel();
    noted(&root, &dkms_core::sys::hash::hex(b"built"));
    assert!(!publishes(&plan(&root, &["autoinstall"])));
    std::fs::remove_file(root.join("modules/6.1/updates/dkms/b.ko")).unwrap();
    assert!(publishes(&plan(&root, &["autoinstall"])));
}

#[test]
fn a_published_file_of_another_build_is_published_again() {
    // `dkms build` has replaced the build of an installed module; the sizes of module files are often equal.
    let root = with_a_kernel();
    noted(&root, "");
    root.add("modules/6.1/updates/dkms/b.ko = older");
    assert!(publishes(&plan(&root, &["autoinstall"])));
}

#[test]
fn a_file_of_shell_dkms_that_is_gone_is_published_again() {
    let root = with_a_kernel();
    std::fs::remove_file(root.join("modules/6.1/updates/dkms/b.ko")).unwrap();
    assert!(publishes(&plan(&root, &["autoinstall"])));
}

#[test]
fn directives_and_another_configuration_reach_the_build() {
    let root = with_a_kernel();
    root.add("etc/config = CONFIG_MODULES=y\\nCONFIG_FOO=m\\n");
    let config = root.join("etc/config").display().to_string();
    let build = |words: &[&str]| {
        let common = ["build", "b/1", "-k", "6.1/x86_64", "--force", "--directive=BUILT_MODULE_NAME=b"];
        root.dkms(&[&common, words].concat())
    };
    let failing = build(&["--directive", "MAKE=exit 7; $kernelver", "--verbose"]);
    assert_eq!(failing.code, 10, "{}", failing.stderr);
    assert!(failing.stderr.contains("exit code 7"), "{}", failing.stderr);
    assert!(failing.stdout.contains("exit 7; $kernelver"), "{}", failing.stdout);
    let exclusive = ["--directive", "MAKE=exit 7", "--directive", "BUILD_EXCLUSIVE_CONFIG=CONFIG_FOO"];
    assert_eq!(build(&exclusive).code, 77);
    assert_eq!(build(&[&exclusive, &["--config", &config][..]].concat()).code, 10);
}

#[test]
fn links_to_modules_in_place_of_copies() {
    let root = with_a_kernel();
    // A build from elsewhere is verified before it is installed.
    root.add("modules/6.1/build/include/generated/utsrelease.h = #define UTS_RELEASE \"6.1\"\\n");
    std::fs::write(root.join("lib/b/1/6.1/x86_64/module/b.ko"), support::module("6.1", "1")).unwrap();
    let kernel = ["-k", "6.1/x86_64"];
    root.dkms(&[&["install", "b/1", "--force", "--symlink-modules"], &kernel[..]].concat()).ok();
    let published = root
        .list("modules")
        .lines()
        .find(|line| line.contains("/b.ko") && !line.contains("modules.dep"))
        .unwrap()
        .to_owned();
    assert!(published.ends_with("b.ko -> $ROOT/lib/b/1/6.1/x86_64/module/b.ko"), "{published}");
    assert_eq!(root.dkms(&["status", "b/1"]).ok(), "b/1, 6.1, x86_64: installed\n");
    // The next installation without the option makes a copy again.
    root.dkms(&[&["install", "b/1", "--force"], &kernel[..]].concat()).ok();
    assert!(!root.list("modules").contains(" -> $ROOT/lib"));
    root.dkms(&[&["install", "b/1", "--force", "--symlink-modules"], &kernel[..]].concat()).ok();
    root.dkms(&[&["uninstall", "b/1"], &kernel[..]].concat()).ok();
    assert!(!root.list("modules").contains("b.ko ->"), "{}", root.list("modules"));
    assert!(root.join("lib/b/1/6.1/x86_64/module/b.ko").exists(), "the link goes, not what it leads to");
}
