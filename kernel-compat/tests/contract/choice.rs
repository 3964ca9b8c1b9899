//! The choice of a backend where the kernel, or what stands before it, forbids the better ones. Calls are really
//! forbidden, by seccomp filters on the test's thread; what is left then has to tell the same of healthy, failing,
//! hanging and saturated disks.

use libc::{
    EACCES, ENOSYS, EPERM, SYS_io_setup, SYS_io_submit, SYS_io_uring_enter, SYS_io_uring_register,
    SYS_io_uring_setup, c_long,
};
use libtest_mimic::Trial;
use pathpulse_kernel_compat::{BackendKind, Choice, Errno, Submission, open_backend};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

use crate::contenders::{Contender, FREE, Law, Open};
use crate::scenarios::SCENARIOS;

/// One place to run in, and what is to be chosen there.
struct Place {
    name: &'static str,
    forbidden: &'static [(c_long, i32)],
    /// What can't be had, best first: the call that says so, its errno, and words of the hint.
    reasons: &'static [(BackendKind, &'static str, Errno, &'static str)],
    chosen: BackendKind,
}

use BackendKind::{Aio, IoUring, Sync};

const PLACES: &[Place] = &[
    Place {
        name: "nothing_is_forbidden",
        forbidden: &[],
        reasons: &[],
        chosen: IoUring,
    },
    Place {
        name: "an_old_kernel",
        forbidden: &[(SYS_io_uring_setup, ENOSYS)],
        reasons: &[(IoUring, "io_uring_setup", Errno::ENOSYS, "no io_uring")],
        chosen: Aio,
    },
    Place {
        name: "docker",
        forbidden: &[
            (SYS_io_uring_setup, EPERM),
            (SYS_io_uring_enter, EPERM),
            (SYS_io_uring_register, EPERM),
        ],
        reasons: &[(IoUring, "io_uring_setup", Errno::EPERM, "seccomp")],
        chosen: Aio,
    },
    Place {
        // It forbids io_pgetevents too, which nobody here calls.
        name: "podman",
        forbidden: &[
            (SYS_io_uring_setup, ENOSYS),
            (SYS_io_uring_enter, ENOSYS),
            (SYS_io_uring_register, ENOSYS),
        ],
        reasons: &[(IoUring, "io_uring_setup", Errno::ENOSYS, "seccomp")],
        chosen: Aio,
    },
    Place {
        name: "selinux",
        forbidden: &[(SYS_io_uring_setup, EACCES)],
        reasons: &[(IoUring, "io_uring_setup", Errno::EACCES, "SELinux")],
        chosen: Aio,
    },
    Place {
        name: "a_ring_that_can_be_set_up_only",
        forbidden: &[(SYS_io_uring_enter, EPERM)],
        reasons: &[(IoUring, "io_uring_enter", Errno::EPERM, "")],
        chosen: Aio,
    },
    Place {
        name: "a_ring_that_can_not_be_probed",
        forbidden: &[(SYS_io_uring_register, EPERM)],
        reasons: &[(
            IoUring,
            "io_uring_register(IORING_REGISTER_PROBE)",
            Errno::EPERM,
            "",
        )],
        chosen: Aio,
    },
    Place {
        name: "a_kernel_without_either",
        forbidden: &[(SYS_io_uring_setup, ENOSYS), (SYS_io_setup, ENOSYS)],
        reasons: &[
            (IoUring, "io_uring_setup", Errno::ENOSYS, "no io_uring"),
            (Aio, "io_setup", Errno::ENOSYS, "CONFIG_AIO"),
        ],
        chosen: Sync,
    },
    Place {
        name: "a_container_without_either",
        forbidden: &[(SYS_io_uring_setup, EPERM), (SYS_io_submit, EPERM)],
        reasons: &[
            (IoUring, "io_uring_setup", Errno::EPERM, "seccomp"),
            (Aio, "io_submit", Errno::EPERM, "does not work"),
        ],
        chosen: Sync,
    },
];

/// What opens the best backend of the place.
static CHOSEN: Contender = Contender {
    name: "choice",
    open: Open::Real(|tuning| match open_backend(Choice::Auto, tuning.queue) {
        Ok(opened) => Ok(opened.backend),
        Err(tried) => Err(tried[0].error.clone()),
    }),
    submission: Submission::Prompt,
    law: Law {
        killable: false,
        ..FREE
    },
};

/// What has to be told the same everywhere.
const TOLD: [&str; 4] = ["healthy", "failing", "hanging", "saturated"];

pub(crate) fn trials() -> Vec<Trial> {
    let trial = |place: &'static Place| {
        let name = format!("choice::{}", place.name);
        // The reasons can be looked at anywhere; the disks have needs of their own.
        let test = {
            let name = name.clone();
            move || {
                enter(place);
                assert_choice(place);
                match pathpulse_faultdisk::available() {
                    Ok(()) => told_the_same(),
                    Err(reason) => crate::skip(&name, &reason),
                }
            }
        };
        let missing = || match open_backend(Choice::Auto, 1) {
            Ok(opened) if opened.backend.kind() == IoUring => None,
            _ => Some("io_uring is not available here even without a filter".into()),
        };
        crate::on_a_new_thread(name, missing, test)
    };
    PLACES.iter().map(trial).collect()
}

/// Forbids the calls to this thread and to those that it starts.
fn enter(place: &Place) {
    for errno in [EACCES, ENOSYS, EPERM] {
        let calls = place.forbidden.iter().filter(|(_, with)| *with == errno);
        let rules = calls.map(|(call, _)| (*call, Vec::new())).collect();
        let answer = SeccompAction::Errno(errno.cast_unsigned());
        let arch = std::env::consts::ARCH
            .try_into()
            .expect("seccompiler knows this machine");
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, answer, arch);
        let program: BpfProgram = filter.expect("a filter").try_into().expect("a program");
        apply_filter(&program).expect("the filter is in force");
    }
}

fn assert_choice(place: &Place) {
    let opened = open_backend(Choice::Auto, 16).expect("threads work anywhere");
    assert_eq!(opened.backend.kind(), place.chosen);
    assert_eq!(opened.features.is_some(), place.chosen == IoUring);
    assert_eq!(opened.unavailable.len(), place.reasons.len());
    for (unavailable, (kind, call, errno, hint)) in opened.unavailable.iter().zip(place.reasons) {
        let error = &unavailable.error;
        assert_eq!(
            (unavailable.kind, error.call, error.errno),
            (*kind, *call, *errno)
        );
        assert!(error.hint.contains(hint), "{error}");
        // One that is asked for by name is that one or none.
        let tried = open_backend(Choice::Only(*kind), 16).err();
        assert_eq!(tried.as_deref(), Some(&[unavailable.clone()][..]));
    }
}

fn told_the_same() {
    for scenario in SCENARIOS
        .iter()
        .filter(|scenario| TOLD.contains(&scenario.name))
    {
        (scenario.run)(&CHOSEN);
    }
}
