# Makes an rpm named dkms from the files of Debian's package, with scripts like Fedora's: dkms.sh DEB OUT
set -eu
deb=$1 out=$2
work=/opt/shell-dkms
rm -rf "$work"; mkdir -p "$work/root"
dpkg-deb -x "$deb" "$work/root"
# Debian's own hooks, and what Fedora's package does not have.
rm -rf "$work/root/etc/kernel" "$work/root/usr/share/doc" "$work/root/usr/share/apport" "$work/root/lib"
version=$(dpkg-deb -f "$deb" Version)
cat >"$work/dkms.spec" <<SPEC
Name: dkms
Version: ${version%%-*}
Release: 1
Summary: The shell DKMS
License: GPL-2.0-or-later
BuildArch: noarch
Requires: /bin/sh
AutoReqProv: no
%define __os_install_post %{nil}
%description
The shell DKMS.
%install
cp -a $work/root/. %{buildroot}/
%files
$(cd "$work/root" && find . ! -type d | sed 's/^\.//; s,^/etc/,%config(noreplace) &,')
SPEC
rpmbuild -bb --quiet --define "_topdir $work/top" --define "_rpmdir $out" "$work/dkms.spec"
rm -rf "$work"
