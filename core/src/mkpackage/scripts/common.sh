# Written by dkms mkpackage for @MODULE@ and kernel @KERNEL@.
set -e

name='@NAME@'
kernel='@KERNEL@'
# The kernel's module directory, this package's files in it, and the names of its modules.
modules='@MODULES@'
files='@FILES@'
names='@NAMES@'
marker=$modules/dkms-packages/$name.json
# What is newer than this file was written after this package had changed its files.
reference=$marker

# Whether the package manager runs depmod after this transaction.
hook=@DEPMOD_HOOK@

say() {
    echo "$name for $kernel: $1" >&2
}

# Whether something else, such as the installation of another package, has written a file since: it need not be written again.
is_fresh() {
    [ -n "$(find "$1" -newermc "$reference" 2>/dev/null)" ]
}

# Whether modules.dep names a file of this package that does not exist.
is_listed() {
    for file in $files; do
        if grep -q "^$file:" "$modules/modules.dep" && [ ! -e "$modules/$file" ]; then
            return 0
        fi
    done
    return 1
}

# Whether the initramfs has one of these modules, or its configuration names one.
is_inside() {
    { @LIST_INITRAMFS@; } 2>/dev/null | grep -Eq "/($names)\\.ko" && return 0
    for config in /etc/initramfs-tools/modules /etc/initramfs-tools/conf.d/* /etc/initramfs-tools/hooks/* \
        /usr/share/initramfs-tools/modules.d/* /usr/share/initramfs-tools/hooks/* \
        /etc/dracut.conf /etc/dracut.conf.d/* /etc/mkinitcpio.conf /etc/mkinitcpio.conf.d/*; do
        if [ -f "$config" ] && sed 's/#.*//' "$config" | grep -Eqw -e "$names"; then
            return 0
        fi
    done
    return 1
}

# Updates the initramfs if these modules belong into it.
update_initramfs() {
    for image in "/boot/initrd.img-$kernel" "/boot/initramfs-$kernel.img" "/boot/initrd-$kernel"@IMAGES@; do
        [ -e "$image" ] || continue
        command -v @INITRAMFS_PROGRAM@ >/dev/null || return 0
        if ! is_fresh "$image" && is_inside; then
            [ $hook = no ] || depmod "$kernel"
            @MAKE_INITRAMFS@ || say "updating the initramfs failed; run @MAKE_INITRAMFS_TEXT@"
        fi
        return 0
    done
}

# The files are there. If this machine has dkms-rs, it notes that they are not its own.
installed() {
    if [ -d /var/lib/dkms/.dkms-rs ] && [ -d "/var/lib/dkms/$name" ] && command -v dkms >/dev/null; then
        dkms autoinstall -k "$kernel" || true
    fi
    if [ -e "$modules/modules.dep" ]; then
        [ $hook = yes ] || is_fresh "$modules/modules.dep" || depmod "$kernel"
        update_initramfs
    fi
}

# The files are gone. If this machine has dkms and its kernel stays, dkms installs its own build.
removed() {
    [ -e "$modules/modules.dep" ] || return 0
    reference=$(mktemp)
    if command -v dkms >/dev/null && ! kernel_leaves; then
        dkms autoinstall -k "$kernel" || true
    fi
    if [ $hook = no ] && is_listed; then
        depmod "$kernel"
    fi
    update_initramfs
    rm -f "$reference"
}
