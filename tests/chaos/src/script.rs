//! What is done to a disk next: made up from a seed (pure).

use std::time::Duration;

use fastrand::Rng;

use crate::fault::Fault;
use crate::terms::Terms;

/// An errno, and the name under which a loop device shows it.
pub type Errno = (i32, &'static str);

/// Errnos that a disk can have, and what a loop device makes of them. Not EAGAIN, ENOMEM and EINVAL,
/// which the kernel gives for reasons of its own; it does so with the last one, too.
const ERRNOS: [Errno; 13] = [
    (5, "EIO"),
    (6, "EIO"),
    (19, "ENODEV"),
    (28, "ENOSPC"),
    (52, "EBADE"),
    (61, "ENODATA"),
    (62, "ETIME"),
    (67, "ENOLINK"),
    (84, "EILSEQ"),
    (110, "ETIMEDOUT"),
    (113, "EIO"),
    (121, "EREMOTEIO"),
    (95, "EOPNOTSUPP"),
];

/// The longest time to do nothing.
const LONG: Duration = Duration::from_secs(5);

/// One thing to do to a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Make it do this from now on.
    Set(Fault),
    /// End the reads that it holds, with an error or with data; it goes on to hold those that come.
    Pulse(Option<Errno>),
    /// End what this fault did. What is held ends with an error or with data.
    Heal(Fault, Option<Errno>),
}

impl Act {
    /// What the disk does then, one thing after the other; the last one stays.
    pub(crate) fn phases(self) -> Vec<Fault> {
        let end =
            |errno: Option<Errno>| errno.map_or(Fault::None, |(e, name)| Fault::Fail(e, name));
        match self {
            Act::Set(fault) => vec![fault],
            Act::Pulse(errno) => vec![end(errno), Fault::Hang],
            Act::Heal(_, errno) => vec![end(errno), Fault::None],
        }
    }
}

/// How long to wait after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// So long, whatever is said meanwhile.
    For(Duration),
    /// Until all has been said that has to be, and so long.
    Settled(Duration),
}

/// One thing to do, and how long to wait then.
pub type Step = (Act, Wait);

/// What may be done at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    /// Disks are pulled and plugged in again.
    pub vanish: bool,
    /// Disks may answer with EOPNOTSUPP, which files without `RWF_NOWAIT` do as well.
    pub refuse: bool,
}

/// What a disk is put through next. It works before, and again at the end.
pub fn script(rng: &mut Rng, terms: &Terms, mix: Mix) -> Vec<Step> {
    let known = ERRNOS.len() - usize::from(!mix.refuse);
    let errnos = &ERRNOS[..known];
    let mut author = Author { rng, terms, errnos };
    loop {
        let steps = match author.rng.u32(..100) {
            0..16 => author.hang(),
            16..32 => author.one(Author::fail),
            32..40 => author.one(|author| Fault::Slow(author.part(0.05..0.4))),
            40..50 => author.one(|author| Fault::Late(author.part(1.5..3.0))),
            50..55 => author.one(|author| Fault::Edge(author.part(0.8..1.2))),
            55..61 => author.one(|author| Fault::Flicker(author.rng.u64(2..12))),
            61..64 => author.one(Author::busy),
            64..67 => author.one(|_| Fault::Dead),
            67..69 => author.one(Author::failing),
            69..71 => author.full_in_turns(),
            71..75 => author.one(|author| Fault::Short(author.rng.u32(64..512))),
            75..80 => author.one(|_| Fault::Empty),
            80..85 if mix.vanish => author.vanish(),
            85..93 => author.flap(),
            93..100 => author.row(),
            _ => continue,
        };
        return steps;
    }
}

struct Author<'a> {
    rng: &'a mut Rng,
    terms: &'a Terms,
    errnos: &'a [Errno],
}

impl Author<'_> {
    /// One fault, and its end.
    fn one(&mut self, fault: impl FnOnce(&mut Self) -> Fault) -> Vec<Step> {
        let fault = fault(self);
        let hold = self.hold();
        vec![(Act::Set(fault), hold), self.heal(fault, None)]
    }

    fn hang(&mut self) -> Vec<Step> {
        let mut steps = vec![(Act::Set(Fault::Hang), self.hold())];
        while self.rng.u32(..4) == 0 {
            let errno = self.maybe_errno();
            steps.push((Act::Pulse(errno), self.hold()));
        }
        let errno = self.maybe_errno();
        steps.push(self.heal(Fault::Hang, errno));
        steps
    }

    /// All tags are taken all the time, and what is done to those who have them changes.
    fn full_in_turns(&mut self) -> Vec<Step> {
        let busy = self.busy();
        let worse = if self.rng.bool() {
            Fault::Dead
        } else {
            self.failing()
        };
        let mut faults = [busy, worse, busy];
        let faults = if self.rng.bool() {
            &mut faults[..2]
        } else {
            &mut faults[..]
        };
        let last = faults[faults.len() - 1];
        let mut steps: Vec<Step> = faults
            .iter()
            .map(|fault| (Act::Set(*fault), self.hold()))
            .collect();
        steps.push(self.heal(last, None));
        steps
    }

    fn vanish(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.rng.bool() {
            steps.push((Act::Set(Fault::Hang), self.hold()));
        }
        steps.push((Act::Set(Fault::Vanish), self.hold()));
        steps.push(self.heal(Fault::Vanish, None));
        steps
    }

    /// Fast changes, faster than they can all be noticed.
    fn flap(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        for _ in 0..self.rng.u32(2..6) {
            let fault = match self.rng.u32(..3) {
                0 => Fault::Hang,
                1 => Fault::Empty,
                _ => self.fail(),
            };
            let errno = self.maybe_errno();
            steps.push((Act::Set(fault), self.moment()));
            steps.push((Act::Heal(fault, errno), self.moment()));
        }
        if let Some(last) = steps.last_mut() {
            last.1 = self.settled();
        }
        steps
    }

    /// One fault after the other, without a good moment between.
    fn row(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut last = Fault::Empty;
        for _ in 0..self.rng.u32(2..4) {
            last = match self.rng.u32(..3) {
                0 => Fault::Late(self.part(1.5..3.0)),
                1 => Fault::Empty,
                _ => self.fail(),
            };
            steps.push((Act::Set(last), self.hold()));
        }
        steps.push(self.heal(last, None));
        steps
    }

    fn heal(&mut self, fault: Fault, errno: Option<Errno>) -> Step {
        (Act::Heal(fault, errno), self.settled())
    }

    fn fail(&mut self) -> Fault {
        let (errno, name) = self.errno();
        Fault::Fail(errno, name)
    }

    fn errno(&mut self) -> Errno {
        self.errnos[self.rng.usize(..self.errnos.len())]
    }

    fn maybe_errno(&mut self) -> Option<Errno> {
        self.rng.bool().then(|| self.errno())
    }

    /// So slow that a read that waits for all of its tags takes a quarter of the timeout.
    fn busy(&mut self) -> Fault {
        Fault::Busy(self.terms.timeout / 4 / 128)
    }

    /// As slow as a busy one.
    fn failing(&mut self) -> Fault {
        Fault::Failing(self.terms.timeout / 4 / 128)
    }

    /// Part of the timeout.
    fn part(&mut self, range: std::ops::Range<f64>) -> Duration {
        let part = range.start + (range.end - range.start) * self.rng.f64();
        self.terms.timeout.mul_f64(part)
    }

    /// At times as long as a marginal path needs to be up, if that is not too long.
    fn settled(&mut self) -> Wait {
        if self.terms.recovery <= LONG && self.rng.u32(..20) == 0 {
            return Wait::Settled(self.terms.recovery * 3 / 2);
        }
        Wait::Settled(self.terms.interval.mul_f64(2.0 * self.rng.f64()))
    }

    /// As a rule until it is noticed, and some time more; else perhaps not as long as that.
    fn hold(&mut self) -> Wait {
        let some = self.terms.interval.mul_f64(3.0 * self.rng.f64());
        if self.rng.u32(..10) < 7 {
            return Wait::Settled(some);
        }
        let limit = self.terms.detection(Duration::ZERO);
        Wait::For(limit.mul_f64(self.rng.f64()))
    }

    fn moment(&mut self) -> Wait {
        Wait::For(self.terms.interval.mul_f64(2.0 * self.rng.f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms() -> Terms {
        Terms::new(Duration::from_millis(100), Duration::from_millis(300))
    }

    #[test]
    fn a_seed_always_gives_the_same() {
        let mix = Mix {
            vanish: true,
            refuse: true,
        };
        let scripts = |seed| {
            let mut rng = Rng::with_seed(seed);
            (0..50)
                .map(|_| script(&mut rng, &terms(), mix))
                .collect::<Vec<_>>()
        };
        assert_eq!(scripts(1), scripts(1));
        assert_ne!(scripts(1), scripts(2));
    }

    #[test]
    fn every_disk_is_well_in_the_end_and_what_is_held_is_let_go_before_another_fault() {
        for vanish in [true, false] {
            let mut rng = Rng::with_seed(7);
            for _ in 0..10_000 {
                let mix = Mix {
                    vanish,
                    refuse: vanish,
                };
                let steps = script(&mut rng, &terms(), mix);
                let mut now = Fault::None;
                for (act, _) in &steps {
                    match *act {
                        // The rig changes a full disk into another full one only.
                        Act::Set(next) => {
                            assert!(!now.is_full() || next.is_full(), "{steps:?}");
                            let lets_go = now != Fault::Hang || next == Fault::Vanish;
                            assert!(lets_go && now != Fault::Vanish, "{steps:?}");
                            assert!(vanish || next != Fault::Vanish, "{steps:?}");
                            now = next;
                        }
                        Act::Pulse(_) => assert_eq!(now, Fault::Hang, "{steps:?}"),
                        Act::Heal(fault, _) => {
                            assert_eq!(now, fault, "{steps:?}");
                            now = Fault::None;
                        }
                    }
                }
                assert_eq!(now, Fault::None, "{steps:?}");
            }
        }
    }
}
