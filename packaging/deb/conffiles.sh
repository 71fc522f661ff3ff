# Configuration files that Debian's dkms and this package both own.
#
# dpkg moves an unmodified file from one package's version to the other's by itself. It asks when the file was edited
# or deleted, and an unattended apt run then fails half-way. Two steps avoid the question and keep the edit:
#   preinst: `set_aside` puts the package's own version in place; dpkg finds what it is about to install. The edited
#            file waits under a name that is still read. postinst: `put_back` returns it.
#   postrm:  `settle` does the same for Debian's dkms. Nothing of ours runs afterwards, so the edit stays under a name
#            that Debian's dkms reads.

# The package's own version of the configuration file $1, on stdout.
pristine() {
    case "$1" in
@PRISTINE@
    esac
}

CONFFILES="@CONFFILES@"

# Where an edited $1 waits between preinst and postinst.
waiting() {
    case "$1" in
    /etc/dkms/framework.conf) echo /etc/dkms/framework.conf.d/00-dkms-rs-kept.conf ;;
    /etc/dkms/framework.conf.d/*) echo "/etc/dkms/framework.conf.d/zz-dkms-rs-kept-${1##*/}" ;;
    /etc/modprobe.d/dkms.conf) echo /etc/modprobe.d/dkms-rs-kept.conf ;;
    *) echo "$1.dkms-rs-kept" ;;
    esac
}

# Where an edited $1 stays when this package goes; nothing for files that only this package has.
settled() {
    case "$1" in
    /etc/dkms/framework.conf) echo /etc/dkms/framework.conf.d/00-framework.conf ;;
    /etc/dkms/framework.conf.d/*) echo "/etc/dkms/framework.conf.d/zz-${1##*/}" ;;
    /etc/modprobe.d/dkms.conf) echo /etc/modprobe.d/dkms-local.conf ;;
    /etc/kernel/*) echo "$1.dpkg-old" ;;
    esac
}

checksum() { md5sum | cut -d ' ' -f 1; }

# The checksums that dpkg has on record for $1, from the packages that may own it now.
recorded() {
    dpkg-query -W -f '${Conffiles}\n' dkms dkms-rs 2>/dev/null |
        while read -r path sum state; do
            if [ "$path" = "$1" ] && [ "$state" != obsolete ]; then echo "$sum"; fi
        done
}

# Puts the package's own version at $1 in one step.
write_pristine() {
    mkdir -p "${1%/*}"
    pristine "$1" >"$1.dpkg-new"
    case "$1" in /etc/kernel/*) chmod 755 "$1.dpkg-new" ;; *) chmod 644 "$1.dpkg-new" ;; esac
    mv -f "$1.dpkg-new" "$1"
}

set_aside() {
    for file in $CONFFILES; do
        keep=$(waiting "$file")
        # Left over from a run that was killed: what waits there is the administrator's.
        if [ -e "$keep" ] || [ -e "$file.dkms-rs-absent" ]; then continue; fi
        ours=$(pristine "$file" | checksum)
        known=$(recorded "$file")
        case "$known" in *"$ours"*) continue ;; esac
        if [ -e "$file" ]; then
            now=$(checksum <"$file")
            case "$ours $known" in *"$now"*) continue ;; esac
            mkdir -p "${keep%/*}"
            cp -p "$file" "$keep.dpkg-new"
            mv "$keep.dpkg-new" "$keep"
        elif [ -n "$known" ]; then
            mkdir -p "${file%/*}"
            : >"$file.dkms-rs-absent"
        else
            continue
        fi
        write_pristine "$file"
    done
}

# Leaves our version of edited files beside them, under the name that dpkg uses when an administrator keeps a file.
show_ours() {
    for file in $CONFFILES; do
        if [ -e "$(waiting "$file")" ] && [ -e "$file" ]; then cp -p "$file" "$file.dpkg-dist"; fi
    done
}

put_back() {
    for file in $CONFFILES; do
        keep=$(waiting "$file")
        if [ -e "$keep" ]; then
            mv -f "$keep" "$file"
            echo "dkms-rs: kept $file as it was edited here" >&2
        elif [ -e "$file.dkms-rs-absent" ]; then
            # In this order: a run that is killed in between knows what is left to do.
            rm -f "$file"
            rm -f "$file.dkms-rs-absent"
            echo "dkms-rs: $file stays deleted" >&2
        fi
    done
}

settle() {
    for file in $CONFFILES; do
        keep=$(settled "$file")
        [ -n "$keep" ] || continue
        if [ ! -e "$file" ]; then
            echo "dkms-rs: $file was deleted here; it is back, as the package delivers it" >&2
        else
            now=$(checksum <"$file")
            case "$(recorded "$file") $(pristine "$file" | checksum)" in *"$now"*) continue ;; esac
            mkdir -p "${keep%/*}"
            case "$keep" in
            *.conf) { cat "$file"; if [ -e "$keep" ]; then cat "$keep"; fi; } >"$keep.dpkg-new" ;;
            *) cp -p "$file" "$keep.dpkg-new" ;;
            esac
            mv -f "$keep.dpkg-new" "$keep"
            echo "dkms-rs: $file was edited here; the edited file is now $keep" >&2
        fi
        write_pristine "$file"
    done
}
