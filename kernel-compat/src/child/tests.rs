use super::*;
use std::env;
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::AsRawFd;
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Set in the process that is the parent of a grandchild.
const GRANDCHILD: &str = "PATHPULSE_TEST_GRANDCHILD";

/// Numbers that the children get, far above those that a test process has. Not every shell can
/// redirect to a number of more than one digit, so the scripts open them by name.
const INPUT: i32 = 105;
const OUTPUT: i32 = 106;

/// Starts a shell that runs this script.
fn shell(script: &str, files: Vec<(OwnedFd, i32)>) -> Child {
    let args = ["-c", script].map(OsStr::new);
    Child::start(Path::new("/bin/sh"), &args, files).expect("a child")
}

/// Starts a shell whose script reads and writes the test's pipes.
fn shell_with_pipes(script: &str) -> (Child, PipeWriter, PipeReader) {
    let (input, to_child) = pipe().expect("a pipe");
    let (from_child, output) = pipe().expect("a pipe");
    let files = vec![(input.into(), INPUT), (output.into(), OUTPUT)];
    (shell(script, files), to_child, from_child)
}

/// Waits until the pidfd says that the child has ended, and reaps it.
fn end_of(child: &Child) -> ChildEnd {
    let mut fds = [PollFd::new(child, PollFlags::IN)];
    let a_minute = Timespec {
        tv_sec: 60,
        tv_nsec: 0,
    };
    assert_eq!(poll(&mut fds, Some(&a_minute)), Ok(1), "the child ends");
    child.try_wait().expect("poll said that it ended")
}

fn all_of(mut output: impl Read) -> String {
    let mut text = String::new();
    output.read_to_string(&mut text).expect("text");
    text
}

#[test]
fn a_child_gets_its_files_and_empty_standard_streams() {
    let script = "exec 8</proc/self/fd/105 9>/proc/self/fd/106; \
                  cat <&8 >&9; cat >&9; echo lost; readlink /proc/self/fd/0 >&9";
    let (child, mut to_child, from_child) = shell_with_pipes(script);
    to_child.write_all(b"hello\n").expect("the child reads");
    drop(to_child);
    assert_eq!(all_of(from_child), "hello\n/dev/null\n");
    assert_eq!(end_of(&child), ChildEnd::Exited(0));
}

#[test]
fn files_may_swap_their_numbers_or_keep_them() {
    let high = |file: OwnedFd| rustix::io::fcntl_dupfd_cloexec(file, 200).expect("a number");
    let pipes = [(); 3].map(|()| pipe().expect("a pipe"));
    let (readers, writers): (Vec<_>, Vec<_>) = pipes
        .into_iter()
        .map(|(reader, writer)| (reader, high(writer.into())))
        .unzip();
    let numbers: Vec<i32> = writers.iter().map(AsRawFd::as_raw_fd).collect();
    let [a, b, same] = numbers[..] else {
        panic!("three pipes")
    };
    let files = writers.into_iter().zip([b, a, same]).collect();
    let script = r#"for i in "$@"; do echo $i >/proc/self/fd/$i; done"#;
    let numbers = numbers.iter().map(i32::to_string).collect::<Vec<_>>();
    let mut args = ["-c", script, "sh"].map(OsStr::new).to_vec();
    args.extend(numbers.iter().map(OsStr::new));
    let child = Child::start(Path::new("/bin/sh"), &args, files).expect("a child");
    let got: Vec<String> = readers.into_iter().map(all_of).collect();
    assert_eq!(got, [b, a, same].map(|number| format!("{number}\n")));
    assert_eq!(end_of(&child), ChildEnd::Exited(0));
}

#[test]
fn a_child_has_no_copies_of_its_files() {
    let script = "readlink /proc/self/fd/* >/proc/self/fd/106; exit 0";
    let (child, to_child, from_child) = shell_with_pipes(script);
    let name = |file: BorrowedFd| {
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        let name = std::fs::read_link(link).expect("an open file");
        name.into_os_string().into_string().expect("text")
    };
    let (input, output) = (name(to_child.as_fd()), name(from_child.as_fd()));
    let listed = all_of(from_child);
    let count = |name: &str| listed.lines().filter(|line| *line == name).count();
    assert_eq!(count(&input), 1, "{listed}");
    assert_eq!(
        count(&output),
        2,
        "106 and the output of readlink: {listed}"
    );
    assert_eq!(end_of(&child), ChildEnd::Exited(0));
}

#[test]
fn a_child_blocks_no_signals_and_ignores_none_that_end_it() {
    let run = thread::spawn(|| {
        // SAFETY: with SIG_IGN, signal(2) refers to no memory.
        unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigfillset(3) writes the whole set, which is on this stack.
        unsafe { libc::sigfillset(all.as_mut_ptr()) };
        // SAFETY: pthread_sigmask(3) reads the set written above.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), null_mut()) };
        let script = "exec grep -E 'SigBlk|SigIgn' /proc/self/status >/proc/self/fd/106";
        let (child, _to_child, from_child) = shell_with_pipes(script);
        let text = all_of(from_child);
        assert_eq!(end_of(&child), ChildEnd::Exited(0));
        text
    });
    let text = run.join().expect("a child");
    let bits = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        u64::from_str_radix(line.expect("a line").trim(), 16).expect("a mask")
    };
    assert_eq!(bits("SigBlk:"), 0);
    let ending = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGPIPE];
    let ending = ending
        .iter()
        .fold(0, |mask, signal| mask | 1 << (signal - 1));
    assert_eq!(bits("SigIgn:") & ending, 0, "{text}");
}

#[test]
fn a_running_child_is_not_waited_for() {
    let (child, to_child, _from_child) = shell_with_pipes("read line </proc/self/fd/105; exit 7");
    assert_eq!(child.try_wait(), None);
    child.signal(libc::SIGSTOP).expect("it runs");
    assert_eq!(child.try_wait(), None);
    child.signal(libc::SIGCONT).expect("it is stopped");
    drop(to_child);
    assert_eq!(end_of(&child), ChildEnd::Exited(7));
}

#[test]
fn a_killed_child_is_reported_and_reaped_once() {
    let (child, _to_child, _from_child) = shell_with_pipes("read line </proc/self/fd/105");
    child.signal(libc::SIGSTOP).expect("it runs");
    child.kill().expect("it is stopped");
    assert_eq!(end_of(&child), ChildEnd::Killed(libc::SIGKILL));
    assert_eq!(child.try_wait(), Some(ChildEnd::Killed(libc::SIGKILL)));
    let left = rustix::process::waitid(WaitId::PidFd(child.as_fd()), WaitIdOptions::EXITED);
    assert_eq!(left.err(), Some(rustix::io::Errno::CHILD), "it was reaped");
    child.kill().expect("does nothing");
    assert_eq!(child.signal(0).unwrap_err().errno, Errno::EINVAL);
}

#[test]
fn a_program_that_is_missing_or_a_number_too_high_is_an_error() {
    let (_reader, writer) = pipe().expect("a pipe");
    let program = Path::new("/proc/self/no-such-program");
    let error = Child::start(program, &[], vec![(writer.into(), OUTPUT)]).unwrap_err();
    assert_eq!((&*error.call, error.errno), ("execve", Errno::ENOENT));
    let (_reader, writer) = pipe().expect("a pipe");
    let error = Child::start(program, &[], vec![(writer.into(), i32::MAX)]).unwrap_err();
    assert_eq!(error.errno, Errno::EINVAL);
}

/// The grandchild ends before anyone can see that its parent has ended: the kernel sends the signal
/// first (`exit_notify` in kernel/exit.c). So it has no chance to say that it outlived it.
#[test]
fn a_child_dies_with_its_parent() {
    let mut parent = Command::new(env::current_exe().expect("this program"))
        .args([
            "--exact",
            "--nocapture",
            "child::tests::parent_of_a_grandchild",
        ])
        .env(GRANDCHILD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program again");
    let to_grandchild = parent.stdin.take().expect("a pipe");
    let mut output = BufReader::new(parent.stdout.take().expect("a pipe"));
    let mut line = String::new();
    while !line.ends_with("grandchild runs\n") {
        line.clear();
        assert_ne!(
            output.read_line(&mut line).expect("text"),
            0,
            "no grandchild"
        );
    }
    parent.kill().expect("it runs");
    parent.wait().expect("it was killed");
    drop(to_grandchild);
    assert_eq!(all_of(output), "");
}

/// Not a test, but the process that the test above kills. Its streams become the grandchild's.
#[test]
fn parent_of_a_grandchild() {
    if env::var_os(GRANDCHILD).is_none() {
        return;
    }
    let copy = |stream: BorrowedFd| stream.try_clone_to_owned().expect("a descriptor");
    let script = "exec 8</proc/self/fd/105 9>/proc/self/fd/106; \
                  echo grandchild runs >&9; read line <&8; echo it outlived its parent >&9";
    let files = vec![
        (copy(io::stdin().as_fd()), INPUT),
        (copy(io::stdout().as_fd()), OUTPUT),
    ];
    let _grandchild = shell(script, files);
    loop {
        thread::park();
    }
}
