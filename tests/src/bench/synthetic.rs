//! A DKMS tree that is larger than any real one: every module installed for every kernel, as shell DKMS would have left
//! it.

use crate::Root;

/// Creates `modules` modules, each installed for `kernels` kernels, in a root with any dkms and an empty DKMS tree. The
/// module files are empty and no kernel has a modules.dep: this measures only the DKMS tree.
pub fn fill(root: &Root, modules: usize, kernels: usize) {
    root.run(&format!(
        r#"set -e
for k in $(seq {kernels}); do mkdir -p /lib/modules/6.1.$k-many/updates/dkms /lib/modules/6.1.$k-many/build/include; done
for m in $(seq {modules}); do
    src=/usr/src/many$m-1.0; tree=/var/lib/dkms/many$m
    mkdir -p $src $tree/1.0
    printf '%s\n' "PACKAGE_NAME=many$m" PACKAGE_VERSION=1.0 "BUILT_MODULE_NAME=many$m" \
        DEST_MODULE_LOCATION=/updates AUTOINSTALL=yes >$src/dkms.conf
    ln -s $src $tree/1.0/source
    for k in $(seq {kernels}); do
        release=6.1.$k-many; built=$tree/1.0/$release/x86_64
        mkdir -p $built/module $built/log
        : >$built/module/many$m.ko; : >$built/log/make.log; : >/lib/modules/$release/updates/dkms/many$m.ko
        ln -s 1.0/$release/x86_64 $tree/kernel-$release-x86_64
    done
done"#
    ))
    .ok();
}

/// Removes these modules one by one, as packages do; returns the seconds for one.
pub fn remove(root: &Root, modules: std::ops::RangeInclusive<usize>) -> f64 {
    let count = modules.clone().count();
    let command = format!(
        "for m in $(seq {} {}); do dkms remove many$m/1.0 --all >/dev/null || exit; done",
        modules.start(),
        modules.end()
    );
    let run = super::measure::measure(root, &command);
    assert_eq!(run.exit, 0, "{}", root.read("/var/tmp/said"));
    run.wall / count as f64
}
