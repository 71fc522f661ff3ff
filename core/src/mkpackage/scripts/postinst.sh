#!/bin/sh
@COMMON@
case "$1" in
configure | abort-upgrade | abort-remove | abort-deconfigure) installed ;;
esac
