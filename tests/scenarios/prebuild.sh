# Compiles the small modules that scenarios use, once for each of the kernels given as arguments; part of the prepared root.

# code MODULE VERSION: the C file. Without a version, a module that says nothing of itself.
code() {
    printf '#include <linux/module.h>\nMODULE_LICENSE("GPL");\nMODULE_DESCRIPTION("%s of the scenarios");\n' "$1"
    [ "$2" = none ] || printf 'MODULE_VERSION("%s");\n' "$2"
    printf 'static int __init start(void) { pr_info("%s %s\\n"); return 0; }\n' "$1" "$2"
    printf 'static void __exit stop(void) { }\nmodule_init(start);\nmodule_exit(stop);\n'
}

prebuild() {
    local kernel=$1 module=$2 version=$3 dir
    dir=$(mktemp -d)
    code "$module" "$version" >"$dir/$module.c"
    echo "obj-m := $module.o" >"$dir/Makefile"
    make -s -C "/lib/modules/$kernel/build" M="$dir" modules
    mkdir -p "/opt/prebuilt/$kernel"
    cp "$dir/$module.ko" "/opt/prebuilt/$kernel/$module-$version.ko"
    rm -rf "$dir"
}

set -e
for kernel; do
    for version in 0.5 1.0 2.0 none; do prebuild "$kernel" hello "$version"; done
    for module in world moon; do prebuild "$kernel" "$module" 1.0; done
    prebuild "$kernel" world 2.0
done
declare -f code >/opt/prebuilt/code.sh

# A signing key, so that not every scenario waits for one to be made.
mkdir -p /var/lib/dkms
openssl req -new -x509 -nodes -days 36500 -subj "/CN=scenarios" -newkey rsa:2048 -keyout /var/lib/dkms/mok.key \
    -addext extendedKeyUsage=codeSigning -outform DER -out /var/lib/dkms/mok.pub 2>/dev/null
