//! Looking up now and then where the names of paths lead that work: one may have been given to another disk.
//! Of those that lead to the same one, what may have changed of it is learned again.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::WorkerEnv;
use super::env::Lookup;
use crate::device::open_all;
use crate::status::PathId;
use crate::worker::message::Reopened;

/// All names are looked up after so many intervals, but not more often than once a second, nor less than once
/// a minute.
const INTERVALS: u32 = 64;
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// What has not been looked up by then is looked up another time.
const LIMIT: Duration = Duration::from_secs(10);
const STACK_BYTES: usize = 128 * 1024;

/// A thread that looks names up, for as long as this is there.
pub(crate) struct NameWatch(#[expect(dead_code, reason = "its end is what counts")] Sender<()>);

impl NameWatch {
    /// Begins; what is found is for the workers with these, in their order. `all` lists the paths, each with
    /// its worker and its name.
    pub(crate) fn start(
        interval: Duration,
        workers: Vec<WorkerEnv>,
        all: impl Fn() -> Vec<(PathId, usize, PathBuf)> + Send + 'static,
    ) -> NameWatch {
        let pause = (interval * INTERVALS).clamp(PAUSE.0, PAUSE.1);
        let (ours, end) = channel();
        let work = move || {
            while end.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                look_at_all(&workers, all());
            }
        };
        let thread = thread::Builder::new()
            .name("pathpulse-names".to_owned())
            .stack_size(STACK_BYTES);
        if let Err(error) = thread.spawn(work) {
            tracing::error!(%error, "no thread to look names up; those of paths that work are not");
        }
        NameWatch(ours)
    }
}

fn look_at_all(workers: &[WorkerEnv], all: Vec<(PathId, usize, PathBuf)>) {
    let Some(any) = workers.first() else {
        return;
    };
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
                any.leads_home(lookup.id);
                any.refresh_details(lookup.id);
            }
            Some(found @ Reopened::Device(_)) => workers[worker].hand_over(lookup.id, found),
            _ => {}
        }
    });
}
