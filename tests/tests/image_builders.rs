//! Programs that build images, and the sequences of others: packages are installed in a directory, on a machine with another kernel.
//! The module is built for the kernels of the image, no private key is made, and nothing of the machine gets into it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests stop at the first surprise

use dkms_tests::dressed::{self, DEBIAN, Kind, Package};
use dkms_tests::image;
use dkms_tests::mirror::Mirror;
use dkms_tests::modules::Sources;
use dkms_tests::{Root, Suite, stage};

/// A machine with the packages of the product and of a module in `/opt`, and none of them installed.
fn machine() -> Root {
    let root = Root::on(&stage::product(Suite::trixie()));
    let package = Sources::new("fine", "1.0").package(&root);
    root.run(&format!("mv {package} /opt/fine.deb && apt-get -q -y purge dkms-rs")).ok();
    root
}

/// Requires that the module is installed for these kernels of an image, and that the image has nothing of the machine.
#[track_caller]
fn expect_image(root: &Root, dir: &str, kernels: &[&str]) {
    let status = root.run(&format!("chroot {dir} dkms status")).ok().stdout;
    let wanted: String = kernels.iter().map(|k| format!("fine/1.0, {k}, x86_64: installed\n")).collect();
    assert_eq!(status, wanted);
    for kernel in kernels {
        let files = root.find(&format!("{dir}/usr/lib/modules/{kernel}/updates"), "-name 'fine.ko*'");
        let [file] = &files[..] else { panic!("one module file: {files:?}") };
        let vermagic = root.run(&format!("modinfo -F vermagic {file}")).ok().stdout;
        assert_eq!(vermagic.split(' ').next(), Some(*kernel));
        // Without a key: the machine that starts from the image makes its own.
        assert_eq!(root.run(&format!("modinfo -F signer {file}")).ok().stdout.trim(), "");
    }
    for part in ["etc", "var", "boot", "root", "usr/lib/modules", "usr/lib/dkms", "usr/share/dkms"] {
        image::expect_clean_in(root, &format!("{dir}/{part}"));
    }
}

/// Two kernels for different boards, as Raspberry Pi OS has them in one image.
const PI: [&str; 2] = ["6.12.47+rpt-rpi-2712", "6.12.47+rpt-rpi-v8"];
const PI_PACKAGES: [[Package; 2]; 2] = [
    [
        (Kind::Image, "linux-image-6.12.47+rpt-rpi-2712", "1:6.12.47-1+rpt1", ""),
        (Kind::Headers, "linux-headers-6.12.47+rpt-rpi-2712", "1:6.12.47-1+rpt1", ""),
    ],
    [
        (Kind::Image, "linux-image-6.12.47+rpt-rpi-v8", "1:6.12.47-1+rpt1", ""),
        (Kind::Headers, "linux-headers-6.12.47+rpt-rpi-v8", "1:6.12.47-1+rpt1", ""),
    ],
];

/// pi-gen enters an ordinary directory, in which the machine's `/dev`, `/proc` and `/sys` are mounted, with few capabilities less.
#[test]
#[ignore = "long: image_build has an ordinary directory, too"]
fn the_stages_of_pi_gen() {
    let root = machine();
    root.apt_install(&["libcap2-bin"]).ok();
    dressed::add_kernel(&root);
    for (kernel, packages) in PI.iter().zip(&PI_PACKAGES) {
        dressed::debs(&root, packages, kernel);
    }
    let dir = "/opt/work/rootfs";
    root.run(&format!(
        "mkdir -p {dir} && cd / && tar -c --one-file-system --exclude=usr/share/doc --exclude=usr/share/locale --exclude=opt/kernel.tar \
         bin sbin lib* usr etc var boot opt/dressed opt/product.deb opt/fine.deb | tar -x -C {dir} && cd {dir} && \
         mkdir -p proc dev sys run tmp root && rm etc/os-release"
    ))
    .ok();
    root.write(&format!("{dir}/etc/os-release"), DEBIAN);
    let stage = |script: &str| {
        root.write("/opt/stage", script);
        root.run(&format!(
            "mount -t proc proc {dir}/proc && mount --bind /dev {dir}/dev && mount --bind /sys {dir}/sys && mount -t tmpfs none {dir}/run && \
             setarch linux64 capsh --drop=cap_setfcap --chroot={dir}/ -- -e </opt/stage; code=$?; \
             umount {dir}/run {dir}/sys {dir}/dev {dir}/proc; exit $code"
        ))
        .ok()
    };
    stage("apt-get -q -y install /opt/product.deb\n");
    let kernels = PI_PACKAGES.concat().iter().map(|package| package.1).collect::<Vec<_>>().join(" ");
    stage(&format!("apt-get -q -y install {kernels}\n"));
    // It cannot be sandboxed there, which is said, once.
    let said =
        stage("apt-get -q -y install /opt/fine.deb\n").says(&["the root directory is not a mount point"]);
    for once in ["is not a mount point", "no key is generated in a chroot"] {
        assert_eq!(said.all().matches(once).count(), 1, "{once}\n{said}");
    }
    // Stages can be repeated.
    stage("apt-get -q -y install --reinstall /opt/fine.deb && dkms autoinstall\n");
    root.run(&format!("rm -r {dir}/opt")).ok();
    expect_image(&root, dir, &PI);
}

/// The file of mkosi with the sources of packages: without it, mkosi asks for an archive of debug symbols, too.
fn sources(mirror: &Mirror, suite: &Suite) -> String {
    let lines = mirror.lines_for(suite.name);
    let one = |line: &String| {
        let words: Vec<&str> = line.split(' ').collect();
        format!(
            "Types: deb\nURIs: {}\nSuites: {}\nComponents: {}\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n",
            words[1], words[2], words[3]
        )
    };
    lines.iter().map(one).collect()
}

/// mkosi itself makes an image, from the mirror and a directory of packages. dpkg runs outside of the image.
#[test]
#[ignore = "long: run by `make test-long`"]
fn mkosi_with_a_directory_of_packages() {
    let root = machine();
    let suite = Suite::trixie();
    let kernel = stage::cloud_kernel(suite);
    root.apt_install(&["mkosi", "reprepro"]).ok();
    let mirror = Mirror::of_host();
    root.write("/opt/sandbox/etc/apt/sources.list.d/mkosi.sources", sources(&mirror, suite));
    root.write("/opt/sandbox/etc/apt/apt.conf.d/mirror", mirror.apt_conf);
    root.run("mkdir -p /opt/packages /opt/work && cp /opt/product.deb /opt/packages/dkms-rs.deb && cp /opt/fine.deb /opt/packages/")
        .ok();
    root.run(&format!(
        "cd /opt/work && SOURCE_DATE_EPOCH=1700000000 mkosi -d debian -r {} --sandbox-tree /opt/sandbox --package-directory /opt/packages \
         --format directory --output image --bootable no -p apt -p dkms-rs -p fine-dkms -p {} -p {} build",
        suite.name,
        kernel.image(),
        kernel.headers()
    ))
    .ok();
    expect_image(&root, "/opt/work/image", &[&kernel.release]);
}

/// mmdebstrap itself makes an image with a kernel, and its hooks install our packages.
#[test]
#[ignore = "long: run by `make test-long`"]
fn mmdebstrap_with_hooks() {
    let root = machine();
    let suite = Suite::trixie();
    let kernel = stage::cloud_kernel(suite);
    root.apt_install(&["mmdebstrap", "arch-test"]).ok();
    let mirror = Mirror::of_host();
    root.write("/opt/sources", mirror.lines_for(suite.name).join("\n") + "\n");
    let options: String =
        mirror.apt_conf.lines().map(|line| format!(" '--aptopt={}'", line.replace('\'', "'\\''"))).collect();
    root.run(&format!(
        "SOURCE_DATE_EPOCH=1700000000 mmdebstrap --mode=root --variant=apt --format=directory{options} \
         --dpkgopt=force-unsafe-io --aptopt='APT::Install-Recommends \"false\"' --include=initramfs-tools,{},{} \
         --customize-hook='copy-in /opt/product.deb /opt/fine.deb /mnt' \
         --customize-hook='chroot \"$1\" apt-get -q -y install /mnt/product.deb /mnt/fine.deb && rm \"$1\"/mnt/*' \
         {} /opt/made /opt/sources",
        kernel.image(),
        kernel.headers(),
        suite.name
    ))
    .ok();
    expect_image(&root, "/opt/made", &[&kernel.release]);
}
