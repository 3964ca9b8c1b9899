//! What a worker does when its backend breaks: it takes the best that works now.
//!
//! A ring can be lost while it is used: a sandbox that closes later forbids its calls. The paths keep
//! their states, checks that are going on say nothing, and the files, which the old backend had, are
//! opened anew on threads that nobody waits for.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use pathpulse_kernel_compat::{Choice, Waker, open_backend};

use super::*;
use crate::device::{Device, DeviceId};
use crate::monitor::BackendInfo;
use crate::opener::open_all;

/// How long a path may take to be opened anew.
const REOPEN_LIMIT: Duration = Duration::from_secs(60);

/// The backend of a worker as others see it: what it is, and how to wake who waits in it.
pub(crate) struct Carrier {
    pub(crate) info: BackendInfo,
    pub(crate) waker: Waker,
}

/// What a worker needs to go on without the backend that it had.
pub(crate) struct Fallback {
    pub(crate) choice: Choice,
    pub(crate) carrier: Arc<RwLock<Carrier>>,
    /// The worker's own queue.
    pub(crate) commands: SyncSender<Command>,
}

impl Worker {
    /// The backend broke.
    pub(super) fn fall_back(&mut self, error: KernelError) {
        tracing::error!(%error, "the backend broke; its paths keep their states");
        self.give_up_all();
        let paths = u32::try_from(self.paths.len()).unwrap_or(u32::MAX);
        let choice = self.fallback.as_ref().map(|fallback| fallback.choice);
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
        let waker = opened.backend.waker();
        if let Some(fallback) = &self.fallback {
            *fallback
                .carrier
                .write()
                .unwrap_or_else(PoisonError::into_inner) = Carrier {
                info: BackendInfo::of(&opened),
                waker: waker.clone(),
            };
        }
        self.backend = opened.backend;
        self.backend.expect_blocking(self.blocking);
        self.open_anew(waker);
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
                self.running -= 1;
                self.conclude(key, Verdict::Unknown { why: Why::Broken }, now);
            }
        }
        self.retries.clear();
    }

    /// Has all paths opened by threads, which send the files here.
    fn open_anew(&self, waker: Waker) {
        let Some(fallback) = &self.fallback else {
            return;
        };
        let commands = fallback.commands.clone();
        let (mut known, mut names): (Vec<(PathId, DeviceId)>, Vec<PathBuf>) = Default::default();
        for (_, path) in self.paths.iter() {
            let info = path.cell.info();
            known.push((path.id, info.device()));
            names.push(info.name().to_owned());
        }
        let work = move || {
            open_all(
                names,
                Instant::now() + REOPEN_LIMIT,
                Device::open,
                |place, opened| {
                    let (id, device) = known[place];
                    match opened {
                        Some(Ok(new)) if new.id == device => {
                            let _ = commands.send(Command::Attach(id, new.file));
                            waker.wake();
                        }
                        _ => {
                            tracing::error!(%device, "could not be opened anew; it keeps its state");
                        }
                    }
                },
            );
        };
        let spawned = std::thread::Builder::new()
            .name("pathpulse-reopen".to_owned())
            .spawn(work);
        if let Err(error) = spawned {
            tracing::error!(%error, "no thread to open the paths anew");
        }
    }

    /// Reads a path through this file from now on.
    pub(super) fn attach(&mut self, id: PathId, file: OwnedFd) {
        let path = self.keys.get(&id).and_then(|key| self.paths.get_mut(*key));
        let Some(path) = path.filter(|path| path.target.is_none()) else {
            return;
        };
        match self.backend.attach(file) {
            Ok(target) => path.target = Some(target),
            Err(error) => tracing::error!(%error, "a path can't be read any more"),
        }
    }
}
