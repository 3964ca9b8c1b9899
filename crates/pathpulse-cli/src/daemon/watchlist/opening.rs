//! Opening paths, and answering the commands that wait for that.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pathpulse::{Errno, OpenError, OpenProblem, PathId, PathSpec, display_name};
use tokio::sync::oneshot;

use super::WatchlistMsg;
use super::entry::{OpenState, Origin};
use super::task::WatchlistTask;
use crate::api::{AnswerDocument, Name, PathsDocument};
use crate::daemon::process::spawn;
use crate::human::some_of;

/// An open has no limit: giving up its thread would only need another one.
const OPEN_LIMIT: Duration = Duration::MAX;
/// How long the reply to `add` waits for paths to open.
const REPLY_LIMIT: Duration = Duration::from_secs(2);

/// A reply to `add` that waits for paths to open.
pub(super) struct PendingReply {
    /// Paths without a result.
    left: Vec<PathBuf>,
    answers: Vec<AnswerDocument>,
    pub(super) deadline: Instant,
    reply: oneshot::Sender<Vec<AnswerDocument>>,
}

impl WatchlistTask {
    pub(super) fn add(
        &mut self,
        paths: PathsDocument,
        reply: oneshot::Sender<Vec<AnswerDocument>>,
    ) {
        let mut pending = PendingReply {
            left: Vec::new(),
            answers: Vec::new(),
            deadline: Instant::now() + REPLY_LIMIT,
            reply,
        };
        for Name(name) in paths.paths {
            let error = if !name.is_absolute() {
                "is not absolute: names begin with a slash"
            } else if self.entries.contains_key(&name) {
                "is on the list already"
            } else {
                if !pending.left.contains(&name) {
                    pending.left.push(name);
                }
                continue;
            };
            let answer = AnswerDocument::new(name, Err(error.to_owned()));
            pending.answers.push(answer);
        }
        self.insert(&pending.left, &Origin::Added, paths.group.as_deref());
        self.pending_replies.push(pending);
    }

    /// Starts a thread that opens the paths that are due.
    pub(super) fn open_due(&mut self, now: Instant) {
        let specs = self.take_due(now);
        if specs.is_empty() {
            return;
        }
        let open_generation = self.next_open_generation;
        self.next_open_generation += 1;
        let (monitor, watchlist) = (Arc::clone(&self.monitor), self.watchlist.clone());
        let opening = specs.clone();
        let started = spawn("open", move || {
            monitor.add_each(&opening, OPEN_LIMIT, |index, answer| {
                let name = opening[index].path.clone();
                watchlist.send(WatchlistMsg::Opened {
                    name,
                    open_generation,
                    answer,
                });
            });
        });
        if started.is_err() {
            for spec in specs {
                let problem = OpenProblem::Open(Errno::EAGAIN);
                let path = spec.path.clone();
                self.opened(
                    &spec.path,
                    open_generation,
                    Err(OpenError { path, problem }),
                );
            }
        }
    }

    /// The paths whose open is due, now marked as opening. Logs opens that are slow.
    fn take_due(&mut self, now: Instant) -> Vec<PathSpec> {
        let (mut specs, mut slow) = (Vec::new(), Vec::new());
        for (name, entry) in &mut self.entries {
            let OpenState::Unopened(retry) = &mut entry.stage else {
                continue;
            };
            if retry.is_due(now) {
                retry.begin(now);
                entry.open_generation = self.next_open_generation;
                specs.push(entry.spec.clone());
            } else if retry.report_slow_open(now) {
                slow.push(display_name(name).to_string());
            }
        }
        if !slow.is_empty() {
            let slow = some_of(&slow);
            tracing::warn!("not watched yet: {slow}: open has not returned for 10 s");
        }
        specs
    }

    /// Handles the result of an open.
    pub(super) fn opened(
        &mut self,
        name: &Path,
        open_generation: u64,
        answer: Result<PathId, OpenError>,
    ) {
        let entry = self.entries.get(name);
        if entry.is_none_or(|entry| entry.open_generation != open_generation) {
            return self.discard_open(name, open_generation, answer.ok());
        }
        let answer = match answer {
            Err(OpenError {
                problem: OpenProblem::Twice { first },
                ..
            }) => self.same_device(name, first, Instant::now()),
            Err(error) => Some(Err(error.problem)),
            Ok(id) => Some(Ok(id)),
        };
        let result = match answer {
            None => return,
            Some(Ok(id)) => self.open_succeeded(name, id),
            Some(Err(problem)) => self.open_failed(name, &problem),
        };
        if let Some(result) = result {
            self.add_to_replies(name, &result);
        }
    }

    /// `None` if the entry is not waiting for an open.
    fn open_succeeded(&mut self, name: &Path, id: PathId) -> Option<Result<(), String>> {
        let entry = self.entries.get_mut(name)?;
        let OpenState::Unopened(retry) = &entry.stage else {
            return None;
        };
        if retry.problem.is_some() || entry.missing.is_some() {
            tracing::info!("{}: is there now, and watched", display_name(name));
        }
        entry.stage = OpenState::Open(id);
        entry.apply_settings(name, &self.configuration, &self.monitor);
        self.settle_missing(name);
        Some(Ok(()))
    }

    /// `None` if the entry is not waiting for an open.
    fn open_failed(&mut self, name: &Path, problem: &OpenProblem) -> Option<Result<(), String>> {
        let entry = self.entries.get_mut(name)?;
        let OpenState::Unopened(retry) = &mut entry.stage else {
            return None;
        };
        let text = problem.to_string();
        let is_same = matches!(problem, OpenProblem::Twice { .. });
        let is_news = retry.failed(problem.clone(), Instant::now());
        match (is_news && entry.missing.is_none(), is_same) {
            (true, false) => self.open_errors.add(name, text.clone(), Instant::now()),
            (true, true) => entry.log_same(name, problem),
            _ => {}
        }
        Some(Err(match is_same {
            true => text,
            false => format!("not watched yet: {text}"),
        }))
    }

    fn add_to_replies(&mut self, name: &Path, result: &Result<(), String>) {
        for pending in &mut self.pending_replies {
            if let Some(index) = pending.left.iter().position(|left| left == name) {
                let name = pending.left.swap_remove(index);
                let answer = AnswerDocument {
                    done: true,
                    ..AnswerDocument::new(name, result.clone())
                };
                pending.answers.push(answer);
            }
        }
    }

    /// Sends the replies that are complete or whose time is over.
    pub(super) fn send_pending_replies(&mut self, now: Instant) {
        let done = |pending: &mut PendingReply| pending.left.is_empty() || pending.deadline <= now;
        for pending in self.pending_replies.extract_if(.., done) {
            let mut answers = pending.answers;
            answers.extend(pending.left.into_iter().map(|path| AnswerDocument {
                path: Name(path),
                done: true,
                message: Some("not watched yet: open has not returned".to_owned()),
            }));
            answers.sort_by(|a, b| a.path.0.cmp(&b.path.0));
            let _ = pending.reply.send(answers);
        }
    }
}
