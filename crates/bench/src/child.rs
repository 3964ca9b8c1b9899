//! The process of one contender. It reads requests from stdin and writes replies to stdout, one
//! JSON document per line. All measurements of a contender are made here, in a process that does
//! nothing else, so its CPU time includes all threads of the contender.

use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::ClockId;
use serde::{Deserialize, Serialize};

use crate::clock::read_clock;
use crate::contender::{Contender, ContenderType, Job, PathCounts};

/// A request to a contender's process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum RequestMsg {
    /// Open the contender and sweep once.
    Open {
        devices: Vec<PathBuf>,
        /// The number of paths: the devices, repeated.
        paths: usize,
        timeout_ms: u64,
        timed: bool,
    },
    /// Sweep until both this number and this time are reached.
    Sweep { sweeps: u64, min_ms: u64 },
    /// Return the latencies of the last sweep.
    Latencies,
    /// Return how late the verdicts of the last sweep were for paths that did not answer.
    Lateness,
    /// Release everything to the kernel.
    TearDown,
}

/// A reply of a contender's process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum ReplyMsg {
    /// `memory_bytes` is the increase of the process's anonymous memory.
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

/// The measurements of some sweeps.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Swept {
    pub(crate) sweep_ns: Vec<u64>,
    pub(crate) cpu_ns: u64,
    pub(crate) syscalls: Option<u64>,
    /// The result of the last sweep.
    pub(crate) path_counts: PathCounts,
}

/// Serves requests until stdin ends. Returns the exit status of the process.
pub fn child_main(contender_type: &ContenderType) -> i32 {
    raise_open_files();
    let mut contender = None;
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        let answer = match serde_json::from_str(&line) {
            Ok(request) => answer(contender_type, &mut contender, &request),
            Err(error) => ReplyMsg::Failed(error.to_string()),
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

/// Raises the limit of open files, and also the hard limit if that is allowed.
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

fn answer(
    contender_type: &ContenderType,
    slot: &mut Option<Box<dyn Contender>>,
    request: &RequestMsg,
) -> ReplyMsg {
    match (request, slot.as_mut()) {
        (RequestMsg::Open { .. }, _) => open(contender_type, slot, request),
        (RequestMsg::Sweep { sweeps, min_ms }, Some(contender)) => {
            let min_time = Duration::from_millis(*min_ms);
            ReplyMsg::Swept(sweep(contender.as_mut(), *sweeps, min_time))
        }
        (RequestMsg::Latencies, Some(contender)) => ReplyMsg::Latencies(contender.latencies_us()),
        (RequestMsg::Lateness, Some(contender)) => ReplyMsg::Lateness(contender.lateness_us()),
        (RequestMsg::TearDown, Some(_)) => {
            let begin = Instant::now();
            *slot = None;
            ReplyMsg::TornDown { ns: ns(begin) }
        }
        (_, None) => ReplyMsg::Failed("the contender is not open".to_owned()),
    }
}

fn open(
    contender_type: &ContenderType,
    slot: &mut Option<Box<dyn Contender>>,
    request: &RequestMsg,
) -> ReplyMsg {
    let RequestMsg::Open {
        devices,
        paths,
        timeout_ms,
        timed,
    } = request
    else {
        return ReplyMsg::Failed("not an open request".to_owned());
    };
    let job = Job {
        paths: devices.iter().cycle().take(*paths).cloned().collect(),
        timeout: Duration::from_millis(*timeout_ms),
        timed: *timed,
    };
    let before = memory_bytes();
    let begin = Instant::now();
    match (contender_type.open)(&job) {
        Ok(mut contender) => {
            contender.sweep();
            let ns = ns(begin);
            *slot = Some(contender);
            let memory_bytes = memory_bytes().saturating_sub(before);
            ReplyMsg::Opened { ns, memory_bytes }
        }
        Err(reason) => ReplyMsg::Failed(reason),
    }
}

fn sweep(contender: &mut dyn Contender, sweeps: u64, min_time: Duration) -> Swept {
    let mut swept = Swept {
        sweep_ns: Vec::with_capacity(1 << 16),
        ..Swept::default()
    };
    let calls = contender.syscalls();
    let cpu = cpu_now();
    let begin = Instant::now();
    let mut last = Duration::ZERO;
    while (swept.sweep_ns.len() as u64) < sweeps || last < min_time {
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
    swept.path_counts = contender.path_counts();
    swept
}

/// CPU time of all threads of this process, including kernel threads that work for it.
fn cpu_now() -> Duration {
    read_clock(ClockId::ProcessCPUTime)
}

fn ns(begin: Instant) -> u64 {
    begin.elapsed().as_nanos() as u64
}

/// Anonymous memory in use, or 0 if the kernel does not report it.
fn memory_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
