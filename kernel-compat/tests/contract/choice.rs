//! Tests which backend is chosen if the kernel or a filter forbids better ones. Seccomp filters on
//! the test's thread really forbid the calls. The chosen backend then has to report the same
//! results of healthy, failing, hanging and saturated disks.

use libc::{
    EACCES, ENOSYS, EPERM, SYS_io_setup, SYS_io_submit, SYS_io_uring_enter, SYS_io_uring_register,
    SYS_io_uring_setup, c_long,
};
use libtest_mimic::Trial;
use pathpulse_kernel_compat::{BackendKind, Choice, Errno, Submission, open_backend};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

use crate::backends::{KernelLimits, NO_LIMITS, Open, TestedBackend};
use crate::scenarios::SCENARIOS;

/// An environment, and the backend that should be chosen in it.
struct Environment {
    name: &'static str,
    forbidden: &'static [(c_long, i32)],
    /// The unavailable backends, best first: the failing call, its errno, and part of the hint.
    reasons: &'static [(BackendKind, &'static str, Errno, &'static str)],
    chosen: BackendKind,
}

use BackendKind::{Aio, IoUring, Sync};

const ENVIRONMENTS: &[Environment] = &[
    Environment {
        name: "no_restrictions",
        forbidden: &[],
        reasons: &[],
        chosen: IoUring,
    },
    Environment {
        name: "an_old_kernel",
        forbidden: &[(SYS_io_uring_setup, ENOSYS)],
        reasons: &[(IoUring, "io_uring_setup", Errno::ENOSYS, "no io_uring")],
        chosen: Aio,
    },
    Environment {
        name: "docker",
        forbidden: &[
            (SYS_io_uring_setup, EPERM),
            (SYS_io_uring_enter, EPERM),
            (SYS_io_uring_register, EPERM),
        ],
        reasons: &[(IoUring, "io_uring_setup", Errno::EPERM, "seccomp")],
        chosen: Aio,
    },
    Environment {
        // It also forbids io_pgetevents, which is not used here.
        name: "podman",
        forbidden: &[
            (SYS_io_uring_setup, ENOSYS),
            (SYS_io_uring_enter, ENOSYS),
            (SYS_io_uring_register, ENOSYS),
        ],
        reasons: &[(IoUring, "io_uring_setup", Errno::ENOSYS, "seccomp")],
        chosen: Aio,
    },
    Environment {
        name: "selinux",
        forbidden: &[(SYS_io_uring_setup, EACCES)],
        reasons: &[(IoUring, "io_uring_setup", Errno::EACCES, "SELinux")],
        chosen: Aio,
    },
    Environment {
        name: "a_ring_that_cannot_be_entered",
        forbidden: &[(SYS_io_uring_enter, EPERM)],
        reasons: &[(IoUring, "io_uring_enter", Errno::EPERM, "")],
        chosen: Aio,
    },
    Environment {
        name: "a_ring_that_cannot_be_probed",
        forbidden: &[(SYS_io_uring_register, EPERM)],
        reasons: &[(
            IoUring,
            "io_uring_register(IORING_REGISTER_PROBE)",
            Errno::EPERM,
            "",
        )],
        chosen: Aio,
    },
    Environment {
        name: "a_kernel_without_both",
        forbidden: &[(SYS_io_uring_setup, ENOSYS), (SYS_io_setup, ENOSYS)],
        reasons: &[
            (IoUring, "io_uring_setup", Errno::ENOSYS, "no io_uring"),
            (Aio, "io_setup", Errno::ENOSYS, "CONFIG_AIO"),
        ],
        chosen: Sync,
    },
    Environment {
        name: "a_container_without_both",
        forbidden: &[(SYS_io_uring_setup, EPERM), (SYS_io_submit, EPERM)],
        reasons: &[
            (IoUring, "io_uring_setup", Errno::EPERM, "seccomp"),
            (Aio, "io_submit", Errno::EPERM, "does not work"),
        ],
        chosen: Sync,
    },
];

/// Opens the best backend of the environment.
static CHOSEN: TestedBackend = TestedBackend {
    name: "choice",
    open: Open::Real(|sizes| match open_backend(Choice::Auto, sizes.queue) {
        Ok(opened) => Ok(opened.backend),
        Err(tried) => Err(tried[0].error.clone()),
    }),
    submission: Submission::Prompt,
    limits: KernelLimits {
        killable: false,
        ..NO_LIMITS
    },
};

/// Scenarios that must have the same results everywhere.
const SCENARIOS_TO_RUN: [&str; 4] = ["healthy", "failing", "hanging", "saturated"];

pub(crate) fn trials() -> Vec<Trial> {
    let trial = |environment: &'static Environment| {
        let name = format!("choice::{}", environment.name);
        // The choice can be tested anywhere. The disks have their own requirements.
        let test = {
            let name = name.clone();
            move || {
                enter(environment);
                assert_choice(environment);
                match pathpulse_faultdisk::available() {
                    Ok(()) => run_scenarios(),
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
    ENVIRONMENTS.iter().map(trial).collect()
}

/// Forbids the calls to this thread and to the threads that it starts.
fn enter(environment: &Environment) {
    for errno in [EACCES, ENOSYS, EPERM] {
        let calls = environment
            .forbidden
            .iter()
            .filter(|(_, with)| *with == errno);
        let rules = calls.map(|(call, _)| (*call, Vec::new())).collect();
        let answer = SeccompAction::Errno(errno.cast_unsigned());
        let arch = std::env::consts::ARCH
            .try_into()
            .expect("seccompiler supports this architecture");
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, answer, arch);
        let program: BpfProgram = filter.expect("a filter").try_into().expect("a program");
        apply_filter(&program).expect("the filter is in force");
    }
}

fn assert_choice(environment: &Environment) {
    let opened = open_backend(Choice::Auto, 16).expect("threads always work");
    assert_eq!(opened.backend.kind(), environment.chosen);
    assert_eq!(opened.features.is_some(), environment.chosen == IoUring);
    assert_eq!(opened.unavailable.len(), environment.reasons.len());
    for (unavailable, (kind, call, errno, hint)) in
        opened.unavailable.iter().zip(environment.reasons)
    {
        let error = &unavailable.error;
        assert_eq!(
            (unavailable.kind, &*error.call, error.errno),
            (*kind, *call, *errno)
        );
        assert!(error.hint.contains(hint), "{error}");
        // If this backend is requested by name, no other is opened.
        let tried = open_backend(Choice::Only(*kind), 16).err();
        assert_eq!(tried.as_deref(), Some(&[unavailable.clone()][..]));
    }
}

fn run_scenarios() {
    for scenario in SCENARIOS
        .iter()
        .filter(|scenario| SCENARIOS_TO_RUN.contains(&scenario.name))
    {
        (scenario.run)(&CHOSEN);
    }
}
