//! Packages built by makepkg from files in a root.

use crate::Root;

/// The repository of the machine.
pub const REPOSITORY: &str = "/opt/repo";

/// Builds a package from a directory tree in the root: `fields` are lines of its PKGBUILD. The package is added to the
/// repository.
pub fn make(root: &Root, name: &str, version: &str, fields: &str, tree: &str) {
    let dir = format!("/opt/packing/{name}");
    root.write(
        &format!("{dir}/PKGBUILD"),
        format!(
            "pkgname={name}\npkgver={version}\npkgrel=1\narch=(any)\npkgdesc='of the tests'\n\
             options=(!strip !debug !zipman !purge)\n{fields}\npackage() {{ cp -a --no-preserve=ownership {tree}/. \"$pkgdir/\"; }}\n"
        ),
    );
    root.run(&format!(
        "mkdir -p {REPOSITORY} && chown -R maker: {dir} {REPOSITORY} && cd {dir} && \
         setpriv --reuid maker --regid maker --clear-groups env HOME=/opt/maker PKGDEST={REPOSITORY} PKGEXT=.pkg.tar \
         makepkg --force --nodeps >/dev/null && rm -rf {dir}"
    ))
    .ok();
}

/// Files of a module package: the source of one of Debian's module packages, in another version if wanted. Returns the tree.
pub fn module_files(root: &Root, package: &str, name: &str, from: &str, to: &str, broken: bool) -> String {
    let tree = format!("/opt/modules/{name}-{to}-{broken}");
    root.run(&format!(
        "mkdir -p {tree}/usr/src /opt/debs && cd /opt/debs && {{ ls {package}_*.deb >/dev/null 2>&1 || apt-get -q download {package}; }} && \
         dpkg-deb -x {package}_*.deb /opt/unpacked && cp -a /opt/unpacked/usr/src/{name}-{from} {tree}/usr/src/{name}-{to} && \
         rm -rf /opt/unpacked && \
         sed -i 's/^PACKAGE_VERSION=.*/PACKAGE_VERSION=\"{to}\"/' {tree}/usr/src/{name}-{to}/dkms.conf"
    ))
    .ok();
    if broken {
        root.run(&format!(
            "for c in {tree}/usr/src/{name}-{to}/*.c; do echo 'int broken(void) {{ return no_such_symbol_here; }}' >> $c; done"
        ))
        .ok();
    }
    tree
}
