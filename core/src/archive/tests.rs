//! Round trips: a tarball of a source tree has the same content as the tree, with every compression.

use std::collections::BTreeMap;
use std::fs;
use std::io::BufReader;
use std::path::Path;

use proptest::prelude::*;

use super::{Limits, Packing, pack, unpack};
use crate::sys::file;
use crate::sys::hash::{self, Watch};
use crate::sys::private::Private;

/// Path below the source → content, and whether it is executable.
type Files = BTreeMap<String, (Vec<u8>, bool)>;

fn files() -> impl Strategy<Value = Files> {
    let part = prop_oneof![4 => "[a-z]{1,3}", 1 => "[ -.0-~äλ]{1,20}", 1 => "x{90,200}"];
    let part = part.prop_filter("reserved", |part| part != "." && !part.contains(".."));
    let path = prop::collection::vec(part, 1..4).prop_map(|parts| parts.join("/"));
    prop::collection::btree_map(path, (prop::collection::vec(any::<u8>(), 0..2000), any::<bool>()), 0..8)
}

fn write(dir: &Path, files: &Files) {
    for (path, (content, executable)) in files {
        // The name may already be that of a directory, or lie below a file.
        let _ = file::write_atomic(&dir.join(path), content, if *executable { 0o755 } else { 0o644 });
    }
    file::write_atomic(&dir.join("dkms.conf"), b"x", 0o644).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn what_is_packed_is_unpacked(files in files(), suffix in prop::sample::select(vec!["tar", "tar.gz", "tar.xz", "tar.zst"])) {
        let dir = tempfile::tempdir().unwrap();
        let (source, tarball) = (dir.path().join("source"), dir.path().join("a").with_extension(suffix));
        write(&source, &files);
        let packing = Packing {
            module: &"a/1".parse().unwrap(),
            source: Some(&source),
            conf: &source.join("dkms.conf"),
            builds: BTreeMap::new(),
        };
        prop_assert_eq!(pack(&packing, &tarball).unwrap(), [""; 0]);
        let private = Private::new(&dir.path().join("in")).unwrap();
        let packed = fs::File::open(&tarball).unwrap();
        let size = packed.metadata().unwrap().len();
        let contents = unpack(BufReader::new(packed), size, &private, &Limits::default()).unwrap();
        let hash = |dir: &Path| hash::trees(&[dir.to_owned()], Watch::Files, None, &[]).unwrap();
        prop_assert_eq!(hash(&private.path().join(contents.source.unwrap())), hash(&source));
    }
}
