//! The messages of the run's threads, and the clock of their times.

use std::time::{Duration, Instant, SystemTime};

use crate::limits::At;
use crate::oracle::EventMsg;
use crate::script::Action;

/// The run's clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    begin: Instant,
    /// The same moment on the wall clock, which the daemon uses for event times.
    wall: SystemTime,
}

impl Clock {
    /// A clock that starts now.
    pub(crate) fn start() -> Clock {
        Clock {
            begin: Instant::now(),
            wall: SystemTime::now(),
        }
    }

    /// The time since the run started.
    pub fn now(self) -> At {
        self.begin.elapsed()
    }

    /// The delivery time of an event with this timestamp that arrived at `at`, within the precision
    /// of the wall clock.
    pub(crate) fn delivery(self, stamp: &str, at: At) -> Option<Duration> {
        let stamp: jiff::Timestamp = stamp.parse().ok()?;
        (self.wall + at).duration_since(stamp.into()).ok()
    }
}

/// A message from one of the run's threads.
#[derive(Debug)]
pub(crate) enum RunMsg {
    /// An action on a disk is about to start.
    ActionStarted(usize, Action, At),
    /// It was carried out.
    ActionDone(usize, Result<(), String>, At),
    /// The daemon sent an event.
    Event(EventMsg, At),
    /// The daemon sent something that is not an event, or reported that events are missing.
    UnexpectedData(String),
    /// The machine did not stall until then.
    ControlRead(At),
    /// The machine stalled between these times.
    Stall(At, At),
    /// The daemon sends no more events, or the control failed.
    SourceEnded(String),
}

impl RunMsg {
    /// The time of the message. Messages without a time are always due.
    pub(crate) fn at(&self) -> At {
        match self {
            RunMsg::ActionStarted(_, _, at)
            | RunMsg::ActionDone(_, _, at)
            | RunMsg::Event(_, at)
            | RunMsg::ControlRead(at)
            | RunMsg::Stall(_, at) => *at,
            RunMsg::UnexpectedData(_) | RunMsg::SourceEnded(_) => At::ZERO,
        }
    }
}
