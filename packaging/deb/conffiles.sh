# Configuration files that Debian's dkms and this package both own.
#
# dpkg replaces an unmodified file without a prompt. If the file was edited or deleted, dpkg prompts, and an unattended apt
# run then fails halfway. Two steps avoid the prompt and keep the edit:
#   preinst: `set_aside` installs the package's own version, so that dpkg finds the file unmodified, and moves the edited
#            file to a name that is still read. postinst: `put_back` moves it back.
#   postrm:  `settle` does the same for Debian's dkms. No script of this package runs afterwards, so the edited file keeps a
#            name that Debian's dkms reads.

# Prints the package's own version of the configuration file $1.
pristine() {
    case "$1" in
@PRISTINE@
    esac
}

CONFFILES="@CONFFILES@"

# Prints the temporary name of an edited $1 between preinst and postinst.
waiting() {
    case "$1" in
    /etc/dkms/framework.conf) echo /etc/dkms/framework.conf.d/00-dkms-rs-kept.conf ;;
    /etc/dkms/framework.conf.d/*) echo "/etc/dkms/framework.conf.d/zz-dkms-rs-kept-${1##*/}" ;;
    /etc/modprobe.d/dkms.conf) echo /etc/modprobe.d/dkms-rs-kept.conf ;;
    *) echo "$1.dkms-rs-kept" ;;
    esac
}

# Prints the name of an edited $1 after this package is removed; nothing for files that only this package has.
settled() {
    case "$1" in
    /etc/dkms/framework.conf) echo /etc/dkms/framework.conf.d/00-framework.conf ;;
    /etc/dkms/framework.conf.d/*) echo "/etc/dkms/framework.conf.d/zz-${1##*/}" ;;
    /etc/modprobe.d/dkms.conf) echo /etc/modprobe.d/dkms-local.conf ;;
    /etc/kernel/*) echo "$1.dpkg-old" ;;
    esac
}

checksum() { md5sum | cut -d ' ' -f 1; }

# Prints the checksums that dpkg has recorded for $1, from the packages that may own it.
recorded() {
    dpkg-query -W -f '${Conffiles}\n' dkms dkms-rs 2>/dev/null |
        while read -r path sum state; do
            if [ "$path" = "$1" ] && [ "$state" != obsolete ]; then echo "$sum"; fi
        done
}

# Writes the package's own version to $1 atomically.
write_pristine() {
    mkdir -p "${1%/*}"
    pristine "$1" >"$1.dpkg-new"
    case "$1" in /etc/kernel/*) chmod 755 "$1.dpkg-new" ;; *) chmod 644 "$1.dpkg-new" ;; esac
    mv -f "$1.dpkg-new" "$1"
}

set_aside() {
    for file in $CONFFILES; do
        keep=$(waiting "$file")
        # Left by an interrupted run: the file there is already the administrator's version.
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

# Installs our version of edited files as FILE.dpkg-dist, as dpkg does when an administrator keeps a file.
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
            echo "dkms-rs: kept local changes to $file" >&2
        elif [ -e "$file.dkms-rs-absent" ]; then
            # In this order, so that an interrupted run is completed by the next one.
            rm -f "$file"
            rm -f "$file.dkms-rs-absent"
            echo "dkms-rs: $file was deleted locally; not restored" >&2
        fi
    done
}

settle() {
    for file in $CONFFILES; do
        keep=$(settled "$file")
        [ -n "$keep" ] || continue
        if [ ! -e "$file" ]; then
            echo "dkms-rs: $file was deleted locally; restored the package's version" >&2
        else
            now=$(checksum <"$file")
            case "$(recorded "$file") $(pristine "$file" | checksum)" in *"$now"*) continue ;; esac
            mkdir -p "${keep%/*}"
            case "$keep" in
            *.conf) { cat "$file"; if [ -e "$keep" ]; then cat "$keep"; fi; } >"$keep.dpkg-new" ;;
            *) cp -p "$file" "$keep.dpkg-new" ;;
            esac
            mv -f "$keep.dpkg-new" "$keep"
            echo "dkms-rs: $file was edited locally; the edited file is now $keep" >&2
        fi
        write_pristine "$file"
    done
}
