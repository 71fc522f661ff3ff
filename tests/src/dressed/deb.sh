# Makes a .deb with the name and the layout of a kernel's package: KIND NAME VERSION DEPENDS KERNEL OUT
#
# Nothing in it runs, unless there is a real kernel in /opt/kernel.tar.
# KIND: `image` has the image and the module directory, and calls the kernel's hooks, `board` the same without an image of
# that name, `headers` what modules are built with, `meta` nothing.
set -eu
kind=$1 name=$2 version=$3 depends=$4 kernel=$5 out=$6
tree=$(mktemp -d)
modules=$tree/usr/lib/modules/$kernel
mkdir -p "$tree/DEBIAN"
case $kind in
image | board)
    mkdir -p "$tree/boot" "$modules"
    case $kind in image) echo image >"$tree/boot/vmlinuz-$kernel" ;; esac
    if [ -e /opt/kernel.tar ]; then bash /opt/real.sh image "$modules" "$kernel"; fi
    touch "$modules/modules.dep" "$modules/modules.builtin" "$modules/modules.order"
    printf '#!/bin/sh\nset -e\nexport DEB_MAINT_PARAMS="$*"\nrun-parts --exit-on-error --arg=%s --arg=/boot/vmlinuz-%s /etc/kernel/postinst.d\n' \
        "$kernel" "$kernel" >"$tree/DEBIAN/postinst"
    printf '#!/bin/sh\nset -e\nexport DEB_MAINT_PARAMS="$*"\n[ "$1" != remove ] || run-parts --exit-on-error --arg=%s --arg=/boot/vmlinuz-%s /etc/kernel/prerm.d\n' \
        "$kernel" "$kernel" >"$tree/DEBIAN/prerm"
    chmod 755 "$tree/DEBIAN/postinst" "$tree/DEBIAN/prerm"
    ;;
headers)
    headers=/usr/src/linux-headers-$kernel
    mkdir -p "$tree$headers/include/config" "$modules"
    echo CONFIG_MODULES=y >"$tree$headers/include/config/auto.conf"
    if [ -e /opt/kernel.tar ]; then bash /opt/real.sh headers "$tree$headers" "$kernel"; fi
    ln -s "$headers" "$modules/build"
    ;;
esac
{
    printf 'Package: %s\nVersion: %s\nArchitecture: amd64\nMaintainer: Test <t@example.org>\nDescription: dressed\n' "$name" "$version"
    [ -z "$depends" ] || printf 'Depends: %s\n' "$depends"
} >"$tree/DEBIAN/control"
mkdir -p "$out"
dpkg-deb --root-owner-group -Znone -b "$tree" "$out/${name}_${version##*:}_amd64.deb" >/dev/null
rm -rf "$tree"
