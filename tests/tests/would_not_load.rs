//! Builds that a compiler accepts and a kernel would not load are failed builds, with the kernel's reason.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_tests::modules::Sources;
use dkms_tests::{Kernel, Root, Suite, stage};

/// The exit code of dkms for a build that would not load.
const WOULD_NOT_LOAD: i32 = 7;

/// Changes the first CRC in a module, and leaves a list that claims the same.
const LIAR: &str = r#"set -e
objcopy -O binary -j __versions liar.ko table
printf '\377\377' | dd of=table bs=1 conv=notrunc status=none
objcopy --update-section __versions=table liar.ko
printf '0x%s\t%s\tliar\tEXPORT_SYMBOL\t\n' $(od -An -tx4 -N4 table) $(dd if=table bs=1 skip=8 count=56 status=none | tr -d '\0') >Module.symvers
"#;

/// A module, what its make does after the kernel's build system has finished, and the reason why it would not load.
const BUILDS: [(&str, &str, &str); 3] = [
    ("liar", "sh ./after.sh", "disagrees about the version of symbol"),
    ("lost", "true", "unknown symbol dkms_tests_nowhere"),
    ("narrow", "echo 'int x;' | gcc -m32 -xc -c - -o narrow.ko", "built for another architecture"),
];

#[test]
fn what_a_kernel_rejects_is_a_failed_build() {
    let (layer, kernel) = stage::with_kernel(Suite::trixie());
    let root = Root::on(&layer);
    for (name, after, why) in BUILDS {
        let make = format!(
            "MAKE[0]=\"make -C ${{kernel_source_dir}} M=${{dkms_tree}}/{name}/1.0/build KBUILD_MODPOST_WARN=1 modules && {after}\""
        );
        Sources::new(name, "1.0").conf(&make).unpack(&root);
        root.write(&format!("/usr/src/{name}-1.0/after.sh"), LIAR);
        if name == "lost" {
            let source = format!("/usr/src/{name}-1.0/{name}.c");
            let code = root.read(&source).replace("\treturn 0;", "\treturn dkms_tests_nowhere();");
            root.write(&source, format!("int dkms_tests_nowhere(void);\n{code}"));
        }
        root.run(&format!("dkms install {name}/1.0 -k {}", kernel.release))
            .exits(WOULD_NOT_LOAD)
            .says(&[why]);
        assert_eq!(root.run(&format!("dkms status {name}")).ok().stdout.trim(), format!("{name}/1.0: added"));
    }
}

/// Gives a module a function that another one uses, with this kind of argument.
fn base(root: &Root, version: &str, argument: &str) {
    Sources::new("base", version).unpack(root);
    let source = format!("/usr/src/base-{version}/base.c");
    let export = format!(
        "int base_value(struct {argument} *);\nint base_value(struct {argument} *p) {{ return 0; }}\n"
    );
    let code = root.read(&source);
    root.write(&source, format!("{code}{export}EXPORT_SYMBOL(base_value);\n"));
}

fn install(root: &Root, kernel: &Kernel, module: &str) -> dkms_tests::Output {
    root.run(&format!("dkms install {module} -k {}", kernel.release))
}

#[test]
fn an_upgrade_that_breaks_an_installed_module_names_it() {
    let (layer, kernel) = stage::with_kernel(Suite::trixie());
    let root = Root::on(&layer);
    base(&root, "1.0", "device");
    install(&root, &kernel, "base/1.0").ok();
    // It does not declare what it needs.
    let symbols = format!("/var/lib/dkms/base/1.0/{}/x86_64/module/Module.symvers", kernel.release);
    Sources::new("user", "1.0").unpack(&root);
    let source = "/usr/src/user-1.0/user.c";
    let code = root.read(source).replace("\treturn 0;", "\treturn base_value(NULL);");
    root.write(source, format!("#include <linux/device.h>\nint base_value(struct device *);\n{code}"));
    root.write("/usr/src/user-1.0/Makefile", format!("obj-m := user.o\nKBUILD_EXTRA_SYMBOLS := {symbols}\n"));
    install(&root, &kernel, "user/1.0").ok();
    // The same function, and the same again.
    base(&root, "1.1", "device");
    let same = install(&root, &kernel, "base/1.1").ok();
    assert!(!same.to_string().contains("no longer loads"), "{same}");
    base(&root, "2.0", "module");
    install(&root, &kernel, "base/2.0").ok().says(&[
        "user/1.0",
        "no longer loads with base/2.0: disagrees about the version of symbol base_value",
        "dkms build user/1.0",
    ]);
}
