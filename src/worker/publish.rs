//! What a worker lets others know of a path: its status cell, and events to subscribers.

use std::time::SystemTime;

use super::checks::CheckedPath;
use crate::health::{Cause, State};
use crate::status::Event;

impl CheckedPath<'_> {
    /// Publishes the state of the path. Whether a path in a group is shown as marginal depends on
    /// its peers and is decided at the end of the tick.
    pub(super) fn publish(&mut self, detail: impl FnOnce() -> String) {
        let path = &mut *self.path;
        if path.health.state() != State::Marginal {
            path.kept_up = false;
        } else if path.group.is_some() && path.shown != State::Marginal && !path.kept_up {
            path.save_health();
            return;
        }
        self.publish_now(detail);
    }

    /// Writes the state of the path into its status cell, and emits an event if it changed.
    pub(super) fn publish_now(&mut self, detail: impl FnOnce() -> String) {
        let path = &mut *self.path;
        path.save_health();
        let (state, cause) = path.judged();
        if state == path.shown {
            path.cell.set_cause(state, cause);
            return;
        }
        let from = std::mem::replace(&mut path.shown, state);
        path.cell.set_state(state, cause, SystemTime::now());
        let now = self.checker.backend.now();
        let detail = path.explain(cause, now).unwrap_or_else(detail);
        self.emit((from, state), cause, detail);
    }

    /// Emits an event that is no change of the state.
    pub(super) fn emit_remark(&mut self, cause: Cause, detail: String) {
        let state = self.path.shown;
        self.emit((state, state), cause, detail);
    }

    /// Sends an event to all subscribers; those that are gone are dropped.
    fn emit(&mut self, (from, to): (State, State), cause: Cause, detail: String) {
        let event = Event {
            time: SystemTime::now(),
            id: self.path.id,
            path: self.path.cell.info(),
            from,
            to,
            cause,
            detail,
        };
        #[cfg(test)]
        self.checker
            .recorder
            .events
            .push((self.path.id, event.clone()));
        self.checker
            .subscribers
            .retain(|subscriber| subscriber.send(&event));
    }
}
