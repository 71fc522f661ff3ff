//! Every dkms.conf of Debian has the same values in our evaluation as in bash.
//!
//! It has its own `main`, because the sandbox of bash starts this program again with other names.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use dkms_core::conf::bash::{self, Verdict};
use dkms_core::conf::evaluate::Inputs;
use dkms_core::conf::{Context, native};
use dkms_core::layout::Layout;
use dkms_core::sys::confine;
use dkms_core::types::Target;
use dkms_tests::corpus::{self, Package};

/// Kernels of an old, a current and a future series.
const KERNELS: [&str; 3] = ["6.1.0-56-amd64", "6.12.117+deb13-amd64", "7.1.4-cloud-amd64"];
/// The number of evaluations of a file for measuring.
const ROUNDS: u32 = 20;

fn main() -> ExitCode {
    if let Some(code) = confine::enter(&[]) {
        return code;
    }
    // The runner lists tests with libtest's options.
    let has = |word: &str| std::env::args().any(|arg| arg == word);
    if has("--list") {
        print!("{}", if has("--ignored") { "" } else { "every_conf_has_the_values_of_bash: test\n" });
        return ExitCode::SUCCESS;
    }
    let packages = corpus::packages();
    let confs: Vec<(&Package, &PathBuf)> =
        packages.iter().flat_map(|package| package.confs.iter().map(move |conf| (package, conf))).collect();
    // The same file may be in several suites.
    let contents: BTreeMap<Vec<u8>, &Path> =
        confs.iter().map(|(_, conf)| (std::fs::read(conf).unwrap(), conf.as_path())).collect();

    let queue = Mutex::new(contents.values());
    let (told, differences) = (Mutex::new(BTreeMap::new()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some(conf) = queue.lock().unwrap().next() else { break };
                    match compare(conf) {
                        Ok(answer) => drop(told.lock().unwrap().insert(std::fs::read(conf).unwrap(), answer)),
                        Err(difference) => differences.lock().unwrap().push(difference),
                    }
                }
            });
        }
    });
    let differences = differences.into_inner().unwrap();
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));

    let told = told.into_inner().unwrap();
    let answer = |conf: &PathBuf| told.get(&std::fs::read(conf).unwrap()).unwrap();
    for suite in corpus::suites() {
        let of_suite = || confs.iter().filter(|(package, _)| package.suite == suite);
        let natively = of_suite().filter(|(_, conf)| answer(conf).is_ok()).count();
        println!("{suite}: {} confs, {natively} natively, by bash:", of_suite().count());
        for (package, conf) in of_suite() {
            if let Err(why) = answer(conf) {
                println!("  {}: {why}", package.name);
            }
        }
    }
    let without: BTreeSet<&str> = packages
        .iter()
        .filter(|package| package.confs.is_empty())
        .map(|package| package.name.as_str())
        .collect();
    println!("packages without a dkms.conf: {}", Vec::from_iter(without).join(" "));
    let times: Vec<Duration> = told.values().flatten().copied().collect();
    let mean = times.iter().sum::<Duration>() / u32::try_from(times.len()).unwrap();
    println!(
        "{} confs, {} of them different, {} natively, {:.1} µs each in the mean",
        confs.len(),
        told.len(),
        times.len(),
        mean.as_nanos() as f64 / 1000.0
    );
    let least = 35 * corpus::suites().len();
    assert!(confs.len() > least, "Debian has more dkms.conf files than {}", confs.len());
    assert!(times.len() * 3 > told.len() * 2, "fewer than two of three are evaluated natively");
    println!("test result: ok. 1 passed; 0 failed");
    ExitCode::SUCCESS
}

/// Evaluates a file in both ways for all kernels. Returns the time of the native way, or why it was not used.
fn compare(conf: &Path) -> Result<Result<Duration, &'static str>, String> {
    let layout = Layout { etc: "/nonexistent".into(), ..Layout::default() };
    let module = "corpus/1".parse().unwrap();
    let mut answer = Ok(Duration::ZERO);
    for kernel in KERNELS {
        let target = Target { kernel: kernel.parse().unwrap(), arch: "x86_64".parse().unwrap() };
        let headers = layout.headers(&target.kernel);
        let context = Context {
            layout: &layout,
            module: &module,
            target: &target,
            headers: &headers,
            identity: "",
            destination: None,
            overrides: &[],
            directives: &[],
            environment: &[],
        };
        let inputs = Inputs::of_recipe(conf, &context).unwrap();
        let ours = match native::evaluate(&inputs) {
            Ok(raw) => raw,
            Err(why) => {
                answer = Err(why.0);
                continue;
            }
        };
        let bash = bash::evaluate(&inputs).unwrap();
        if bash != Verdict::Values(ours.clone()) {
            return Err(format!("{} for {kernel}: we say\n{ours:?}\nbash says\n{bash:?}", conf.display()));
        }
        answer = answer.map(|time| time + fastest(&inputs) / u32::try_from(KERNELS.len()).unwrap());
    }
    Ok(answer)
}

/// The minimum time of one evaluation.
fn fastest(inputs: &Inputs<'_>) -> Duration {
    let once = || {
        let start = Instant::now();
        std::hint::black_box(native::evaluate(std::hint::black_box(inputs)).unwrap());
        start.elapsed()
    };
    (0..ROUNDS).map(|_| once()).min().unwrap()
}
