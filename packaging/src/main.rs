//! Turns built binaries and the data files of this tree into packages: `dkms-packaging {deb|rpm} --binaries DIR --out DIR`.

#![allow(clippy::disallowed_methods)] // a build tool of this tree: nothing here runs on a user's machine
#![allow(clippy::print_stdout, clippy::print_stderr)] // a build tool answers on its terminal

mod arch;
mod conffiles;
mod deb;
mod man;
mod payload;
mod rpm;
mod staging;
mod third_party;
mod tool;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Makes packages from built binaries and the data files of this tree")]
struct Args {
    #[command(subcommand)]
    format: Format,
}

#[derive(Subcommand)]
enum Format {
    /// A Debian package that stands in for Debian's dkms
    Deb {
        /// Where `dkms` and `dkms-apt-hook` were built
        #[arg(long)]
        binaries: PathBuf,
        /// Where the package is written
        #[arg(long, default_value = "dist")]
        out: PathBuf,
    },
    /// The files of Arch's package: for packaging/arch/PKGBUILD, which calls this
    Arch {
        /// Where `dkms`, `dkms-alpm-hook` and `dkms-alpm-headers` were built
        #[arg(long)]
        binaries: PathBuf,
        /// Below which they are written
        #[arg(long)]
        root: PathBuf,
    },
    /// An rpm package that stands in for Fedora's and openSUSE's dkms
    Rpm {
        /// Where `dkms` and `dkms-dnf-plugin` were built
        #[arg(long)]
        binaries: PathBuf,
        /// Where the package is written
        #[arg(long, default_value = "dist")]
        out: PathBuf,
    },
}

fn main() -> ExitCode {
    let made = match Args::parse().format {
        Format::Deb { binaries, out } => deb::make(&binaries, &out),
        Format::Arch { binaries, root } => arch::make(&binaries, &root),
        Format::Rpm { binaries, out } => rpm::make(&binaries, &out),
    };
    match made {
        Ok(package) => {
            println!("{}", package.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("dkms-packaging: {error:#}");
            ExitCode::FAILURE
        }
    }
}
