# Makes the root look like a machine of a family, with the product installed from the repository: FAMILY
set -eu
family=$1
ln -sf gcc-14 /usr/bin/gcc
rm -f /etc/kernel/install.d/* /etc/kernel/postinst.d/* /etc/kernel/postrm.d/* /etc/os-release
case $family in
fedora) printf 'NAME="Fedora Linux"\nID=fedora\nVERSION_ID=43\nPRETTY_NAME="Fedora Linux 43"\n' ;;
suse) printf 'NAME="openSUSE Tumbleweed"\nID="opensuse-tumbleweed"\nID_LIKE="opensuse suse"\nPRETTY_NAME=openSUSE\n' ;;
esac >/etc/os-release

# kernel-install as on Fedora: dracut makes the image, and it lies in /boot.
echo 0123456789abcdef0123456789abcdef >/etc/machine-id
mkdir -p /etc/kernel/install.d /boot
printf 'layout=other\ninitrd_generator=dracut\nuki_generator=none\n' >/etc/kernel/install.conf
echo root=/dev/vda >/etc/kernel/cmdline
cat >/etc/kernel/install.d/95-fedora.install <<'S'
#!/bin/sh
case "$1" in
add) cp "$KERNEL_INSTALL_STAGING_AREA/initrd" "/boot/initramfs-$2.img" ;;
remove) rm -f "/boot/initramfs-$2.img" ;;
esac
S
chmod +x /etc/kernel/install.d/95-fedora.install
mkdir -p /etc/dracut.conf.d
# An image that is quick to make, and in which one of the modules belongs.
printf 'hostonly=no\ncompress=cat\ndracutmodules=base\nadd_drivers+=" bbswitch "\n' >/etc/dracut.conf.d/quick.conf

# What the machine has already, in rpm's eyes.
mkdir -p /opt/base
{
    printf 'Name: base-system\nVersion: 1\nRelease: 1\nSummary: What the machine has\nLicense: GPL\nBuildArch: noarch\n'
    printf 'AutoReqProv: no\nProvides: /bin/sh /bin/bash bash kmod gcc make patch\n'
    rpm -qp --nosignature --requires /opt/repo/x86_64/dkms-rs.rpm | sed -n 's/^\(lib\|rtld\|ld-\)/Provides: \1/p'
    printf '%%description\nWhat the machine has.\n%%files\n'
} >/opt/base/base.spec
rpmbuild -bb --quiet --define "_topdir /opt/base/top" --define "_rpmdir /opt/repo" /opt/base/base.spec
createrepo_c -q /opt/repo
mkdir -p /etc/yum.repos.d
printf '[t]\nname=t\nbaseurl=file:///opt/repo\ngpgcheck=0\nenabled=1\n' >/etc/yum.repos.d/t.repo
sed -i 's/^requires:glibc/#&/' /etc/zypp/systemCheck
printf '[main]\nmultiversion = provides:multiversion(kernel)\n' >/etc/zypp/zypp.conf
rm -f /etc/zypp/repos.d/*
zypper -n --no-gpg-checks --releasever 1 ar -f --no-gpgcheck dir:/opt/repo t
rpm -i --nosignature /opt/repo/noarch/base-system*.rpm
rpm -i --nosignature /opt/repo/x86_64/dkms-rs.rpm
# Debian has the Python of dnf4 elsewhere than Fedora, but the package looks for it.
test -L /usr/lib/python3/dist-packages/dnf-plugins/dkms.py
