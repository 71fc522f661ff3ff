# Makes rpms from Debian's kernel packages: kernel.sh RELEASE FAMILY DEBS OUT
#
# RELEASE: as `uname -r` has it, VERSION-FLAVOUR. FAMILY: fedora or suse. The image, its modules (a handful of them) and the
# headers are Debian's own, byte for byte; places and scripts are those of the family. Debian's headers are three packages
# that include each other by absolute paths: here they become one tree, as these distributions have it.
set -eu
release=$1 family=$2 debs=$3 out=$4
version=${release%%-*} flavour=${release#*-}
# The first word of the flavour: an rpm release has no hyphens.
rpmrelease=${flavour%%-*}
work=/opt/kernel-$family-$release
root=$work/root
unpacked=$work/debs
rm -rf "$work"; mkdir -p "$root/usr/lib/modules" "$unpacked"
for deb in "linux-image-$release" "linux-headers-$release" "linux-headers-$version-common" "linux-kbuild-$version"; do
    dpkg-deb -x "$debs/$deb"_*.deb "$unpacked"
done

modules=/usr/lib/modules/$release
mv "$unpacked$modules" "$root$modules"
rm -f "$root$modules"/{build,source}
# The tree is small, so that depmod and dracut take no time.
(cd "$root$modules" && find kernel -name '*.ko*' ! -name 'loop.ko*' ! -name 'overlay.ko*' -delete && find kernel -type d -empty -delete)
cp "$unpacked/boot/vmlinuz-$release" "$root$modules/vmlinuz"
cp "$unpacked/boot/config-$release" "$root$modules/config"
cp "$unpacked/boot/System.map-$release" "$root$modules/System.map"

case $family in
fedora) headers=/usr/src/kernels/$release ;;
suse) headers=/usr/src/linux-$version-obj/x86_64/$flavour ;;
esac
mkdir -p "$root$headers"
cp -a "$unpacked/usr/src/linux-headers-$version-common/." "$root$headers/"
cp -a "$unpacked/usr/src/linux-headers-$release/." "$work/arch/"
# Links and stubs into the other two packages.
rm -rf "$work/arch"/{Makefile,scripts,tools,.kernelvariables} "$root$headers"/{scripts,tools,.kernelvariables}
find "$work/arch" -type l -delete
cp -a "$work/arch/." "$root$headers/"
cp -a "$unpacked/usr/lib/linux-kbuild-$version/scripts" "$root$headers/scripts"
cp -a "$unpacked/usr/lib/linux-kbuild-$version/tools" "$root$headers/tools"
# Without it a build makes no BTF, for which it would need pahole.
rm -f "$root$headers/vmlinux"
(cd "$root$headers" && find arch -mindepth 1 -maxdepth 1 ! -name x86 -exec rm -rf {} + && rm -rf Documentation)
ln -s "$headers" "$root$modules/build"

case $family in
fedora)
    core=kernel-core
    devel=kernel-devel
    also=
    extra="%package -n kernel-modules
Summary: A kernel's modules
Provides: installonlypkg(kernel-module)
Requires: kernel-core = $version-$rpmrelease
%description -n kernel-modules
Modules.
%post -n kernel-modules
depmod -a $release
%files -n kernel-modules
%dir $modules
$modules/kernel
$modules/modules.order"
    main="$modules/modules.builtin*
$modules/vmlinuz
$modules/config
$modules/System.map"
    scripts="%posttrans -n kernel-core
kernel-install add $release $modules/vmlinuz || exit \$?
%preun -n kernel-core
kernel-install remove $release || exit \$?"
    ;;
suse)
    core=kernel-default
    devel=kernel-default-devel
    # By the last word of the release one knows the package on openSUSE; here that is Debian's.
    also="Provides: kernel-${flavour##*-}-devel = $version-$rpmrelease"
    extra=
    main="$modules/kernel
$modules/modules.builtin*
$modules/modules.order
$modules/vmlinuz
$modules/config
$modules/System.map"
    # What openSUSE's scripts do, without its boot loader.
    scripts="%post -n kernel-default
depmod -a $release
%posttrans -n kernel-default
dracut -q -f --kver $release /boot/initrd-$release
%preun -n kernel-default
rm -f /boot/initrd-$release"
    ;;
esac
# As a version of rpm, a release has at most one dash.
case $release in
*-*-*) uname= ;;
*) uname="Provides: kernel-uname-r = $release" ;;
esac
# openSUSE's provides its own name with the version in the release, too.
[ "$family" = fedora ] || uname="$uname
Provides: kernel-${flavour##*-} = ${release%-*}"
ghosts=
for name in alias alias.bin dep dep.bin builtin.bin builtin.alias.bin devname softdep symbols symbols.bin weakdep; do
    : >"$root$modules/modules.$name"
    ghosts="$ghosts
%ghost $modules/modules.$name"
done
main=$(echo "$main" | sed "s,^$modules/modules.builtin\*,$modules/modules.builtin\n$modules/modules.builtin.modinfo,")
cat >"$work/kernel.spec" <<SPEC
Name: $core
Version: $version
Release: $rpmrelease
Summary: A kernel
License: GPL-2.0-only
Provides: installonlypkg(kernel)
Provides: multiversion(kernel)
$uname
Requires: /bin/sh
AutoReqProv: no
%define __os_install_post %{nil}
%define debug_package %{nil}
%define _build_id_links none
%define _binary_payload w1.zstdio
%description
A kernel.
%install
cp -a $root/. %{buildroot}/
$extra
%package -n $devel
Summary: Its headers
Provides: installonlypkg(kernel)
Provides: multiversion(kernel)
$also
AutoReqProv: no
%description -n $devel
Headers.
$scripts
%files
%dir $modules
$main
$ghosts
%files -n $devel
%dir $modules
$headers
$modules/build
SPEC
rpmbuild -bb --quiet --target x86_64 --define "_topdir $work/top" --define "_rpmdir $out" "$work/kernel.spec"
rm -rf "$work"
