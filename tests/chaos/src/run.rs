//! One run: scripts for all disks, a daemon that watches them, and an oracle for each disk.
//!
//! ```text
//! disk driver (threads) --ActionStarted, ActionDone--> \
//! daemon's events (thread) --Event-->  messages --> this thread: oracles, scripts --> disk driver
//! control (thread) --ControlRead, Stall--> /
//! ```
//! Messages are checked when the control has reached their time, because only then it is known
//! whether the machine stalled. The disk driver reports the start of an action before it carries it
//! out, so messages about the consequences never come first.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Write};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::control;
use crate::daemon::{Daemon, Settings};
use crate::disk_driver::{DiskDriver, Disks};
use crate::limits::{At, Limits};
use crate::message::{Clock, RunMsg};
use crate::oracle::Finding;
use crate::report::Report;
use crate::scenario_runner::ScenarioRunner;
use crate::script::{Action, FaultMix, script};
use crate::usage::Usage;

/// The longest wait for messages.
const MESSAGE_WAIT: Duration = Duration::from_millis(20);
/// The longest delivery time of a message within this process.
const DELIVERY_TIME: Duration = Duration::from_millis(5);
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
/// The time limit for the first checks of all paths.
const FIRST_CHECKS: Duration = Duration::from_secs(10);
/// The number of findings that are printed with their history.
const PRINTED: usize = 20;

/// The options of a run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Seed of the random faults.
    pub seed: u64,
    /// Number of disks.
    pub disks: usize,
    /// How to start the daemon.
    pub daemon: Settings,
    /// Which faults are allowed.
    pub mix: FaultMix,
}

/// When to stop injecting faults.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// After this many faults.
    Faults(u64),
    /// After this time.
    Passed(Duration),
}

/// See the module documentation.
pub struct Run {
    options: Options,
    limits: Limits,
    clock: Clock,
    disks: Arc<Disks>,
    driver: DiskDriver,
    daemon: Daemon,
    messages: Receiver<RunMsg>,
    /// Messages later than the control's time.
    waiting: VecDeque<RunMsg>,
    /// The control's time.
    control_time: At,
    control: JoinHandle<()>,
    disk_by_name: HashMap<String, usize>,
    runners: Vec<ScenarioRunner>,
    report: Report,
    sampled: At,
    printed: At,
    interrupted: Arc<AtomicBool>,
    _folder: tempfile::TempDir,
}

impl Run {
    /// Creates the disks, starts a daemon, and waits until it reports all of them up. `rig_server`
    /// runs the rig's other processes, see [`pathpulse_faultdisk::Rig::start_with`].
    ///
    /// # Errors
    /// What could not be created or started.
    pub fn start(options: Options, rig_server: Command) -> io::Result<Run> {
        // Without these handlers the daemon would outlive this process.
        let interrupted = Arc::<AtomicBool>::default();
        for signal in [SIGTERM, SIGINT] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
        }
        let folder = tempfile::tempdir()?;
        let disks = Arc::new(Disks::create(rig_server, options.disks, folder.path())?);
        let clock = Clock::start();
        let (sender, messages) = channel();
        let daemon = Daemon::start(&options.daemon, disks.names(), folder.path())?;
        daemon.follow(clock, sender.clone())?;
        let limits = options.daemon.limits;
        let names = disks.names().iter();
        let disk_by_name = names
            .enumerate()
            .map(|(number, name)| (name.to_string_lossy().into_owned(), number))
            .collect();
        let mut run = Run {
            driver: DiskDriver::start(&disks, clock, &sender),
            runners: (0..options.disks)
                .map(|disk| ScenarioRunner::new(limits, options.seed, disk))
                .collect(),
            options,
            limits,
            clock,
            control: control::start(disks.control(), clock, sender)?,
            disks,
            daemon,
            messages,
            waiting: VecDeque::new(),
            control_time: At::ZERO,
            disk_by_name,
            report: Report::default(),
            sampled: At::ZERO,
            printed: At::ZERO,
            interrupted,
            _folder: folder,
        };
        run.wait_for_first_checks()?;
        Ok(run)
    }

    fn wait_for_first_checks(&mut self) -> io::Result<()> {
        let end = self.clock.now() + FIRST_CHECKS;
        while self.runners.iter().any(|p| p.oracle.state() == "pending") {
            self.process_messages(MESSAGE_WAIT)?;
            if self.clock.now() > end {
                let log = self.daemon.log();
                return Err(io::Error::other(format!("not all paths are up: {log}")));
            }
        }
        self.report.usage_first = self.sample()?;
        Ok(())
    }

    /// Injects faults. Returns when all disks are healthy again and reported as such.
    ///
    /// # Errors
    /// A disk failed, or the daemon has ended.
    pub fn inject(&mut self, until: Until) -> io::Result<()> {
        let begin = self.clock.now();
        loop {
            let more = match until {
                Until::Faults(faults) => self.report.injected() < faults,
                Until::Passed(time) => self.clock.now() - begin < time,
            };
            let busy = self.advance(more);
            if !more && !busy {
                return Ok(());
            }
            self.process_messages(MESSAGE_WAIT)?;
        }
    }

    /// Only observes events for this time. No fault explains them.
    ///
    /// # Errors
    /// The daemon has ended.
    pub fn observe(&mut self, time: Duration) -> io::Result<()> {
        let end = self.clock.now() + time;
        while self.clock.now() < end {
            self.process_messages(MESSAGE_WAIT)?;
        }
        Ok(())
    }

    /// Ends the run and returns the report.
    ///
    /// # Errors
    /// What does not end.
    pub fn end(mut self) -> io::Result<Report> {
        self.observe(self.limits.detection_limit(Duration::ZERO))?;
        self.report.usage_last = self.sample()?;
        let status = self.daemon.status()?;
        for path in &status.paths {
            let oracle = &self.runners[self.disk_by_name[&path.path]].oracle;
            self.report.checks += path.checks.total;
            self.report.unknown += path.checks.unknown;
            if path.state != oracle.state() {
                let (name, event) = (&path.path, oracle.state());
                let text = format!(
                    "{name}: the status is {}, but the last event said {event}",
                    path.state
                );
                self.report.violations.push(text);
            }
        }
        self.report.backend = status.backend;
        let (ended, took) = self.daemon.stop()?;
        if !ended.success() || took > Duration::from_secs(1) {
            let text = format!("the daemon took {took:?} to stop: {ended}");
            self.report.violations.push(text);
        }
        // The threads end because nobody receives, and close the control disk.
        drop((self.driver, self.messages));
        let _ = self.control.join();
        if let Some(disks) = Arc::into_inner(self.disks) {
            disks.shutdown()?;
        }
        Ok(self.report)
    }

    /// The report so far.
    pub fn report_mut(&mut self) -> &mut Report {
        &mut self.report
    }

    /// The daemon's current resource usage.
    ///
    /// # Errors
    /// The daemon does not answer.
    pub fn sample(&mut self) -> io::Result<Usage> {
        let paths = self.daemon.status()?.paths;
        let stuck = paths.iter().filter(|path| path.stuck_ms.is_some());
        let usage = Usage::of(self.daemon.pid(), stuck.count() as u64)?;
        self.report.usage_max = self.report.usage_max.max(usage);
        Ok(usage)
    }

    /// Waits for messages for at most `limit`, handles all available ones, and checks for missing
    /// events.
    fn process_messages(&mut self, limit: Duration) -> io::Result<()> {
        if self.interrupted.load(Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        match self.messages.recv_timeout(limit) {
            Ok(message) => self.receive(message),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(io::Error::other("all message sources have ended"));
            }
        }
        while let Ok(message) = self.messages.try_recv() {
            self.receive(message);
        }
        while self
            .waiting
            .front()
            .is_some_and(|n| n.at() <= self.control_time)
        {
            if let Some(message) = self.waiting.pop_front() {
                self.handle(message)?;
            }
        }
        let now = self.control_time;
        for disk in 0..self.runners.len() {
            let runner = &mut self.runners[disk];
            let at = now.saturating_sub(DELIVERY_TIME);
            let (finding, strict) = (
                runner.oracle.check_overdue(at),
                runner.strict_oracle.check_overdue(at),
            );
            self.record(disk, finding, strict);
        }
        if now > self.sampled + SAMPLE_EVERY {
            self.sampled = now;
            let usage = self.sample()?;
            if now > self.printed + PROGRESS_EVERY {
                self.printed = now;
                print_line(&format!(
                    "{:6.1} s: {} faults, {} events, {} violations; the daemon: {usage}",
                    now.as_secs_f64(),
                    self.report.injected(),
                    self.report.events,
                    self.report.violations.len()
                ));
            }
        }
        Ok(())
    }

    /// Messages of the control are handled at once. All others wait for the control's time.
    fn receive(&mut self, message: RunMsg) {
        match message {
            RunMsg::ControlRead(at) => self.control_time = at,
            RunMsg::Stall(from, to) => {
                self.control_time = to;
                self.report.stalled += to - from;
                let runners = self.runners.iter_mut();
                runners.for_each(|runner| runner.oracle.stalled(from, to));
            }
            other => self.waiting.push_back(other),
        }
    }

    fn handle(&mut self, message: RunMsg) -> io::Result<()> {
        match message {
            RunMsg::ControlRead(_) | RunMsg::Stall(..) => {}
            RunMsg::ActionStarted(disk, action, at) => {
                let runner = &mut self.runners[disk];
                for fault in action.phases() {
                    runner.oracle.begin(fault, at);
                    runner.strict_oracle.begin(fault, at);
                }
            }
            RunMsg::ActionDone(disk, done, at) => {
                done.map_err(|error| io::Error::other(format!("disk {disk}: {error}")))?;
                self.runners[disk].action_done(at);
            }
            RunMsg::Event(event, at) => {
                self.report.events += 1;
                let way = self.clock.delivery(&event.time, at);
                self.report.delivery.extend(way);
                let Some(&disk) = self.disk_by_name.get(&event.path) else {
                    self.report
                        .violations
                        .push(format!("no disk has this path: {event:?}"));
                    return Ok(());
                };
                let runner = &mut self.runners[disk];
                let (finding, strict) = (
                    runner.oracle.observe_event(&event, at),
                    runner.strict_oracle.observe_event(&event, at),
                );
                self.record(disk, finding, strict);
            }
            RunMsg::UnexpectedData(what) => self
                .report
                .violations
                .push(format!("events are missing: {what}")),
            RunMsg::SourceEnded(why) => {
                let log = self.daemon.log();
                return Err(io::Error::other(format!(
                    "the daemon sends no more events: {why}: {log}"
                )));
            }
        }
        Ok(())
    }

    fn record(&mut self, disk: usize, finding: Finding, strict: Finding) {
        self.report.record_times(&finding);
        if finding.violations.is_empty() {
            for excused in strict.violations {
                let text = self.describe(disk, "EXCUSED", &excused, self.report.excused.len());
                self.report.excused.push(text);
            }
        }
        for violation in finding.violations {
            let text = self.describe(disk, "VIOLATION", &violation, self.report.violations.len());
            self.report.violations.push(text);
        }
    }

    /// Adds place and time to a finding. Prints the first ones of each kind with their history.
    fn describe(&self, disk: usize, kind: &str, what: &str, nth: usize) -> String {
        let (seed, at) = (self.options.seed, self.clock.now().as_secs_f64());
        let text = format!("seed {seed}, disk {disk}, {at:.3} s: {what}");
        if nth < PRINTED {
            print_line(&format!("{kind}: {text}"));
            self.runners[disk].oracle.history().for_each(print_line);
        }
        text
    }

    /// Advances every script, and starts new ones if `more`. Returns whether anything is left to
    /// do.
    fn advance(&mut self, more: bool) -> bool {
        let now = self.clock.now();
        let mut full = self.runners.iter().filter(|runner| runner.full).count();
        let mut busy = false;
        for (disk, runner) in self.runners.iter_mut().enumerate() {
            if runner.is_ready(now) {
                if runner.steps.is_empty() && more {
                    let FaultMix { vanish, refuse } = self.options.mix;
                    let vanish = vanish && self.disks.can_vanish(disk);
                    let steps = script(&mut runner.rng, &self.limits, FaultMix { vanish, refuse });
                    runner.steps.extend(steps);
                }
                if let Some(action) = runner.next_action(&mut full) {
                    if let Action::Set(fault) = action {
                        self.report.record_fault(fault.name());
                    }
                    self.driver.send(disk, action);
                }
            }
            busy |= runner.is_busy();
        }
        busy
    }
}

/// Prints a line on stderr. An error is ignored, because nobody may read it.
pub(crate) fn print_line(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
