//! The scripts of packages. POSIX sh; they run as root on machines that may have no dkms.

use std::collections::BTreeSet;

use super::Contents;
use crate::distro::fill;
use crate::kernel::elf;

const COMMON: &str = include_str!("scripts/common.sh");
const POSTINST: &str = include_str!("scripts/postinst.sh");
const POSTRM: &str = include_str!("scripts/postrm.sh");
const POSTTRANS: &str = include_str!("scripts/posttrans.sh");
const INSTALL: &str = include_str!("scripts/install.sh");
const POSTUN: &str = include_str!("scripts/postun.sh");

/// Debian's `postinst`.
pub(super) fn postinst(contents: &Contents) -> String {
    script(POSTINST, contents)
}

/// Debian's `postrm`.
pub(super) fn postrm(contents: &Contents) -> String {
    script(POSTRM, contents)
}

/// pacman's `.INSTALL`.
pub(super) fn install(contents: &Contents) -> String {
    script(INSTALL, contents)
}

/// rpm's `%posttrans`.
pub(super) fn posttrans(contents: &Contents) -> String {
    script(POSTTRANS, contents)
}

/// rpm's `%postun`.
pub(super) fn postun(contents: &Contents) -> String {
    script(POSTUN, contents)
}

/// The command that offers the modules to compatible kernels, or withdraws them.
fn weak_modules(contents: &Contents, words: &[&str]) -> String {
    let Some(program) = words.first().filter(|_| contents.weak_modules) else { return ":".to_owned() };
    let command: Vec<String> = words.iter().map(|word| fill(word, &contents.target, None)).collect();
    let command = command.join(" ");
    format!(
        "if [ -x {program} ]; then for file in $files; do echo \"$modules/$file\"; done | {command} || say 'weak-modules failed'; fi"
    )
}

/// A template with the values of this package. All of them are of plain characters, which mean nothing to a shell.
fn script(template: &str, contents: &Contents) -> String {
    let row = &contents.distribution;
    let filled = |text: &str| fill(text, &contents.target, contents.pkgbase.as_deref());
    let names: BTreeSet<String> = contents
        .files
        .iter()
        .map(|file| elf::module_name(&file.path).replace('_', "[-_]").replace('+', "\\+").replace('.', "\\."))
        .collect();
    let files: Vec<&str> = contents.files.iter().map(|file| file.path.as_str()).collect();
    // The words of a command. Those with the kernel or the image are shell variables.
    let command = |words: &[&str]| -> String {
        let word = |word: &&str| match *word {
            "{kernel}" => "\"$kernel\"".to_owned(),
            "{image}" => "\"$image\"".to_owned(),
            word => filled(word),
        };
        words.iter().map(word).collect::<Vec<_>>().join(" ")
    };
    let list = match row.list_initramfs {
        [] => "false".to_owned(),
        words => format!("{} \"$image\"", command(words)),
    };
    let (make, program) = match row.make_initramfs {
        [] => ("true".to_owned(), "true".to_owned()),
        words => (command(words), words.first().copied().unwrap_or("true").to_owned()),
    };
    let image = contents.pkgbase.as_ref().map(|base| format!(" \"/boot/initramfs-{base}.img\""));
    let kernel_dir = format!("/{}", contents.kernel_dir().display());
    let text = template.replace("@COMMON@", COMMON.trim_end());
    let values = [
        ("@MODULE@", contents.module.to_string()),
        ("@NAME@", contents.module.name.to_string()),
        ("@KERNEL@", contents.target.kernel.to_string()),
        ("@MODULES@", kernel_dir),
        ("@FILES@", files.join(" ")),
        ("@NAMES@", names.into_iter().collect::<Vec<_>>().join("|")),
        ("@LIST_INITRAMFS@", list),
        ("@IMAGES@", image.unwrap_or_default()),
        ("@INITRAMFS_PROGRAM@", program),
        ("@MAKE_INITRAMFS_TEXT@", make.replace('"', "")),
        ("@MAKE_INITRAMFS@", make),
        ("@DEPMOD_HOOK@", if row.runs_depmod { "yes" } else { "no" }.to_owned()),
        ("@OFFER@", weak_modules(contents, row.weak_modules.0)),
        ("@WITHDRAW@", weak_modules(contents, row.weak_modules.1)),
        ("@IMAGE_PACKAGES@", image_packages(contents).join(" ")),
    ];
    filled_in(&text, &values)
}

/// Replaces marks by values. A value that looks like a mark stays as it is: names may contain the same characters.
fn filled_in(mut text: &str, values: &[(&str, String)]) -> String {
    let mut all = String::new();
    while let Some((before, mark)) = text.find('@').map(|at| text.split_at(at)) {
        all.push_str(before);
        let known = values.iter().find(|(name, _)| mark.starts_with(name));
        let (value, length) = known.map_or(("@", 1), |(name, value)| (value.as_str(), name.len()));
        all.push_str(value);
        text = &mark[length..];
    }
    all + text
}

/// The packages of which one has the kernel.
pub(super) fn image_packages(contents: &Contents) -> Vec<String> {
    let row = &contents.distribution;
    let names = row.image_packages.iter();
    names.map(|name| fill(name, &contents.target, contents.pkgbase.as_deref())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mkpackage::tests::contents;

    #[test]
    fn a_name_that_looks_like_a_mark_is_a_name() {
        let mut contents = contents("ID=rhel", "6.1");
        contents.module = "@OFFER@/@NAME@".parse().unwrap();
        let text = posttrans(&contents);
        assert!(
            text.contains("name='@OFFER@'\n") && text.contains("for @OFFER@/@NAME@ and kernel 6.1"),
            "{text}"
        );
        assert_eq!(text.matches("weak-modules --no-initramfs").count(), 1);
        for mark in ["@KERNEL@", "@MODULES@", "@FILES@", "@MAKE_INITRAMFS@", "@COMMON@", "@DEPMOD_HOOK@"] {
            assert!(!text.contains(mark), "{mark}: {text}");
        }
    }
}
