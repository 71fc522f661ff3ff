//! What can be wrong with a store of builds. Each row ends in a local build, and one line that says why.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpStream;
use std::thread::sleep;
use std::time::Duration;

use dkms_core::store::{PrivateKey, PublicKey, open, pack, seal};
use dkms_core::sys::hash;

use crate::web::send;

/// The files of a store, by path.
pub type Files = BTreeMap<String, Vec<u8>>;

/// How a store is not as it should be.
pub enum Wrong {
    /// Its files differ; it is a directory.
    Files(fn(&mut Store)),
    /// A shell command changes the directory, which is the working directory; `$M` is the manifest, `$O` the object.
    Shell(&'static str),
    /// A web server with these files answers like this.
    Server(fn(&Store, &str, &mut TcpStream)),
    /// The settings are these: `KEY` is the public key, `STORE` the URL of a good store, `TLS` the port of a server
    /// whose certificate is not trusted.
    Settings(&'static str),
}

/// A row.
pub struct Fault {
    /// Its name.
    pub name: &'static str,
    /// What is wrong.
    pub wrong: Wrong,
    /// A part of the line.
    pub says: &'static str,
}

/// A store with a build of one module, and the key that its machines trust.
#[derive(Debug, Clone)]
pub struct Store {
    /// All files.
    pub files: Files,
    /// The path of the manifest.
    pub manifest: String,
    /// The path of the object.
    pub object: String,
    /// The manifest of another module, signed with the same key.
    pub other: Vec<u8>,
    /// The private key, as in its file.
    pub key: String,
}

impl Store {
    fn key(&self) -> PrivateKey {
        self.key.parse().unwrap()
    }

    /// The signed statement.
    fn statement(&self) -> String {
        let keys: [PublicKey; 1] = [self.key().public()];
        String::from_utf8(open(&self.files[&self.manifest], &keys).unwrap()).unwrap()
    }

    /// Changes the statement, and signs it with the trusted key: by an operator's mistake, or with a stolen key.
    fn signed(&mut self, from: &str, to: &str) {
        let statement = self.statement();
        let changed = statement.replace(from, to);
        assert_ne!(statement, changed, "{from}");
        self.put(seal(changed.as_bytes(), &self.key()).unwrap());
    }

    fn put(&mut self, manifest: Vec<u8>) {
        self.files.insert(self.manifest.clone(), manifest);
    }

    fn text(&self) -> String {
        String::from_utf8(self.files[&self.manifest].clone()).unwrap()
    }

    /// Replaces the object by one that the signed statement names.
    fn object(&mut self, object: Vec<u8>) {
        let (old, new) = (hash_of(&self.object), hash::hex(&object));
        let old_size = format!("\"size\":{}", self.files[&self.object].len());
        self.signed(&old, &new);
        if object.len() != self.files[&self.object].len() {
            self.signed(&old_size, &format!("\"size\":{}", object.len()));
        }
        self.files.insert(format!("objects/{}/{new}.zst", &new[..2]), object);
    }

    /// Replaces a text in the module by one of the same length, as if it had been built and signed like this.
    fn module(&mut self, from: &str, to: &str) {
        assert_eq!(from.len(), to.len());
        let mut all = zstd(&self.files[&self.object]);
        let at = all.windows(from.len()).position(|part| part == from.as_bytes()).expect(from);
        all[at..at + to.len()].copy_from_slice(to.as_bytes());
        // Which file it is in does not matter: all are packed again, and all hashes replaced.
        let value: serde_json::Value = serde_json::from_str(&self.statement()).unwrap();
        let mut rest = all.as_slice();
        let mut files = Vec::new();
        for file in value["subject"].as_array().unwrap() {
            let (content, more) = rest.split_at(file["annotations"]["size"].as_u64().unwrap() as usize);
            files.push((file["name"].as_str().unwrap().to_owned(), content.to_vec()));
            rest = more;
        }
        let (object, entries) = pack(&files).unwrap();
        for (file, entry) in value["subject"].as_array().unwrap().iter().zip(entries) {
            let old = file["digest"]["sha256"].as_str().unwrap();
            if old != entry.sha256 {
                self.signed(old, &entry.sha256);
            }
        }
        self.object(object);
    }
}

fn hash_of(path: &str) -> String {
    path.rsplit('/').next().unwrap().trim_end_matches(".zst").to_owned()
}

fn zstd(object: &[u8]) -> Vec<u8> {
    dkms_core::kernel::Compression::Zstd.decompress(object).unwrap()
}

fn flip(content: &mut [u8], at: usize) {
    content[at] ^= 1;
}

/// The answers of a good server.
pub fn good(store: &Store, path: &str, stream: &mut TcpStream) {
    match store.files.get(path) {
        Some(content) => send(stream, "200 OK", "", content),
        None => send(stream, "404 Not Found", "", b"there is no such file\n"),
    }
}

fn raw(stream: &mut TcpStream, text: &str) {
    let _ = stream.write_all(text.as_bytes());
}

fn hang() {
    sleep(Duration::from_secs(600));
}

/// Sends something again and again, until the client has enough.
fn again(stream: &mut TcpStream, what: &[u8], pause: Duration) {
    while stream.write_all(what).is_ok() {
        sleep(pause);
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\n";

/// A row with the good server's answer for manifests, and this one for objects.
macro_rules! body {
    ($answer:expr) => {
        Wrong::Server(|store, path, stream| {
            if path.starts_with("objects") {
                let answer: fn(&Store, &mut TcpStream) = $answer;
                answer(store, stream);
            } else {
                good(store, path, stream);
            }
        })
    };
}

macro_rules! row {
    ($name:literal, $wrong:expr, $says:literal) => {
        Fault { name: $name, wrong: $wrong, says: $says }
    };
}

/// Whatever the files are: tampered with, replayed, of something else, of an odd form.
#[rustfmt::skip]
pub const FILES: &[Fault] = &[
    row!("the object was tampered with", Wrong::Files(|s| flip(s.files.get_mut(&s.object).unwrap(), 100)), "hash of the object does not match"),
    row!("the object is truncated", Wrong::Files(|s| s.files.get_mut(&s.object).unwrap().truncate(100)), "hash of the object does not match"),
    row!("the object is empty", Wrong::Files(|s| s.files.get_mut(&s.object).unwrap().clear()), "hash of the object does not match"),
    row!("the object is missing", Wrong::Files(|s| drop(s.files.remove(&s.object))), "its object is missing"),
    row!("the statement was tampered with", Wrong::Files(|s| s.put(s.text().replacen("\"payload\":\"eyJf", "\"payload\":\"eyJg", 1).into())), "not signed with a trusted key, or was changed"),
    row!("the signature was tampered with", Wrong::Files(|s| s.put(s.text().replace("\"sig\":\"", "\"sig\":\"AAAA").into())), "not signed with a trusted key"),
    row!("the manifest is not signed", Wrong::Files(|s| s.put((s.text().split("\"signatures\"").next().unwrap().to_owned() + "\"signatures\":[]}").into())), "the manifest is not signed"),
    row!("another key of the same name", Wrong::Files(|s| s.put(seal(s.statement().as_bytes(), &dkms_core::store::generate("fleet", &[9; 32]).unwrap()).unwrap())), "not signed with a trusted key"),
    row!("the replay of an older build", Wrong::Files(|s| { let own = s.manifest.clone(); s.signed(&hash_of(&own).replace(".json", ""), &"0".repeat(64)); }), "a build of other inputs"),
    row!("the build of another module", Wrong::Files(|s| s.put(s.other.clone())), "the build for another module: two/1.0"),
    row!("another version of the module", Wrong::Files(|s| s.signed("\"version\":\"1.0\"", "\"version\":\"0.9\"")), "the build for another module: one/0.9"),
    row!("another kernel under the same name", Wrong::Files(|s| s.signed("\"kernel\":\"6.", "\"kernel\":\"5.")), "the build for another kernel: 5."),
    row!("another architecture", Wrong::Files(|s| s.signed("\"arch\":\"x86_64\"", "\"arch\":\"aarch64\"")), "the build for another architecture: aarch64"),
    row!("a path out of the directory", Wrong::Files(|s| s.signed("\"log/make.log\"", "\"../../../../etc/dkms/evil\"")), "a file with an unsafe name"),
    row!("an absolute path", Wrong::Files(|s| s.signed("\"log/make.log\"", "\"/etc/dkms/evil\"")), "a file with an unsafe name"),
    row!("a file under the name of another", Wrong::Files(|s| s.signed("\"log/make.log\"", "\"module/one.ko\"")), "a file with an unsafe name"),
    row!("its module is missing", Wrong::Files(|s| s.signed("\"module/one.ko\"", "\"module/one.txt\"")), "its modules are not those of the dkms.conf"),
    row!("a module too many", Wrong::Files(|s| s.signed("\"log/make.log\"", "\"module/evil.ko\"")), "its modules are not those of the dkms.conf"),
    row!("a module below the module's directory", Wrong::Files(|s| s.signed("\"module/one.ko\"", "\"module/sub/one.ko\"")), "its modules are not those of the dkms.conf"),
    row!("files of a huge size", Wrong::Files(|s| { let size = s.files[&s.object].len(); s.signed(&format!("\"size\":{size}"), "\"size\":99999999999"); }), "the object is larger than"),
    row!("an object that decompresses to more", Wrong::Files(|s| s.object(dkms_core::kernel::Compression::Zstd.compress(&vec![0; 256 << 20], &Default::default()).unwrap())), "does not have the size of its files"),
    row!("an object that is not compressed", Wrong::Files(|s| s.object(b"not zstd at all".to_vec())), "decompressing the object"),
    row!("a module that does not prove: vermagic", Wrong::Files(|s| s.module("vermagic=6.", "vermagic=5.")), "one.ko would be rejected"),
    row!("a module that does not prove: broken ELF", Wrong::Files(|s| s.module("\u{7f}ELF", "\u{7f}BLF")), "one.ko would be rejected"),
    row!("garbage instead of a manifest", Wrong::Files(|s| s.put(vec![0xff; 1000])), "the manifest is malformed"),
    row!("an empty manifest", Wrong::Files(|s| s.put(Vec::new())), "the manifest is malformed"),
    row!("deeply nested JSON", Wrong::Files(|s| s.put("[".repeat(200_000).into())), "the manifest is malformed"),
    row!("duplicated keys", Wrong::Files(|s| s.put(s.text().replacen("{\"payloadType\"", "{\"payload\":\"e30=\",\"payloadType\"", 1).into())), "the manifest is malformed"),
    row!("duplicated keys in the signed statement", Wrong::Files(|s| s.signed("\"module\":\"one\"", "\"module\":\"two\",\"module\":\"one\"")), "the signed statement is malformed"),
    row!("a statement of another kind", Wrong::Files(|s| s.signed("provenance/v1", "provenance/v9")), "of another kind"),
    row!("a manifest that is too large", Wrong::Files(|s| s.put(vec![b' '; 1 << 20])), "is larger than"),
    row!("a directory instead of a manifest", Wrong::Shell("rm $M && mkdir $M"), "is not a regular file"),
    row!("a fifo instead of a manifest", Wrong::Shell("rm $M && mkfifo $M"), "is not a regular file"),
    row!("a device instead of an object", Wrong::Shell("rm $O && cp -a /dev/zero $O"), "is not a regular file"),
    row!("a link out of the store", Wrong::Shell("mv $M /root/manifest && ln -s /root/manifest $M"), "opening /srv/store"),
    row!("a link to a secret", Wrong::Shell("ln -sf /etc/shadow $O"), "opening /srv/store"),
    row!("links in a circle", Wrong::Shell("ln -sf $(basename $M) $M"), "opening /srv/store"),
    row!("no directory", Wrong::Shell("mv /srv/store /srv/other"), "is not a directory"),
    row!("a file instead of a directory", Wrong::Shell("mv /srv/store /srv/other; touch /srv/store"), "is not a directory"),
    row!("an empty store", Wrong::Shell("rm -r builds objects"), "no build in the store for one/1.0"),
];

/// Servers that misbehave.
#[rustfmt::skip]
pub const SERVERS: &[Fault] = &[
    row!("404", Wrong::Server(|_, _, to| send(to, "404 Not Found", "", b"no")), "no build in the store for one/1.0"),
    row!("403, as buckets answer", Wrong::Server(|_, _, to| send(to, "403 Forbidden", "", b"no")), "no build in the store for one/1.0"),
    row!("410", Wrong::Server(|_, _, to| send(to, "410 Gone", "", b"no")), "no build in the store for one/1.0"),
    row!("401", Wrong::Server(|_, _, to| send(to, "401 Unauthorized", "WWW-Authenticate: Basic\r\n", b"no")), "error: 401"),
    row!("500", Wrong::Server(|_, _, to| send(to, "500 Internal Server Error", "", b"no")), "error: 500"),
    row!("503", Wrong::Server(|_, _, to| send(to, "503 Service Unavailable", "Retry-After: 1000\r\n", b"no")), "error: 503"),
    row!("500 for the object only", body!(|_, to| send(to, "500 Internal Server Error", "", b"no")), "error: 500"),
    row!("204", Wrong::Server(|_, _, to| raw(to, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")), "the status 204"),
    row!("206, a part", Wrong::Server(|_, _, to| send(to, "206 Partial Content", "Content-Range: bytes 0-1/99\r\n", b"{}")), "the status 206"),
    row!("a portal's page for everything", Wrong::Server(|_, _, to| send(to, "200 OK", "Content-Type: text/html\r\n", b"<html>Please log in</html>")), "the manifest is malformed"),
    row!("no answer", Wrong::Server(|_, _, _| hang()), "no complete answer within 2 s"),
    row!("it hangs in the headers", Wrong::Server(|_, _, to| { raw(to, OK); hang(); }), "no complete answer within 2 s"),
    row!("it hangs in the body", Wrong::Server(|_, _, to| { raw(to, &format!("{OK}Content-Length: 1000\r\n\r\n{{")); hang(); }), "no complete answer within 2 s"),
    row!("it hangs in the object", body!(|_, to| { raw(to, &format!("{OK}Content-Length: 1000\r\n\r\n(")); hang(); }), "no complete answer within 2 s"),
    row!("one byte after the other", Wrong::Server(|_, _, to| { raw(to, &format!("{OK}Content-Length: 100000\r\n\r\n")); again(to, b"x", Duration::from_millis(100)); }), "no complete answer within 2 s"),
    row!("endless headers", Wrong::Server(|_, _, to| { raw(to, OK); again(to, b"X-Y: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n", Duration::ZERO); }), "(56) Too large response headers"),
    row!("an endless body", Wrong::Server(|_, _, to| { raw(to, &format!("{OK}\r\n")); again(to, &[b' '; 65536], Duration::ZERO); }), "(63) "),
    row!("an endless object", body!(|_, to| { raw(to, &format!("{OK}\r\n")); again(to, &[b' '; 65536], Duration::ZERO); }), "(63) "),
    row!("a huge Content-Length", Wrong::Server(|_, _, to| raw(to, &format!("{OK}Content-Length: 99999999999999\r\n\r\n"))), "(63) Maximum file size exceeded"),
    row!("an odd Content-Length", Wrong::Server(|_, _, to| raw(to, &format!("{OK}Content-Length: -1\r\n\r\n"))), "(8) "),
    row!("a truncated body", Wrong::Server(|_, _, to| raw(to, &format!("{OK}Content-Length: 1000\r\n\r\n{{}}"))), "(18) "),
    row!("a truncated object", body!(|s, to| { let all = &s.files[&s.object]; raw(to, &format!("{OK}Content-Length: {}\r\n\r\n", all.len())); let _ = to.write_all(&all[..all.len() / 2]); }), "(18) "),
    row!("a redirect loop", Wrong::Server(|_, path, to| send(to, "302 Found", &format!("Location: /{path}\r\n"), b"")), "(47) "),
    row!("a redirect to a file", Wrong::Server(|_, _, to| send(to, "302 Found", "Location: file:///etc/shadow\r\n", b"")), "(1) Protocol \"file\""),
    row!("a redirect to another protocol", Wrong::Server(|_, _, to| send(to, "302 Found", "Location: ftp://127.0.0.1/\r\n", b"")), "(1) Protocol \"ftp\""),
    row!("a redirect to nowhere", Wrong::Server(|_, _, to| send(to, "302 Found", "Location: http://127.0.0.1:1/\r\n", b"")), "(7) "),
    row!("compressed by the server", Wrong::Server(|_, _, to| send(to, "200 OK", "Content-Encoding: gzip\r\n", &gzip(1 << 20))), "the manifest is malformed"),
    row!("an object compressed by the server", body!(|s, to| send(to, "200 OK", "Content-Encoding: gzip\r\n", &gzip(s.files[&s.object].len()))), "hash of the object does not match"),
    row!("not HTTP", Wrong::Server(|_, _, to| raw(to, "SSH-2.0-OpenSSH_9.9\r\n")), "(1) Received HTTP/0.9"),
    row!("it closes the connection", Wrong::Server(|_, _, _| ()), "(52) Empty reply"),
    row!("the object of another build", body!(|s, to| send(to, "200 OK", "", &s.other[..s.files[&s.object].len()])), "hash of the object does not match"),
    row!("escape sequences in the status", Wrong::Server(|_, _, to| send(to, "500 \u{1b}[2J\u{7}", "", b"")), "error: 500"),
];

/// Settings and addresses.
#[rustfmt::skip]
pub const SETTINGS: &[Fault] = &[
    row!("a dead server", Wrong::Settings("url = [\"http://127.0.0.1:1\"]\ntrust = [\"KEY\"]"), "(7) "),
    row!("an address without a machine", Wrong::Settings("url = [\"http://192.0.2.1\"]\ntrust = [\"KEY\"]"), "the store http://192.0.2.1 was not used"),
    row!("a name that does not exist", Wrong::Settings("url = [\"https://store.invalid\"]\ntrust = [\"KEY\"]"), "(6) Could not resolve host"),
    row!("a self-signed certificate", Wrong::Settings("url = [\"https://127.0.0.1:TLS\"]\ntrust = [\"KEY\"]"), "(60) SSL certificate"),
    row!("TLS to a server without", Wrong::Settings("url = [\"https://PLAIN\"]\ntrust = [\"KEY\"]"), "(35) "),
    row!("a dead proxy", Wrong::Settings("url = [\"http://store.example\"]\ntrust = [\"KEY\"]\nproxy = \"http://127.0.0.1:1\""), "(7) "),
    row!("a password in the URL", Wrong::Settings("url = [\"https://user:secret@store.example\"]\ntrust = [\"KEY\"]"), "the store https://store.example was not used: its URL has"),
    row!("another protocol", Wrong::Settings("url = [\"ftp://store.example\"]\ntrust = [\"KEY\"]"), "does not begin with https://"),
    row!("an option instead of a URL", Wrong::Settings("url = [\"--config=/etc/passwd\"]\ntrust = [\"KEY\"]"), "not supported"),
    row!("no key", Wrong::Settings("url = [\"STORE\"]"), "policy.toml trusts no key"),
    row!("a key that was removed", Wrong::Settings("url = [\"STORE\"]\ntrust = [\"other:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\"]"), "not signed with a trusted key"),
    row!("an expired key", Wrong::Settings("url = [\"STORE\"]\ntrust = [\"KEY until 2020-01-01\"]"), "have expired"),
    row!("an expired key beside another one", Wrong::Settings("url = [\"STORE\"]\ntrust = [\"KEY until 2020-01-01\", \"other:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\"]"), "not signed with a trusted key"),
    row!("half a key", Wrong::Settings("url = [\"STORE\"]\ntrust = [\"KEYx\"]"), "key 1 of `trust` in policy.toml"),
];

/// Zeros, compressed.
fn gzip(size: usize) -> Vec<u8> {
    dkms_core::kernel::Compression::Gzip.compress(&vec![0; size], &Default::default()).unwrap()
}
