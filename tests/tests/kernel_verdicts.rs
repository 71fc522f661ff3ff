//! The kernel itself decides who is right: modules with one change each are inserted in a real kernel, and `dkms check`
//! must have given the same verdict and the same class of reason before.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)] // tests stop at the first surprise

use std::collections::BTreeMap;

use dkms_tests::kernels::Flavour;
use dkms_tests::loader::kernel_says::Inserted;
use dkms_tests::loader::rows::{self, Row};
use dkms_tests::loader::{compile, insert, write};
use dkms_tests::random::Random;
use dkms_tests::roots::Layer;
use dkms_tests::{Kernel, Root, Suite, stage};

/// What `--json` prints is valid against the shipped schemas.
#[path = "../../core/tests/support/schemas.rs"]
mod schemas;

/// The least number of rows, and of those that the kernel must reject and load: else the table proves nothing.
const LEAST: (usize, usize, usize) = (60, 40, 20);

/// With and without a required signature, as the kernel's command line sets it.
const POLICIES: [(&str, &str); 2] = [("off", ""), ("on", "lockdown=integrity")];

#[test]
fn trixies_cloud_kernel_decides_as_foreseen() {
    agrees(&stage::with_kernel(Suite::trixie()), 24);
}

#[test]
fn bookworms_cloud_kernel_decides_as_foreseen() {
    agrees(&stage::with_kernel(Suite::bookworm()), 24);
}

#[test]
#[ignore = "long: run by `make verdicts`"]
fn trixies_standard_kernel_decides_as_foreseen() {
    agrees(&with(Suite::trixie(), Flavour::Plain, "6.12."), 200);
}

#[test]
#[ignore = "long: run by `make verdicts`"]
fn trixies_real_time_kernel_decides_as_foreseen() {
    agrees(&with(Suite::trixie(), Flavour::RealTime, "6.12."), 200);
}

#[test]
#[ignore = "long: run by `make verdicts`"]
fn unstables_kernel_decides_as_foreseen() {
    agrees(&with(Suite::sid(), Flavour::Cloud, "7."), 200);
}

/// The product and a kernel of the suite.
fn with(suite: &'static Suite, flavour: Flavour, series: &str) -> (Layer, Kernel) {
    let product = stage::product(suite);
    let kernel = Kernel::newest(&Root::on(&product), flavour, series);
    let layer = product.prepared("verdict-kernel", &kernel.release, |root| {
        kernel.install(root).ok();
    });
    (layer, kernel)
}

/// What `dkms check` said of a module.
struct Said {
    verdict: String,
    cause: Option<String>,
    why: String,
}

fn agrees((layer, kernel): &(Layer, Kernel), further: usize) {
    let root = Root::on(layer);
    let compiled = compile(&root, kernel);
    let mut rows = rows::all(&root, kernel, &compiled, &rows::own_module(&root, kernel));
    let signed = rows.iter().find(|row| row.name == "signed:stranger").unwrap().files[0].1.clone();
    rows.extend(rows::random(&compiled, &signed, further, &mut Random::from_env()));
    let files = write(&root, &rows);
    let mut wrong = Vec::new();
    for (secure_boot, words) in POLICIES {
        let said = check(&root, kernel, &files, secure_boot);
        let answers = insert(&root, kernel, program(), &rows, words);
        wrong.extend(disagreements(&rows, &said, &answers, secure_boot));
        assert_eq!(answers.len(), rows.len(), "not every row was inserted");
    }
    assert!(wrong.is_empty(), "{} disagreements\n{}", wrong.len(), wrong.join("\n"));
}

/// The program that inserts modules.
fn program() -> &'static [u8] {
    let read = || std::fs::read(env!("CARGO_BIN_EXE_insert")).unwrap();
    static PROGRAM: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    PROGRAM.get_or_init(read)
}

/// Checks each row: its files are a set.
fn check(
    root: &Root,
    kernel: &Kernel,
    files: &BTreeMap<String, Vec<String>>,
    secure_boot: &str,
) -> BTreeMap<String, Said> {
    let mut script = String::new();
    for (name, paths) in files {
        script.push_str(&format!(
            "echo '== {name}'; dkms check -k {} --secure-boot {secure_boot} --json {}\n",
            kernel.release,
            paths.join(" ")
        ));
    }
    root.write("/opt/oracle/check", script);
    let output = root.run("bash /opt/oracle/check").stdout;
    let mut said = BTreeMap::new();
    for part in output.split("== ").skip(1) {
        let (name, json) = part.split_once('\n').unwrap();
        let document = schemas::valid("check", json);
        let last = document["modules"].as_array().unwrap().last().unwrap().clone();
        let text = |field: &str| last[field].as_str().map(str::to_owned);
        said.insert(
            name.to_owned(),
            Said {
                verdict: text("verdict").unwrap(),
                cause: text("cause"),
                why: format!("{}{}", last["reasons"], last["notes"]),
            },
        );
    }
    said
}

/// The rows where kernel and check differ. Prints the figures of the table.
fn disagreements(
    rows: &[Row],
    said: &BTreeMap<String, Said>,
    answers: &BTreeMap<String, Inserted>,
    secure_boot: &str,
) -> Vec<String> {
    let (mut wrong, mut unknown, mut loaded, mut rejected, mut false_loads) = (Vec::new(), 0, 0, 0, 0);
    for row in rows {
        let Some(answer) = answers.get(&row.name).filter(|answer| answer.errno.is_some()) else {
            // Not every kernel decompresses modules itself.
            if !row.name.starts_with("xz:") {
                wrong.push(format!("{} was not inserted", row.name));
            }
            continue;
        };
        let (said, cause) = (&said[&row.name], answer.cause());
        *(if cause.is_none() { &mut loaded } else { &mut rejected }) += 1;
        let agreed = match said.verdict.as_str() {
            "unknown" => {
                unknown += 1;
                true
            }
            "loads" => cause.is_none(),
            // A wrong machine is a kind of wrong format for the kernel.
            _ => cause.is_some() && said.cause.as_deref() == cause,
        };
        if !agreed {
            false_loads += usize::from(said.verdict == "loads");
            wrong.push(format!(
                "secure boot {secure_boot}: {}: the kernel: {:?} {:?}; check: {} {:?} {}",
                row.name, answer.errno, answer.lines, said.verdict, said.cause, said.why
            ));
        }
    }
    let asked = loaded + rejected;
    eprintln!(
        "secure boot {secure_boot}: {asked} modules: {loaded} loaded, {rejected} rejected; {} disagreements, \
         {unknown} unknown, {false_loads} false \"loads\"",
        wrong.len()
    );
    let (least, least_rejected, least_loaded) = LEAST;
    if asked < least || rejected < least_rejected || secure_boot == "off" && loaded < least_loaded {
        wrong.push(format!("too few rows: {asked}, {rejected} rejected, {loaded} loaded"));
    }
    if unknown * 50 > asked {
        wrong.push(format!("{unknown} of {asked} verdicts are unknown"));
    }
    wrong
}
