//! Runs programs under a seccomp filter, as containers do.

use std::collections::BTreeMap;
use std::process::{Command, Output};
use std::thread;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

/// The system calls of a backend.
pub(crate) const IO_URING: [i64; 3] = [
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
];

/// Runs a program while the kernel answers some system calls with these errnos.
///
/// A filter applies to its thread and to programs that the thread starts, so a thread of its own
/// has it.
pub(crate) fn output_under(answers: &[(&[i64], i32)], mut command: Command) -> Output {
    let filters: Vec<BpfProgram> = answers
        .iter()
        .map(|(calls, errno)| filter(calls, *errno))
        .collect();
    let run = move || {
        for filter in &filters {
            apply_filter(filter).expect("installed");
        }
        command.output().expect("runs")
    };
    thread::spawn(run).join().expect("no panic")
}

fn filter(calls: &[i64], errno: i32) -> BpfProgram {
    let rules: BTreeMap<i64, Vec<_>> = calls.iter().map(|call| (*call, Vec::new())).collect();
    let answer = SeccompAction::Errno(errno.unsigned_abs());
    let arch = std::env::consts::ARCH.try_into().expect("known to it");
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, answer, arch).expect("a filter");
    filter.try_into().expect("compiles")
}
