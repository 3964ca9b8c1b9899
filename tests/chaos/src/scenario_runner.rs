//! Runs the scripts of one disk step by step, when its oracle has seen all expected events.

use std::collections::VecDeque;

use fastrand::Rng;

use crate::limits::{At, Limits};
use crate::oracle::Oracle;
use crate::script::{Action, Step, Wait};

/// The most disks that are saturated at the same time. Each needs a process with 160 threads.
const MAX_SATURATED: usize = 4;

#[derive(Clone, Copy, Debug)]
enum RunnerState {
    Idle,
    Acting,
    Waiting {
        wait: Wait,
        since: At,
        settled: Option<At>,
    },
}

/// See the module documentation.
pub(crate) struct ScenarioRunner {
    pub(crate) oracle: Oracle,
    /// An oracle that does not know of stalls of the machine. What only this one reports is excused
    /// by a stall.
    pub(crate) strict_oracle: Oracle,
    pub(crate) rng: Rng,
    pub(crate) steps: VecDeque<Step>,
    state: RunnerState,
    /// All tags of the disk are taken.
    pub(crate) full: bool,
}

impl ScenarioRunner {
    /// The runner of the disk with this number.
    pub(crate) fn new(limits: Limits, seed: u64, disk: usize) -> ScenarioRunner {
        let mut seeds = Rng::with_seed(seed);
        let seed = (0..=disk).map(|_| seeds.u64(..)).last();
        ScenarioRunner {
            oracle: Oracle::new(limits),
            strict_oracle: Oracle::new(limits),
            rng: Rng::with_seed(seed.unwrap_or_default()),
            steps: VecDeque::new(),
            state: RunnerState::Idle,
            full: false,
        }
    }

    /// The disk has carried out the action.
    pub(crate) fn action_done(&mut self, at: At) {
        self.oracle.action_done(at);
        self.strict_oracle.action_done(at);
        if let Some((_, wait)) = self.steps.pop_front() {
            self.state = RunnerState::Waiting {
                wait,
                since: at,
                settled: None,
            };
        }
    }

    /// Whether the last wait is over. Then the runner is idle.
    pub(crate) fn is_ready(&mut self, now: At) -> bool {
        if let RunnerState::Waiting {
            wait,
            since,
            settled,
        } = &mut self.state
        {
            *settled = settled.or(Some(now)).filter(|_| self.oracle.is_settled());
            let over = match wait {
                Wait::For(time) => now >= *since + *time,
                Wait::Settled(time) => settled.is_some_and(|settled| now >= settled + *time),
            };
            if over {
                self.state = RunnerState::Idle;
            }
        }
        matches!(self.state, RunnerState::Idle)
    }

    /// The next action. `None` if there is none, or if it must wait because too many disks are
    /// saturated.
    pub(crate) fn next_action(&mut self, full: &mut usize) -> Option<Action> {
        let (action, _) = *self.steps.front()?;
        let fills = matches!(action, Action::Set(fault) if fault.is_full());
        if fills && !self.full && *full >= MAX_SATURATED {
            return None;
        }
        *full += usize::from(fills && !self.full);
        self.full = fills;
        self.state = RunnerState::Acting;
        Some(action)
    }

    /// Whether there is anything left to do or to wait for.
    pub(crate) fn is_busy(&self) -> bool {
        !matches!(self.state, RunnerState::Idle) || !self.steps.is_empty()
    }
}
