//! Debian's kernels in Arch's layout: image, modules and headers in one directory, with complete headers.

use super::recipe::make;
use crate::kernels::Flavour;
use crate::mirror::Mirror;
use crate::{Kernel, Root};

/// One kernel package with its headers.
#[derive(Debug)]
pub struct PacKernel {
    /// The package, which is also its `pkgbase`.
    pub package: &'static str,
    flavour: Flavour,
    /// The prefix of its release; empty for the suite's own series.
    series: &'static str,
    suite: &'static str,
}

/// The installed kernel.
pub static LINUX: PacKernel =
    PacKernel { package: "linux", flavour: Flavour::Cloud, series: "6.12.", suite: "trixie" };
/// The version that it is upgraded to.
pub static NEWER: PacKernel =
    PacKernel { package: "linux", flavour: Flavour::Cloud, series: "", suite: "sid" };
/// The other kernel.
pub static LTS: PacKernel =
    PacKernel { package: "linux-lts", flavour: Flavour::Plain, series: "6.12.", suite: "trixie" };

impl PacKernel {
    /// Its package's version: the release as pacman writes one.
    pub fn version(&self, release: &str) -> String {
        release.replace('-', "_")
    }

    /// Creates its two packages in the repository; returns its release.
    pub fn make(&self, root: &Root) -> Kernel {
        let kernel = Kernel::newest(root, self.flavour, self.series);
        let release = &kernel.release;
        root.run(&format!("set -- {release} {}\n{UNPACK}", self.package)).ok();
        let (tree, version) = (format!("/opt/kernels/{release}"), self.version(release));
        let (name, base) = (self.package, format!("pkgbase={}", self.package));
        make(root, name, &version, &base, &format!("{tree}/image"));
        let headers = format!("{base}\ndepends=()");
        make(root, &format!("{name}-headers"), &version, &headers, &format!("{tree}/headers"));
        root.run(&format!("rm -rf {tree}")).ok();
        kernel
    }

    /// Makes its suite's packages known to apt.
    pub fn add_suite(&self, root: &Root) {
        let lines = Mirror::of_host().lines_for(self.suite).join("\n");
        root.write(&format!("/etc/apt/sources.list.d/{}.list", self.suite), lines + "\n");
    }
}

/// `$1`: the release, `$2`: the package. Only a few of the kernel's own modules are kept, so that depmod is fast.
const UNPACK: &str = r#"set -e
tree=/opt/kernels/$1 raw=/opt/kernels/raw
rm -rf $raw; mkdir -p $raw $tree/image/usr/lib/modules/$1 $tree/headers/usr/lib/modules/$1/build /opt/debs
cd /opt/debs
common=$(apt-cache depends linux-headers-$1 | sed -n 's/.*Depends: \(linux-headers-.*-common\)$/\1/p' | head -n 1)
kbuild=$(apt-cache depends linux-headers-$1 | sed -n 's/.*Depends: \(linux-kbuild-[^ ]*\)$/\1/p' | head -n 1)
# Since 7.x the image's package only names those that have image and modules.
image="linux-image-$1 $(apt-cache depends linux-image-$1 | sed -n "s/.*Depends: \(linux-[a-z]*-$1[^ ]*\)\$/\1/p" | sort -u)"
apt-get -q download $image linux-headers-$1 $common $kbuild
for deb in *.deb; do case $deb in linux-*) dpkg-deb -x $deb $raw; rm $deb;; esac; done
modules=$(find $raw -type d -path "*lib/modules/$1" | head -n 1)
to=$tree/image/usr/lib/modules/$1
cp $(find $raw -type f -name "vmlinuz-$1" -o -type f -path "*/$1/vmlinuz" | head -n 1) $to/vmlinuz
echo $2 > $to/pkgbase
cp $modules/modules.order $modules/modules.builtin $modules/modules.builtin.modinfo $to/
(cd $modules && find kernel \( -name 'loop.ko*' -o -name 'video.ko*' -o -name 'wmi.ko*' -o -name 'backlight.ko*' \) | cpio --quiet -pdm $to)
build=$tree/headers/usr/lib/modules/$1/build
cp -a $raw/usr/src/$common/. $build/
rm -rf $build/scripts $build/tools
for part in scripts tools; do cp -a $raw/usr/lib/$kbuild/$part $build/; done
cd $raw/usr/src/linux-headers-$1
rm -rf Makefile .kernelvariables scripts tools
cp -a . $build/
cd $build
find . -xtype l -delete
for arch in arch/*/; do case $arch in arch/x86/) ;; *) rm -rf $arch;; esac; done
rm -rf include/dt-bindings include/sound include/media include/drm
test -f Makefile -a -f include/config/auto.conf -a -f Module.symvers -a -x scripts/mod/modpost
rm -rf $raw
"#;
