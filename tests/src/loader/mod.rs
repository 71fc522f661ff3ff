//! What a real kernel does with a module, and with the same module after one change. The modules are compiled once for a
//! kernel, changed byte by byte, and inserted in one boot of that kernel.

pub mod elf;
pub mod kernel_says;
pub mod rows;

use std::collections::BTreeMap;

use crate::boot::initrd::Initrd;
use crate::{Kernel, Root, boot};
use kernel_says::Inserted;
use rows::Row;

/// The sources, and the Makefile for the kernel's build system.
const SOURCES: [(&str, &str); 9] = [
    ("Makefile", include_str!("sources/Makefile")),
    ("oracle_plain.c", include_str!("sources/oracle_plain.c")),
    ("oracle_gpl.c", include_str!("sources/oracle_gpl.c")),
    ("oracle_space.c", include_str!("sources/oracle_space.c")),
    ("oracle_base.c", include_str!("sources/oracle_base.c")),
    ("oracle_user.c", include_str!("sources/oracle_user.c")),
    ("oracle_weak.c", include_str!("sources/oracle_weak.c")),
    ("oracle_lost.c", include_str!("sources/oracle_lost.c")),
    ("oracle_closed.c", include_str!("sources/oracle_closed.c")),
];

/// The directory in the root for modules and changed modules.
const DIR: &str = "/opt/oracle";

/// Compiles the modules for a kernel; returns each by name.
pub fn compile(root: &Root, kernel: &Kernel) -> BTreeMap<String, Vec<u8>> {
    for (name, text) in SOURCES {
        root.write(&format!("{DIR}/src/{name}"), text);
    }
    // One module imports a symbol that nothing exports: the linker must accept this.
    root.run(&format!(
        "make -s -C /lib/modules/{}/build M={DIR}/src KBUILD_MODPOST_WARN=1 modules",
        kernel.release
    ))
    .ok();
    let modules = SOURCES.iter().filter_map(|(name, _)| name.strip_suffix(".c"));
    modules.map(|name| (name.to_owned(), root.read_bytes(&format!("{DIR}/src/{name}.ko")))).collect()
}

/// Writes each row's files and returns them: those that must be loaded before, and the one in question.
pub fn write(root: &Root, rows: &[Row]) -> BTreeMap<String, Vec<String>> {
    let mut paths = BTreeMap::new();
    for row in rows {
        let files = row.files.iter().map(|(name, content)| {
            let path = format!("{DIR}/rows/{}/{name}", row.name);
            root.write(&path, content);
            path
        });
        paths.insert(row.name.clone(), files.collect());
    }
    paths
}

/// Mounts, inserts, and powers off.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
/opt/oracle/insert /m
echo BOOT-DONE
poweroff -f
"#;

/// Boots the kernel with these words on its command line, and inserts the files of each row in order. `insert`: the
/// program of that name of this crate.
pub fn insert(
    root: &Root,
    kernel: &Kernel,
    insert: &[u8],
    rows: &[Row],
    words: &str,
) -> BTreeMap<String, Inserted> {
    let initrd = Initrd::new(root);
    root.write_script(&format!("{DIR}/insert"), "");
    root.write(&format!("{DIR}/insert"), insert);
    initrd.add_program(&format!("{DIR}/insert"));
    for (number, row) in rows.iter().enumerate() {
        for (at, (name, content)) in row.files.iter().enumerate() {
            initrd.add(&format!("/m/{number:03}:{}/{at}-{name}", row.name), content);
        }
    }
    let packed = initrd.pack(INIT);
    // The kernel must not write to the console between the lines of the program.
    let console = boot::start(root, kernel, &packed, &format!("loglevel=0 {words}"));
    kernel_says::read(&console)
}
