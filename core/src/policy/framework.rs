//! framework.conf: shell DKMS's settings.

use std::path::{Component, Path, PathBuf};

use anyhow::Result;

use crate::conf::evaluate;
use crate::distro::Distribution;
use crate::kernel::CompressionLevels;
use crate::layout::Layout;
use crate::sys::file;
use crate::types::Target;

/// The supported settings. `tmp_location` is not needed: work is done in the DKMS tree. Nor is `continue_on_error`: a
/// failure for one kernel never affects the others.
pub const NAMES: &str = "source_tree dkms_tree install_tree autoinstall_all_kernels parallel_jobs symlink_modules \
    modprobe_on_install build_environment try_sign_modules sign_file mok_signing_key mok_certificate \
    compress_gzip_opts compress_xz_opts compress_zstd_opts post_transaction verbose";

/// The variable, and the setting, that names the directory for all modules.
pub const ADDON_MODULES: &str = "ADDON_MODULES_DIR";

/// Whether modules are signed, if their kernel supports signatures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TrySign {
    /// Yes. In a chroot or container, no key pair is generated: all clones of an image would share the private key.
    #[default]
    Unset,
    /// Yes, everywhere, and a missing key pair is generated.
    Always,
    /// Not in a chroot or container.
    NotInChroot,
    /// No, whatever the kernel requires.
    Never,
}

/// Settings of framework.conf and its drop-ins; empty texts are unset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Framework {
    /// Build new module packages for all kernels, not only the running and the newest one.
    pub all_kernels: bool,
    /// Upper limit of parallel jobs.
    pub parallel_jobs: Option<usize>,
    /// Install links into the DKMS tree instead of copies.
    pub symlink_modules: bool,
    /// Load modules after installing them for the running kernel.
    pub modprobe_on_install: bool,
    /// Compression levels.
    pub compression: CompressionLevels,
    /// Whether modules are signed.
    pub signing: TrySign,
    /// Print the commands of builds.
    pub verbose: bool,
    /// The directory for all modules, below a kernel's directory: `ADDON_MODULES_DIR` of SUSE's module-init-tools.
    addon_modules: Option<String>,
    /// A shell file whose exported variables are set for builds; `$kernelver` is replaced.
    build_environment: String,
    /// The signing program; `$kernelver` is replaced.
    sign_file: String,
    mok_signing_key: String,
    mok_certificate: String,
    /// A command that runs after a transaction that changed modules.
    pub post_transaction: String,
    /// Why the files are invalid.
    pub broken: Option<String>,
}

impl Framework {
    /// Reads the files and applies their directories to the layout.
    pub fn load(layout: &mut Layout) -> Result<Self> {
        let files: Vec<PathBuf> = layout.framework().into_iter().filter(|path| path.exists()).collect();
        let addon_modules = addon_modules(layout)?;
        if files.is_empty() {
            return Ok(Self { addon_modules, ..Self::default() });
        }
        let raw = match evaluate::framework(&files, NAMES, &layout.evaluated())? {
            Ok(raw) => raw,
            Err(error) => {
                return Ok(Self { broken: Some(error.to_string()), addon_modules, ..Self::default() });
            }
        };
        for (name, place) in [
            ("dkms_tree", &mut layout.dkms_tree),
            ("source_tree", &mut layout.source_tree),
            ("install_tree", &mut layout.install_tree),
        ] {
            if raw.get(name).starts_with('/') {
                *place = raw.get(name).into();
            }
        }
        let text = |name: &str| raw.get(name).to_owned();
        let given = |name: &str| !raw.get(name).is_empty();
        Ok(Self {
            all_kernels: given("autoinstall_all_kernels"),
            parallel_jobs: raw.get("parallel_jobs").parse().ok(),
            symlink_modules: given("symlink_modules"),
            modprobe_on_install: given("modprobe_on_install"),
            compression: CompressionLevels::parse(
                raw.get("compress_gzip_opts"),
                raw.get("compress_xz_opts"),
                raw.get("compress_zstd_opts"),
            ),
            signing: match raw.get("try_sign_modules") {
                "true" => TrySign::Always,
                "false" => TrySign::Never,
                "not_in_chroot" => TrySign::NotInChroot,
                _ => TrySign::Unset,
            },
            verbose: given("verbose"),
            addon_modules,
            build_environment: text("build_environment"),
            sign_file: text("sign_file"),
            mok_signing_key: text("mok_signing_key"),
            mok_certificate: text("mok_certificate"),
            post_transaction: text("post_transaction"),
            broken: None,
        })
    }

    /// The directory for all modules, below a kernel's directory, if it is configured. `variable` is the value in the
    /// environment, which takes precedence.
    #[must_use]
    pub fn with_addon_modules(self, variable: Option<&str>) -> Self {
        Self { addon_modules: variable.and_then(below).or(self.addon_modules), ..self }
    }

    /// The key pair that the distribution's own settings name for modules, if none is configured.
    #[must_use]
    pub fn with_settings_of(self, distribution: &Distribution, layout: &Layout) -> Self {
        let Some((file, key, certificate)) =
            distribution.mok_settings.filter(|_| self.mok_signing_key.is_empty())
        else {
            return self;
        };
        let text = file::read_optional(&layout.etc.join(file)).ok().flatten().unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let Some(key) = setting(&text, key) else { return self };
        // A file without a certificate beside it has both.
        let certificate = setting(&text, certificate).unwrap_or_else(|| key.clone());
        Self { mok_signing_key: key, mok_certificate: certificate, ..self }
    }

    /// That directory.
    pub fn addon_modules(&self) -> Option<&str> {
        self.addon_modules.as_deref()
    }

    /// The file with variables for builds for a kernel, if configured.
    pub fn build_environment(&self, target: &Target) -> Option<PathBuf> {
        expanded(&self.build_environment, target).map(PathBuf::from).filter(|path| path.is_file())
    }

    /// The admin's signing program for a kernel.
    pub fn sign_file(&self, target: &Target) -> Option<PathBuf> {
        expanded(&self.sign_file, target).map(PathBuf::from)
    }

    /// The admin's signing key for a kernel: a path, or a `pkcs11:` URI.
    pub fn signing_key(&self, target: &Target) -> Option<String> {
        expanded(&self.mok_signing_key, target)
    }

    /// The admin's certificate for a kernel.
    pub fn certificate(&self, target: &Target) -> Option<String> {
        expanded(&self.mok_certificate, target)
    }
}

/// The last value of a variable in a file of simple assignments, if it is an absolute path or a URI of a token.
fn setting(text: &str, name: &str) -> Option<String> {
    let mut values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let value = values.next_back()?.trim().trim_matches(['"', '\'']);
    (value.starts_with('/') || value.starts_with("pkcs11:")).then(|| value.to_owned())
}

/// `ADDON_MODULES_DIR` in the settings of SUSE's module-init-tools.
fn addon_modules(layout: &Layout) -> Result<Option<String>> {
    let file = layout.module_init_tools();
    if !file.exists() {
        return Ok(None);
    }
    let raw = evaluate::framework(&[file], ADDON_MODULES, &layout.evaluated())?;
    Ok(raw.ok().and_then(|raw| below(raw.get(ADDON_MODULES))))
}

/// A relative path that does not lead out of the directory that it is below.
fn below(path: &str) -> Option<String> {
    let path = path.trim().trim_matches('/');
    let normal = |part| matches!(part, Component::Normal(_));
    (!path.is_empty() && Path::new(path).components().all(normal)).then(|| format!("/{path}"))
}

fn expanded(text: &str, target: &Target) -> Option<String> {
    let text =
        text.replace("${kernelver}", target.kernel.as_str()).replace("$kernelver", target.kernel.as_str());
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(files: &[(&str, &str)]) -> (Framework, Layout) {
        let (framework, (_, layout)) = load_kept(files);
        (framework, layout)
    }

    /// The same, with the directory of the files.
    fn load_kept(files: &[(&str, &str)]) -> (Framework, (tempfile::TempDir, Layout)) {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let mut layout = Layout { etc: at("etc"), dkms_tree: at("lib"), ..Layout::default() };
        for (name, text) in files {
            file::write_atomic(&at("etc/dkms").join(name), text.as_bytes(), 0o644).unwrap();
        }
        (Framework::load(&mut layout).unwrap(), (dir, layout))
    }

    #[test]
    fn nothing_is_set_by_default() {
        assert_eq!(load(&[("framework.conf", "# nothing\n")]).0, load(&[]).0);
    }

    #[test]
    fn drop_ins_are_read_in_order_and_hidden_or_other_files_are_not() {
        let (framework, layout) = load(&[
            ("framework.conf", "source_tree=/a\nparallel_jobs=2\ntry_sign_modules=true\n"),
            ("framework.conf.d/10.conf", "source_tree=/b\nparallel_jobs=3\ntry_sign_modules=false\n"),
            ("framework.conf.d/20.conf", "symlink_modules=1 modprobe_on_install=true\nsource_tree=/c\n"),
            ("framework.conf.d/.30.conf", "source_tree=/hidden\n"),
            ("framework.conf.d/40.conf.dpkg-old", "source_tree=/old\n"),
        ]);
        assert_eq!(layout.source_tree, PathBuf::from("/c"));
        assert_eq!(framework.parallel_jobs, Some(3));
        assert!(
            framework.signing == TrySign::Never && framework.symlink_modules && framework.modprobe_on_install
        );
        assert!(!framework.all_kernels);
    }

    #[test]
    fn signing_depends_on_where_dkms_runs() {
        for (value, signing) in [
            ("true", TrySign::Always),
            ("false", TrySign::Never),
            ("not_in_chroot", TrySign::NotInChroot),
            ("", TrySign::Unset),
            ("maybe", TrySign::Unset),
        ] {
            let text = format!("try_sign_modules={value}\n");
            assert_eq!(load(&[("framework.conf", &text)]).0.signing, signing, "{value}");
        }
    }

    #[test]
    fn the_directory_for_all_modules_stays_below_the_kernels() {
        for (text, dir) in [
            ("ADDON_MODULES_DIR=weak\n", Some("/weak")),
            ("ADDON_MODULES_DIR=/updates/mine/\n", Some("/updates/mine")),
            ("ADDON_MODULES_DIR=../../etc\n", None),
            ("ADDON_MODULES_DIR=\n", None),
            ("OTHER=1\n", None),
        ] {
            let (framework, _) = load(&[("../sysconfig/module-init-tools", text)]);
            assert_eq!(framework.addon_modules(), dir, "{text}");
        }
        let (framework, _) = load(&[("../sysconfig/module-init-tools", "ADDON_MODULES_DIR=file\n")]);
        for (variable, dir) in [(None, "/file"), (Some("var"), "/var"), (Some(".."), "/file")] {
            assert_eq!(framework.clone().with_addon_modules(variable).addon_modules(), Some(dir));
        }
    }

    #[test]
    fn gentoos_settings_name_a_key_pair() {
        let gentoo = Distribution::from_os_release("ID=gentoo\n");
        let target = Target { kernel: "6.1".parse().unwrap(), arch: "x86_64".parse().unwrap() };
        let own = ("framework.conf", "mok_signing_key=/k\nmok_certificate=/c\n");
        let make = |text| ("../portage/make.conf", text);
        let pair = "MODULES_SIGN_KEY=\"/old\"\nMODULES_SIGN_KEY=\"/m.pem\"\nMODULES_SIGN_CERT='/m.crt'\n";
        for (files, distribution, expected) in [
            (&[make(pair)][..], &gentoo, Some(("/m.pem", "/m.crt"))),
            (
                &[make("# MODULES_SIGN_KEY=/a\nMODULES_SIGN_KEY=/b.pem\n")],
                &gentoo,
                Some(("/b.pem", "/b.pem")),
            ),
            (&[make(pair), own], &gentoo, Some(("/k", "/c"))),
            (&[make("MODULES_SIGN_KEY=$(rm)\n")], &gentoo, None),
            (&[], &gentoo, None),
            (&[make(pair)], &Distribution::from_os_release("ID=debian\n"), None),
        ] {
            let (framework, layout) = load_kept(files);
            let framework = framework.with_settings_of(distribution, &layout.1);
            let found = framework.signing_key(&target).zip(framework.certificate(&target));
            let expected = expected.map(|(key, certificate)| (key.to_owned(), certificate.to_owned()));
            assert_eq!(found, expected, "{files:?}");
        }
    }

    #[test]
    fn kernelver_is_filled_in_for_each_kernel() {
        let (framework, _) = load(&[(
            "framework.conf",
            "sign_file=\"/s/$kernelver/x\"\nmok_signing_key='/k/${kernelver}'\nmok_certificate=pkcs11:x\n",
        )]);
        let target = Target { kernel: "6.1".parse().unwrap(), arch: "x86_64".parse().unwrap() };
        assert_eq!(framework.sign_file(&target), Some("/s/6.1/x".into()));
        assert_eq!(framework.signing_key(&target).as_deref(), Some("/k/6.1"));
        assert_eq!(framework.certificate(&target).as_deref(), Some("pkcs11:x"));
        assert_eq!(framework.build_environment(&target), None);
    }
}
