//! Module packages for tests: real ones, and small ones of our own that compile in seconds and fail if requested.

use std::fmt::Write as _;
use std::fs;

use crate::{Root, repack};

/// Real module packages of Debian 13 that compile on its own kernels.
pub const REAL: &[&str] = &[
    "acpi-call-dkms",
    "apfs-dkms",
    "bbswitch-dkms",
    "ddcci-dkms",
    "digimend-dkms",
    "dm-writeboost-dkms",
    "dpdk-kmods-dkms",
    "evdi-dkms",
    "gost-crypto-dkms",
    "iptables-netflow-dkms",
    "langford-dkms",
    "leds-alix-dkms",
    "lenovolegionlinux-dkms",
    "librem-ec-acpi-dkms",
    "lime-forensics-dkms",
    "rapiddisk-dkms",
    "tp-smapi-dkms",
    "v4l2loopback-dkms",
    "vhba-dkms",
    "vpoll-dkms",
    "west-chamber-dkms",
];

/// A source package with one or more one-file modules.
#[derive(Debug, Clone)]
pub struct Sources {
    name: String,
    version: String,
    modules: Vec<String>,
    broken: bool,
    conf: String,
}

impl Sources {
    /// A package with one module that has the package's name.
    pub fn new(name: &str, version: &str) -> Self {
        let module = name.replace('-', "_");
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            modules: vec![module],
            broken: false,
            conf: String::new(),
        }
    }

    /// Replaces the modules.
    pub fn modules(mut self, names: &[&str]) -> Self {
        self.modules = names.iter().map(|n| (*n).to_owned()).collect();
        self
    }

    /// Makes the first module fail to compile.
    pub fn broken(mut self) -> Self {
        self.broken = true;
        self
    }

    /// Adds a line to dkms.conf.
    pub fn conf(mut self, line: &str) -> Self {
        self.conf.push_str(line);
        self.conf.push('\n');
        self
    }

    /// `name/version`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.name, self.version)
    }

    /// Files of the source tree: name and content.
    pub fn files(&self) -> Vec<(String, String)> {
        let objects: Vec<String> = self.modules.iter().map(|m| format!("{m}.o")).collect();
        let mut conf = format!(
            "PACKAGE_NAME=\"{}\"\nPACKAGE_VERSION=\"{}\"\nAUTOINSTALL=\"yes\"\n\
             MAKE[0]=\"make -C ${{kernel_source_dir}} M=${{dkms_tree}}/{0}/{1}/build modules\"\n\
             CLEAN=\"make -C ${{kernel_source_dir}} M=${{dkms_tree}}/{0}/{1}/build clean\"\n",
            self.name, self.version
        );
        for (n, module) in self.modules.iter().enumerate() {
            writeln!(conf, "BUILT_MODULE_NAME[{n}]=\"{module}\"\nDEST_MODULE_LOCATION[{n}]=\"/updates\"")
                .unwrap();
        }
        conf.push_str(&self.conf);
        let mut files = vec![
            ("dkms.conf".to_owned(), conf),
            ("Makefile".to_owned(), format!("obj-m := {}\n", objects.join(" "))),
        ];
        for (n, module) in self.modules.iter().enumerate() {
            files.push((format!("{module}.c"), self.code(module, self.broken && n == 0)));
        }
        files
    }

    fn code(&self, module: &str, broken: bool) -> String {
        let fault = if broken { "\treturn no_such_symbol_here;\n" } else { "" };
        format!(
            "#include <linux/module.h>\nMODULE_LICENSE(\"GPL\");\nMODULE_DESCRIPTION(\"{module} of dkms-rs's tests\");\n\
             MODULE_VERSION(\"{}\");\nstatic int __init start(void)\n{{\n{fault}\tpr_info(\"{module} {}\\n\");\n\treturn 0;\n}}\n\
             static void __exit stop(void) {{ }}\nmodule_init(start);\nmodule_exit(stop);\n",
            self.version, self.version
        )
    }

    /// Puts the sources at `/usr/src/NAME-VERSION`.
    pub fn unpack(&self, root: &Root) {
        self.unpack_at(root, &format!("/usr/src/{}-{}", self.name, self.version));
    }

    /// Puts the sources somewhere else.
    pub fn unpack_at(&self, root: &Root, dir: &str) {
        for (file, content) in self.files() {
            root.write(&format!("{dir}/{file}"), content);
        }
    }

    /// Packs `NAME-dkms` with the maintainer scripts that `dh_dkms` writes; returns the .deb's path in the root.
    pub fn package(&self, root: &Root) -> String {
        let tree = root.path("/opt/packing");
        let put = |file: String, text: &str| {
            let path = tree.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for (file, content) in self.files() {
            put(format!("usr/src/{}-{}/{file}", self.name, self.version), &content);
        }
        let control = format!(
            "Package: {}-dkms\nVersion: {}\nArchitecture: all\nSection: kernel\nPriority: optional\n\
             Maintainer: tests\nDepends: dkms (>= 3.0.11)\n\
             Description: a module of dkms-rs's tests\n",
            self.name, self.version
        );
        put("DEBIAN/control".to_owned(), &control);
        let (name, version) = (&self.name, &self.version);
        let postinst = format!(
            "#!/bin/sh\nset -e\nif [ \"$1\" = configure ]; then\n\
             /usr/lib/dkms/common.postinst {name} {version} /usr/share/{name}-dkms \"\" $2\nfi\n"
        );
        let prerm = format!(
            "#!/bin/sh\nset -e\ncase \"$1\" in\nremove|upgrade|deconfigure)\n\
             if [ \"$(dkms status -m {name} -v {version})\" ]; then\ndkms remove -m {name} -v {version} --all\nfi\n;;\nesac\n"
        );
        for (script, text) in [("postinst", postinst), ("prerm", prerm)] {
            put(format!("DEBIAN/{script}"), &text);
            crate::host::run_host(&format!("chmod 755 '{}'", tree.join("DEBIAN").join(script).display()));
        }
        repack::pack(root, &tree, &format!("{name}-dkms_{version}"))
    }
}
