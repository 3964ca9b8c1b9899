//! What a worker does when its backend breaks: it takes the best that works now.
//!
//! A ring can be lost while it is used: a sandbox that closes later forbids its calls. The paths keep
//! their states, checks that are going on say nothing, and the files, which the old backend had, are
//! opened anew.

use std::sync::PoisonError;

use pathpulse_kernel_compat::open_backend;

use super::*;
use crate::config::BackendInfo;

impl Worker {
    /// The backend broke.
    pub(super) fn fall_back(&mut self, error: KernelError) {
        tracing::error!(%error, "the backend broke; its paths keep their states");
        self.give_up_all();
        let paths = u32::try_from(self.paths.len()).unwrap_or(u32::MAX);
        let choice = self.env.as_ref().map(|env| env.choice);
        let opened = match choice.map(|choice| open_backend(choice, paths)) {
            Some(Ok(opened)) => opened,
            Some(Err(tried)) => {
                for unavailable in tried {
                    tracing::error!("{unavailable}");
                }
                self.broken = Some(error);
                return;
            }
            None => {
                self.broken = Some(error);
                return;
            }
        };
        tracing::warn!("checking through {} from now on", opened.backend.kind());
        if let Some(env) = &self.env {
            let handle = env.handle.write();
            *handle.unwrap_or_else(PoisonError::into_inner) = BackendHandle {
                info: BackendInfo::of(&opened),
                waker: opened.backend.waker(),
            };
        }
        self.backend = opened.backend;
        self.backend.expect_blocking(self.blocking);
        let all = self.paths.iter();
        let all = all.filter(|(_, path)| path.health.state() != State::Paused);
        let all: Vec<Key> = all.map(|(key, _)| key).collect();
        self.open_anew(&all);
    }

    /// Ends the checks that are going on: they say nothing. What is stuck stays with the old backend,
    /// which tells nobody any more how it ends.
    fn give_up_all(&mut self) {
        let now = self.backend.now();
        let keys: Vec<Key> = self.paths.iter().map(|(key, _)| key).collect();
        for key in keys {
            let Some(path) = self.paths.get_mut(key) else {
                continue;
            };
            path.target = None;
            path.stuck = None;
            path.cell.set_stuck(None);
            if path.check.is_some() {
                self.conclude(
                    key,
                    Verdict::Unknown {
                        why: UnknownReason::Broken,
                    },
                    now,
                );
            }
        }
        self.retries.clear();
    }
}
