//! What a worker does when its backend breaks: it continues with the best one that works now.
//!
//! A ring can be lost while it is in use: a sandbox that is closed later forbids its system calls.
//! The paths keep their states, the checks in progress end without a statement, and the files,
//! which the old backend owned, are opened again.

use std::sync::PoisonError;

use pathpulse_kernel_compat::{KernelError, Key, Opened, open_backend};

use super::{BackendHandle, Worker};
use crate::config::BackendInfo;
use crate::health::{State, UnknownReason, Verdict};

impl Worker {
    /// Replaces the broken backend, if another one can be opened.
    pub(super) fn fall_back(&mut self, error: KernelError) {
        tracing::error!(%error, "the backend broke; its paths keep their states");
        self.abandon_checks();
        let Some(opened) = self.open_other_backend() else {
            self.checker.broken = Some(error);
            return;
        };
        tracing::warn!("checking through {} from now on", opened.backend.kind());
        if let Some(env) = &self.env {
            let info = BackendInfo::of(&opened);
            if let Some(supervision) = env.supervision.clone() {
                let info = info.clone();
                // The worker itself waits for nobody.
                let report = std::thread::Builder::new().name("pathpulse-report".to_owned());
                let _ = report.spawn(move || supervision.report_backend(info));
            }
            let handle = env.handle.write();
            *handle.unwrap_or_else(PoisonError::into_inner) = BackendHandle {
                info,
                waker: opened.backend.waker(),
            };
        }
        self.checker.backend = opened.backend;
        self.checker.backend.expect_blocking(self.checker.blocking);
        let all = self.paths.iter();
        let all = all.filter(|(_, path)| path.health.state() != State::Paused);
        let all: Vec<Key> = all.map(|(key, _)| key).collect();
        self.reopen(&all);
    }

    fn open_other_backend(&self) -> Option<Opened> {
        let paths = u32::try_from(self.paths.len()).unwrap_or(u32::MAX);
        match open_backend(self.env.as_ref()?.choice, paths) {
            Ok(opened) => Some(opened),
            Err(tried) => {
                for unavailable in tried {
                    tracing::error!("{unavailable}");
                }
                None
            }
        }
    }

    /// Ends all checks in progress with `Unknown`. Stuck reads stay with the old backend, which
    /// reports their end to nobody.
    fn abandon_checks(&mut self) {
        let now = self.checker.backend.now();
        let keys: Vec<Key> = self.paths.iter().map(|(key, _)| key).collect();
        for key in keys {
            let Some(mut path) = self.checked(key) else {
                continue;
            };
            path.path.target = None;
            path.path.stuck = None;
            path.path.cell.set_stuck(None);
            if path.path.check.is_some() {
                let why = UnknownReason::Broken;
                path.conclude(Verdict::Unknown { why }, now);
            }
        }
        self.checker.retries.clear();
    }
}
