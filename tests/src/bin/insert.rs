//! Runs in a booted kernel: inserts the modules of each directory in order, prints the error number of the last and what
//! the kernel said about it, and removes them again. Like kmod, it leaves compressed files to a kernel that reads them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::disallowed_methods)] // a test program

use std::ffi::CString;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};
use rustix::system::{delete_module, finit_module};

/// `MODULE_INIT_COMPRESSED_FILE`
const COMPRESSED: i32 = 4;

fn main() {
    let dir = std::env::args().nth(1).expect("a directory");
    let log = open("/dev/kmsg", OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).expect("/dev/kmsg");
    let mut log = File::from(log);
    messages(&mut log);
    let decompresses = fs::read_to_string("/sys/module/compression").unwrap_or_default();
    for row in sorted(Path::new(&dir)) {
        // NUMBER:NAME
        let name = row.file_name().unwrap().to_string_lossy().split_once(':').unwrap().1.to_owned();
        let files = sorted(&row);
        let packed = files.iter().any(|file| file.extension().is_some_and(|end| end != "ko"));
        if packed && decompresses.trim() != "xz" {
            println!("ROW {name} not-asked");
            continue;
        }
        let before = loaded();
        let results: Vec<i32> = files.iter().map(|file| insert(file)).collect();
        println!("ROW {name} {}", results.last().copied().unwrap_or(-1));
        for line in messages(&mut log) {
            println!("LINE {name} {line}");
        }
        for module in loaded().into_iter().filter(|module| !before.contains(module)) {
            let module = CString::new(module).unwrap();
            if let Err(error) = delete_module(&module, 0) {
                println!("LINE {name} cannot be removed: {error}");
            }
        }
        messages(&mut log);
    }
}

/// The error number; 0 if it was loaded.
fn insert(file: &Path) -> i32 {
    let flags = if file.extension().is_some_and(|end| end == "ko") { 0 } else { COMPRESSED };
    let file = File::open(file).unwrap();
    let result = finit_module(&file, c"", flags);
    result.map_or_else(|error| error.raw_os_error(), |()| 0)
}

/// Names of loaded modules, the newest first: it must be removed before those that it uses.
fn loaded() -> Vec<String> {
    let text = fs::read_to_string("/proc/modules").unwrap();
    text.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

fn sorted(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// The kernel's messages since the last call.
fn messages(log: &mut File) -> Vec<String> {
    let mut lines = Vec::new();
    let mut record = [0; 8192];
    loop {
        match log.read(&mut record) {
            Ok(length) => {
                let text = String::from_utf8_lossy(&record[..length]).into_owned();
                let message = text.split_once(';').map_or("", |(_, message)| message);
                lines.push(message.lines().next().unwrap_or_default().to_owned());
            }
            // Messages were overwritten before they were read.
            Err(error) if error.raw_os_error() == Some(32) => {}
            Err(_) => return lines,
        }
    }
}
