@COMMON@
# pacman does not tell its scripts whether the kernel is removed, too.
kernel_leaves() {
    return 1
}

post_install() {
    installed
}

post_upgrade() {
    installed
}

post_remove() {
    removed
}
