//! A large store of builds, and the time of one look-up in it.

use std::path::PathBuf;
use std::sync::Arc;

use dkms_core::store::{PrivateKey, open, seal};

use crate::web::{Web, send};
use crate::{Kernel, Root, host};

/// The number of other manifests.
pub const ENTRIES: usize = 10_000;
/// The store without a build of the module that is looked for, and the one that has another manifest in its place.
const WITHOUT: &str = "/srv/without";
const WITH: &str = "/srv/with";
/// The module that is looked for.
const QUICK: &str = "quick/1.0";
/// The number of repetitions. The shortest time counts.
const ROUNDS: usize = 12;

/// The processor time of one look-up, in seconds, with all processes that it starts. Nothing else is waited for, and the
/// time on a clock varies by more than that.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LookUp {
    /// Of a build that is not there.
    pub miss: f64,
    /// Of one that is there: its signature is verified, it is read and compared with what is wanted. It is that of another
    /// build, so that nothing else is asked for.
    pub hit: f64,
}

/// A server of the files below a directory.
pub fn serve(dir: PathBuf) -> Web {
    Web::start(Arc::new(move |path, stream| match std::fs::read(dir.join(path)) {
        Ok(content) => send(stream, "200 OK", "", &content),
        Err(_) => send(stream, "404 Not Found", "", b""),
    }))
}

/// Trusts a key and a store.
pub fn trust(root: &Root, url: &str, key: &str) {
    let key = key.trim();
    root.write("/etc/dkms/policy.toml", format!("[store]\nurl = [\"{url}\"]\ntrust = [\"{key}\"]\n"));
}

/// What a look-up adds to a build that takes no time, in a directory and over the web. The root has curl, and nothing is built
/// in it.
pub fn look_ups(root: &Root, kernel: &Kernel) -> [LookUp; 2] {
    prepare(root, kernel);
    let key = root.read("/etc/dkms/store.pub");
    let web = serve(root.path("/srv"));
    let urls = ["file:///srv".to_owned(), web.url()];
    let of = |url: &str, store: &str| format!("{url}{}", store.trim_start_matches("/srv"));
    let mut stores = vec![(None, "")];
    for url in &urls {
        stores.push((Some(of(url, WITHOUT)), "no build in the store"));
        stores.push((Some(of(url, WITH)), "was not used"));
    }
    let mut best = vec![f64::INFINITY; stores.len()];
    // Alternating, because the speed of a machine varies.
    for _ in 0..ROUNDS {
        for ((url, says), best) in stores.iter().zip(&mut best) {
            root.run(&format!("dkms unbuild {QUICK} --all; rm -rf /var/cache/dkms /etc/dkms/policy.toml"));
            if let Some(url) = url {
                trust(root, url, &key);
            }
            let run = super::measure::measure(root, &format!("dkms build {QUICK} -k {kernel}"));
            let said = root.read("/var/tmp/said");
            assert!(run.exit == 0 && said.contains(says), "{says}: exit {}\n{said}", run.exit);
            *best = best.min(run.cpu);
        }
    }
    [1, 3].map(|at| LookUp { miss: best[at] - best[0], hit: best[at + 1] - best[0] })
}

/// A module whose build copies what was compiled once, the manifest of its build, and many others.
fn prepare(root: &Root, kernel: &Kernel) {
    let module = "BUILT_MODULE_NAME[0]=bbswitch\nDEST_MODULE_LOCATION[0]=/updates\nAUTOINSTALL=no\n";
    root.run(&format!("dkms build bbswitch/$(ls /var/lib/dkms/bbswitch) -k {kernel}")).ok();
    root.run("mkdir /usr/src/quick-1.0; xz -dc /var/lib/dkms/bbswitch/*/*/*/module/bbswitch.ko.xz >/usr/src/quick-1.0/compiled").ok();
    root.write(
        "/usr/src/quick-1.0/dkms.conf",
        format!("PACKAGE_NAME=quick\nPACKAGE_VERSION=1.0\nMAKE[0]=\"cp compiled bbswitch.ko\"\n{module}"),
    );
    root.run(&format!("rm -rf /var/lib/dkms/bbswitch; dkms add {QUICK} && dkms build {QUICK} -k {kernel}"))
        .ok();
    root.run(&format!("dkms store key bench && dkms store push {WITH} quick && rm -r {WITH}/objects")).ok();
    let key: PrivateKey = root.read("/etc/dkms/store.key").parse().expect("a key");
    let own = root.find(WITH, "-name '*.json'").remove(0);
    let statement = open(&root.read_bytes(&own), &[key.public()]).expect("a manifest");
    let statement = String::from_utf8(statement).expect("UTF-8");
    let fingerprint = own.rsplit('/').next().expect("a name").trim_end_matches(".json").to_owned();
    assert!(statement.contains(&fingerprint), "{statement}");
    for number in 0..ENTRIES {
        let other = host::sha256(number.to_string().as_bytes());
        let content = seal(statement.replace(&fingerprint, &other).as_bytes(), &key).expect("sealing");
        root.write(&format!("{WITHOUT}/builds/{}/{other}.json", &other[..2]), content);
    }
    root.run(&format!(
        "rm {own} && cp -rlT {WITHOUT}/builds {WITH}/builds && cp $(find {WITHOUT} -name '*.json' | head -n 1) {own}"
    ))
    .ok();
    root.run(&format!("dkms store verify {WITHOUT} 2>&1 | tail -1"))
        .says(&[&format!("{ENTRIES} builds, {ENTRIES} problems")]);
}
