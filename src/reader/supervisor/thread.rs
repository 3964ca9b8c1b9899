//! The thread that watches readers.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pathpulse_kernel_compat::Child;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Readers, START_LIMIT, Shared};
use crate::config::StartError;
use crate::reader::process::ReaderProcess;

/// A reader that should have been awake for this long hangs, or this host is starved.
const OVERDUE_MAX: Duration = Duration::from_secs(1);
/// How often the thread looks at the clocks of readers.
const PERIOD: Duration = Duration::from_millis(250);
/// A reader that ended sooner than this after its start is replaced only then.
const LIFE_MIN: Duration = Duration::from_secs(1);

impl Shared {
    pub(super) fn run(&self) {
        let started = (0..self.config.workers).try_for_each(|_| {
            let reader = ReaderProcess::start(&self.program, &self.config)?;
            self.state().readers.push(reader);
            Ok(())
        });
        if let Err(error) = started {
            if let Some(starting) = self.state().starting.take() {
                let _ = starting.send(Err(StartError::NoThread(error)));
            }
            return;
        }
        let mut last = Instant::now();
        loop {
            self.wait();
            // If this thread did not run, the readers may not have run either.
            let was_starved = last.elapsed() > PERIOD * 2;
            last = Instant::now();
            let mut state = self.state();
            if state.is_over {
                return;
            }
            for index in 0..state.readers.len() {
                self.serve(&mut state, index, was_starved);
            }
            state
                .corpses
                .retain(|corpse| corpse.child.try_wait().is_none());
        }
    }

    /// Waits for a report, room for a command, the end of a reader, or [`PERIOD`].
    fn wait(&self) {
        let watched: Vec<(Arc<UnixStream>, Arc<Child>, bool)> = {
            let state = self.state();
            let readers = state.readers.iter().filter(|one| !one.has_ended);
            readers
                .map(|one| {
                    (
                        Arc::clone(&one.socket),
                        Arc::clone(&one.child),
                        one.has_unsent(),
                    )
                })
                .collect()
        };
        let mut fds = vec![PollFd::new(&self.waker, PollFlags::IN)];
        for (socket, child, has_unsent) in &watched {
            let out = if *has_unsent {
                PollFlags::OUT
            } else {
                PollFlags::empty()
            };
            fds.push(PollFd::from_borrowed_fd(
                socket.as_fd(),
                PollFlags::IN | out,
            ));
            fds.push(PollFd::from_borrowed_fd(child.as_fd(), PollFlags::IN));
        }
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: PERIOD.subsec_nanos().into(),
        };
        let _ = poll(&mut fds, Some(&timeout));
        self.waker.clear();
    }

    /// Handles what a reader reported, and replaces it if that is necessary.
    fn serve(&self, state: &mut Readers, index: usize, was_starved: bool) {
        let mut reports = Vec::new();
        let received = state.readers[index].receive(&mut reports);
        for report in reports {
            self.handle(state, index, report);
        }
        let reader = &mut state.readers[index];
        reader.flush();
        reader.slots.release_rested();
        reader.has_ended |= !matches!(received, Ok(true));
        let overdue = reader.progress.overdue();
        let is_late = reader.backend.is_none() && reader.started.elapsed() > START_LIMIT;
        let why = match received {
            Ok(false) => "ended",
            Err(_) => "sent what is no report",
            _ if reader.is_clogged() => "takes no commands",
            _ if is_late => "did not start",
            _ if overdue > OVERDUE_MAX && !was_starved => "hangs",
            Ok(true) => return,
        };
        if state.stopping.is_some() || (why == "ended" && reader.started.elapsed() < LIFE_MIN) {
            return;
        }
        if !std::mem::replace(&mut reader.is_logged, true) {
            let (pid, paths) = (reader.child.pid(), reader.paths.len());
            tracing::error!(
                pid,
                "a reader {why}; another one continues with its {paths} paths"
            );
        }
        self.replace(state, index);
    }
}
