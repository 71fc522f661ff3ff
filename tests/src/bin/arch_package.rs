//! Builds Arch's package and puts it into `dist/`.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)] // a build tool

fn main() {
    let made = dkms_tests::pacman::package();
    let dist = dkms_tests::host::workspace().join("dist");
    std::fs::create_dir_all(&dist).unwrap();
    let name = made.file_name().expect("a package has a name");
    std::fs::copy(&made, dist.join(name)).unwrap();
    println!("{}", std::path::Path::new("dist").join(name).display());
}
