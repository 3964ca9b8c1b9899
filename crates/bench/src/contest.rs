//! Sweeps over healthy paths: all contenders open at the same time, taking turns.

use std::time::Duration;

use crate::devices::Bed;
use crate::figures::percentile;
use crate::plan::{Plan, Refusal, open_ask};
use crate::progress::Progress;
use crate::remote::{Remote, Trouble};
use crate::report::{Report, Row};
use crate::{FIO, fio, strace};

/// Deadline of the checks, which all are made long before.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(2);
/// How long a contender may take for anything here.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// Turns of each contender where only the cost is wanted.
pub(crate) const COST_ROUNDS: usize = 5;
/// A turn: so many sweeps at least, and so long.
const SWEEPS: u64 = 3;
const TURN: Duration = Duration::from_millis(100);

/// What is measured beside the turns.
pub(crate) enum Extent {
    /// System calls and teardown, too.
    All,
    /// Nothing else, and few turns.
    Cost,
}

struct Running {
    row: Row,
    remote: Result<Remote, Trouble>,
    turns: Turns,
}

/// One figure for each round.
#[derive(Default)]
struct Turns {
    checks_per_s: Vec<f64>,
    cpu_ns: Vec<f64>,
    syscalls: Vec<f64>,
    /// Of all rounds.
    sweep_ms: Vec<f64>,
}

/// Lets the contenders sweep over so many paths of the bed.
pub(crate) fn contest(
    plan: &Plan,
    names: &[&'static str],
    bed: &Bed,
    paths: usize,
    extent: &Extent,
    progress: &Progress,
) -> Result<Report, Refusal> {
    let rounds = match extent {
        Extent::All => plan.rounds,
        Extent::Cost => COST_ROUNDS,
    };
    let mut running: Vec<Running> = names
        .iter()
        .map(|name| {
            progress.step(&format!("{name}: {paths} paths are opened"))?;
            Ok(start(plan, name, bed, paths))
        })
        .collect::<Result<_, Refusal>>()?;
    for _ in 0..rounds {
        for contender in &mut running {
            progress.step(&format!("{}: {paths} paths are swept", contender.row.name))?;
            take_turn(contender, bed, paths);
        }
    }
    let rows = running.into_iter().map(|mut contender| {
        progress.step(&format!("{}: is torn down", contender.row.name))?;
        contender.enter_turns();
        Ok(match extent {
            Extent::All => finish(plan, contender, bed, paths),
            Extent::Cost => contender.row,
        })
    });
    Ok(Report {
        device: bed.name(),
        paths,
        rounds,
        contenders: rows.collect::<Result<_, Refusal>>()?,
        full: None,
    })
}

fn start(plan: &Plan, name: &'static str, bed: &Bed, paths: usize) -> Running {
    let mut row = Row::new(name);
    let remote = if name == FIO {
        fio::is_installed()
            .and_then(|()| Err(Trouble::Failed("fio is a program of its own".to_owned())))
    } else {
        Remote::start(plan.child_command(name)).and_then(|mut remote| {
            let took = remote.open(&open_ask(bed.paths(), paths, TIMEOUT, false), LIMIT)?;
            row.enter_once("setup_ms", took.as_secs_f64() * 1e3);
            Ok(remote)
        })
    };
    Running {
        row,
        remote,
        turns: Turns::default(),
    }
}

fn take_turn(contender: &mut Running, bed: &Bed, paths: usize) {
    let turns = &mut contender.turns;
    if contender.row.name == FIO {
        match fio::run(bed.paths(), paths) {
            Ok(ran) => {
                turns.checks_per_s.push(ran.reads_per_s);
                turns.cpu_ns.push(ran.cpu_ns_per_read);
                contender.row.bad_paths = Some(0);
            }
            Err(trouble) => contender.row.lacks_the_rest(&trouble.reason("fio")),
        }
        return;
    }
    let Ok(remote) = &mut contender.remote else {
        return;
    };
    match remote.sweep(SWEEPS, TURN, LIMIT) {
        Ok(swept) => {
            let sweeps = swept.sweep_ns.len() as f64;
            let checks = sweeps * paths as f64;
            let ns: u64 = swept.sweep_ns.iter().sum();
            turns.checks_per_s.push(checks / ns as f64 * 1e9);
            turns.cpu_ns.push(swept.cpu_ns as f64 / checks);
            let calls = swept.syscalls.map(|calls| calls as f64 / checks);
            turns.syscalls.extend(calls);
            let ms = swept.sweep_ns.iter().map(|ns| *ns as f64 / 1e6);
            turns.sweep_ms.extend(ms);
            contender.row.bad_paths = Some(swept.tally.bad);
        }
        Err(trouble) => contender.remote = Err(trouble),
    }
}

impl Running {
    /// Writes the medians of all turns into the row.
    fn enter_turns(&mut self) {
        let Running { row, turns, .. } = self;
        row.enter("checks_per_s", &turns.checks_per_s);
        row.enter("cpu_ns_per_check", &turns.cpu_ns);
        row.enter("syscalls_per_check", &turns.syscalls);
        for (field, percent) in [("sweep_ms_p50", 50.0), ("sweep_ms_p99", 99.0)] {
            if let Some(ms) = percentile(&turns.sweep_ms, percent) {
                row.enter_once(field, ms);
            }
        }
        if let Err(trouble) = &self.remote
            && row.name != FIO
        {
            row.lacks_the_rest(&trouble.reason("it did not answer"));
        }
    }
}

/// Measures what is to be measured once.
fn finish(plan: &Plan, contender: Running, bed: &Bed, paths: usize) -> Row {
    let Running {
        mut row,
        mut remote,
        turns,
    } = contender;
    let works = remote.is_ok() || !turns.checks_per_s.is_empty();
    if works && row.syscalls_per_check.is_none() {
        match strace::syscalls_per_check(plan, row.name, bed.paths(), paths) {
            Ok(calls) => row.enter_once("syscalls_per_check", calls),
            Err(reason) => row.lacks("syscalls_per_check", reason),
        }
    }
    match &mut remote {
        Ok(remote) => match remote.tear_down(LIMIT) {
            Ok(took) => {
                row.enter_once("teardown_ms", took.as_secs_f64() * 1e3);
                let open = open_ask(bed.paths(), paths, TIMEOUT, false);
                match remote.open(&open, LIMIT) {
                    Ok(again) => row.enter_once("reload_ms", (took + again).as_secs_f64() * 1e3),
                    Err(trouble) => row.lacks("reload_ms", trouble.reason("it did not open")),
                }
            }
            Err(trouble) => {
                let reason = trouble.reason("its teardown had not ended");
                row.lacks("teardown_ms", &*reason);
                row.lacks("reload_ms", reason);
            }
        },
        Err(_) if row.name == FIO && works => {
            for field in ["sweep_ms_p50", "sweep_ms_p99"] {
                row.lacks(field, "fio reads on and on, and has no sweeps");
            }
            for field in ["setup_ms", "teardown_ms", "teardown_stuck_ms", "reload_ms"] {
                row.lacks(field, "fio does not tell its own from its job's");
            }
        }
        Err(trouble) => {
            let reason = trouble.reason("it did not answer");
            row.lacks_the_rest(&reason);
        }
    }
    row
}
