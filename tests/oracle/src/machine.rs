//! Names of machines in package formats, independent of the product's table.

/// Debian's name → `uname -m`; empty: any.
pub fn of_debian(word: &str) -> String {
    match word {
        "all" => "",
        "amd64" => "x86_64",
        "i386" => "i686",
        "arm64" => "aarch64",
        "armhf" => "armv7l",
        "armel" => "armv5tel",
        "ppc64el" => "ppc64le",
        "mips64el" => "mips64",
        other => other,
    }
    .to_owned()
}

/// rpm's name → `uname -m`; empty: any.
pub fn of_rpm(word: &str) -> String {
    match word {
        "noarch" => "",
        "i386" | "i486" | "i586" | "athlon" => "i686",
        other => other,
    }
    .to_owned()
}
