//! The measurements, in the order of the table.

use std::path::Path;

use dkms_core::report::drawing;
use dkms_core::report::timeline::Span;

use super::bare::{self, Bare};
use super::machine::Machines;
use super::measure::{Processors, Run, children, mean, measure};
use super::schedule::{last_start, newest};
use super::table::Row;
use super::{recording, store, synthetic};
use crate::compat::Side;
use crate::kernels::Flavour;
use crate::{Kernel, Root, Suite, host};

/// A DKMS tree with this many modules for this many kernels.
const MANY: (usize, usize) = (617, 5);
/// The number of modules for Debian's dkms, which needs minutes for all of them.
const SOME: usize = 41;
/// The number of repetitions of measurements that are compared with the bare compilers.
const ROUNDS: usize = 3;
const MEBIBYTE: f64 = 1048576.0;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Everything.
    All,
    /// Only the rebuild for one kernel.
    Rebuild,
    /// Only the transaction after a pre-build.
    Ahead,
    /// Only the publication of cached builds.
    Publication,
    /// Only the store of builds.
    Store,
    /// Only look-ups in a large store.
    LookUp,
}

/// The measurements; each row is printed as soon as it is known.
pub fn all(packages: &[&str], wanted: Wanted, out: &Path, tell: &dyn Fn(&Row)) -> Vec<Row> {
    let machines = Machines::with(&[Flavour::Plain, Flavour::RealTime], packages);
    let mut bench = Bench {
        machines,
        out,
        tell,
        wanted,
        rows: Vec::new(),
        peak: 0,
        single: 0.0,
        modules: packages.len(),
    };
    match wanted {
        Wanted::Ahead => bench.ahead(),
        Wanted::Publication => bench.publication(),
        Wanted::Store => bench.store(),
        Wanted::LookUp => bench.look_up(),
        Wanted::All | Wanted::Rebuild => bench.heavy(),
    }
    if wanted == Wanted::All {
        bench.publication();
        bench.store();
        bench.many_modules();
    }
    bench.rows
}

struct Bench<'a> {
    machines: Machines,
    out: &'a Path,
    tell: &'a dyn Fn(&Row),
    wanted: Wanted,
    rows: Vec<Row>,
    peak: u64,
    /// The time of Debian's dkms for one kernel.
    single: f64,
    modules: usize,
}

impl Bench<'_> {
    fn row(&mut self, row: Row) {
        (self.tell)(&row);
        self.rows.push(row);
    }

    /// Builds, and everything on the machines that have them.
    fn heavy(&mut self) {
        let kernels = self.machines.kernels.clone();
        let debian = self.machines.fresh(Side::Debian);
        let ours = self.machines.fresh(Side::Ours);
        for root in [&debian, &ours] {
            warm(root);
        }
        let first = self.install(&debian, &format!("dkms autoinstall -k {}", kernels[0]), self.modules);
        self.single = first.wall;
        let mut commands = bare::commands(&debian, &kernels[0]);
        // Alternating, the minimum of each, because the speed of a machine varies.
        let command = format!("dkms autoinstall -k {}", kernels[0]);
        let mut one = self.install(&ours, &command, self.modules);
        let mut bars = newest(&ours);
        let mut alone = self.bare(&commands);
        for _ in 1..ROUNDS {
            let root = self.machines.fresh(Side::Ours);
            let again = self.install(&root, &command, self.modules);
            if again.wall < one.wall {
                (one, bars) = (again, newest(&root));
            }
            drop(root);
            let again = self.bare(&commands);
            if again.wall < alone.wall {
                alone = again;
            }
        }
        self.draw(&bars, "one-kernel", "one kernel", &one);
        self.row(
            Row::of(&format!("full rebuild, {} modules", self.modules))
                .times(Some(first.wall), one.wall)
                .bare(alone.wall)
                .must(
                    "2.4 x; at most 1.15 x the compilers",
                    first.wall / one.wall >= 2.4 && one.wall <= 1.15 * alone.wall,
                ),
        );
        let of_compilers = format!("{:.2} x the compilers' {:.0} s", one.cpu / alone.cpu, alone.cpu);
        self.row(Row::of("the same in processor time").times(Some(first.cpu), one.cpu).figure(of_compilers));
        self.busy(&bars, &one, Processors::All);
        self.before(&kernels[0], one.wall);
        self.ahead();
        if self.wanted == Wanted::Rebuild {
            return;
        }
        self.small(&debian, &ours, &kernels[0]);
        // Shell DKMS handles one kernel at a time. The first one was removed from this root before.
        let second = measure(&debian, &format!("dkms autoinstall -k {}", kernels[1]));
        // Not every module supports every kernel: ours must install as many as Debian's.
        let modules = self.modules + installed(&debian);
        commands.extend(bare::commands(&debian, &kernels[1]));
        let both_root = self.machines.fresh(Side::Ours);
        let both = self.install(&both_root, "dkms autoinstall --all", modules);
        self.draw(&newest(&both_root), "two-kernels", "two kernels at once", &both);
        both_root.run("dkms status --svg /opt/status.svg").ok();
        self.picture("status", &both_root.read("/opt/status.svg"));
        let alone = self.bare(&commands);
        let debian_both = first.wall + second.wall;
        self.row(Row::of("two kernels at once").times(Some(debian_both), both.wall).bare(alone.wall).must(
            "2.4 x; at most 1.10 x the compilers",
            debian_both / both.wall >= 2.4 && both.wall <= 1.10 * alone.wall,
        ));
        drop((debian, ours, both_root));
        let peak = self.peak as f64 / MEBIBYTE;
        self.row(
            Row::of("our own peak memory")
                .figure(format!("{peak:.1} MiB"))
                .must("under 40 MB", peak * 1.048_576 < 40.0),
        );
        self.one_processor(&kernels[0]);
    }

    /// The same builds as a pre-build, and the remaining transaction: the minimum of each, as for the measurement that
    /// it is compared with.
    fn before(&mut self, kernel: &Kernel, within: f64) {
        let runs: Vec<(f64, f64)> = (0..ROUNDS).map(|_| self.proven_first(kernel)).collect();
        let best = |of: fn(&(f64, f64)) -> f64| runs.iter().map(of).fold(f64::INFINITY, f64::min);
        let (all, over) = (best(|run| run.0), best(|run| run.1));
        let figure = format!("{:.2} x building in it; {over:+.2} s against one depmod in it", all / within);
        self.row(
            Row::of("built before the transaction, then installed")
                .times(None, all)
                .figure(figure)
                .must("1.05 x; one depmod + 1 s", all <= 1.05 * within && over <= 1.0),
        );
        let (seconds, line) =
            first_line(&self.machines.fresh(Side::Ours), &format!("dkms preflight {kernel}"));
        self.row(
            Row::of("until its first line")
                .figure(format!("{:.0} ms: {line}", seconds * 1000.0))
                .must("under 1 s", seconds < 1.0),
        );
    }

    /// A real transaction of apt that installs another kernel: with modules that were built ahead of it, against the same
    /// without any module, but with one more depmod. Alternating, because the speed of a machine varies; and only what
    /// hooks need counts, because it varies most while dpkg unpacks.
    fn ahead(&mut self) {
        // Of the flavour that no module excludes.
        let root = self.machines.fresh(Side::Ours);
        let kernel = Kernel::newest_but_one(&root, Flavour::Plain, Suite::trixie().kernel_series);
        drop(root);
        let (image, headers) = (kernel.image(), kernel.headers());
        let modules = self.modules;
        let ready = self.machines.ours.prepared("built-ahead", &kernel.release, |root| {
            // A machine has its key since its first module.
            root.run("dkms generate_mok; apt-get clean").ok();
            root.run(&format!("apt-get -q -y --download-only install {image} {headers}")).ok();
            root.run("dkms preflight /var/cache/apt/archives/*.deb").exits(0);
        });
        let transaction = |with_modules: bool| {
            let root = Root::on(&ready);
            if !with_modules {
                root.run("rm -rf /var/lib/dkms/[!.]*").ok();
                root.write_script("/etc/kernel/postinst.d/dkms", "#!/bin/sh\nexec depmod \"$1\"\n");
            }
            // Before and after the hooks of apt, and the hook of the kernel.
            let stamp = "date +%s%N >>/var/tmp/stamps";
            for name in ["dkm-before", "dkms-after"] {
                root.write_script(
                    &format!("/etc/kernel/postinst.d/{name}"),
                    &format!("#!/bin/sh\n{stamp}\n"),
                );
            }
            for name in ["00before", "zz-after"] {
                let conf = format!("DPkg::Pre-Install-Pkgs {{ \"{stamp}\"; }};\n");
                root.write(&format!("/etc/apt/apt.conf.d/{name}"), conf);
            }
            let run = measure(&root, &format!("apt-get -q -y install {image} {headers}"));
            let said = root.read("/var/tmp/said");
            assert!(run.exit == 0 && !said.contains("dkms: building"), "{said}");
            let installed = root.find(&kernel.dkms_dir(), "-name '*.ko*'").len();
            assert_eq!(installed >= modules, with_modules, "{installed} modules installed\n{said}");
            let stamps: Vec<f64> =
                root.read("/var/tmp/stamps").lines().map(|n| n.parse().expect("ns")).collect();
            assert_eq!(stamps.len(), 4, "{stamps:?}\n{said}");
            stamps.chunks(2).map(|pair| (pair[1] - pair[0]) / 1e9).sum()
        };
        let rounds: Vec<[f64; 2]> = (0..ROUNDS + 2).map(|_| [false, true].map(transaction)).collect();
        let [without, with] =
            [0, 1].map(|which| rounds.iter().map(|round| round[which]).fold(f64::INFINITY, f64::min));
        let over = with - without;
        self.row(
            Row::of(&format!("hooks of apt that installs a kernel, {modules} modules built ahead"))
                .times(None, with)
                .figure(format!("{:.2} x depmod and the same without a module; {over:+.2} s", with / without))
                .must("one depmod + 1 s", over <= 1.0),
        );
    }

    /// Builds that are finished, installed on a file system that syncs to a disk, beyond depmod: what the order on disk costs.
    fn publication(&mut self) {
        let kernel = self.machines.kernels[0].clone();
        let modules = self.modules;
        let built = self.machines.ours.prepared("built", &kernel.release, |root| {
            // The time of compression is not what is measured.
            root.write("/etc/dkms/framework.conf.d/bench.conf", "compress_xz_opts=\"-0\"\n");
            root.run(&format!("dkms autoinstall -k {kernel} && /etc/kernel/prerm.d/dkms {kernel}")).ok();
        });
        let image = host::roots_dir().join(format!("publication-{}", std::process::id()));
        let round = || {
            let root = Root::on(&built);
            let dirs = ["/usr/lib/modules", "/var/lib/dkms", "/var/cache/dkms"];
            let copies = dirs.map(|dir| {
                format!("mkdir -p $m{dir} && cp -a {dir}/. $m{dir} && mount --bind $m{dir} {dir}")
            });
            host::run_host(&format!("truncate -s 3G {0} && mkfs.ext4 -q {0}", image.display()));
            root.bind(host::roots_dir().as_path(), "/mnt", true);
            let name = image.file_name().unwrap_or_default().to_string_lossy().into_owned();
            root.run(&format!("m=/media && mount -o loop /mnt/{name} $m && {} && sync", copies.join(" && ")))
                .ok();
            let run = measure(&root, &format!("/etc/kernel/postinst.d/dkms {kernel} /boot/vmlinuz-{kernel}"));
            assert_eq!((run.exit, installed(&root)), (0, modules), "{}", root.read("/var/tmp/said"));
            (run.wall, run.wall - measure(&root, &format!("depmod {kernel}")).wall)
        };
        let rounds: Vec<(f64, f64)> = (0..3 * ROUNDS).map(|_| round()).collect();
        let best = |of: fn(&(f64, f64)) -> f64| rounds.iter().map(of).fold(f64::INFINITY, f64::min);
        let (all, over) = (best(|round| round.0), best(|round| round.1));
        std::fs::remove_file(&image).ok();
        self.row(
            Row::of(&format!("publication of {modules} cached builds, on a disk"))
                .times(None, all)
                .figure(format!("{over:+.2} s against one depmod")),
        );
    }

    /// A build that another machine has made: against a local build, the compilers and Debian's dkms.
    fn store(&mut self) {
        let kernel = self.machines.kernels[0].clone();
        let command = format!("dkms autoinstall -k {kernel}");
        let modules = self.modules;
        let debian = self.machines.fresh(Side::Debian);
        warm(&debian);
        let first = self.install(&debian, &command, modules);
        let commands = bare::commands(&debian, &kernel);
        drop(debian);
        let ours = self.machines.fresh(Side::Ours);
        let local = self.install(&ours, &command, modules);
        let alone = self.bare(&commands);
        ours.run("dkms store key bench && dkms store push /srv/store").ok();
        let key = ours.read("/etc/dkms/store.pub");
        let web = store::serve(ours.path("/srv/store"));
        let mut hits = (0..ROUNDS).map(|_| {
            let root = self.machines.fresh(Side::Ours);
            store::trust(&root, &web.url(), &key);
            let run = self.install(&root, &command, modules);
            let said = root.read("/var/tmp/said");
            assert!(!said.contains("dkms: building"), "{said}");
            (run.wall, run.wall - measure(&root, &format!("depmod {kernel}")).wall)
        });
        let first_hit = hits.next().expect("a round");
        let (hit, over) = hits.fold(first_hit, |a, b| (a.0.min(b.0), a.1.min(b.1)));
        self.row(
            Row::of(&format!("from a store, {modules} modules"))
                .times(Some(first.wall), hit)
                .bare(alone.wall)
                .figure(format!("{:.0} x a local build; {over:+.2} s against one depmod", local.wall / hit))
                .must("one depmod + 2 s", over <= 2.0),
        );
        self.look_up();
    }

    /// One look-up in a large store.
    fn look_up(&mut self) {
        let kernel = self.machines.kernels[0].clone();
        let root = self.machines.fresh(Side::Ours);
        for (place, look) in ["in a directory", "over the web"].iter().zip(store::look_ups(&root, &kernel)) {
            // The builds that it is compared with differ by as much.
            let ms = |seconds: f64| match seconds {
                ..0.005 => "under 5 ms".to_owned(),
                _ => format!("{:.0} ms", seconds * 1000.0),
            };
            self.row(
                Row::of(&format!("look-up in {} manifests {place}", store::ENTRIES))
                    .figure(format!("{} if missing, {} with signature", ms(look.miss), ms(look.hit)))
                    .must("under 50 ms", look.miss.max(look.hit) < 0.050),
            );
        }
    }

    /// The total seconds of the pre-build and the transaction; and the seconds of the transaction beyond depmod.
    fn proven_first(&mut self, kernel: &Kernel) -> (f64, f64) {
        let root = self.machines.fresh(Side::Ours);
        let proof = measure(&root, &format!("dkms preflight {kernel}"));
        assert_eq!((proof.exit, installed(&root)), (0, 0), "{}", root.read("/var/tmp/said"));
        self.peak = self.peak.max(proof.peak);
        let hook = format!("/etc/kernel/postinst.d/dkms {kernel} /boot/vmlinuz-{kernel}");
        let rest = self.install(&root, &hook, self.modules);
        let depmod = measure(&root, &format!("depmod {kernel}")).wall;
        (proof.wall + rest.wall, rest.wall - depmod)
    }

    /// Runs it, and requires this number of modules to be installed afterwards.
    fn install(&mut self, root: &Root, command: &str, modules: usize) -> Run {
        let run = measure(root, command);
        let said = root.read("/var/tmp/said");
        assert_eq!(installed(root), modules, "{command}: exit {}\n{said}", run.exit);
        self.peak = self.peak.max(run.peak);
        run
    }

    /// The compilers alone, in a root that has nothing built.
    fn bare(&self, commands: &[Bare]) -> Run {
        let root = self.machines.fresh(Side::Debian);
        bare::run(&root, commands, 2)
    }

    fn busy(&mut self, bars: &[Span], run: &Run, processors: Processors) {
        let until = last_start(bars);
        let busy = 100.0 * run.utilisation(until, processors);
        let jobs = if processors == Processors::First { "one job" } else { "a job a processor" };
        self.row(
            Row::of(&format!("busy until the last module starts, {jobs}"))
                .figure(format!("{busy:.0} % of {until:.0} s"))
                .must("90 %", busy >= 90.0),
        );
    }

    fn draw(&self, bars: &[Span], file: &str, what: &str, run: &Run) {
        let title = format!("{} modules, {what}: {:.1} s", self.modules, run.wall);
        self.picture(file, &drawing::svg(&title, bars, &run.busy));
    }

    fn picture(&self, file: &str, svg: &str) {
        let path = self.out.join(format!("{file}.svg"));
        std::fs::write(&path, svg).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }

    /// Measurements with few or no compilations. Both roots have all modules installed for the kernel.
    fn small(&mut self, debian: &Root, ours: &Root, kernel: &Kernel) {
        let status = (mean(debian, 1, "dkms status"), mean(ours, 50, "dkms status"));
        self.row(
            Row::of(&format!("dkms status, {} modules", self.modules))
                .times(Some(status.0), status.1)
                .must("200 x, under 15 ms", status.0 / status.1 >= 200.0 && status.1 < 0.015),
        );
        // All that the verification of a build reads and decides, and the signatures.
        let verdicts = mean(ours, 10, &format!("dkms check -k {kernel}"));
        self.row(
            Row::of(&format!("dkms check, {} modules", self.modules))
                .times(None, verdicts)
                .must("under 150 ms", verdicts < 0.150),
        );
        let hook = format!("/etc/kernel/postinst.d/dkms {kernel} /boot/vmlinuz-{kernel}");
        let idle = (mean(debian, 1, &hook), mean(ours, 50, &hook));
        let children = children(ours, &hook).len();
        self.row(
            Row::of("hook with nothing to do")
                .times(Some(idle.0), idle.1)
                .figure(format!("{children} child processes"))
                .must("under 10 ms, no child process", idle.1 < 0.010 && children == 0),
        );
        let change = "echo '/* changed */' >>$(ls -d /usr/src/bbswitch-*)/bbswitch.c";
        for root in [debian, ours] {
            root.run(change).ok();
        }
        let id =
            debian.status().into_iter().find(|l| l.module.starts_with("bbswitch/")).expect("bbswitch").module;
        let by_hand = format!("dkms unbuild {id} -k {kernel} && dkms install {id} -k {kernel}");
        let changed = (measure(debian, &by_hand), measure(ours, &hook));
        assert_eq!((changed.0.exit, changed.1.exit), (0, 0));
        self.row(
            Row::of("one changed module")
                .times(Some(changed.0.wall), changed.1.wall)
                .figure("Debian's has to be told which".to_owned()),
        );
        let remove = format!("/etc/kernel/prerm.d/dkms {kernel}");
        let gone = (measure(debian, &remove), measure(ours, &remove));
        for root in [debian, ours] {
            assert_eq!(installed(root), 0, "{}", root.read("/var/tmp/said"));
        }
        self.row(Row::of("removal of the kernel").times(Some(gone.0.wall), gone.1.wall));
        let depmod = measure(ours, &format!("depmod {kernel}")).wall;
        let again = self.install(ours, &hook, self.modules);
        self.row(
            Row::of("the kernel comes back (built before)")
                .times(Some(self.single), again.wall)
                .figure(format!("{:+.2} s against one depmod", again.wall - depmod))
                .must("one depmod + 1 s", again.wall <= depmod + 1.0),
        );
    }

    /// The same work with one processor, and the extrapolation to more.
    fn one_processor(&mut self, kernel: &Kernel) {
        let root = self.machines.fresh(Side::Ours);
        warm(&root);
        let run = self.install(&root, &format!("taskset -c 0 dkms autoinstall -k {kernel}"), self.modules);
        self.busy(&newest(&root), &run, Processors::First);
        let with_one = recording::seconds(&newest(&root));
        drop(root);
        let root = self.machines.fresh(Side::Ours);
        let with_two = recording::one_by_one(&root, kernel, with_one.keys().cloned());
        let path = self.out.join("recorded.txt");
        std::fs::write(&path, recording::lines(&with_one, &with_two)).unwrap();
    }

    fn many_modules(&mut self) {
        let fresh = |side| {
            let root = self.machines.fresh(side);
            root.run("rm -rf /var/lib/dkms/* /usr/src/*-[0-9]*; mkdir -p /var/lib/dkms").ok();
            root
        };
        let (debian, ours, whole) = (fresh(Side::Debian), fresh(Side::Ours), fresh(Side::Ours));
        synthetic::fill(&debian, SOME, MANY.1);
        synthetic::fill(&ours, SOME, MANY.1);
        synthetic::fill(&whole, MANY.0, MANY.1);
        let some = (mean(&debian, 1, "dkms status"), mean(&ours, 20, "dkms status"));
        let lines = ours.status().len();
        assert_eq!((lines, debian.status().len()), (SOME * MANY.1, SOME * MANY.1));
        self.row(
            Row::of(&format!("dkms status, {SOME} modules x {} kernels", MANY.1)).times(Some(some.0), some.1),
        );
        let all = mean(&whole, 20, "dkms status");
        self.row(
            Row::of(&format!("dkms status, {} modules x {} kernels", MANY.0, MANY.1))
                .times(None, all)
                .must("under 100 ms", all < 0.100),
        );
        let early = synthetic::remove(&whole, 1..=100);
        synthetic::remove(&whole, 101..=517);
        let late = synthetic::remove(&whole, 518..=617);
        self.row(
            Row::of(&format!("removal of each of {} modules", MANY.0))
                .times(None, early)
                .figure(format!("{:.2} x as long as each of the last", early / late)),
        );
    }
}

fn installed(root: &Root) -> usize {
    root.status().iter().filter(|line| line.state == "installed").count()
}

/// Reads the inputs of all builds into the page cache, so that no measurement has to.
fn warm(root: &Root) {
    root.run("find /usr/src/ /usr/lib/gcc /usr/libexec/gcc -type f -print0 | xargs -0 cat >/dev/null").ok();
}

/// The seconds until a command prints its first line, and the line.
fn first_line(root: &Root, command: &str) -> (f64, String) {
    let timed = format!(
        "begin=$EPOCHREALTIME; {command} 2>&1 | {{ read -r line; echo \"$begin $EPOCHREALTIME $line\"; cat >/dev/null; }}"
    );
    let said = root.run(&timed).ok().stdout;
    let mut words = said.trim_end().splitn(3, ' ');
    let mut time = || words.next().and_then(|word| word.parse::<f64>().ok()).expect("a time");
    let (begin, end) = (time(), time());
    (end - begin, words.next().unwrap_or_default().to_owned())
}
