//! What is done while the power is cut.

/// A story. Its commands are shell; `$K` is the kernel release.
#[derive(Debug)]
pub struct Story {
    /// Its name in the table.
    pub name: &'static str,
    /// Prepares the initial state, with the functions of the library.
    pub prepare: &'static str,
    /// What is recorded.
    pub act: &'static str,
    /// The run after the power cut.
    pub next: &'static str,
    /// Prints a line for everything that is wrong after it.
    pub check: &'static str,
}

/// Functions for `prepare`: `module NAME VERSION FILE...` makes, registers and builds a module with these files. With
/// `AUTO=no`, the run after the power cut does not install it unless that was begun.
pub const LIBRARY: &str = r#"set -e
module() {
    name=$1 version=$2; shift 2
    dir=${SOURCES-/usr/src}/$name-$version; mkdir -p "$dir"
    {
        echo "PACKAGE_NAME=$name"; echo "PACKAGE_VERSION=$version"; echo "AUTOINSTALL=${AUTO-yes}"
        n=0
        for file; do
            echo "BUILT_MODULE_NAME[$n]=$file"; echo "DEST_MODULE_LOCATION[$n]=/updates"; n=$((n + 1))
            printf '#include <linux/module.h>\nMODULE_LICENSE("GPL");\nMODULE_VERSION("%s");\n' "$version" >"$dir/$file.c"
        done
    } >"$dir/dkms.conf"
    for file; do printf 'obj-m += %s.o\n' "$file"; done >"$dir/Makefile"
    dkms add "$name/$version"
    dkms build "$name/$version" -k "$K"
}
"#;

/// Runs beside the story, until `/run/over` exists: journals are committed between any two of its steps.
pub const COMMITS: &str = "rm -f /run/over; while [ ! -e /run/over ]; do for dir in /mnt/volume*; do \
     date >$dir/beside; sync $dir/beside; done; done";

const AUTOINSTALL: &str = "dkms autoinstall -k $K";
/// Makes the signing key.
pub const GENERATE: &str = "dkms generate_mok";

/// A module that drives the display and does not build for the newest kernel, beside systemd-boot's files. Its failure is
/// recorded before it is in use.
pub const BOOT_DEFAULT: &str = r#"
module cut 1.0 cut_a; dkms install cut/1.0 -k $K
cp -a /usr/lib/modules/$K /usr/lib/modules/9.9-new; rm -r /usr/lib/modules/9.9-new/updates; depmod 9.9-new
cp /boot/vmlinuz-$K /boot/vmlinuz-9.9-new
dkms autoinstall -k 9.9-new && exit 1
mkdir -p /opt/sys && cd /opt/sys && device=devices/pci0000:00/0000:01:00.0
mkdir -p $device/drm/card0 class/drm bus/pci/drivers/cut_a module/cut_a
ln -s ../../$device/drm/card0 class/drm/card0
ln -s ../../../bus/pci/drivers/cut_a $device/driver
ln -s ../../../../module/cut_a bus/pci/drivers/cut_a/module
token=4f1c2d4f1c2d4f1c2d4f1c2d4f1c2d4f; mkdir -p /boot/loader/entries; echo "timeout 3" >/boot/loader/loader.conf
for k in $K 9.9-new; do
    mkdir -p /boot/$token/$k; touch /boot/$token/$k/linux /boot/$token/$k/initrd
    printf 'title Debian\nversion %s\nmachine-id %s\nsort-key debian\nlinux /%s/%s/linux\ninitrd /%s/%s/initrd\n' \
        $k $token $token $k $token $k >/boot/loader/entries/$token-$k.conf
done
"#;

/// All stories.
pub const STORIES: &[Story] = &[
    Story {
        name: "install",
        prepare: "AUTO=no; module cut 1.0 cut_a cut_b",
        act: "dkms install cut/1.0 -k $K",
        next: AUTOINSTALL,
        check: "",
    },
    Story {
        name: "replace a version",
        prepare: "module cut 1.0 cut_a cut_b; dkms install cut/1.0 -k $K; module cut 2.0 cut_a cut_b",
        act: "dkms install cut/2.0 -k $K",
        next: AUTOINSTALL,
        check: "",
    },
    Story {
        name: "replace the kernel's own",
        prepare: "AUTO=no; module cut 1.0 loop cut_a",
        act: "dkms install cut/1.0 -k $K --force",
        next: AUTOINSTALL,
        check: "",
    },
    Story {
        name: "restore the kernel's own",
        prepare: "AUTO=no; module cut 1.0 loop cut_a; dkms install cut/1.0 -k $K --force",
        act: "dkms uninstall cut/1.0 -k $K",
        next: AUTOINSTALL,
        check: "",
    },
    Story {
        name: "remove",
        prepare: "module cut 1.0 cut_a cut_b; dkms install cut/1.0 -k $K; module other 1.0 other_a; dkms install other/1.0 -k $K",
        act: "dkms remove cut/1.0 --all",
        next: AUTOINSTALL,
        check: "",
    },
    Story {
        name: "build",
        prepare: "AUTO=no; module cut 1.0 cut_a cut_b; dkms unbuild cut/1.0 -k $K",
        act: "dkms build cut/1.0 -k $K",
        next: AUTOINSTALL,
        check: "",
    },
    Story {
        name: "unbuild",
        prepare: "AUTO=no; module cut 1.0 cut_a cut_b; dkms install cut/1.0 -k $K",
        act: "dkms unbuild cut/1.0 -k $K",
        next: AUTOINSTALL,
        check: "",
    },
    Story {
        name: "two modules",
        prepare: "module cut 1.0 cut_a; module other 1.0 other_a",
        act: AUTOINSTALL,
        next: AUTOINSTALL,
        check: "",
    },
    Story {
        name: "load a tarball",
        // Sources are on a volume.
        prepare: "SOURCES=/boot/src; echo source_tree=$SOURCES >/etc/dkms/framework.conf.d/sources.conf; \
                  AUTO=no; module cut 1.0 cut_a; dkms mktarball cut/1.0 -k $K; cp /var/lib/dkms/cut/1.0/tarball/* /opt/cut.tar.gz; \
                  dkms remove cut/1.0 --all; rm -r $SOURCES/cut-1.0",
        act: "dkms ldtarball /opt/cut.tar.gz",
        next: AUTOINSTALL,
        check: "",
    },
    Story {
        name: "the boot default",
        prepare: BOOT_DEFAULT,
        act: "mount --bind /opt/sys /sys; dkms autoinstall -k 9.9-new || true",
        next: "[ -e /sys/module/cut_a ] || mount --bind /opt/sys /sys; dkms autoinstall -k 9.9-new || true",
        check: "grep -q \"^default .*-$K.conf\" /boot/loader/loader.conf && grep -q '^timeout 3' /boot/loader/loader.conf && \
                [ -s /var/lib/dkms/.dkms-rs/boot-default.json ] || { echo 'the boot default'; cat /boot/loader/loader.conf; }",
    },
    Story {
        name: "into the initramfs",
        prepare: "echo cut_a >>/etc/initramfs-tools/modules; AUTO=no; module cut 1.0 cut_a",
        act: "dkms install cut/1.0 -k $K",
        // The machine can be started before it.
        next: "lsinitramfs /boot/initrd.img-$K >/dev/null && dkms autoinstall -k $K",
        check: "lsinitramfs /boot/initrd.img-$K >/run/list; grep -q cut_a.ko /run/list || \
                ! dkms status cut | grep installed || echo 'the initramfs lacks the module'",
    },
    Story {
        name: "an upgrade of dkms itself",
        prepare: "module cut 1.0 cut_a cut_b; dkms install cut/1.0 -k $K",
        act: "dpkg -i /opt/product.deb",
        next: AUTOINSTALL,
        check: "",
    },
    Story {
        name: "generate a key",
        prepare: "rm -f /var/lib/dkms/mok.*",
        act: GENERATE,
        next: "dkms generate_mok || true",
        check: "cd /var/lib/dkms; key=$(openssl pkey -in mok.key -pubout) || echo 'the key is unreadable'; \
                certificate=$(openssl x509 -inform DER -in mok.pub -pubkey -noout) || echo 'the certificate is unreadable'; \
                [ \"$key\" = \"$certificate\" ] || echo 'the halves do not fit'; \
                [ \"$(stat -c %a mok.key)\" = 600 ] || echo 'others may read the key'; \
                ls -A | grep '[.]new' && echo 'a half is left'",
    },
];
