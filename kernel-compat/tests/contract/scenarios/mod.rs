//! The script: what every backend has to do with disks of each behaviour.

mod answers;
mod calls;
mod ends;
mod files;
mod silence;

use crate::backends::TestedBackend;

/// One scenario.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// Whether it tests the kernel, so that simulated disks are no use.
    pub(crate) needs_kernel: bool,
    pub(crate) run: fn(&'static TestedBackend),
}

macro_rules! scenarios {
    ($($needs_kernel:literal $module:ident: $($name:ident),+;)+) => {
        pub(crate) const SCENARIOS: &[Scenario] = &[
            $($(Scenario {
                name: stringify!($name),
                needs_kernel: $needs_kernel,
                run: $module::$name,
            },)+)+
        ];
    };
}

scenarios! {
    false answers: healthy, lengths, slow, failing, short_read, without_nowait, busy, vanished,
        vanished_in_flight;
    false silence: hanging, released_late_with_data, released_late_with_error, saturated,
        blocked_in_submission, many_blocked_submissions, many_hanging_files, frozen_server;
    true silence: no_thread_left, worker_late;
    false calls: refused, cancelled_at_the_device, cancelled_too_late, waker, until, overdue,
        ids_are_not_reused;
    false files: detached_in_flight, stale_targets, more_files_than_the_table,
        a_thousand_reads_at_once;
    true files: detached_while_queued, closed_when_given_up, closed_after_its_reads;
    false ends: shutdown_when_idle, shutdown_with_stuck_reads;
    true ends: dropped_with_stuck_reads, stopped_with_stuck_reads, killed_with_stuck_reads,
        killed_with_a_blocked_submission;
}
