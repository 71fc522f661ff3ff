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
#[command(about = "Build packages from the compiled programs and the data files of this tree")]
struct Args {
    #[command(subcommand)]
    format: Format,
}

#[derive(Subcommand)]
enum Format {
    /// A Debian package, drop-in replacement for Debian's dkms
    Deb {
        /// Directory of the programs `dkms` and `dkms-apt-hook`
        #[arg(long)]
        binaries: PathBuf,
        /// Output directory
        #[arg(long, default_value = "dist")]
        out: PathBuf,
    },
    /// The files of the Arch package; called by packaging/arch/PKGBUILD
    Arch {
        /// Directory of the programs `dkms`, `dkms-alpm-hook` and `dkms-alpm-headers`
        #[arg(long)]
        binaries: PathBuf,
        /// Output directory
        #[arg(long)]
        root: PathBuf,
    },
    /// An rpm package, drop-in replacement for dkms of Fedora and openSUSE
    Rpm {
        /// Directory of the programs `dkms` and `dkms-dnf-plugin`
        #[arg(long)]
        binaries: PathBuf,
        /// Output directory
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
