#!/bin/sh
@COMMON@
# Whether the kernel's package is about to be removed, too.
kernel_leaves() {
    wants=$(dpkg-query -W -f='${db:Status-Want}\n' @IMAGE_PACKAGES@ 2>/dev/null | grep -v unknown) || return 1
    ! echo "$wants" | grep -Eqx 'install|hold'
}

case "$1" in
remove | abort-install | disappear) removed ;;
esac
