//! `faultdisk up`: prints the created disks, then executes commands line by line.

use std::io::{self, BufRead, Write};
use std::process::Command;
use std::time::Duration;

use pathpulse_faultdisk::{Behaviour, Load, Release, Rig, Spec};

const COMMANDS: &str = "\
  answer N           answer at once           delay N MS         answer after MS milliseconds
  fail N ERRNO       fail, e.g. fail 1 EIO    hang N             hold every read
  drip N MS          hold, answer one per MS  short N BYTES      answer with at most BYTES
  nth N EVERY ...    apply the rest of the line to every EVERY-th read: nth 0 3 fail EIO
  release N [ERRNO]  end all held reads       recover N          answer, and release with data
  saturate N dead    take all tags, hang      saturate N MS      take all tags, answer one per MS
  saturate N MS ERRNO                         take all tags, fail one per MS
  unsaturate N       free the tags            vanish N           remove the disk
  reappear N                                  attach it again, as a new device
  counts N           print its counters       quit               remove everything (also Ctrl-D)
N is a disk's number, or `all`.
";

/// Runs until stdin ends or contains `quit`.
pub(crate) fn up(spec: &Spec) -> io::Result<()> {
    pathpulse_faultdisk::available().map_err(io::Error::other)?;
    let mut command = Command::new("/proc/self/exe");
    command.arg("serve");
    let rig = Rig::start_with(command, spec)?;
    let mut out = io::stdout();
    for (i, disk) in rig.disks().iter().enumerate() {
        writeln!(out, "{i} {}", disk.path().display())?;
    }
    writeln!(out, "`help` lists the commands")?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] => {}
            ["quit"] => break,
            ["help"] => out.write_all(COMMANDS.as_bytes())?,
            words => match execute(&rig, words) {
                Ok(answer) => writeln!(out, "{answer}")?,
                Err(error) => writeln!(out, "error: {error}")?,
            },
        }
        out.flush()?;
    }
    rig.shutdown()
}

fn execute(rig: &Rig, words: &[&str]) -> io::Result<String> {
    let [verb, which, rest @ ..] = words else {
        return Err(expected("a command and a disk, or `help`"));
    };
    let disks = match *which {
        "all" => 0..rig.disks().len(),
        number => number
            .parse()
            .map(|i: usize| i..i + 1)
            .map_err(|_| expected("a disk's number, or `all`"))?,
    };
    let mut answers = Vec::new();
    for disk in disks {
        answers.push(execute_one(rig, verb, disk, rest)?);
    }
    Ok(answers.join("\n"))
}

fn execute_one(rig: &Rig, verb: &str, disk: usize, rest: &[&str]) -> io::Result<String> {
    let released = |n: usize| format!("released {n}");
    match (verb, rest) {
        ("release", []) => rig.release(disk, Release::Data).map(released),
        ("release", [name]) => rig
            .release(disk, Release::Error(errno(name)?))
            .map(released),
        ("recover", []) => rig.recover(disk).map(released),
        ("unsaturate", []) => rig.unsaturate(disk).map(released),
        ("saturate", ["dead"]) => rig.saturate(disk, Load::Dead).map(ok),
        ("saturate", [ms, name]) => rig
            .saturate(
                disk,
                Load::Failing {
                    fail_every: millis(ms)?,
                    errno: errno(name)?,
                },
            )
            .map(ok),
        ("saturate", [ms]) => rig
            .saturate(
                disk,
                Load::Busy {
                    answer_every: millis(ms)?,
                },
            )
            .map(ok),
        ("vanish", []) => rig.vanish(disk).map(ok),
        ("reappear", []) => rig
            .reappear(disk)
            .map(|disk| disk.path().display().to_string()),
        ("counts", []) => rig.counts(disk).map(|counts| format!("{counts:?}")),
        _ => rig.set(disk, behaviour(verb, rest)?).map(ok),
    }
}

fn behaviour(verb: &str, rest: &[&str]) -> io::Result<Behaviour> {
    Ok(match (verb, rest) {
        ("answer", []) => Behaviour::Answer,
        ("hang", []) => Behaviour::Hang,
        ("delay", [ms]) => Behaviour::Delay(millis(ms)?),
        ("drip", [ms]) => Behaviour::Drip {
            every: millis(ms)?,
            at_once: 1,
            ends: Release::Data,
        },
        ("fail", [name]) => Behaviour::Fail(errno(name)?),
        ("short", [bytes]) => Behaviour::Short(number(bytes)?),
        ("nth", [n, verb, rest @ ..]) => Behaviour::EveryNth {
            n: number(n)?,
            then: Box::new(behaviour(verb, rest)?),
        },
        _ => return Err(expected("a command: `help` lists them")),
    })
}

fn ok((): ()) -> String {
    "ok".into()
}

fn millis(text: &str) -> io::Result<Duration> {
    number(text).map(Duration::from_millis)
}

fn number<T: std::str::FromStr>(text: &str) -> io::Result<T> {
    text.parse().map_err(|_| expected("a number"))
}

fn errno(text: &str) -> io::Result<i32> {
    let known = [
        ("EIO", 5),
        ("ENXIO", 6),
        ("EAGAIN", 11),
        ("ENOMEM", 12),
        ("ENODEV", 19),
        ("ENOSPC", 28),
        ("ENODATA", 61),
        ("ENOLINK", 67),
        ("EILSEQ", 84),
        ("EOPNOTSUPP", 95),
        ("ETIMEDOUT", 110),
        ("EREMOTEIO", 121),
    ];
    let named = known
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(text))
        .map(|(_, errno)| *errno);
    named.map_or_else(|| number(text), Ok)
}

fn expected(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("expected {what}"))
}
