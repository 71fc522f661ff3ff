# Debian's kernel without Debian's layout, as an archive: RELEASE OUT
#
# `headers` is what modules are built with, in one directory that refers to no other one, `image` the files of its module
# directory and `vmlinuz`. Of the modules of the kernel itself there are none: a dressed kernel has another release than they.
set -eu
release=$1 out=$2
version=${release%%-*}
work=$(mktemp -d)
cd "$work"
apt-get -q download "linux-image-$release" "linux-headers-$release" "linux-headers-$version-common" "linux-kbuild-$version"
for deb in *.deb; do dpkg-deb -x "$deb" raw; done
headers=tree/headers image=tree/image
mkdir -p "$headers" "$image"
common=raw/usr/src/linux-headers-$version-common arch=raw/usr/src/linux-headers-$release
# Links and stubs into the other packages.
rm -rf "$common"/{scripts,tools,.kernelvariables} "$arch"/{Makefile,scripts,tools,.kernelvariables,vmlinux}
find "$arch" -type l -delete
cp -a "$common/." "$arch/." "$headers/"
cp -a "raw/usr/lib/linux-kbuild-$version"/{scripts,tools} "$headers/"
find "$headers/arch" -mindepth 1 -maxdepth 1 ! -name x86 -exec rm -rf {} +
rm -rf "$headers"/{Documentation,include/dt-bindings,include/sound,include/media,include/drm}
# Says that the kernel is Debian's.
sed -i 's/Debian/other/' "$headers/include/generated/package.h" 2>/dev/null || true
cp "raw/usr/lib/modules/$release"/modules.{builtin,builtin.modinfo,order} "$image/"
: >"$image/modules.order"
cp "raw/boot/vmlinuz-$release" "$image/vmlinuz"
test -f "$headers/Makefile" -a -f "$headers/include/config/auto.conf" -a -f "$headers/Module.symvers" -a -x "$headers/scripts/mod/modpost"
tar -cf "$out" -C tree headers image
cd /
rm -rf "$work"
