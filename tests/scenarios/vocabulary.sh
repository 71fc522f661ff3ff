# The words that scenarios use for their preparation. $K and $K2 are two kernels with headers, $A is the architecture.
. /opt/prebuilt/code.sh

# source NAME VERSION [MODULE…]: sources in /usr/src that the kernel's makefiles compile. One module NAME unless others are named.
source() { source_at "/usr/src/$1-$2" "$@"; }

# source_at DIRECTORY NAME VERSION [MODULE…]: the same elsewhere.
source_at() {
    local dir=$1 name=$2 version=$3 module count=0
    shift 3
    [ $# -gt 0 ] || set -- "$name"
    mkdir -p "$dir"
    printf 'PACKAGE_NAME="%s"\nPACKAGE_VERSION="%s"\nAUTOINSTALL="yes"\n' "$name" "$version" >"$dir/dkms.conf"
    for module; do
        code "$module" "$version" >"$dir/$module.c"
        echo "obj-m += $module.o" >>"$dir/Makefile"
        printf 'BUILT_MODULE_NAME[%s]="%s"\nDEST_MODULE_LOCATION[%s]="/kernel/extra"\n' $count "$module" $count >>"$dir/dkms.conf"
        count=$((count + 1))
    done
}

# ready NAME VERSION [MODULE…]: sources whose build is over at once, because MAKE takes modules that were compiled beforehand.
# There are hello 0.5, 1.0, 2.0 and none (it has no version), world 1.0 and 2.0, moon 1.0.
ready() { ready_at "/usr/src/$1-$2" "$@"; }

# ready_at DIRECTORY NAME VERSION [MODULE…]
ready_at() {
    local dir=$1 version=$3 module make=
    source_at "$@"
    shift 3
    [ $# -gt 0 ] || set -- "$(sed -n 's/^PACKAGE_NAME="\(.*\)"/\1/p' "$dir/dkms.conf")"
    for module; do make="$make cp /opt/prebuilt/\$kernelver/$module-$version.ko $module.ko;"; done
    printf 'MAKE[0]="%s"\n' "${make# }" >>"$dir/dkms.conf"
}

# conf NAME VERSION LINE…: adds lines to its dkms.conf.
conf() {
    local file=/usr/src/$1-$2/dkms.conf
    shift 2
    printf '%s\n' "$@" >>"$file"
}

# broken NAME VERSION: it does not compile.
broken() { echo 'this is no C' >>"/usr/src/$1-$2/$1.c"; }

# script NAME VERSION FILE LINE…: an executable shell script in its sources.
script() {
    local file=/usr/src/$1-$2/$3
    shift 3
    mkdir -p "${file%/*}"
    printf '%s\n' '#!/bin/sh' "$@" >"$file"
    chmod 755 "$file"
}

# patch_for NAME VERSION PATCH TEXT: a patch that adds a line to NAME.c.
patch_for() {
    mkdir -p "/usr/src/$1-$2/patches"
    printf -- '--- a/%s.c\n+++ b/%s.c\n@@ -1,1 +1,2 @@\n #include <linux/module.h>\n+%s\n' "$1" "$1" "$4" \
        >"/usr/src/$1-$2/patches/$3"
}

# native MODULE VERSION [DIRECTORY [KERNEL]]: the kernel has this module itself.
native() {
    local kernel=${4:-$K}
    local dir=/lib/modules/$kernel/${3:-kernel/drivers/misc}
    mkdir -p "$dir"
    xz --check=crc32 --lzma2=dict=1MiB -c "/opt/prebuilt/$kernel/$1-$2.ko" >"$dir/$1.ko.xz"
    depmod "$kernel"
}

# setting LINE…: adds to the administrator's framework.conf.
setting() { printf '%s\n' "$@" >>/etc/dkms/framework.conf; }
