# Makes an rpm with the name and the layout of a kernel's package: KIND NAME VERSION-RELEASE PROVIDES KERNEL OUT
#
# Nothing in it runs, unless there is a real kernel in /opt/kernel.tar.
# KIND: `image` has the image and the module directory, `headers` what modules are built with.
set -eu
kind=$1 name=$2 version=${3%%-*} release=${3#*-} provides=$4 kernel=$5 out=$6
top=$(mktemp -d)
modules=/usr/lib/modules/$kernel
real() { if [ -e /opt/kernel.tar ]; then echo "bash /opt/real.sh $1 %{buildroot}$2 $kernel"; fi; }
case $kind in
image)
    install="mkdir -p %{buildroot}$modules; $(real image "$modules")
touch %{buildroot}$modules/vmlinuz %{buildroot}$modules/modules.dep %{buildroot}$modules/modules.builtin"
    files=$modules
    ;;
headers)
    tree=/usr/src/kernels/$kernel
    install="mkdir -p %{buildroot}$tree/include/config %{buildroot}$modules; echo CONFIG_MODULES=y >%{buildroot}$tree/include/config/auto.conf
$(real headers "$tree")
ln -s $tree %{buildroot}$modules/build"
    files="$tree $modules/build"
    ;;
esac
{
    printf 'Name: %s\nVersion: %s\nRelease: %s\nSummary: Dressed\nLicense: GPL\nAutoReqProv: no\n' "$name" "$version" "$release"
    printf '%%define __os_install_post %%{nil}\n%%define debug_package %%{nil}\n%%define _binary_payload w1.zstdio\n'
    printf 'Provides: installonlypkg(kernel) multiversion(kernel)\n'
    [ -z "$provides" ] || printf 'Provides: %s\n' "$provides"
    printf '%%description\nDressed.\n%%install\n%s\n%%files\n' "$install"
    printf '%s\n' $files
} >"$top/package.spec"
rpmbuild -bb --quiet --define "_topdir $top" --define "_rpmdir $out" --define "_build_id_links none" "$top/package.spec"
rm -rf "$top"
