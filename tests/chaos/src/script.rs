//! Generates the next actions on a disk from a seed (pure).

use std::time::Duration;

use fastrand::Rng;

use crate::fault::Fault;
use crate::limits::Limits;

/// An errno, and its name as shown by a loop device.
pub type Errno = (i32, &'static str);

/// Errnos of disks, and the names shown by a loop device. EAGAIN, ENOMEM and EINVAL are missing,
/// because the kernel also returns them for other reasons. It also does so with the last one.
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

/// The longest pause.
const LONG: Duration = Duration::from_secs(5);

/// An action on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Set this fault.
    Set(Fault),
    /// End the held reads, with an error or with data. The disk continues to hold new reads.
    ReleaseHeld(Option<Errno>),
    /// End this fault. Held reads end with an error or with data.
    Heal(Fault, Option<Errno>),
}

impl Action {
    /// The faults that the action causes, in order. The last one stays.
    pub(crate) fn phases(self) -> Vec<Fault> {
        let end =
            |errno: Option<Errno>| errno.map_or(Fault::None, |(e, name)| Fault::Fail(e, name));
        match self {
            Action::Set(fault) => vec![fault],
            Action::ReleaseHeld(errno) => vec![end(errno), Fault::Hang],
            Action::Heal(_, errno) => vec![end(errno), Fault::None],
        }
    }
}

/// How long to wait after an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Wait this long, whatever events arrive.
    For(Duration),
    /// Wait until all required events have arrived, and then this long.
    Settled(Duration),
}

/// An action, and the wait after it.
pub type Step = (Action, Wait);

/// Which faults are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultMix {
    /// Disks may vanish and reappear.
    pub vanish: bool,
    /// Disks may fail with EOPNOTSUPP, like files without `RWF_NOWAIT`.
    pub refuse: bool,
}

/// The next script of a disk. The disk works before and after it.
pub fn script(rng: &mut Rng, limits: &Limits, mix: FaultMix) -> Vec<Step> {
    let known = ERRNOS.len() - usize::from(!mix.refuse);
    let errnos = &ERRNOS[..known];
    let mut generator = ScriptGenerator {
        rng,
        limits,
        errnos,
    };
    loop {
        let steps = match generator.rng.u32(..100) {
            0..16 => generator.hang(),
            16..32 => generator.one(ScriptGenerator::fail),
            32..40 => generator.one(|generator| Fault::Slow(generator.part(0.05..0.4))),
            40..50 => generator.one(|generator| Fault::Late(generator.part(1.5..3.0))),
            50..55 => generator.one(|generator| Fault::Edge(generator.part(0.8..1.2))),
            55..61 => generator.one(|generator| Fault::Flicker(generator.rng.u64(2..12))),
            61..64 => generator.one(ScriptGenerator::busy),
            64..67 => generator.one(|_| Fault::Dead),
            67..69 => generator.one(ScriptGenerator::failing),
            69..71 => generator.saturated_sequence(),
            71..75 => generator.one(|generator| Fault::Short(generator.rng.u32(64..512))),
            75..80 => generator.one(|_| Fault::Empty),
            80..85 if mix.vanish => generator.vanish(),
            85..93 => generator.flap(),
            93..100 => generator.sequence(),
            _ => continue,
        };
        return steps;
    }
}

struct ScriptGenerator<'a> {
    rng: &'a mut Rng,
    limits: &'a Limits,
    errnos: &'a [Errno],
}

impl ScriptGenerator<'_> {
    /// One fault, and its end.
    fn one(&mut self, fault: impl FnOnce(&mut Self) -> Fault) -> Vec<Step> {
        let fault = fault(self);
        let hold = self.hold();
        vec![(Action::Set(fault), hold), self.heal(fault, None)]
    }

    fn hang(&mut self) -> Vec<Step> {
        let mut steps = vec![(Action::Set(Fault::Hang), self.hold())];
        while self.rng.u32(..4) == 0 {
            let errno = self.maybe_errno();
            steps.push((Action::ReleaseHeld(errno), self.hold()));
        }
        let errno = self.maybe_errno();
        steps.push(self.heal(Fault::Hang, errno));
        steps
    }

    /// All tags stay taken, while the behaviour of the disk changes.
    fn saturated_sequence(&mut self) -> Vec<Step> {
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
            .map(|fault| (Action::Set(*fault), self.hold()))
            .collect();
        steps.push(self.heal(last, None));
        steps
    }

    fn vanish(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.rng.bool() {
            steps.push((Action::Set(Fault::Hang), self.hold()));
        }
        steps.push((Action::Set(Fault::Vanish), self.hold()));
        steps.push(self.heal(Fault::Vanish, None));
        steps
    }

    /// Changes that are too fast to be all detected.
    fn flap(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        for _ in 0..self.rng.u32(2..6) {
            let fault = match self.rng.u32(..3) {
                0 => Fault::Hang,
                1 => Fault::Empty,
                _ => self.fail(),
            };
            let errno = self.maybe_errno();
            steps.push((Action::Set(fault), self.moment()));
            steps.push((Action::Heal(fault, errno), self.moment()));
        }
        if let Some(last) = steps.last_mut() {
            last.1 = self.settled();
        }
        steps
    }

    /// Several faults in a row, without a healthy period in between.
    fn sequence(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut last = Fault::Empty;
        for _ in 0..self.rng.u32(2..4) {
            last = match self.rng.u32(..3) {
                0 => Fault::Late(self.part(1.5..3.0)),
                1 => Fault::Empty,
                _ => self.fail(),
            };
            steps.push((Action::Set(last), self.hold()));
        }
        steps.push(self.heal(last, None));
        steps
    }

    fn heal(&mut self, fault: Fault, errno: Option<Errno>) -> Step {
        (Action::Heal(fault, errno), self.settled())
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

    /// Slow enough that a read that waits for all tags takes a quarter of the timeout.
    fn busy(&mut self) -> Fault {
        Fault::Busy(self.limits.timeout / 4 / 128)
    }

    /// As slow as a busy disk.
    fn failing(&mut self) -> Fault {
        Fault::Failing(self.limits.timeout / 4 / 128)
    }

    /// A part of the timeout.
    fn part(&mut self, range: std::ops::Range<f64>) -> Duration {
        let part = range.start + (range.end - range.start) * self.rng.f64();
        self.limits.timeout.mul_f64(part)
    }

    /// Sometimes as long as a marginal path needs to be up, if that is not too long.
    fn settled(&mut self) -> Wait {
        if self.limits.recovery <= LONG && self.rng.u32(..20) == 0 {
            return Wait::Settled(self.limits.recovery * 3 / 2);
        }
        Wait::Settled(self.limits.interval.mul_f64(2.0 * self.rng.f64()))
    }

    /// Usually until it is detected and a while longer, otherwise a random time up to the limit.
    fn hold(&mut self) -> Wait {
        let some = self.limits.interval.mul_f64(3.0 * self.rng.f64());
        if self.rng.u32(..10) < 7 {
            return Wait::Settled(some);
        }
        let limit = self.limits.detection_limit(Duration::ZERO);
        Wait::For(limit.mul_f64(self.rng.f64()))
    }

    fn moment(&mut self) -> Wait {
        Wait::For(self.limits.interval.mul_f64(2.0 * self.rng.f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits::new(Duration::from_millis(100), Duration::from_millis(300))
    }

    #[test]
    fn a_seed_determines_the_scripts() {
        let mix = FaultMix {
            vanish: true,
            refuse: true,
        };
        let scripts = |seed| {
            let mut rng = Rng::with_seed(seed);
            (0..50)
                .map(|_| script(&mut rng, &limits(), mix))
                .collect::<Vec<_>>()
        };
        assert_eq!(scripts(1), scripts(1));
        assert_ne!(scripts(1), scripts(2));
    }

    #[test]
    fn scripts_end_healthy_and_release_held_reads_before_the_next_fault() {
        for vanish in [true, false] {
            let mut rng = Rng::with_seed(7);
            for _ in 0..10_000 {
                let mix = FaultMix {
                    vanish,
                    refuse: vanish,
                };
                let steps = script(&mut rng, &limits(), mix);
                let mut now = Fault::None;
                for (action, _) in &steps {
                    match *action {
                        // The rig can only change a saturated disk into another saturated one.
                        Action::Set(next) => {
                            assert!(!now.is_full() || next.is_full(), "{steps:?}");
                            let releases = now != Fault::Hang || next == Fault::Vanish;
                            assert!(releases && now != Fault::Vanish, "{steps:?}");
                            assert!(vanish || next != Fault::Vanish, "{steps:?}");
                            now = next;
                        }
                        Action::ReleaseHeld(_) => assert_eq!(now, Fault::Hang, "{steps:?}"),
                        Action::Heal(fault, _) => {
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
