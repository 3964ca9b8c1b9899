//! What commands do to paths on the list; to add some is `keeper.rs`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use pathpulse::display_name;

use super::task::{Keeper, Stage};
use super::{Action, AnswerDocument};

impl Keeper {
    /// Does something to some paths; all but adding.
    pub(super) fn act_on_all(
        &mut self,
        action: Action,
        names: impl Iterator<Item = PathBuf>,
    ) -> Vec<AnswerDocument> {
        let others = match action {
            Action::Remove => self.other_names(),
            _ => HashMap::new(),
        };
        let answers = names.map(|name| {
            let refused = self.act(action, &name);
            let heir = others.get(&name).filter(|_| refused.is_ok());
            let heir = heir.filter(|heir| self.entries.contains_key(*heir));
            let message = heir.map(|heir| format!("is watched as {} now", display_name(heir)));
            AnswerDocument {
                message: message.or_else(|| refused.clone().err()),
                ..AnswerDocument::new(name, refused)
            }
        });
        answers.collect()
    }

    fn act(&mut self, action: Action, said: &Path) -> Result<(), String> {
        let name = match action {
            Action::Remove => said,
            _ => &self.watched_name(said),
        };
        let Some(entry) = self.entries.get_mut(name) else {
            return Err("not watched; `pathpulse status` shows what is".to_owned());
        };
        match (action, &mut entry.stage) {
            (Action::Remove, _) => {
                self.forgo(name);
                self.leave(name, "command");
            }
            (Action::Add, _) => {}
            (Action::CheckNow, Stage::Waiting(waiting)) => waiting.hurry(Instant::now()),
            (_, Stage::Waiting(waiting)) => {
                return Err(format!("is not watched yet: {}", waiting.message()));
            }
            (action, Stage::Watched(id)) => {
                let told = match action {
                    Action::Pause => {
                        let released = self.monitor.release(*id);
                        let told = released.is_some();
                        let asked = released.map(|released| (said.to_owned(), released));
                        self.releasing.extend(asked);
                        told
                    }
                    Action::Resume => self.monitor.resume(*id),
                    _ => self.monitor.check_now(*id),
                };
                return told
                    .then_some(())
                    .ok_or_else(|| "its worker is gone".to_owned());
            }
        }
        Ok(())
    }
}
