//! Looks up the names of all paths now and then, also of those that work: a name may have been
//! given to another disk. If it leads to the same disk, what may have changed of that is read
//! again.

use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::WorkerEnv;
use super::env::Lookup;
use crate::device::open_all;
use crate::worker::message::Reopened;

/// All names are looked up every so many intervals, but at most once a second, and at least once a
/// minute.
const INTERVALS: u32 = 64;
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// A look-up that takes longer is left for the next round.
const LIMIT: Duration = Duration::from_secs(10);
const STACK_BYTES: usize = 128 * 1024;

/// A thread that looks names up until this is dropped.
pub(crate) struct NameWatch(
    #[expect(dead_code, reason = "dropping it ends the thread")] Sender<()>,
);

impl NameWatch {
    /// Starts the thread. `workers`, in the order of their indices in the registry, receive the
    /// results.
    pub(crate) fn start(interval: Duration, workers: Vec<WorkerEnv>) -> NameWatch {
        let pause = (interval * INTERVALS).clamp(PAUSE.0, PAUSE.1);
        let (ours, end) = channel();
        let work = move || {
            while end.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                look_up_names(&workers);
            }
        };
        let thread = thread::Builder::new()
            .name("pathpulse-names".to_owned())
            .stack_size(STACK_BYTES);
        if let Err(error) = thread.spawn(work) {
            tracing::error!(%error, "no thread to look names up; names of paths that work are not looked up again");
        }
        NameWatch(ours)
    }
}

fn look_up_names(workers: &[WorkerEnv]) {
    let Some(any) = workers.first() else {
        return;
    };
    let all = any.registry.read().names();
    let lookups = all.iter().map(|(id, worker, _)| {
        let lookup = Lookup {
            id: *id,
            always_opens: false,
            keeps_if_alike: true,
        };
        (lookup, *worker)
    });
    let lookups: Vec<(Lookup, usize)> = lookups.collect();
    let names = all.into_iter().map(|(_, _, name)| name).collect();
    let (theirs, env) = (lookups.clone(), any.clone());
    let look_up = move |place: usize, name: &Path| env.look_up(&theirs[place].0, name);
    let end = Instant::now() + LIMIT;
    open_all(names, Some(end), &any.opens, look_up, |place, found| {
        let (lookup, worker) = lookups[place];
        match found {
            Some(Reopened::Same) => {
                any.clear_elsewhere(lookup.id);
                any.refresh_details(lookup.id);
            }
            Some(found @ Reopened::Device(_)) => workers[worker].hand_over(lookup.id, found),
            _ => {}
        }
    });
}
