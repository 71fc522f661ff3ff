# Makes an rpm of a module's source, with the scripts of Fedora's module packages: module.sh NAME VERSION SOURCE-DIR OUT
set -eu
name=$1 version=$2 source=$3 out=$4
work=/opt/module-$name-$version
rm -rf "$work"; mkdir -p "$work/root/usr/src"
cp -a "$source" "$work/root/usr/src/$name-$version"
sed -i "s/^PACKAGE_VERSION=.*/PACKAGE_VERSION=\"$version\"/" "$work/root/usr/src/$name-$version/dkms.conf"
cat >"$work/module.spec" <<SPEC
Name: dkms-$name
Version: $version
Release: 1
Summary: A module
License: GPL-2.0-or-later
BuildArch: noarch
Requires: dkms
AutoReqProv: no
%define __os_install_post %{nil}
%description
A module's source.
%install
cp -a $work/root/. %{buildroot}/
%files
/usr/src/$name-$version
%post
dkms add -m $name -v $version -q --rpm_safe_upgrade || :
dkms build -m $name -v $version -q || :
dkms install -m $name -v $version -q --force || :
%preun
dkms remove -m $name -v $version -q --all --rpm_safe_upgrade || :
SPEC
rpmbuild -bb --quiet --define "_topdir $work/top" --define "_rpmdir $out" "$work/module.spec"
rm -rf "$work"
