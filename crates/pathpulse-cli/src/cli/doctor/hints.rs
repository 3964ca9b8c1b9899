//! What a person can do about what was found.

use serde::Serialize;

use super::Report;
use super::environment::Environment;
use super::paths::PathReport;
use crate::human;

/// A queue shorter than this was cut down for want of locked memory.
const SQ_ENTRIES_WANTED: u32 = 1024;

/// More slots of libaio than most have paths.
const AIO_SLOTS_ENOUGH: u64 = 4096;
/// More descriptors than most have paths; the file table of a ring is bounded by them too.
const OPEN_FILES_ENOUGH: u64 = 4096;

/// Something to do, or to know.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Hint {
    pub(super) about: String,
    pub(super) hint: String,
}

fn hint(about: &str, hint: impl Into<String>) -> Hint {
    Hint {
        about: about.to_owned(),
        hint: hint.into(),
    }
}

/// All hints, the most important first.
pub(super) fn all(report: &Report) -> Vec<Hint> {
    let mut hints = of_backends(report);
    hints.extend(of_limits(report));
    // Without a backend there is nothing to be said of each path that was not said of all.
    if report.backends.backend.is_some() {
        hints.extend(report.paths.iter().flat_map(of_path));
    }
    hints
}

fn of_backends(report: &Report) -> Vec<Hint> {
    let rows = report.backends.backends.iter();
    rows.filter(|row| !row.available)
        .filter_map(|row| Some(hint(&row.name, row.cure()?)))
        .collect()
}

fn of_limits(report: &Report) -> Vec<Hint> {
    let Environment {
        limits,
        io_uring_disabled,
        ..
    } = &report.environment;
    let mut hints = Vec::new();
    if let Some(ring) = &report.io_uring {
        if ring.sq_entries < SQ_ENTRIES_WANTED {
            hints.push(hint(
                "RLIMIT_MEMLOCK",
                format!("left room for a ring of {} entries only; raise it with ulimit -l, or LimitMEMLOCK= in the unit", ring.sq_entries),
            ));
        }
        if *io_uring_disabled == Some(1) {
            hints.push(hint(
                "kernel.io_uring_disabled",
                "is 1: users without CAP_SYS_ADMIN are refused io_uring, unless they are in the group of kernel.io_uring_group",
            ));
        }
    }
    hints.extend(few_slots(report));
    if let Some(hard) = limits
        .open_files
        .hard
        .filter(|hard| *hard < OPEN_FILES_ENOUGH)
    {
        hints.push(hint(
            "RLIMIT_NOFILE",
            format!("its hard limit of {hard} bounds how many paths can be watched; raise it with LimitNOFILE= in the unit"),
        ));
    }
    hints
}

/// With aio the number of paths is bounded for the whole system.
fn few_slots(report: &Report) -> Option<Hint> {
    let limits = &report.environment.limits;
    let free = limits.aio_max_nr?.saturating_sub(limits.aio_nr?);
    let is_short = report.backends.backend.as_deref() == Some("aio") && free < AIO_SLOTS_ENOUGH;
    let text = format!(
        "has {free} slots left, and aio takes one for each path; raise it with sysctl -w fs.aio-max-nr=NUMBER"
    );
    is_short.then(|| hint("fs.aio-max-nr", text))
}

/// Hints as a person wants them: what is the same of several comes once.
pub(super) fn grouped(hints: &[Hint]) -> Vec<(String, &str)> {
    human::by_message(hints.iter().map(|hint| (&*hint.about, &*hint.hint)))
}

fn of_path(path: &PathReport) -> Vec<Hint> {
    let mut hints = Vec::new();
    let mut add = |text: String| hints.push(hint(&path.checked.path, text));
    if !path.readable {
        add(path.checked.message.clone());
    }
    if let Some(disks) = &path.map_of {
        let below = match disks.is_empty() {
            true => "it has none".to_owned(),
            false => disks.join(", "),
        };
        add(format!(
            "is a multipath map, which hides how its paths are; check these instead: {below}"
        ));
    } else if path.nowait == Some(false) {
        add("does not take RWF_NOWAIT: it is read by a kernel thread, which blocks when the device does".to_owned());
    }
    if path.submission == Some(human::submission(true)) {
        add("its driver may put whoever submits a read to sleep: a thread of its own reads it, which keeps the process from ending while the driver holds it".to_owned());
    }
    if path.iostats == Some(false) {
        add("keeps no statistics, so that a busy device can't be told from a saturated one; switch them on with echo 1 > queue/iostats in its folder below /sys/block".to_owned());
    }
    hints
}

#[cfg(test)]
mod tests {
    use super::super::backends::Backends;
    use super::*;
    use crate::cli::check_report;
    use std::path::Path;

    fn report(backend: &str) -> Report {
        Report {
            version: "0",
            environment: Environment::look(),
            backends: Backends {
                backend: Some(backend.to_owned()),
                reason: String::new(),
                backends: Vec::new(),
            },
            io_uring: None,
            held_processes: Vec::new(),
            paths: Vec::new(),
            hints: Vec::new(),
        }
    }

    fn path() -> PathReport {
        let checked = check_report::PathReport::unchecked(Path::new("/dev/x"), "why not");
        PathReport {
            readable: true,
            ..PathReport::with(checked, None)
        }
    }

    #[test]
    fn slots_matter_only_to_aio() {
        let mut short = report("aio");
        let limits = &mut short.environment.limits;
        (limits.aio_nr, limits.aio_max_nr) = (Some(65_000), Some(65_536));
        let hint = few_slots(&short).expect("a hint");
        assert!(hint.hint.contains("536 slots") && hint.about == "fs.aio-max-nr");
        short.environment.limits.aio_nr = Some(0);
        assert_eq!(few_slots(&short), None);
        let mut ring = report("io_uring");
        ring.environment.limits.aio_nr = ring.environment.limits.aio_max_nr;
        assert_eq!(few_slots(&ring), None);
    }

    #[test]
    fn a_path_gets_the_hints_that_fit_it() {
        assert_eq!(of_path(&path()), []);
        let says = |path: PathReport, text: &str| {
            let hints = of_path(&path);
            assert!(
                hints.len() == 1 && hints[0].hint.contains(text),
                "{hints:?}"
            );
        };
        says(
            PathReport {
                readable: false,
                ..path()
            },
            "why not",
        );
        says(
            PathReport {
                nowait: Some(false),
                ..path()
            },
            "RWF_NOWAIT",
        );
        says(
            PathReport {
                submission: Some("thread"),
                ..path()
            },
            "a thread of its own reads it",
        );
        says(
            PathReport {
                iostats: Some(false),
                ..path()
            },
            "queue/iostats",
        );
        let map = PathReport {
            nowait: Some(false),
            map_of: Some(vec!["sda".to_owned(), "sdb".to_owned()]),
            ..path()
        };
        says(map, "these instead: sda, sdb");
    }

    #[test]
    fn paths_that_nothing_could_read_share_one_hint() {
        let mut report = report("io_uring");
        report.paths = vec![PathReport {
            readable: false,
            ..path()
        }];
        let about = |report: &Report| all(report).iter().any(|hint| hint.about == "/dev/x");
        assert!(about(&report));
        report.backends.backend = None;
        assert!(!about(&report));
    }

    #[test]
    fn a_hint_about_many_comes_once() {
        let of = |name: &str, text: &str| hint(name, text);
        let mut hints: Vec<_> = (0..16)
            .map(|n| of(&format!("/dev/ram{n}"), "same"))
            .collect();
        hints.insert(1, of("/dev/sda", "other"));
        hints.push(of("/dev/sdb", "other"));
        let expected = [
            (
                "/dev/ram0, /dev/ram1, /dev/ram2 and 13 more".to_owned(),
                "same",
            ),
            ("/dev/sda, /dev/sdb".to_owned(), "other"),
        ];
        assert_eq!(grouped(&hints), expected);
        let four: Vec<_> = (0..4).map(|n| of(&n.to_string(), "same")).collect();
        assert_eq!(grouped(&four), [("0, 1, 2, 3".to_owned(), "same")]);
    }
}
