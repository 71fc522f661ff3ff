//! `make bench`: Debian's dkms, ours and the bare compilers on this machine, in one run, as a table of ratios.
//!
//! `BENCH_PACKAGES="a-dkms b-dkms"` measures with these module packages only, `BENCH_ROWS=rebuild` only the rebuild for one kernel,
//! `BENCH_ROWS=ahead` only the transaction after a pre-build, `BENCH_ROWS=publication` only the publication of cached builds,
//! `BENCH_ROWS=store` only the store of builds, `BENCH_ROWS=look-up` only look-ups in a large one. Pictures of the schedules, and a recording for
//! simulated ones, are written to `target/bench`.

// An interactive program: it prints, and panics on errors.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used
)]

use dkms_tests::bench::rows::{self, Wanted};
use dkms_tests::bench::table;
use dkms_tests::host;
use dkms_tests::modules::REAL;

fn main() {
    let wanted = std::env::var("BENCH_PACKAGES").unwrap_or_default();
    let some: Vec<&str> = wanted.split_whitespace().collect();
    let packages = if some.is_empty() { REAL } else { &some };
    let rows = match std::env::var("BENCH_ROWS").as_deref() {
        Ok("rebuild") => Wanted::Rebuild,
        Ok("ahead") => Wanted::Ahead,
        Ok("publication") => Wanted::Publication,
        Ok("store") => Wanted::Store,
        Ok("look-up") => Wanted::LookUp,
        _ => Wanted::All,
    };
    let out = host::roots_dir().with_file_name("bench");
    std::fs::create_dir_all(&out).unwrap();
    println!(
        "measuring {} module packages; anything else that runs on this machine is measured, too",
        packages.len()
    );
    let rows = rows::all(packages, rows, &out, &|row| {
        print!("{}", table::render(std::slice::from_ref(row)).split_once('\n').unwrap().1)
    });
    let text = table::render(&rows);
    std::fs::write(out.join("table.txt"), &text).unwrap();
    println!("\n{text}\npictures: {0}/one-kernel.svg, {0}/two-kernels.svg, {0}/status.svg", out.display());
}
