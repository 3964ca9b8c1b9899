//! Takes one disk through its scripts, step by step, as its judge says that all has been said.

use std::collections::VecDeque;

use fastrand::Rng;

use crate::judge::Judge;
use crate::script::{Act, Step, Wait};
use crate::terms::{At, Terms};

/// Disks of which all tags are taken at the same time: each has a process with 160 threads.
const FULL_AT_ONCE: usize = 4;

#[derive(Clone, Copy, Debug)]
enum Doing {
    Nothing,
    Acting,
    Waiting {
        wait: Wait,
        since: At,
        settled: Option<At>,
    },
}

/// See the module.
pub(crate) struct Player {
    pub(crate) judge: Judge,
    /// Is not told when the machine did not get on: what only this one finds wrong is excused by that.
    pub(crate) strict: Judge,
    pub(crate) rng: Rng,
    pub(crate) steps: VecDeque<Step>,
    doing: Doing,
    /// All tags of the disk are taken.
    pub(crate) full: bool,
}

impl Player {
    /// For the disk of this number.
    pub(crate) fn new(terms: Terms, seed: u64, disk: usize) -> Player {
        let mut seeds = Rng::with_seed(seed);
        let seed = (0..=disk).map(|_| seeds.u64(..)).last();
        Player {
            judge: Judge::new(terms),
            strict: Judge::new(terms),
            rng: Rng::with_seed(seed.unwrap_or_default()),
            steps: VecDeque::new(),
            doing: Doing::Nothing,
            full: false,
        }
    }

    /// The disk has obeyed.
    pub(crate) fn obeyed(&mut self, at: At) {
        self.judge.obeyed(at);
        self.strict.obeyed(at);
        if let Some((_, wait)) = self.steps.pop_front() {
            self.doing = Doing::Waiting {
                wait,
                since: at,
                settled: None,
            };
        }
    }

    /// Whether what it waited for has come. It does nothing then.
    pub(crate) fn is_ready(&mut self, now: At) -> bool {
        if let Doing::Waiting {
            wait,
            since,
            settled,
        } = &mut self.doing
        {
            *settled = settled.or(Some(now)).filter(|_| self.judge.is_settled());
            let over = match wait {
                Wait::For(time) => now >= *since + *time,
                Wait::Settled(time) => settled.is_some_and(|settled| now >= settled + *time),
            };
            if over {
                self.doing = Doing::Nothing;
            }
        }
        matches!(self.doing, Doing::Nothing)
    }

    /// The next thing to do, unless it has to wait because too many disks are full.
    pub(crate) fn next_act(&mut self, full: &mut usize) -> Option<Act> {
        let (act, _) = *self.steps.front()?;
        let fills = matches!(act, Act::Set(fault) if fault.is_full());
        if fills && !self.full && *full >= FULL_AT_ONCE {
            return None;
        }
        *full += usize::from(fills && !self.full);
        self.full = fills;
        self.doing = Doing::Acting;
        Some(act)
    }

    /// Whether there is anything left to do, or to wait for.
    pub(crate) fn is_busy(&self) -> bool {
        !matches!(self.doing, Doing::Nothing) || !self.steps.is_empty()
    }
}
