//! One run: scripts for all disks, a daemon that watches them, and a judge for each.
//!
//! ```text
//! crew (threads) --Begins, Obeyed--> \
//! daemon's events (thread) --Said-->  news --> this thread: judges, scripts --> crew
//! control (thread) --Ran, Stalled--> /
//! ```
//! News are judged when the control has got as far: then it is known whether the machine got on. A
//! crew says that something begins before it does it, so news of what came of it are never before.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Write};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::control;
use crate::crew::{Crew, Disks};
use crate::daemon::{Daemon, Settings};
use crate::figures::Figures;
use crate::judge::{Finding, Said};
use crate::player::Player;
use crate::script::{Act, Mix, script};
use crate::terms::{At, Terms};
use crate::usage::Usage;

/// The longest wait for news.
const NAP: Duration = Duration::from_millis(20);
/// News may be so long on their way within this process.
const ON_THE_WAY: Duration = Duration::from_millis(5);
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
/// The first checks of all paths.
const FIRST_CHECKS: Duration = Duration::from_secs(10);
/// Wrong findings that are printed with all that led to them.
const PRINTED: usize = 20;

/// The run's time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    begin: Instant,
    /// The same moment by the wall clock, by which the daemon stamps events.
    wall: SystemTime,
}

impl Clock {
    /// The time since the run began.
    pub fn now(self) -> At {
        self.begin.elapsed()
    }

    /// How long what has this stamp was on its way when it arrived at `at`; as good as the wall clock is.
    fn on_the_way(self, stamp: &str, at: At) -> Option<Duration> {
        let stamp: jiff::Timestamp = stamp.parse().ok()?;
        (self.wall + at).duration_since(stamp.into()).ok()
    }
}

/// What the run's threads tell.
#[derive(Debug)]
pub(crate) enum News {
    /// This is about to be done to a disk.
    Begins(usize, Act, At),
    /// It was done.
    Obeyed(usize, Result<(), String>, At),
    /// The daemon said something.
    Said(Said, At),
    /// The daemon said something that is no event, or that events are missing.
    Lost(String),
    /// The machine got on until then.
    Ran(At),
    /// It did not between these.
    Stalled(At, At),
    /// The daemon says nothing any more.
    Silent(String),
}

impl News {
    /// When it was; what belongs to no time is always.
    fn at(&self) -> At {
        match self {
            News::Begins(_, _, at)
            | News::Obeyed(_, _, at)
            | News::Said(_, at)
            | News::Ran(at)
            | News::Stalled(_, at) => *at,
            News::Lost(_) | News::Silent(_) => At::ZERO,
        }
    }
}

/// What is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Of all chance.
    pub seed: u64,
    /// Disks.
    pub disks: usize,
    /// How the daemon is started.
    pub daemon: Settings,
    /// What may be done to disks.
    pub mix: Mix,
}

/// When no more faults are injected.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// So many were.
    Faults(u64),
    /// So much time has passed.
    Passed(Duration),
}

/// See the module.
pub struct Run {
    options: Options,
    terms: Terms,
    clock: Clock,
    disks: Arc<Disks>,
    crew: Crew,
    daemon: Daemon,
    news: Receiver<News>,
    /// What the control has not got as far as.
    early: VecDeque<News>,
    /// How far the control got.
    ran: At,
    control: JoinHandle<()>,
    numbers: HashMap<String, usize>,
    players: Vec<Player>,
    figures: Figures,
    sampled: At,
    told: At,
    interrupted: Arc<AtomicBool>,
    _folder: tempfile::TempDir,
}

impl Run {
    /// Makes disks, starts a daemon, and waits until it has found all of them well. `rig_server`
    /// runs the rig's other processes, see [`pathpulse_faultdisk::Rig::start_with`].
    ///
    /// # Errors
    /// What could not be made or started.
    pub fn start(options: Options, rig_server: Command) -> io::Result<Run> {
        // The daemon would outlive this process.
        let interrupted = Arc::<AtomicBool>::default();
        for signal in [SIGTERM, SIGINT] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
        }
        let folder = tempfile::tempdir()?;
        let disks = Arc::new(Disks::make(rig_server, options.disks, folder.path())?);
        let clock = Clock {
            begin: Instant::now(),
            wall: SystemTime::now(),
        };
        let (sender, news) = channel();
        let daemon = Daemon::start(&options.daemon, disks.names(), folder.path())?;
        daemon.follow(clock, sender.clone())?;
        let terms = options.daemon.terms;
        let names = disks.names().iter();
        let numbers = names
            .enumerate()
            .map(|(number, name)| (name.to_string_lossy().into_owned(), number))
            .collect();
        let mut run = Run {
            crew: Crew::start(&disks, clock, &sender),
            players: (0..options.disks)
                .map(|disk| Player::new(terms, options.seed, disk))
                .collect(),
            options,
            terms,
            clock,
            control: control::start(disks.control(), clock, sender)?,
            disks,
            daemon,
            news,
            early: VecDeque::new(),
            ran: At::ZERO,
            numbers,
            figures: Figures::default(),
            sampled: At::ZERO,
            told: At::ZERO,
            interrupted,
            _folder: folder,
        };
        run.wait_for_first_checks()?;
        Ok(run)
    }

    fn wait_for_first_checks(&mut self) -> io::Result<()> {
        let end = self.clock.now() + FIRST_CHECKS;
        while self.players.iter().any(|p| p.judge.state() == "pending") {
            self.listen(NAP)?;
            if self.clock.now() > end {
                let log = self.daemon.log();
                return Err(io::Error::other(format!("not all paths are up: {log}")));
            }
        }
        self.figures.usage_first = self.sample()?;
        Ok(())
    }

    /// Injects faults, and returns when all disks are well again and said to be.
    ///
    /// # Errors
    /// The disks', or the daemon's end.
    pub fn inject(&mut self, until: Until) -> io::Result<()> {
        let begin = self.clock.now();
        loop {
            let more = match until {
                Until::Faults(faults) => self.figures.injected() < faults,
                Until::Passed(time) => self.clock.now() - begin < time,
            };
            let busy = self.advance(more);
            if !more && !busy {
                return Ok(());
            }
            self.listen(NAP)?;
        }
    }

    /// Does nothing but listen for so long: what is said has no cause.
    ///
    /// # Errors
    /// The daemon's end.
    pub fn rest(&mut self, time: Duration) -> io::Result<()> {
        let end = self.clock.now() + time;
        while self.clock.now() < end {
            self.listen(NAP)?;
        }
        Ok(())
    }

    /// Ends all, and returns the figures.
    ///
    /// # Errors
    /// What does not end.
    pub fn end(mut self) -> io::Result<Figures> {
        self.rest(self.terms.detection(Duration::ZERO))?;
        self.figures.usage_last = self.sample()?;
        let status = self.daemon.status()?;
        for path in &status.paths {
            let judge = &self.players[self.numbers[&path.path]].judge;
            self.figures.checks += path.checks.total;
            self.figures.unknown += path.checks.unknown;
            if path.state != judge.state() {
                let (name, said) = (&path.path, judge.state());
                let text = format!("{name}: the status says {}, events said {said}", path.state);
                self.figures.wrong.push(text);
            }
        }
        self.figures.backend = status.backend;
        let (ended, took) = self.daemon.stop()?;
        if !ended.success() || took > Duration::from_secs(1) {
            let text = format!("the daemon took {took:?} to stop: {ended}");
            self.figures.wrong.push(text);
        }
        // The threads end for want of listeners, and close the control disk.
        drop((self.crew, self.news));
        let _ = self.control.join();
        if let Some(disks) = Arc::into_inner(self.disks) {
            disks.shutdown()?;
        }
        Ok(self.figures)
    }

    /// The figures so far.
    pub fn figures_mut(&mut self) -> &mut Figures {
        &mut self.figures
    }

    /// What the daemon uses now.
    ///
    /// # Errors
    /// It does not answer.
    pub fn sample(&mut self) -> io::Result<Usage> {
        let paths = self.daemon.status()?.paths;
        let stuck = paths.iter().filter(|path| path.stuck_ms.is_some());
        let usage = Usage::of(self.daemon.pid(), stuck.count() as u64)?;
        self.figures.usage_max = self.figures.usage_max.max(usage);
        Ok(usage)
    }

    /// Waits for news for so long at most, takes in all that there are, and looks for what is missing.
    fn listen(&mut self, limit: Duration) -> io::Result<()> {
        if self.interrupted.load(Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        match self.news.recv_timeout(limit) {
            Ok(news) => self.arrives(news),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(io::Error::other("no threads left"));
            }
        }
        while let Ok(news) = self.news.try_recv() {
            self.arrives(news);
        }
        while self.early.front().is_some_and(|n| n.at() <= self.ran) {
            if let Some(news) = self.early.pop_front() {
                self.take(news)?;
            }
        }
        let now = self.ran;
        for disk in 0..self.players.len() {
            let player = &mut self.players[disk];
            let at = now.saturating_sub(ON_THE_WAY);
            let (finding, strict) = (player.judge.pass(at), player.strict.pass(at));
            self.note(disk, finding, strict);
        }
        if now > self.sampled + SAMPLE_EVERY {
            self.sampled = now;
            let usage = self.sample()?;
            if now > self.told + PROGRESS_EVERY {
                self.told = now;
                say(&format!(
                    "{:6.1} s: {} faults, {} events, {} wrong; the daemon: {usage}",
                    now.as_secs_f64(),
                    self.figures.injected(),
                    self.figures.events,
                    self.figures.wrong.len()
                ));
            }
        }
        Ok(())
    }

    /// What the control says counts before all else; the rest has to wait for it.
    fn arrives(&mut self, news: News) {
        match news {
            News::Ran(at) => self.ran = at,
            News::Stalled(from, to) => {
                self.ran = to;
                self.figures.stalled += to - from;
                let players = self.players.iter_mut();
                players.for_each(|player| player.judge.stalled(from, to));
            }
            other => self.early.push_back(other),
        }
    }

    fn take(&mut self, news: News) -> io::Result<()> {
        match news {
            News::Ran(_) | News::Stalled(..) => {}
            News::Begins(disk, act, at) => {
                let player = &mut self.players[disk];
                for fault in act.phases() {
                    player.judge.begin(fault, at);
                    player.strict.begin(fault, at);
                }
            }
            News::Obeyed(disk, done, at) => {
                done.map_err(|error| io::Error::other(format!("disk {disk}: {error}")))?;
                self.players[disk].obeyed(at);
            }
            News::Said(said, at) => {
                self.figures.events += 1;
                let way = self.clock.on_the_way(&said.time, at);
                self.figures.on_the_way.extend(way);
                let Some(&disk) = self.numbers.get(&said.path) else {
                    self.figures.wrong.push(format!("nobody has {said:?}"));
                    return Ok(());
                };
                let player = &mut self.players[disk];
                let (finding, strict) =
                    (player.judge.hear(&said, at), player.strict.hear(&said, at));
                self.note(disk, finding, strict);
            }
            News::Lost(what) => self.figures.wrong.push(format!("events were lost: {what}")),
            News::Silent(why) => {
                let log = self.daemon.log();
                return Err(io::Error::other(format!(
                    "the daemon is gone: {why}: {log}"
                )));
            }
        }
        Ok(())
    }

    fn note(&mut self, disk: usize, finding: Finding, strict: Finding) {
        self.figures.note_times(&finding);
        if finding.wrong.is_empty() {
            for excused in strict.wrong {
                let text = self.report(disk, "EXCUSED", &excused, self.figures.excused.len());
                self.figures.excused.push(text);
            }
        }
        for wrong in finding.wrong {
            let text = self.report(disk, "WRONG", &wrong, self.figures.wrong.len());
            self.figures.wrong.push(text);
        }
    }

    /// Says where and when it was, and to the first of its kind all that led to it.
    fn report(&self, disk: usize, kind: &str, what: &str, nth: usize) -> String {
        let (seed, at) = (self.options.seed, self.clock.now().as_secs_f64());
        let text = format!("seed {seed}, disk {disk}, {at:.3} s: {what}");
        if nth < PRINTED {
            say(&format!("{kind}: {text}"));
            self.players[disk].judge.history().for_each(say);
        }
        text
    }

    /// Goes on with every script, and begins new ones if there are to be `more`. Says whether
    /// anything goes on.
    fn advance(&mut self, more: bool) -> bool {
        let now = self.clock.now();
        let mut full = self.players.iter().filter(|player| player.full).count();
        let mut busy = false;
        for (disk, player) in self.players.iter_mut().enumerate() {
            if player.is_ready(now) {
                if player.steps.is_empty() && more {
                    let Mix { vanish, refuse } = self.options.mix;
                    let vanish = vanish && self.disks.can_vanish(disk);
                    let steps = script(&mut player.rng, &self.terms, Mix { vanish, refuse });
                    player.steps.extend(steps);
                }
                if let Some(act) = player.next_act(&mut full) {
                    if let Act::Set(fault) = act {
                        self.figures.note_fault(fault.name());
                    }
                    self.crew.give(disk, act);
                }
            }
            busy |= player.is_busy();
        }
        busy
    }
}

/// Says something on stderr; that nobody may be there to read it is no reason to stop.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
