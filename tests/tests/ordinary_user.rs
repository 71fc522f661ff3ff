//! An unprivileged user builds in their own trees, as with shell DKMS; changes of the system's trees are refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_tests::modules::Sources;
use dkms_tests::{Root, Suite, stage};

const HOME: &str = "/home/person";

#[test]
fn an_ordinary_user_builds_in_trees_of_their_own() {
    let (layer, kernel) = stage::with_kernel(Suite::trixie());
    let root = Root::on(&layer);
    let release = &kernel.release;
    root.run("useradd --create-home person").ok();
    Sources::new("tiny", "1").unpack_at(&root, &format!("{HOME}/src/tiny-1"));
    root.run(&format!("mkdir {HOME}/lib && chown -R person: {HOME}")).ok();
    let own = format!("--dkmstree {HOME}/lib --sourcetree {HOME}/src");
    let dkms = |words: &str| {
        root.run(&format!(
            "setpriv --reuid person --regid person --clear-groups env HOME={HOME} dkms {words}"
        ))
    };

    dkms("status").ok();
    dkms(&format!("add tiny/1 {own}")).ok();
    dkms(&format!("build tiny/1 -k {release} {own}")).ok();
    let status = dkms(&format!("status {own}")).ok();
    assert_eq!(status.stdout.trim(), format!("tiny/1, {release}, x86_64: built"));
    let built = format!("{HOME}/lib/tiny/1/{release}/x86_64/module/tiny.ko.xz");
    root.run(&format!("modinfo -F vermagic {built}")).ok().says(&[release]);
    assert_eq!(root.run(&format!("stat -c %U {built}")).ok().stdout.trim(), "person");

    // The system's trees require root, and this is reported before anything is done.
    let before = root.find("/var/lib/dkms /lib/modules/*/updates", "");
    for (words, code) in [
        ("add tiny/1".to_owned(), 1),
        (format!("install tiny/1 -k {release} {own}"), 1),
        (format!("uninstall tiny/1 -k {release} {own}"), 1),
        (format!("add {HOME}/src/tiny-1"), 1),
        (format!("autoinstall -k {release}"), 1),
        (format!("match --templatekernel 1 -k {release}"), 1),
        (format!("kernel_postinst -k {release}"), 1),
        // A missing module is reported as such to every user.
        ("remove nobody/1 --all".to_owned(), 3),
    ] {
        dkms(&words).exits(code);
    }
    assert_eq!(root.find("/var/lib/dkms /lib/modules/*/updates", ""), before);

    // With their own modules tree they may install, too.
    let modules = format!("{HOME}/modules/{release}");
    root.run(&format!("mkdir -p {modules} && ln -s /lib/modules/{release}/build {modules}/ && chown -R person: {HOME}/modules")).ok();
    let own = format!("{own} --installtree {HOME}/modules");
    dkms(&format!("install tiny/1 -k {release} {own}")).ok();
    assert_eq!(root.find(&modules, "-name 'tiny.ko*'").len(), 1);
    dkms(&format!("remove tiny/1 --all {own}")).ok();
    assert_eq!(root.find(&modules, "-name 'tiny.ko*'").len(), 0);
    assert_eq!(dkms(&format!("status {own}")).ok().stdout, "");
}
