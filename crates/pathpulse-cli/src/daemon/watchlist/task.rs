//! The thread that has the list.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use pathpulse::{Monitor, OpenError, OpenProblem, PathId, PathSpec, Released, display_name};
use tokio::sync::oneshot;

use super::discovered::{Search, listen};
use super::missing::Lost;
use super::open_retry::Waiting;
use super::refused::Refused;
use super::reload::Reload;
use super::removal::Leaving;
use super::{Action, AnswerDocument, Order, PathsDocument, Roster, WaitingPath};
use crate::api::name::Name;
use crate::daemon::config::{CommandLine, Configuration};
use crate::daemon::events::event_log::Journal;
use crate::daemon::process::stop::{Notice, Stopper};
use crate::human::some_of;

/// A thread that opens paths is not given up: there would only be another one.
const OPEN_LIMIT: Duration = Duration::MAX;
/// How long those who add paths wait for them to open.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// How long the start waits for paths to open.
const START_LIMIT: Duration = Duration::from_secs(10);

/// Why a path is on the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The command line or the file names it.
    Named,
    /// A command added it.
    Told,
    /// It is there; the kernel calls its disk so.
    Found(String),
}

/// A path that is to be watched.
pub(super) struct Entry {
    pub(super) origin: Origin,
    /// As the engine has it, or will.
    pub(super) spec: PathSpec,
    pub(super) stage: Stage,
    /// Why it waits, if its disk is gone and was watched before.
    pub(super) lost: Option<Lost>,
    /// When it entered the list: after those with smaller ones.
    pub(super) order: u64,
    /// Of the thread that opens it, 0 before there is one; what others bring is not for this entry.
    pub(super) ticket: u64,
}

impl Entry {
    /// Has the path watched as the configuration says; `true` if that is a change. Its group may be one
    /// that only the kernel knows.
    pub(super) fn suit(
        &mut self,
        name: &Path,
        configuration: &Configuration,
        monitor: &Monitor,
    ) -> bool {
        let told = self.spec.group.clone();
        let group = match self.stage {
            Stage::Watched(id) if configuration.speaks_of_groups() => told.or_else(|| {
                let info = monitor.info(id)?;
                info.group().map(str::to_owned)
            }),
            _ => told,
        };
        let settings = Some(configuration.settings_of(name, group.as_deref()));
        if self.spec.settings == settings {
            return false;
        }
        self.spec.settings = settings;
        if let (Stage::Watched(id), Some(settings)) = (&self.stage, settings) {
            monitor.change(*id, settings);
        }
        true
    }
}

/// How far it is.
pub(super) enum Stage {
    Waiting(Waiting),
    Watched(PathId),
}

/// Someone who waits for paths to open.
struct Asker {
    left: Vec<PathBuf>,
    answers: Vec<AnswerDocument>,
    deadline: Instant,
    reply: oneshot::Sender<Vec<AnswerDocument>>,
}

/// Keeps the list. See the module.
pub(crate) struct Keeper {
    pub(super) roster: Roster,
    pub(super) monitor: Arc<Monitor>,
    pub(super) configuration: Configuration,
    pub(super) reload: Reload,
    pub(super) search: Search,
    pub(super) entries: BTreeMap<PathBuf, Entry>,
    pub(super) journal: Journal,
    pub(super) stopper: Stopper,
    /// Paths that can't be opened, of which the log is to tell.
    refused: Refused,
    /// Those that leave.
    pub(super) leaving: Vec<Leaving>,
    /// Paused paths whose devices are to be free.
    pub(super) releasing: Vec<(PathBuf, Released)>,
    /// Why those left, or are to be opened otherwise, whom a thread is opening still.
    pub(super) strays: HashMap<(PathBuf, u64), &'static str>,
    askers: Vec<Asker>,
    next_ticket: u64,
    next_order: u64,
    /// Until when the start waits for its paths; `None` when it is over.
    starting: Option<Instant>,
}

impl Keeper {
    pub(crate) fn new(
        roster: Roster,
        (monitor, journal): (Arc<Monitor>, Journal),
        stopper: Stopper,
        configuration: Configuration,
        line: CommandLine,
    ) -> Keeper {
        Keeper {
            roster,
            monitor,
            configuration,
            reload: Reload::new(line),
            search: Search::new(),
            entries: BTreeMap::new(),
            journal,
            stopper,
            refused: Refused::default(),
            leaving: Vec::new(),
            releasing: Vec::new(),
            strays: HashMap::new(),
            askers: Vec::new(),
            next_ticket: 1,
            next_order: 0,
            starting: Some(Instant::now() + START_LIMIT),
        }
    }

    /// Keeps the list for as long as there is a daemon.
    pub(crate) fn run(mut self, orders: &Receiver<Order>) {
        let named = self.configuration.named();
        let named: Vec<PathBuf> = named.iter().map(|(name, _)| name.to_path_buf()).collect();
        self.enter(&named, &Origin::Named, None);
        listen(&self.roster);
        loop {
            if self.search.next <= Instant::now() {
                self.search(Instant::now());
            }
            self.open_due(Instant::now());
            // Whoever is told something finds it so.
            self.say_farewell();
            self.publish();
            self.answer_askers(Instant::now());
            self.refused.log_due(Instant::now());
            self.end_start(Instant::now());
            let order = match self.next_due() {
                None => orders.recv().map_err(RecvTimeoutError::from),
                Some(due) => orders.recv_timeout(due.saturating_duration_since(Instant::now())),
            };
            match order {
                Ok(order) => self.obey(order),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // Of many orders that wait (answers of those who open) the list is shown once.
            for order in orders.try_iter().take(1_000) {
                self.obey(order);
            }
        }
    }

    fn next_due(&self) -> Option<Instant> {
        let entries = self
            .entries
            .values()
            .filter_map(|entry| match &entry.stage {
                Stage::Waiting(waiting) => waiting.due(),
                Stage::Watched(_) => None,
            });
        let askers = self.askers.iter().map(|asker| asker.deadline);
        let times = entries.chain(askers).chain(self.starting);
        let times = times.chain(self.refused.due());
        times.chain([self.search.next]).min()
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Do(Action::Add, paths, reply) => self.add(paths, reply),
            Order::Do(action, paths, reply) => {
                let names = paths.paths.into_iter().map(|Name(name)| name);
                let mut answers = self.act_on_all(action, names);
                let mut held = self.say_farewell();
                held.extend(self.wait_released());
                for answer in &mut answers {
                    answer.note_held(&held);
                }
                let _ = reply.send(answers);
            }
            Order::Reload(reply) => self.begin_reload(reply),
            Order::Loaded(loaded) => self.end_reload(*loaded),
            Order::Changed(changes) => self.changed(&changes),
            Order::Opened {
                name,
                ticket,
                answer,
            } => self.opened(&name, ticket, answer),
        }
    }

    /// Puts paths on the list that are not there.
    pub(super) fn enter(&mut self, names: &[PathBuf], origin: &Origin, group: Option<&str>) {
        let now = Instant::now();
        for name in names {
            let mut spec = self.configuration.spec(name);
            if let Some(group) = group {
                spec.group = Some(group.to_owned());
                spec.settings = Some(self.configuration.settings_of(name, Some(group)));
            }
            let mut waiting = Waiting::new(now, SystemTime::now());
            if self.strays.keys().any(|(stray, _)| stray == name) {
                waiting.hold();
            }
            let new = Entry {
                origin: origin.clone(),
                spec,
                stage: Stage::Waiting(waiting),
                lost: None,
                order: self.next_order,
                ticket: 0,
            };
            self.next_order += 1;
            self.entries.entry(name.clone()).or_insert(new);
        }
    }

    fn add(&mut self, paths: PathsDocument, reply: oneshot::Sender<Vec<AnswerDocument>>) {
        let mut asker = Asker {
            left: Vec::new(),
            answers: Vec::new(),
            deadline: Instant::now() + ANSWER_LIMIT,
            reply,
        };
        for Name(name) in paths.paths {
            let refused = if !name.is_absolute() {
                Err("is not absolute: names begin with a slash".to_owned())
            } else if self.entries.contains_key(&name) {
                Err("is on the list already".to_owned())
            } else if asker.left.contains(&name) {
                continue;
            } else {
                asker.left.push(name);
                continue;
            };
            asker.answers.push(AnswerDocument::new(name, refused));
        }
        self.enter(&asker.left, &Origin::Told, paths.group.as_deref());
        self.askers.push(asker);
    }

    /// Strikes a path off the list.
    pub(super) fn leave(&mut self, name: &Path, cause: &'static str) {
        let Some(entry) = self.entries.remove(name) else {
            return;
        };
        match entry.stage {
            Stage::Watched(id) => self.part(id, cause, "is watched no longer"),
            Stage::Waiting(mut waiting) => {
                if waiting.forgo() {
                    self.strays.insert((name.to_owned(), entry.ticket), cause);
                }
            }
        }
        tracing::info!("{} is watched no longer ({cause})", display_name(name));
    }

    /// Has a thread open those that are due.
    fn open_due(&mut self, now: Instant) {
        let (mut specs, mut slow) = (Vec::<PathSpec>::new(), Vec::new());
        let ticket = self.next_ticket;
        for (name, entry) in &mut self.entries {
            let Stage::Waiting(waiting) = &mut entry.stage else {
                continue;
            };
            if waiting.is_due(now) {
                waiting.begin(now);
                entry.ticket = ticket;
                specs.push(entry.spec.clone());
            } else if waiting.takes_long(now) {
                slow.push(display_name(name).to_string());
            }
        }
        if !slow.is_empty() {
            let slow = some_of(&slow);
            tracing::warn!("not watched yet: {slow}: open has not returned for 10 s");
        }
        if specs.is_empty() {
            return;
        }
        self.next_ticket += 1;
        let (monitor, roster) = (Arc::clone(&self.monitor), self.roster.clone());
        let opening = specs.clone();
        let started = crate::daemon::spawn("open", move || {
            monitor.add_each(&opening, OPEN_LIMIT, |index, answer| {
                let name = opening[index].path.clone();
                roster.tell(Order::Opened {
                    name,
                    ticket,
                    answer,
                });
            });
        });
        if started.is_err() {
            for spec in specs {
                let problem = OpenProblem::Open(pathpulse::Errno::EAGAIN);
                let path = spec.path.clone();
                self.opened(&spec.path, ticket, Err(OpenError { path, problem }));
            }
        }
    }

    /// A path was opened, or not.
    fn opened(&mut self, name: &Path, ticket: u64, answer: Result<PathId, OpenError>) {
        let entry = self.entries.get(name);
        if entry.is_none_or(|entry| entry.ticket != ticket) {
            return self.turn_away(name, ticket, answer.ok());
        }
        let answer = match answer {
            Err(OpenError {
                problem: OpenProblem::Twice { first },
                ..
            }) => self.same_device(name, first, Instant::now()),
            Err(error) => Some(Err(error.problem)),
            Ok(id) => Some(Ok(id)),
        };
        let (Some(answer), Some(entry)) = (answer, self.entries.get_mut(name)) else {
            return;
        };
        let Stage::Waiting(waiting) = &mut entry.stage else {
            return;
        };
        let refused = match answer {
            Ok(id) => {
                if waiting.problem.is_some() || entry.lost.is_some() {
                    tracing::info!("{}: is there now, and watched", display_name(name));
                }
                entry.stage = Stage::Watched(id);
                entry.suit(name, &self.configuration, &self.monitor);
                self.make_up(name);
                Ok(())
            }
            Err(problem) => {
                let said = problem.to_string();
                let is_same = matches!(problem, OpenProblem::Twice { .. });
                let is_news = waiting.failed(problem.clone(), Instant::now());
                match (is_news && entry.lost.is_none(), is_same) {
                    (true, false) => {
                        self.refused.add(name, said.clone(), Instant::now());
                    }
                    (true, true) => entry.log_same(name, &problem),
                    _ => {}
                }
                Err(match is_same {
                    true => said,
                    false => format!("not watched yet: {said}"),
                })
            }
        };
        for asker in &mut self.askers {
            if let Some(place) = asker.left.iter().position(|left| left == name) {
                let name = asker.left.swap_remove(place);
                let answer = AnswerDocument {
                    done: true,
                    ..AnswerDocument::new(name, refused.clone())
                };
                asker.answers.push(answer);
            }
        }
    }

    fn answer_askers(&mut self, now: Instant) {
        let done = |asker: &mut Asker| asker.left.is_empty() || asker.deadline <= now;
        for asker in self.askers.extract_if(.., done) {
            let mut answers = asker.answers;
            answers.extend(asker.left.into_iter().map(|path| AnswerDocument {
                path: Name(path),
                done: true,
                message: Some("not watched yet: open has not returned".to_owned()),
            }));
            answers.sort_by(|a, b| a.path.0.cmp(&b.path.0));
            let _ = asker.reply.send(answers);
        }
    }

    /// Says how the start went, when all paths have opened or not.
    fn end_start(&mut self, now: Instant) {
        let is_open = |entry: &Entry| match &entry.stage {
            Stage::Waiting(waiting) => waiting.problem.is_some(),
            Stage::Watched(_) => true,
        };
        let waits = self.starting.is_some_and(|until| now < until);
        if self.starting.is_none() || (waits && !self.entries.values().all(is_open)) {
            return;
        }
        self.starting = None;
        self.refused.log();
        let watched = |entry: &&Entry| matches!(entry.stage, Stage::Watched(_));
        let waits = |entry: &&Entry| !watched(entry) && entry.is_same_as().is_none();
        let hope = |entry: &Entry| match &entry.stage {
            Stage::Waiting(waiting) => waiting.may_come(),
            Stage::Watched(_) => true,
        };
        self.stopper.tell(Notice::Opened {
            watched: self.entries.values().filter(watched).count(),
            waiting: self.entries.values().filter(waits).count(),
            hopeless: self.configuration.discovery().is_none() && !self.entries.values().any(hope),
        });
    }

    fn publish(&self) {
        let waiting = self.entries.iter().filter_map(|(name, entry)| {
            let Stage::Waiting(waiting) = &entry.stage else {
                return None;
            };
            // What was found, and is watched by another name, is nobody's concern.
            let is_found = matches!(entry.origin, Origin::Found(_));
            if is_found && !waiting.may_come() && entry.lost.is_none() {
                return None;
            }
            let (cause, message, group) = match &entry.lost {
                Some(lost) => ("device_gone", lost.message(), &lost.group),
                None => ("not_open", waiting.message(), &entry.spec.group),
            };
            Some(WaitingPath {
                name: name.clone(),
                group: group.clone(),
                since: waiting.since,
                begun: waiting.begun,
                cause,
                message,
                same_as: waiting.is_same_as().map(Path::to_path_buf),
            })
        });
        self.roster.publish(waiting.collect());
    }
}
