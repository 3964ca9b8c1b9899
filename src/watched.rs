//! What a worker knows of one path.

use std::sync::Arc;
use std::time::Duration;

use pathpulse_kernel_compat::{Mono, OpId, Stage, TargetId};

use crate::check::Check;
use crate::command::Once;
use crate::device::Geometry;
use crate::health::{Health, State};
use crate::path::PathId;
use crate::schedule::Pace;
use crate::status::StatusCell;
use crate::sysfs::Evidence;

/// A read past its deadline that the kernel did not give back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stuck {
    pub(crate) id: OpId,
    pub(crate) submitted: Mono,
    /// When its deadline passed.
    pub(crate) since: Mono,
    pub(crate) stage: Stage,
}

/// A path under watch.
pub(crate) struct Watched {
    pub(crate) id: PathId,
    /// What the backend reads; `None` while there is none, after a backend broke.
    pub(crate) target: Option<TargetId>,
    pub(crate) geometry: Geometry,
    pub(crate) evidence: Box<dyn Evidence + Send>,
    pub(crate) cell: Arc<StatusCell>,
    pub(crate) health: Health,
    pub(crate) pace: Pace,
    /// What was asked of the schedule last, so that the same is not asked for twice.
    pub(crate) planned: Mono,
    /// When the schedule has it next; entries of other times are stale.
    pub(crate) due: Mono,
    pub(crate) check: Option<Check>,
    /// The read of the check, while the kernel has it.
    pub(crate) read: Option<OpId>,
    /// The read that is stuck. At most one: while it is there, none is added.
    pub(crate) stuck: Option<Stuck>,
    /// Whether reads are made with RWF_NOWAIT: yes, until the file says that it can't.
    pub(crate) nowait: bool,
    pub(crate) once: Option<Once>,
}

impl Watched {
    /// Takes over what [`NewPath`] brought; its first check begins at once.
    pub(crate) fn new(
        id: PathId,
        target: TargetId,
        (geometry, evidence): (Geometry, Box<dyn Evidence + Send>),
        cell: Arc<StatusCell>,
        pace: Pace,
    ) -> Watched {
        Watched {
            id,
            target: Some(target),
            geometry,
            evidence,
            cell,
            health: Health::default(),
            pace,
            planned: Mono::ZERO,
            due: Mono::ZERO,
            check: None,
            read: None,
            stuck: None,
            nowait: true,
            once: None,
        }
    }

    /// Whether a check may begin. Not while one is going on, nor when paused. Of a path with a stuck
    /// read there is nothing new to say when it is down, or before the read had its whole time: one
    /// that got in late, after others had kept it out, may still be answered.
    pub(crate) fn is_free(&self, now: Mono, timeout: Duration) -> bool {
        let state = self.health.state();
        let told = self
            .stuck
            .is_some_and(|stuck| state == State::Down || now.since(stuck.submitted) < timeout);
        self.check.is_none() && state != State::Paused && !told
    }
}
