//! The files of the installed system: every file with its path and mode, independent of the checkout's umask.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The inputs of one distribution's package.
pub struct Contents {
    /// Trees in this repository that mirror `/` on the installed system.
    mirrors: &'static [&'static str],
    /// Built programs and their paths.
    programs: &'static [(&'static str, &'static str)],
    /// Directories whose path differs between distributions: Debian's, and the one here.
    renamed: &'static [(&'static str, &'static str)],
}

/// Debian's.
pub const DEBIAN: Contents = Contents {
    mirrors: &["apt-hook/files", "packaging/files"],
    programs: &[("dkms", "usr/sbin/dkms"), ("dkms-apt-hook", "usr/lib/dkms/apt-hook")],
    renamed: &[],
};

/// Fedora's and openSUSE's.
pub const RPM: Contents = Contents {
    mirrors: &["dnf-plugin/files", "packaging/files"],
    programs: &[("dkms", "usr/sbin/dkms"), ("dkms-dnf-plugin", "usr/lib/dkms/dnf-hook")],
    renamed: &[("usr/share/zsh/vendor-completions/", "usr/share/zsh/site-functions/")],
};

/// Arch's.
pub const ARCH: Contents = Contents {
    mirrors: &["alpm-hook/files", "packaging/files"],
    programs: &[
        ("dkms", "usr/sbin/dkms"),
        ("dkms-alpm-hook", "usr/lib/dkms/alpm-hook"),
        ("dkms-alpm-headers", "usr/lib/dkms/alpm-headers"),
    ],
    renamed: &[],
};

/// One file of the package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct File {
    /// Its path on the installed system, without the leading slash.
    pub path: String,
    /// The source of its content.
    pub source: PathBuf,
    /// Permission bits.
    pub mode: u32,
}

/// Everything that is copied unchanged, sorted by path.
pub fn files(repository: &Path, binaries: &Path, contents: &Contents) -> Result<Vec<File>> {
    let mut found = Vec::new();
    for mirror in contents.mirrors {
        let root = repository.join(mirror);
        collect(&root, &root, &mut found).with_context(|| format!("listing {}", root.display()))?;
    }
    for file in &mut found {
        for (debian, here) in contents.renamed {
            if let Some(name) = file.path.strip_prefix(debian) {
                file.path = format!("{here}{name}");
            }
        }
    }
    for (name, path) in contents.programs {
        found.push(File { path: (*path).to_owned(), source: binaries.join(name), mode: 0o755 });
    }
    found.sort();
    Ok(found)
}

fn collect(root: &Path, directory: &Path, found: &mut Vec<File>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let source = entry?.path();
        if source.is_dir() {
            collect(root, &source, found)?;
            continue;
        }
        let path = source.strip_prefix(root)?.to_str().context("a file name is not UTF-8")?.to_owned();
        let mode = mode(&path);
        found.push(File { path, source, mode });
    }
    Ok(())
}

/// Hooks and helpers are executable, everything else is not.
fn mode(path: &str) -> u32 {
    if path.ends_with(".py") {
        return 0o644;
    }
    let runs =
        ["etc/kernel/", "etc/update-motd.d/", "usr/lib/dkms/", "usr/lib/kernel/install.d/", "usr/sbin/"];
    if runs.iter().any(|directory| path.starts_with(directory)) { 0o755 } else { 0o644 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    #[test]
    fn hooks_run_and_settings_do_not() {
        assert_eq!(mode("etc/kernel/postinst.d/dkms"), 0o755);
        assert_eq!(mode("etc/dkms/framework.conf"), 0o644);
    }

    #[test]
    fn every_path_that_module_packages_and_kernels_call_is_there() {
        let files = files(&repository(), Path::new("/nowhere"), &DEBIAN).unwrap();
        let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        for expected in [
            "etc/dkms/framework.conf",
            "etc/dkms/policy.toml",
            "etc/kernel/header_postinst.d/dkms",
            "etc/kernel/postinst.d/dkms",
            "etc/kernel/preinst.d/dkms",
            "etc/kernel/prerm.d/dkms",
            "etc/update-motd.d/85-dkms",
            "usr/lib/dkms/apt-hook",
            "usr/lib/dkms/common.postinst",
            "usr/lib/dkms/dkms_autoinstaller",
            "usr/lib/dkms/run-hook",
            "usr/lib/dkms/upcoming",
            "usr/lib/kernel/install.d/40-dkms.install",
            "usr/lib/systemd/system/dkms-ahead.service",
            "usr/lib/systemd/system/dkms-ahead.timer",
            "usr/lib/systemd/system/dkms.service",
            "usr/sbin/dkms",
            "usr/share/bash-completion/completions/dkms",
            "usr/share/dkms/schemas/status.json",
            "usr/share/fish/vendor_completions.d/dkms.fish",
            "usr/share/zsh/vendor-completions/_dkms",
        ] {
            assert!(paths.contains(&expected), "{expected} is missing from {paths:?}");
        }
        assert!(paths.is_sorted());
    }

    #[test]
    fn an_rpm_has_what_its_package_managers_call_and_nothing_of_dpkgs() {
        let files = files(&repository(), Path::new("/nowhere"), &RPM).unwrap();
        let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        for expected in [
            "etc/dkms/policy.toml",
            "etc/dnf/libdnf5-plugins/actions.d/dkms.actions",
            "usr/lib/dkms/common.postinst",
            "usr/lib/dkms/dnf-hook",
            "usr/lib/dkms/dnf4.py",
            "usr/lib/kernel/install.d/40-dkms.install",
            "usr/sbin/dkms",
            "usr/share/dkms/schemas/history.json",
            "usr/share/zsh/site-functions/_dkms",
        ] {
            assert!(paths.contains(&expected), "{expected} is missing from {paths:?}");
        }
        assert!(!paths.iter().any(|path| path.starts_with("etc/kernel") || path.contains("apt-hook")));
    }

    #[test]
    fn a_hook_whose_program_is_gone_does_nothing() {
        for hook in ["preinst.d", "postinst.d", "prerm.d", "header_postinst.d"] {
            let script =
                fs::read_to_string(repository().join("apt-hook/files/etc/kernel").join(hook).join("dkms"))
                    .unwrap();
            let without = script.replace("/usr/lib/dkms/apt-hook", "/nonexistent/apt-hook");
            let status = std::process::Command::new("sh")
                .args(["-e", "-c", &without, "dkms", "6.1.0"])
                .status()
                .unwrap();
            assert!(status.success(), "{hook}");
        }
    }

    /// What stands between a package manager and a hook: how it is called, and the statuses of the hook that it passes on.
    struct Caller {
        /// `apt`, `dnf` or `alpm`.
        adapter: &'static str,
        /// Shell text, with `LIB` for /usr/lib/dkms and `FILES` for the adapter's files.
        call: &'static str,
        passes: &'static [i32],
        /// What a hook that crashed is said to have left undone.
        effect: &'static str,
    }

    const MISSING: &str = "kernel modules may be missing; to build them, run dkms autoinstall";
    const SKIPPED: &str = "pre-build skipped";

    const fn caller(
        adapter: &'static str,
        call: &'static str,
        passes: &'static [i32],
        effect: &'static str,
    ) -> Caller {
        Caller { adapter, call, passes, effect }
    }

    /// Runs the plugin of dnf4 as dnf does, with modules of dnf that do nothing.
    const DNF4: &str = r#"exec python3 -c '
import importlib.util, sys, types
class Error(Exception): pass
dnf = types.ModuleType("dnf"); dnf.exceptions = types.ModuleType("dnf.exceptions")
dnf.Plugin = object; dnf.exceptions.Error = Error
sys.modules.update({"dnf": dnf, "dnf.exceptions": dnf.exceptions})
spec = importlib.util.spec_from_file_location("plugin", "LIB/dnf4.py")
module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)
plugin = module.Dkms()
package = types.SimpleNamespace(localPkg=lambda: "/a.rpm", name="a", version="1", release="1", arch="noarch")
plugin.base = types.SimpleNamespace(conf=types.SimpleNamespace(installroot="/"),
                                    transaction=types.SimpleNamespace(install_set=[package]))
try: getattr(plugin, sys.argv[1])()
except Error: sys.exit(3)
' "#;

    const CALLERS: &[Caller] = &[
        caller("apt", "exec LIB/run-hook kernel-postinst 1", &[11, 129, 130, 143], MISSING),
        caller("apt", "exec FILES/etc/kernel/postinst.d/dkms 1", &[11, 129, 130, 143], MISSING),
        caller("apt", "exec FILES/usr/lib/kernel/install.d/40-dkms.install add 1", &[], MISSING),
        caller("apt", "APT", &[], SKIPPED),
        caller("dnf", "exec LIB/rpm-trigger transaction-end", &[11, 129, 130, 143], MISSING),
        caller("dnf", "exec LIB/common.postinst a 1", &[11, 129, 130, 143], MISSING),
        caller("dnf", "exec FILES/usr/lib/kernel/install.d/40-dkms.install add 1", &[], MISSING),
        caller("dnf", "exec LIB/dnf5-action dnf5", &[3, 11, 129, 130, 143], MISSING),
        caller("dnf", "exec LIB/dnf5-action dnf5-before", &[3, 11, 129, 130, 143], SKIPPED),
        caller("dnf", "DNF4 transaction", &[], MISSING),
        caller("dnf", "DNF4 pre_transaction", &[3], SKIPPED),
        caller("alpm", "exec LIB/run-hook pre-transaction", &[3, 129, 130, 143], SKIPPED),
        caller("alpm", "exec LIB/run-hook post-transaction", &[11, 129, 130, 143], MISSING),
        caller("alpm", "exec LIB/run-hook pre-remove", &[11, 129, 130, 143], MISSING),
    ];

    /// apt's own words for the hook before a transaction.
    fn apt_incoming() -> String {
        let conf = repository().join("apt-hook/files/etc/apt/apt.conf.d/05dkms");
        let conf = fs::read_to_string(conf).unwrap();
        let line = conf.lines().find(|line| line.starts_with("DPkg::Pre-Install-Pkgs")).unwrap();
        line.split('"').nth(1).unwrap().replace("/usr/lib/dkms", "LIB")
    }

    /// Calls an adapter's files around a hook with this text; the status, and what is said.
    fn called(caller: &Caller, hook: Option<&str>) -> (Option<i32>, String) {
        let dir = tempfile::tempdir().unwrap();
        let lib = dir.path().join("usr/lib/dkms").display().to_string();
        let files = files(
            &repository(),
            Path::new("/nowhere"),
            &Contents { mirrors: mirrors(caller.adapter), programs: &[], renamed: &[] },
        );
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        };
        for file in files.unwrap() {
            let text = fs::read_to_string(&file.source).unwrap();
            write(&file.path, &text.replace("/usr/lib/dkms", &lib));
        }
        if let Some(hook) = hook {
            write(&format!("usr/lib/dkms/{}-hook", caller.adapter), hook);
        }
        let call = caller.call.replace("DNF4", DNF4).replace("APT", &apt_incoming());
        let call = call.replace("LIB", &lib).replace("FILES", &dir.path().display().to_string());
        let done = std::process::Command::new("sh")
            .args(["-c", &call])
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned())
    }

    fn mirrors(adapter: &str) -> &'static [&'static str] {
        match adapter {
            "apt" => &["apt-hook/files"],
            "dnf" => &["dnf-plugin/files"],
            _ => &["alpm-hook/files"],
        }
    }

    #[test]
    fn what_a_hook_decides_is_passed_on() {
        for caller in CALLERS {
            for code in caller.passes.iter().chain(&[0]) {
                let (status, said) = called(caller, Some(&format!("#!/bin/sh\nexit {code}\n")));
                let passed = if caller.call.starts_with("DNF4") && *code != 0 { 3 } else { *code };
                assert_eq!((status, said.as_str()), (Some(passed), ""), "{}: {code}", caller.call);
            }
        }
        // apt is aborted, and says with which status; a plugin of kernel-install fails never.
        for (index, code, status) in [(3, 3, 1), (3, 130, 1), (2, 11, 0), (6, 11, 0), (9, 11, 0)] {
            let (ended, said) = called(&CALLERS[index], Some(&format!("#!/bin/sh\nexit {code}\n")));
            assert_eq!((ended, said.as_str()), (Some(status), ""), "{}", CALLERS[index].call);
        }
    }

    #[test]
    fn a_hook_that_crashes_or_cannot_start_is_one_line_and_no_failure() {
        for caller in CALLERS {
            for hook in [
                "#!/bin/sh\nkill -ABRT $$\n",
                "#!/bin/sh\nkill -SEGV $$\n",
                "#!/bin/sh\nkill -KILL $$\n",
                "#!/bin/sh\nexit 1\n",
                "#!/bin/sh\nexit 2\n",
                "#!/bin/sh\nexit 77\n",
                // A panic.
                "#!/bin/sh\nexit 101\n",
                "#!/bin/sh\nexit 126\n",
                "#!/bin/sh\nexit 255\n",
                "#!/nonexistent/loader\n",
            ] {
                let (status, said) = called(caller, Some(hook));
                assert_eq!(status, Some(0), "{}: {hook}: {said}", caller.call);
                // The shell itself says what it could not start.
                let ours: Vec<&str> = said.lines().filter(|line| line.starts_with("dkms: ")).collect();
                assert_eq!(ours.len(), 1, "{}: {hook}: {said}", caller.call);
                assert!(ours[0].ends_with(caller.effect), "{}: {hook}: {said}", caller.call);
            }
        }
    }

    #[test]
    fn a_hook_that_is_gone_is_no_failure() {
        for caller in CALLERS {
            let (status, said) = called(caller, None);
            assert_eq!(status, Some(0), "{}: {said}", caller.call);
        }
    }
}
