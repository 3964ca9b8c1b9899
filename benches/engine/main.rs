//! Cost of a check: CPU time of the checking thread, user and kernel, for one read with a linked
//! timeout, its verdict, status and histogram.
//!
//! It sweeps over 1 to 4,096 paths on 64 loop devices over files in memory, and compares with the
//! baseline (see `pathpulse_bench::Baseline`): `cargo bench --bench engine`. Needs root.
//!
//! After that it prints a table of all backends and the baseline in alternation, with the system
//! calls per check.

#![allow(missing_docs, clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BenchmarkId, Criterion, Throughput};
use pathpulse::{BackendKind, Choice, State, Sweep};
use pathpulse_bench::{Baseline, read_clock};
use pathpulse_faultdisk::PlainDisks;
use rustix::time::ClockId;

const DEVICES: usize = 64;
const PATHS: [usize; 4] = [1, 64, 1024, 4096];
const TIMEOUT: Duration = Duration::from_secs(2);
/// Number of rounds in which the contenders alternate, for the table.
const ROUNDS: usize = 15;

/// CPU time of the calling thread.
struct CpuTime;

fn cpu_now() -> Duration {
    read_clock(ClockId::ThreadCPUTime)
}

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        cpu_now()
    }

    fn end(&self, start: Duration) -> Duration {
        cpu_now() - start
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

fn sweep_over(paths: &[PathBuf], backend: BackendKind) -> Sweep {
    let backend = Choice::Only(backend);
    let sweep = Sweep::new(paths, TIMEOUT, backend).expect("all devices can be checked");
    assert!(sweep.status().all(|path| path.state == State::Up));
    sweep
}

fn paths(devices: &PlainDisks, count: usize) -> Vec<PathBuf> {
    devices
        .paths()
        .iter()
        .cycle()
        .take(count)
        .cloned()
        .collect()
}

fn criterion_figures(devices: &PlainDisks) {
    let mut criterion = Criterion::default()
        .with_measurement(CpuTime)
        .configure_from_args();
    let mut group = criterion.benchmark_group("cpu_time_per_sweep");
    for count in PATHS {
        let paths = paths(devices, count);
        group.throughput(Throughput::Elements(count as u64));
        let mut sweep = sweep_over(&paths, BackendKind::IoUring);
        group.bench_function(BenchmarkId::new("pathpulse", count), |bencher| {
            bencher.iter(|| assert_eq!(sweep.run().checked, count));
        });
        drop(sweep);
        let mut baseline = Baseline::new(&paths, TIMEOUT).expect("a ring");
        group.bench_function(BenchmarkId::new("baseline", count), |bencher| {
            bencher.iter(|| baseline.sweep().expect("all answer"));
        });
    }
    group.finish();
}

/// Sweeps for about a hundred thousand checks, or fewer if there are few paths. Returns nanoseconds
/// of CPU time per check.
fn measure(count: usize, mut sweep: impl FnMut()) -> f64 {
    let sweeps = (100_000 / count).clamp(20, 5_000);
    let start = cpu_now();
    for _ in 0..sweeps {
        sweep();
    }
    (cpu_now() - start).as_nanos() as f64 / (sweeps * count) as f64
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// The sweep of one backend, and its results so far.
struct Contender {
    kind: BackendKind,
    sweep: Sweep,
    cpu_ns: Vec<f64>,
    ratios: Vec<f64>,
    checks: u64,
    syscalls_before: u64,
}

impl Contender {
    fn new(kind: BackendKind, paths: &[PathBuf]) -> Contender {
        let sweep = sweep_over(paths, kind);
        Contender {
            kind,
            syscalls_before: sweep.stats().syscalls,
            sweep,
            cpu_ns: Vec::new(),
            ratios: Vec::new(),
            checks: 0,
        }
    }

    fn syscalls_per_check(&self) -> f64 {
        (self.sweep.stats().syscalls - self.syscalls_before) as f64 / self.checks as f64
    }
}

/// Measures all backends and the baseline in alternation. Only the CPU time of the checking thread
/// counts, not that of the threads that make the reads of `sync`.
fn table(devices: &PlainDisks) {
    println!(
        "CPU ns per check, medians of {ROUNDS} rounds in turns, {DEVICES} loop devices in memory"
    );
    println!("paths  backend    CPU ns  of baseline  syscalls/check");
    for count in PATHS {
        let paths = paths(devices, count);
        let mut baseline = Baseline::new(&paths, TIMEOUT).expect("a ring");
        let mut contenders = Choice::KINDS.map(|kind| Contender::new(kind, &paths));
        let mut least = vec![];
        for _ in 0..ROUNDS {
            let theirs = measure(count, || {
                assert_eq!(baseline.sweep().expect("a ring"), count as u64);
            });
            least.push(theirs);
            for contender in &mut contenders {
                let Contender { sweep, checks, .. } = contender;
                let ours = measure(count, || *checks += sweep.run().checked as u64);
                contender.cpu_ns.push(ours);
                contender.ratios.push(ours / theirs);
            }
        }
        println!("{count:>5}  baseline   {:>6.0}", median(least));
        for contender in contenders {
            println!(
                "{count:>5}  {:<9}  {:>6.0}  {:>11.2}  {:>14.3}",
                contender.kind.to_string(),
                median(contender.cpu_ns.clone()),
                median(contender.ratios.clone()),
                contender.syscalls_per_check(),
            );
        }
    }
}

fn main() {
    let devices = match PlainDisks::new(DEVICES, 1 << 20, Path::new("/dev/shm")) {
        Ok(devices) => devices,
        Err(error) => {
            println!("no loop devices, nothing measured: {error}");
            return;
        }
    };
    criterion_figures(&devices);
    table(&devices);
}
