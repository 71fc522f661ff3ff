@COMMON@
# rpm does not tell its scripts whether the kernel is removed, too.
kernel_leaves() {
    return 1
}

# The number of versions that remain.
if [ "$1" = 0 ]; then
    @WITHDRAW@
    removed
fi
