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
    let runs = ["etc/kernel/", "usr/lib/dkms/", "usr/lib/kernel/install.d/", "usr/sbin/"];
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
            "usr/lib/dkms/apt-hook",
            "usr/lib/dkms/common.postinst",
            "usr/lib/dkms/dkms_autoinstaller",
            "usr/lib/dkms/run-hook",
            "usr/lib/kernel/install.d/40-dkms.install",
            "usr/lib/systemd/system/dkms.service",
            "usr/sbin/dkms",
            "usr/share/bash-completion/completions/dkms",
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

    /// Runs an adapter around a hook that ends with this status; returns the adapter's status and output.
    fn adapter(file: &str, program: &str, ends: &str) -> (Option<i32>, String) {
        let dir = tempfile::tempdir().unwrap();
        let hook = dir.path().join("hook");
        fs::write(&hook, format!("{ends}\n")).unwrap();
        let script = fs::read_to_string(repository().join(file)).unwrap();
        let script = script.replace(program, &format!("sh {}", hook.display()));
        let done =
            std::process::Command::new("sh").args(["-c", &script, "adapter", "verb"]).output().unwrap();
        (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned())
    }

    #[test]
    fn only_what_a_hook_decides_is_passed_on() {
        for (file, program) in [
            ("apt-hook/files/usr/lib/dkms/run-hook", "/usr/lib/dkms/apt-hook \"$@\""),
            ("dnf-plugin/files/usr/lib/dkms/rpm-trigger", "/usr/lib/dkms/dnf-hook \"$@\""),
        ] {
            for code in [0, 11, 129, 130, 143] {
                let (status, said) = adapter(file, program, &format!("exit {code}"));
                assert_eq!((status, said.as_str()), (Some(code), ""), "{file} {code}");
            }
            // A crash (abort, segmentation fault, kill), a program that is missing or cannot start, an internal error.
            for ends in [
                "kill -ABRT $$",
                "kill -SEGV $$",
                "kill -KILL $$",
                "exit 127",
                "exit 126",
                "exit 1",
                "exit 77",
                "exit 255",
            ] {
                let (status, said) = adapter(file, program, ends);
                assert_eq!(status, Some(0), "{file}: {ends}");
                assert!(said.contains("exited with status"), "{file}: {ends}: {said}");
            }
        }
    }
}
