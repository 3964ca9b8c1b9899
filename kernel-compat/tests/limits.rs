//! The choice of a backend where limits of the system or the user stand in the way. These tests use the limits up for
//! real, for a moment, and change them for the whole process or machine: they are alone in this file, and take turns.

use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pathpulse_kernel_compat::{
    Aio, AioConfig, Backend, BackendKind, Choice, Errno, Mono, Op, Opened, Outcome, Reject,
    Submission, TargetId, open_backend,
};
use rustix::process::{Resource, Rlimit, Uid, getrlimit, setrlimit};
use rustix::thread::set_thread_res_uid;

/// One test at a time.
fn my_turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a backend really carries a read.
fn assert_works(opened: &mut Opened) {
    let backend = opened.backend.as_mut();
    let file = fs::File::open("/proc/self/exe").expect("this program");
    let target = backend.attach(file.into(), Submission::Prompt);
    let op = Op {
        target,
        offset: 0,
        len: 512,
        deadline: Mono::now() + Duration::from_secs(30),
        nowait: false,
        token: 1,
    };
    backend.submit(op).expect("the read is taken");
    let mut completions = Vec::new();
    while completions.is_empty() {
        backend
            .wait(Some(op.deadline), &mut completions)
            .expect("it works");
    }
    assert_eq!(completions[0].outcome, Outcome::Read(512));
}

fn slots(name: &str) -> u32 {
    let value = fs::read_to_string(format!("/proc/sys/fs/{name}")).expect("a sysctl");
    value.trim().parse().expect("a number")
}

/// Slots of fs.aio-max-nr, given back when dropped.
struct Slots(Vec<libc::c_ulong>);

impl Slots {
    /// Takes all but so few that no context fits.
    fn take_all() -> Slots {
        let mut contexts = Vec::new();
        loop {
            let left = slots("aio-max-nr").saturating_sub(slots("aio-nr"));
            // A context can't have more events than some memory limit of the kernel's.
            let events = left.min(1_000_000);
            let mut context: libc::c_ulong = 0;
            // SAFETY: io_setup(2) writes the new context's id into `context`, which is this function's.
            let ret = unsafe { libc::syscall(libc::SYS_io_setup, events, &raw mut context) };
            if events == 0 || ret != 0 {
                return Slots(contexts);
            }
            contexts.push(context);
        }
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        for context in &self.0 {
            // SAFETY: io_destroy(2) takes no memory; these contexts have no reads to wait for.
            unsafe { libc::syscall(libc::SYS_io_destroy, *context) };
        }
    }
}

#[test]
fn without_aio_slots_the_hint_says_what_to_type() {
    let _turn = my_turn();
    let max = slots("aio-max-nr");
    let taken = Slots::take_all();
    let refused = open_backend(Choice::Only(BackendKind::Aio), 64);
    drop(taken);
    let refused = refused.err().expect("no slot is left");
    assert_eq!(refused.len(), 1);
    let error = &refused[0].error;
    assert_eq!((error.call, error.errno), ("io_setup", Errno::EAGAIN));
    assert!(
        error
            .hint
            .contains(&format!("fs.aio-max-nr is {max}, of which ")),
        "{error}"
    );
    assert!(
        error
            .hint
            .contains("raise it with sysctl -w fs.aio-max-nr="),
        "{error}"
    );
    let mut opened =
        open_backend(Choice::Only(BackendKind::Aio), 64).expect("there are slots again");
    assert_works(&mut opened);
}

/// Submits reads until one is refused; returns how many were taken.
fn submit_up_to(aio: &mut Aio, targets: &[TargetId]) -> usize {
    let taken = |target: &&TargetId| {
        let op = Op {
            target: **target,
            offset: 0,
            len: 512,
            deadline: Mono::now() + Duration::from_secs(30),
            nowait: false,
            token: 1,
        };
        match aio.submit(op) {
            Ok(_) => true,
            Err(refused) => {
                assert_eq!((refused.op, refused.why), (op, Reject::Full));
                false
            }
        }
    };
    targets.iter().take_while(taken).count()
}

fn take_answers(aio: &mut Aio, count: usize) {
    let mut completions = Vec::new();
    while completions.len() < count {
        aio.wait(None, &mut completions).expect("it works");
    }
    assert!(
        completions
            .iter()
            .all(|completion| completion.outcome == Outcome::Read(512))
    );
}

#[test]
fn without_slots_for_more_paths_the_rest_is_refused_until_there_are_some() {
    const PATHS: usize = 100;
    let _turn = my_turn();
    let mut aio = Aio::open(AioConfig { paths: 8 }).expect("there are slots");
    let file = || {
        fs::File::open("/proc/self/exe")
            .expect("this program")
            .into()
    };
    let targets: Vec<TargetId> = (0..PATHS)
        .map(|_| aio.attach(file(), Submission::Prompt))
        .collect();
    let all_slots = Slots::take_all();
    let taken = submit_up_to(&mut aio, &targets);
    assert!((8..PATHS).contains(&taken), "{taken}");
    take_answers(&mut aio, taken);
    assert_eq!(
        submit_up_to(&mut aio, &targets),
        taken,
        "the context works as before"
    );
    drop(all_slots);
    let begin = Mono::now();
    let mut held = taken;
    while held < PATHS {
        assert!(
            Mono::now().since(begin) < Duration::from_secs(30),
            "it never grows"
        );
        std::thread::sleep(Duration::from_millis(50));
        held += submit_up_to(&mut aio, &targets[held..]);
    }
    take_answers(&mut aio, PATHS);
}

#[test]
fn a_dropped_backend_gives_its_slots_back() {
    const MANY: u32 = 20_000;
    let _turn = my_turn();
    if slots("aio-max-nr") - slots("aio-nr") < 2 * MANY {
        pathpulse_faultdisk::report_skip("fs.aio-max-nr leaves too little room");
        return;
    }
    let before = slots("aio-nr");
    let config = AioConfig { paths: MANY };
    let aio = Aio::open(config).expect("there are slots");
    // Others come and go too, but not so many.
    assert!(slots("aio-nr") > before + MANY / 2);
    drop(aio);
    let begin = Mono::now();
    while slots("aio-nr") > before + MANY / 2 {
        assert!(
            Mono::now().since(begin) < Duration::from_secs(30),
            "they are kept"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A limit of the process, for as long as this lives.
struct Limited(Resource, Rlimit);

impl Limited {
    fn to(resource: Resource, value: u64) -> Limited {
        let before = getrlimit(resource);
        let limit = Rlimit {
            current: Some(value),
            maximum: before.maximum,
        };
        setrlimit(resource, limit).expect("a lower limit");
        Limited(resource, before)
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        setrlimit(self.0, self.1).expect("the limit of before");
    }
}

/// Makes this thread, and no other, one without privileges: most limits don't hold for root.
fn become_nobody() {
    let nobody = Uid::from_raw(65_534);
    set_thread_res_uid(nobody, nobody, nobody).expect("root may become nobody");
}

#[test]
fn without_threads_the_hint_says_which_limits_to_look_at() {
    if !rustix::process::geteuid().is_root() {
        pathpulse_faultdisk::report_skip("only root can become another user");
        return;
    }
    let _turn = my_turn();
    let (ready, limited) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        become_nobody();
        limited.recv().expect("the limit is set");
        open_backend(Choice::Only(BackendKind::Sync), 16).err()
    });
    let limit = Limited::to(Resource::Nproc, 0);
    ready.send(()).expect("the thread listens");
    let refused = thread.join().expect("it does not panic");
    drop(limit);
    let error = &refused.expect("no thread can be had")[0].error;
    assert_eq!((error.call, error.errno), ("clone", Errno::EAGAIN));
    assert!(error.hint.contains("RLIMIT_NPROC"), "{error}");
}

/// Opens and uses the best backend as a user without privileges.
fn open_unprivileged() -> (
    BackendKind,
    Option<u32>,
    Option<pathpulse_kernel_compat::KernelError>,
) {
    let thread = std::thread::spawn(|| {
        become_nobody();
        let mut opened = open_backend(Choice::Auto, 16).expect("threads work anywhere");
        assert_works(&mut opened);
        let entries = opened.features.map(|features| features.sq_entries);
        let reason = opened.unavailable.first().map(|first| first.error.clone());
        (opened.backend.kind(), entries, reason)
    });
    thread.join().expect("it works")
}

#[test]
fn without_locked_memory_there_is_a_smaller_ring_or_a_reason() {
    if !rustix::process::geteuid().is_root() {
        pathpulse_faultdisk::report_skip("only root can become another user");
        return;
    }
    let _turn = my_turn();
    // From less to more: what a closed ring has locked is given back late.
    let without = {
        let _limit = Limited::to(Resource::Memlock, 0);
        open_unprivileged()
    };
    let (little, little_entries, _) = {
        let _limit = Limited::to(Resource::Memlock, 64 << 10);
        open_unprivileged()
    };
    let (plenty, plenty_entries, reason) = {
        let _limit = Limited::to(Resource::Memlock, 8 << 20);
        open_unprivileged()
    };
    if plenty != BackendKind::IoUring {
        let reason = reason.expect("a reason").to_string();
        pathpulse_faultdisk::report_skip(&format!("no io_uring: {reason}"));
        return;
    }
    // Kernels from 5.12 to some of the 6.x don't count rings: there the ring stays as it is.
    assert_eq!(little, BackendKind::IoUring);
    assert!(little_entries <= plenty_entries);
    match without {
        (kind, entries, None) => {
            assert_eq!((kind, entries), (BackendKind::IoUring, plenty_entries));
        }
        (kind, _, Some(error)) => {
            assert_eq!((error.call, error.errno), ("io_uring_setup", Errno::ENOMEM));
            assert!(error.hint.contains("RLIMIT_MEMLOCK is 0 bytes"), "{error}");
            assert_eq!(kind, BackendKind::Aio);
        }
    }
}

/// kernel.io_uring_disabled for as long as this lives.
struct Disabled(String);

const DISABLED: &str = "/proc/sys/kernel/io_uring_disabled";

impl Drop for Disabled {
    fn drop(&mut self) {
        fs::write(DISABLED, &self.0).expect("the value of before");
    }
}

#[test]
#[ignore = "switches io_uring off for the whole machine, for a moment"]
fn switched_off_by_the_administrator() {
    let _turn = my_turn();
    let before = fs::read_to_string(DISABLED).expect("Linux 6.6");
    fs::write(DISABLED, "2").expect("root");
    let restored = Disabled(before);
    let opened = open_backend(Choice::Auto, 16);
    drop(restored);
    let mut opened = opened.expect("threads work anywhere");
    assert_eq!(opened.backend.kind(), BackendKind::Aio);
    let error = &opened.unavailable[0].error;
    assert_eq!((error.call, error.errno), ("io_uring_setup", Errno::EPERM));
    assert!(
        error.hint.contains("sysctl -w kernel.io_uring_disabled=0"),
        "{error}"
    );
    assert_works(&mut opened);
}
