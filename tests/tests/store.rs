//! A store of builds: what one machine has compiled, others install without a compiler. Whatever is wrong with a store, they
//! build themselves, within bounded time, and say why in one line.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use dkms_tests::count::Counters;
use dkms_tests::modules::Sources;
use dkms_tests::roots::Layer;
use dkms_tests::web::{Web, send};
use dkms_tests::{Kernel, Output, Root, Suite, stage};

/// The files of a store, by path.
type Files = BTreeMap<String, Vec<u8>>;

/// Machines with curl and two modules that are not built yet; each machine signs with a key of its own.
fn machines() -> (Layer, Kernel) {
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    let layer = layer.prepared("store", "1", |root| {
        root.apt_install(&["curl", "openssl", "nginx-light"]).ok();
        for name in ["one", "two"] {
            Sources::new(name, "1.0").unpack(root);
            root.run(&format!("dkms add {name}/1.0")).ok();
        }
    });
    (layer, kernel)
}

fn autoinstall(root: &Root, kernel: &Kernel) -> Output {
    root.run_within(300, &format!("dkms autoinstall -k {}", kernel.release)).ok()
}

/// Builds everything, and pushes it to a store in a directory.
fn fill(root: &Root, kernel: &Kernel) -> Files {
    autoinstall(root, kernel);
    root.run("dkms store key fleet && dkms store push /srv/store").ok().says(&["2 builds pushed"]);
    files(&root.path("/srv/store"))
}

fn files(dir: &Path) -> Files {
    let mut open = vec![dir.to_owned()];
    let mut found = Files::new();
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn write(root: &Root, files: &Files) {
    for (name, content) in files {
        root.write(&format!("/srv/store/{name}"), content);
    }
}

/// A server of these files.
fn serve(files: Files) -> Web {
    Web::start(Arc::new(move |path, stream| match files.get(path) {
        Some(content) => send(stream, "200 OK", "", content),
        None => send(stream, "404 Not Found", "", b"there is no such file\n"),
    }))
}

fn trust(root: &Root, url: &str, key: &str) {
    root.write(
        "/etc/dkms/policy.toml",
        format!("[store]\nurl = [\"{url}\"]\ntrust = [\"{}\"]\nseconds = 5\n", key.trim()),
    );
}

/// The SHA-256 of each installed module without compression and signature.
fn unsigned(root: &Root, kernel: &Kernel) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (path, _) in kernel.module_files(root) {
        root.run(&format!("xz -dc {path} >/tmp/signed.ko")).ok();
        let content = root.read_bytes("/tmp/signed.ko");
        assert!(content.ends_with(b"~Module signature appended~\n"), "{path} is signed");
        let plain = dkms_core::kernel::signature::without(&content);
        all.insert(path, dkms_core::sys::hash::hex(plain));
    }
    all
}

#[test]
fn a_second_machine_compiles_nothing() {
    let (layer, kernel) = machines();
    let first = Root::on(&layer);
    let files = fill(&first, &kernel);
    let key = first.read("/etc/dkms/store.pub");
    assert_eq!(files.len(), 4, "{:?}", files.keys());
    let (modules, keys) = (unsigned(&first, &kernel), first.read_bytes("/var/lib/dkms/mok.pub"));
    let web = serve(files.clone());
    for url in ["file:///srv/store", &web.url()] {
        let second = Root::on(&layer);
        write(&second, &files);
        trust(&second, url, &key);
        let counters = Counters::install(&second);
        let told = autoinstall(&second, &kernel);
        let counts = counters.take();
        assert_eq!((counts.builds, counts.compiled, counts.depmods), (0, 0, 1), "{url}: {told}");
        second.expect_installed(&["one/1.0", "two/1.0"], &kernel.release);
        assert_eq!(unsigned(&second, &kernel), modules, "{url}");
        assert_ne!(second.read_bytes("/var/lib/dkms/mok.pub"), keys, "each machine signs with its own key");
        kernel.expect_vermagic(&second);
        let status = second.run("dkms status --json").ok().stdout;
        assert_eq!(status.matches(&format!("\"store\": \"{url}\"")).count(), 2, "{status}");
        let metrics = second.run("dkms status --prometheus").ok().stdout;
        assert_eq!(metrics.matches("dkms_from_store{").count(), 2, "{metrics}");
        // Nothing is asked for twice.
        let asked = web.asked();
        autoinstall(&second, &kernel).never_says(&["store"]);
        assert_eq!(web.asked(), asked);
    }
    // Two manifests, two objects.
    assert_eq!(web.asked(), 4);
}
