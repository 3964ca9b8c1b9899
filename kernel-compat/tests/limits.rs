//! Tests of the choice of a backend under limits of the system or the user. They exhaust or change
//! limits of the whole process or machine for a short time. So they have their own file, and run
//! one at a time.

use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pathpulse_kernel_compat::{
    Aio, AioConfig, Backend, BackendKind, Choice, Errno, Mono, Op, Opened, Outcome, Reject,
    Submission, TargetId, open_backend,
};
use rustix::process::{Resource, Rlimit, Uid, getrlimit, setrlimit};
use rustix::thread::set_thread_res_uid;

/// Lets one test run at a time.
fn lock_tests() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Checks that a backend makes a real read.
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
    backend.submit(op).expect("the read is accepted");
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

/// Slots of fs.aio-max-nr, released when dropped.
struct Slots(Vec<libc::c_ulong>);

impl Slots {
    /// Takes all slots except so few that no context fits.
    fn take_all() -> Slots {
        let mut contexts = Vec::new();
        loop {
            let left = slots("aio-max-nr").saturating_sub(slots("aio-nr"));
            // A memory limit of the kernel bounds the events of a context.
            let events = left.min(1_000_000);
            let mut context: libc::c_ulong = 0;
            // SAFETY: io_setup(2) writes the new context's id into `context`, which this function
            // owns.
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
            // SAFETY: io_destroy(2) takes no memory. These contexts have no reads to wait for.
            unsafe { libc::syscall(libc::SYS_io_destroy, *context) };
        }
    }
}

#[test]
fn without_aio_slots_the_hint_has_the_command() {
    let _lock = lock_tests();
    let max = slots("aio-max-nr");
    let taken = Slots::take_all();
    let refused = open_backend(Choice::Only(BackendKind::Aio), 64);
    drop(taken);
    let refused = refused.err().expect("no slot is left");
    assert_eq!(refused.len(), 1);
    let error = &refused[0].error;
    assert_eq!((&*error.call, error.errno), ("io_setup", Errno::EAGAIN));
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
        open_backend(Choice::Only(BackendKind::Aio), 64).expect("slots are free again");
    assert_works(&mut opened);
}

/// Submits reads until one is refused. Returns how many were accepted.
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
fn reads_without_a_slot_are_refused_until_slots_are_free() {
    const PATHS: usize = 100;
    let _lock = lock_tests();
    let mut aio = Aio::open(AioConfig { paths: 8 }).expect("slots are free");
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
        "the context still works"
    );
    drop(all_slots);
    let begin = Mono::now();
    let mut held = taken;
    while held < PATHS {
        assert!(
            Mono::now().since(begin) < Duration::from_secs(30),
            "the context does not grow"
        );
        std::thread::sleep(Duration::from_millis(50));
        held += submit_up_to(&mut aio, &targets[held..]);
    }
    take_answers(&mut aio, PATHS);
}

#[test]
fn a_dropped_backend_releases_its_slots() {
    const MANY: u32 = 20_000;
    let _lock = lock_tests();
    if slots("aio-max-nr") - slots("aio-nr") < 2 * MANY {
        pathpulse_faultdisk::report_skip("too few free slots of fs.aio-max-nr");
        return;
    }
    let before = slots("aio-nr");
    let config = AioConfig { paths: MANY };
    let aio = Aio::open(config).expect("slots are free");
    // Other processes also take and release slots, but not this many.
    assert!(slots("aio-nr") > before + MANY / 2);
    drop(aio);
    let begin = Mono::now();
    while slots("aio-nr") > before + MANY / 2 {
        assert!(
            Mono::now().since(begin) < Duration::from_secs(30),
            "the slots are not released"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sets a limit of the process and restores it when dropped.
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
        setrlimit(self.0, self.1).expect("the previous limit");
    }
}

/// Makes this thread, and no other, run without privileges: most limits do not apply to root.
fn become_nobody() {
    let nobody = Uid::from_raw(65_534);
    set_thread_res_uid(nobody, nobody, nobody).expect("root can change its user");
}

#[test]
fn without_threads_the_hint_names_the_limits() {
    if !rustix::process::geteuid().is_root() {
        pathpulse_faultdisk::report_skip("only root can become another user");
        return;
    }
    let _lock = lock_tests();
    let (ready, limited) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        become_nobody();
        limited.recv().expect("the limit is set");
        open_backend(Choice::Only(BackendKind::Sync), 16).err()
    });
    let limit = Limited::to(Resource::Nproc, 0);
    ready.send(()).expect("the thread receives");
    let refused = thread.join().expect("it does not panic");
    drop(limit);
    let error = &refused.expect("no thread can be started")[0].error;
    assert_eq!((&*error.call, error.errno), ("clone", Errno::EAGAIN));
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
        let mut opened = open_backend(Choice::Auto, 16).expect("threads always work");
        assert_works(&mut opened);
        let entries = opened.features.map(|features| features.sq_entries);
        let reason = opened.unavailable.first().map(|first| first.error.clone());
        (opened.backend.kind(), entries, reason)
    });
    thread.join().expect("it works")
}

#[test]
fn without_locked_memory_the_ring_is_smaller_or_refused_with_a_reason() {
    if !rustix::process::geteuid().is_root() {
        pathpulse_faultdisk::report_skip("only root can become another user");
        return;
    }
    let _lock = lock_tests();
    // In ascending order: the kernel returns the locked memory of a closed ring late.
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
    // Kernels from 5.12 to some of the 6.x don't count rings. There the ring keeps its size.
    assert_eq!(little, BackendKind::IoUring);
    assert!(little_entries <= plenty_entries);
    match without {
        (kind, entries, None) => {
            assert_eq!((kind, entries), (BackendKind::IoUring, plenty_entries));
        }
        (kind, _, Some(error)) => {
            assert_eq!(
                (&*error.call, error.errno),
                ("io_uring_setup", Errno::ENOMEM)
            );
            assert!(error.hint.contains("RLIMIT_MEMLOCK is 0 bytes"), "{error}");
            assert_eq!(kind, BackendKind::Aio);
        }
    }
}

/// Restores kernel.io_uring_disabled when dropped.
struct Disabled(String);

const DISABLED: &str = "/proc/sys/kernel/io_uring_disabled";

impl Drop for Disabled {
    fn drop(&mut self) {
        fs::write(DISABLED, &self.0).expect("the previous value");
    }
}

#[test]
#[ignore = "disables io_uring on the whole machine for a moment"]
fn disabled_by_the_administrator() {
    let _lock = lock_tests();
    let before = fs::read_to_string(DISABLED).expect("Linux 6.6");
    fs::write(DISABLED, "2").expect("root");
    let restored = Disabled(before);
    let opened = open_backend(Choice::Auto, 16);
    drop(restored);
    let mut opened = opened.expect("threads always work");
    assert_eq!(opened.backend.kind(), BackendKind::Aio);
    let error = &opened.unavailable[0].error;
    assert_eq!(
        (&*error.call, error.errno),
        ("io_uring_setup", Errno::EPERM)
    );
    assert!(
        error.hint.contains("sysctl -w kernel.io_uring_disabled=0"),
        "{error}"
    );
    assert_works(&mut opened);
}
