//! The process of one contender: it does what it is asked on stdin and answers on stdout, a line of
//! JSON each. Everything that is measured of a contender is measured here, in a process that does
//! nothing else; so its CPU time includes all threads of the contender.

use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::ClockId;
use serde::{Deserialize, Serialize};

use crate::clock::read_clock;
use crate::contender::{Contender, Entrant, Job, Tally};

/// What a contender's process is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Opens it, and sweeps once.
    Open {
        devices: Vec<PathBuf>,
        /// How many paths: the devices, again and again.
        paths: usize,
        timeout_ms: u64,
        timed: bool,
    },
    /// Sweeps so often and so long, whichever is more.
    Sweep { sweeps: u64, least_ms: u64 },
    /// Tells the latencies of the last sweep.
    Latencies,
    /// Tells how late the verdicts of the last sweep were on what did not answer.
    Lateness,
    /// Gives everything back to the kernel.
    TearDown,
}

/// What a contender's process answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// `memory_bytes` is how much more memory without a file the process has than before.
    Opened {
        ns: u64,
        memory_bytes: u64,
    },
    Swept(Swept),
    Latencies(Vec<Option<u64>>),
    Lateness(Vec<u64>),
    TornDown {
        ns: u64,
    },
    Failed(String),
}

/// Some sweeps.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Swept {
    pub(crate) sweep_ns: Vec<u64>,
    pub(crate) cpu_ns: u64,
    pub(crate) syscalls: Option<u64>,
    /// What the last one showed.
    pub(crate) tally: Tally,
}

/// Serves until stdin ends. Returns the exit status of the process.
pub fn child_main(entrant: &Entrant) -> i32 {
    raise_open_files();
    let mut contender = None;
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        let answer = match serde_json::from_str(&line) {
            Ok(ask) => answer(entrant, &mut contender, &ask),
            Err(error) => Answer::Failed(error.to_string()),
        };
        let mut text = serde_json::to_string(&answer).unwrap_or_default();
        text.push('\n');
        let mut stdout = io::stdout().lock();
        if stdout.write_all(text.as_bytes()).is_err() || stdout.flush().is_err() {
            break;
        }
    }
    0
}

/// The hard limit is raised, too, where that is allowed.
pub(crate) fn raise_open_files() {
    const WANTED: u64 = 1 << 19;
    let both = |limit| Rlimit {
        current: limit,
        maximum: limit,
    };
    if setrlimit(Resource::Nofile, both(Some(WANTED))).is_err() {
        let hard = getrlimit(Resource::Nofile).maximum;
        let _ = setrlimit(Resource::Nofile, both(hard));
    }
}

fn answer(entrant: &Entrant, slot: &mut Option<Box<dyn Contender>>, ask: &Ask) -> Answer {
    match (ask, slot.as_mut()) {
        (Ask::Open { .. }, _) => open(entrant, slot, ask),
        (Ask::Sweep { sweeps, least_ms }, Some(contender)) => {
            let least = Duration::from_millis(*least_ms);
            Answer::Swept(sweep(contender.as_mut(), *sweeps, least))
        }
        (Ask::Latencies, Some(contender)) => Answer::Latencies(contender.latencies_us()),
        (Ask::Lateness, Some(contender)) => Answer::Lateness(contender.lateness_us()),
        (Ask::TearDown, Some(_)) => {
            let begin = Instant::now();
            *slot = None;
            Answer::TornDown { ns: ns(begin) }
        }
        (_, None) => Answer::Failed("it is not open".to_owned()),
    }
}

fn open(entrant: &Entrant, slot: &mut Option<Box<dyn Contender>>, ask: &Ask) -> Answer {
    let Ask::Open {
        devices,
        paths,
        timeout_ms,
        timed,
    } = ask
    else {
        return Answer::Failed("not to be opened".to_owned());
    };
    let job = Job {
        paths: devices.iter().cycle().take(*paths).cloned().collect(),
        timeout: Duration::from_millis(*timeout_ms),
        timed: *timed,
    };
    let before = memory_bytes();
    let begin = Instant::now();
    match (entrant.open)(&job) {
        Ok(mut contender) => {
            contender.sweep();
            let ns = ns(begin);
            *slot = Some(contender);
            let memory_bytes = memory_bytes().saturating_sub(before);
            Answer::Opened { ns, memory_bytes }
        }
        Err(reason) => Answer::Failed(reason),
    }
}

fn sweep(contender: &mut dyn Contender, sweeps: u64, least: Duration) -> Swept {
    let mut swept = Swept {
        sweep_ns: Vec::with_capacity(1 << 16),
        ..Swept::default()
    };
    let calls = contender.syscalls();
    let cpu = cpu_now();
    let begin = Instant::now();
    let mut last = Duration::ZERO;
    while (swept.sweep_ns.len() as u64) < sweeps || last < least {
        contender.sweep();
        let now = begin.elapsed();
        swept.sweep_ns.push((now - last).as_nanos() as u64);
        last = now;
    }
    swept.cpu_ns = (cpu_now() - cpu).as_nanos() as u64;
    swept.syscalls = contender
        .syscalls()
        .zip(calls)
        .map(|(now, then)| now - then);
    swept.tally = contender.tally();
    swept
}

/// CPU time of all threads of this process, those that the kernel runs for it included.
fn cpu_now() -> Duration {
    read_clock(ClockId::ProcessCPUTime)
}

fn ns(begin: Instant) -> u64 {
    begin.elapsed().as_nanos() as u64
}

/// Memory in use that has no file; 0 where the kernel does not tell.
fn memory_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
