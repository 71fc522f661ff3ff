//! The whole engine as code for 64-bit ARM, in a Debian root of that architecture. Its programs, including the compiler, are
//! emulated by qemu-user.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests stop at the first surprise

use std::path::PathBuf;

use dkms_tests::kernels::Flavour;
use dkms_tests::modules::Sources;
use dkms_tests::{Kernel, Root, Suite, host};

const TARGET: &str = "aarch64-unknown-linux-gnu";
const LINKER: &str = "aarch64-linux-gnu-gcc";
const PROGRAMS: [&str; 3] = ["dkms", "dkms-apt-hook", "dkms-dnf-plugin"];

/// Debian's tool with the cross compiler's libraries; their packages have other names than those of an ARM machine.
const LIBRARIES: &str = "#!/bin/sh
/usr/bin/dpkg-shlibdeps -l/usr/aarch64-linux-gnu/lib \"$@\" | sed \"s/:arm64//g; s/-arm64-cross//g\"";

/// The exit code of dkms for a build that would not load.
const WOULD_NOT_LOAD: i32 = 7;

/// The kernel's format of the entry for emulated programs: `F` opens the emulator now, so that roots need none; `P` keeps the
/// name by which a program is called, as in the entry of Debian's package: the helpers of a sandbox are known by it.
const REGISTER: &str = r"mount | grep -q binfmt_misc || mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
ls /proc/sys/fs/binfmt_misc | grep -q qemu-aarch64 || printf '%s' ':qemu-aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:/usr/bin/qemu-aarch64-static:PF' >/proc/sys/fs/binfmt_misc/register";

/// The package, cross-compiled.
fn package() -> PathBuf {
    host::need_tools(&[
        (LINKER, "gcc-aarch64-linux-gnu"),
        ("qemu-aarch64-static", "qemu-user-static"),
        ("aarch64-linux-gnu-strip", "binutils-aarch64-linux-gnu"),
        // Only recommended by the compiler.
        ("/usr/aarch64-linux-gnu/include/stdint.h", "libc6-dev-arm64-cross"),
    ]);
    host::run_host(REGISTER);
    let has_target =
        format!("[ -d $(rustc --print sysroot)/lib/rustlib/{TARGET} ] || rustup target add {TARGET}");
    host::run_host(&format!("cd {} && {has_target}", host::workspace().display()));
    host::run_host(&format!(
        "cd {} && CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER={LINKER} cargo build --locked --target {TARGET} \
         -p dkms-core -p dkms-apt-hook -p dkms-dnf-plugin",
        host::workspace().display()
    ));
    let (built, out) =
        (host::workspace().join("target").join(TARGET), host::roots_dir().join("arm64-package"));
    let strip = |program: &str| {
        let (built, out) = (built.display(), out.display());
        format!("aarch64-linux-gnu-strip -o {out}/programs/{program} {built}/debug/{program}")
    };
    host::run_host(&format!("rm -rf {0} && mkdir -p {0}/programs", out.display()));
    PROGRAMS.iter().for_each(|program| drop(host::run_host(&strip(program))));
    let libraries = out.join("tools/dpkg-shlibdeps");
    host::run_host(&format!(
        "mkdir -p {0}/tools && printf '%s\\n' '{LIBRARIES}' >{1} && chmod 755 {1}",
        out.display(),
        libraries.display()
    ));
    host::run_host(&format!(
        "cd {} && PATH={1}/tools:$PATH DEB_HOST_ARCH=arm64 cargo run --locked -q -p dkms-packaging -- deb --binaries {1}/programs --out {1}",
        host::workspace().display(),
        out.display()
    ));
    let find = host::run_host(&format!("ls {}/*_arm64.deb", out.display()));
    find.trim().into()
}

/// The machine of an ELF file's header.
fn machine(root: &Root, path: &str) -> String {
    let unpacked =
        format!("case {path} in *.xz) xz -dc {path};; *) cat {path};; esac >/opt/elf; readelf -h /opt/elf");
    let header = root.run(&unpacked).ok().stdout;
    let line = header.lines().find_map(|line| line.trim().strip_prefix("Machine:")).expect("a machine");
    line.trim().to_owned()
}

#[test]
#[ignore = "long: run by `make arm64`"]
fn a_driver_survives_the_update_of_an_arm_kernel() {
    let deb = package();
    let suite = Suite::trixie_arm64();
    let root = Root::on(&suite.base());
    assert_eq!(root.run("dpkg --print-architecture; uname -m").ok().stdout, "arm64\naarch64\n");
    root.copy_in(&deb, "/opt/product.deb");
    root.apt_install(&["/opt/product.deb", "binutils"]).ok();
    let newest = Kernel::newest(&root, Flavour::CloudArm64, suite.kernel_series);
    let older = Kernel::newest_but_one(&root, Flavour::CloudArm64, suite.kernel_series);

    // A package with a module, for the kernel that is installed.
    older.install(&root).ok();
    let package = Sources::new("fine", "1.0").package(&root);
    let told = root.apt_install(&[&package]).ok();
    root.expect_installed(&["fine/1.0"], &older.release);
    told.never_says(&["FAILED"]);

    // The update of the kernel.
    newest.install(&root).ok().says(&["fine/1.0"]);
    for kernel in [&older, &newest] {
        root.expect_installed(&["fine/1.0"], &kernel.release);
        let file = root.find(&kernel.dkms_dir(), "-name 'fine.ko*'").pop().expect("the module");
        assert_eq!(machine(&root, &file), "AArch64", "{file}");
        let vermagic = root.run(&format!("modinfo -F vermagic {file}")).ok().stdout;
        assert!(vermagic.starts_with(&kernel.release) && vermagic.contains("aarch64"), "{vermagic}");
        root.run(&format!("modprobe -n -v -S {} fine", kernel.release)).ok().says(&["updates/dkms/fine.ko"]);
    }
    assert!(root.run("dkms status").ok().stdout.contains("aarch64"));

    // A module that calls what the kernel does not have is not installed.
    let make = "MAKE[0]=\"make -C ${kernel_source_dir} M=${dkms_tree}/lost/1.0/build KBUILD_MODPOST_WARN=1 modules\"\n";
    Sources::new("lost", "1.0").conf(make).unpack(&root);
    let source = "/usr/src/lost-1.0/lost.c";
    let code = root.read(source).replace("\treturn 0;", "\treturn dkms_tests_nowhere();");
    root.write(source, format!("int dkms_tests_nowhere(void);\n{code}"));
    let install = format!("dkms install lost/1.0 -k {}", newest.release);
    root.run(&install).exits(WOULD_NOT_LOAD).says(&["unknown symbol dkms_tests_nowhere"]);
    root.run("dkms remove lost/1.0 --all").ok();

    // The kernel leaves, then the module.
    root.run(&format!("apt-get -q -y remove {} {}", older.image(), older.headers())).ok();
    assert_eq!(root.state_of("fine/1.0", &older.release), "none");
    root.run("dkms doctor").ok();
    root.run("apt-get -q -y purge fine-dkms").ok();
    assert_eq!(root.find("/usr/lib/modules", "-name 'fine.ko*'"), [""; 0]);
    root.expect_clean_dpkg();
}
