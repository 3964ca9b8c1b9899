//! Commands on paths of the list. `add` is in `opening.rs`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use pathpulse::{PathId, display_name};

use super::entry::OpenState;
use super::task::WatchlistTask;
use crate::api::{AnswerDocument, PathAction, PathCause};

impl WatchlistTask {
    /// Applies an action to paths. Not for `add`.
    pub(super) fn apply_to_all(
        &mut self,
        action: PathAction,
        names: impl Iterator<Item = PathBuf>,
    ) -> Vec<AnswerDocument> {
        let others = match action {
            PathAction::Remove => self.other_names(),
            _ => HashMap::new(),
        };
        let answers = names.map(|name| {
            let result = self.apply(action, &name);
            let successor = others.get(&name).filter(|_| result.is_ok());
            let successor = successor.filter(|other| self.entries.contains_key(*other));
            let message =
                successor.map(|other| format!("is watched as {} now", display_name(other)));
            AnswerDocument {
                message: message.or_else(|| result.clone().err()),
                ..AnswerDocument::new(name, result)
            }
        });
        answers.collect()
    }

    fn apply(&mut self, action: PathAction, given: &Path) -> Result<(), String> {
        let name = match action {
            PathAction::Remove => given,
            _ => &self.watched_name(given),
        };
        let Some(entry) = self.entries.get_mut(name) else {
            return Err("not watched; `pathpulse status` shows what is".to_owned());
        };
        match (action, &mut entry.stage) {
            (PathAction::Add, _) => {}
            (PathAction::Remove, _) => {
                self.ignore_disk_of(name);
                self.remove(name, PathCause::Command);
            }
            (PathAction::CheckNow, OpenState::Unopened(retry)) => retry.retry_now(Instant::now()),
            (_, OpenState::Unopened(retry)) => {
                return Err(format!("is not watched yet: {}", retry.message()));
            }
            (action, OpenState::Open(id)) => {
                let id = *id;
                if !self.apply_to_watched(action, id, given) {
                    return Err("its worker is gone".to_owned());
                }
            }
        }
        Ok(())
    }

    /// Returns `false` if the path's worker is gone.
    fn apply_to_watched(&mut self, action: PathAction, id: PathId, given: &Path) -> bool {
        match action {
            PathAction::Pause => {
                let released = self.monitor.release(id);
                let is_told = released.is_some();
                let released = released.map(|released| (given.to_owned(), released));
                self.releasing.extend(released);
                is_told
            }
            PathAction::Resume => self.monitor.resume(id),
            _ => self.monitor.check_now(id),
        }
    }
}
