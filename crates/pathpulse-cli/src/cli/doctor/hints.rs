//! Hints: what to do about backends, limits and paths.

use serde::Serialize;

use super::DoctorReport;
use super::environment::Environment;
use super::paths::ExaminedPath;
use crate::human;

/// A shorter queue was reduced for lack of locked memory.
const SQ_ENTRIES_WANTED: u32 = 1024;

/// More slots of libaio than most hosts have paths.
const AIO_SLOTS_ENOUGH: u64 = 4096;
/// More descriptors than most hosts have paths. They bound the file table of a ring, too.
const OPEN_FILES_ENOUGH: u64 = 4096;

/// Something to do or to know about a backend, a limit or a path.
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
pub(super) fn all(report: &DoctorReport) -> Vec<Hint> {
    let mut hints = of_backends(report);
    hints.extend(of_limits(report));
    // Without a backend no path can be read, and the hints about backends say why.
    if report.backends.backend.is_some() {
        hints.extend(report.paths.iter().flat_map(of_path));
    }
    hints
}

fn of_backends(report: &DoctorReport) -> Vec<Hint> {
    let rows = report.backends.backends.iter();
    rows.filter(|row| !row.available)
        .filter_map(|row| Some(hint(&row.name, row.hint()?)))
        .collect()
}

fn of_limits(report: &DoctorReport) -> Vec<Hint> {
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
                format!(
                    "allows a ring of only {} entries; raise it with ulimit -l, or with LimitMEMLOCK= in the unit",
                    ring.sq_entries
                ),
            ));
        }
        if *io_uring_disabled == Some(1) {
            hints.push(hint(
                "kernel.io_uring_disabled",
                "is 1: only users with CAP_SYS_ADMIN, or in the group of kernel.io_uring_group, can use io_uring",
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
            format!("the hard limit of {hard} limits the number of watched paths; raise it with LimitNOFILE= in the unit"),
        ));
    }
    hints
}

/// With aio, the whole system shares a limited number of paths.
fn few_slots(report: &DoctorReport) -> Option<Hint> {
    let limits = &report.environment.limits;
    let free = limits.aio_max_nr?.saturating_sub(limits.aio_nr?);
    let is_short = report.backends.backend.as_deref() == Some("aio") && free < AIO_SLOTS_ENOUGH;
    let text = format!(
        "leaves {free} slots, and aio needs one for each path; raise it with sysctl -w fs.aio-max-nr=NUMBER"
    );
    is_short.then(|| hint("fs.aio-max-nr", text))
}

/// Each hint once, with all that it is about.
pub(super) fn grouped(hints: &[Hint]) -> Vec<(String, &str)> {
    human::by_message(hints.iter().map(|hint| (&*hint.about, &*hint.hint)))
}

fn of_path(path: &ExaminedPath) -> Vec<Hint> {
    let mut hints = Vec::new();
    let mut add = |text: String| hints.push(hint(&path.checked.path, text));
    if !path.readable {
        add(path.checked.message.clone());
    }
    if let Some(disks) = &path.map_of {
        let below = match disks.is_empty() {
            true => "it has no paths".to_owned(),
            false => disks.join(", "),
        };
        add(format!(
            "is a multipath map, which hides the states of its paths; check these instead: {below}"
        ));
    } else if path.nowait == Some(false) {
        add("does not support RWF_NOWAIT: a kernel thread reads it, and blocks while the device blocks".to_owned());
    }
    if path.submission == Some(human::submission(true)) {
        add("its driver may block the submission of a read: a thread of its own reads it, and the process cannot end while the driver blocks that thread".to_owned());
    }
    if path.iostats == Some(false) {
        add("has no I/O statistics, which tell a busy device from a saturated one; enable them with echo 1 > queue/iostats in its directory below /sys/block".to_owned());
    }
    hints
}

#[cfg(test)]
mod tests {
    use super::super::backends::Backends;
    use super::*;
    use crate::cli::check_report;
    use std::path::Path;

    fn report(backend: &str) -> DoctorReport {
        DoctorReport {
            version: "0",
            environment: Environment::read(),
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

    fn path() -> ExaminedPath {
        let checked = check_report::PathResult::unchecked(Path::new("/dev/x"), "why not");
        ExaminedPath {
            readable: true,
            ..ExaminedPath::with(checked, None)
        }
    }

    #[test]
    fn slots_matter_to_aio_only() {
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
    fn a_path_gets_the_hints_about_its_properties() {
        assert_eq!(of_path(&path()), []);
        let assert_hint = |path: ExaminedPath, text: &str| {
            let hints = of_path(&path);
            assert!(
                hints.len() == 1 && hints[0].hint.contains(text),
                "{hints:?}"
            );
        };
        assert_hint(
            ExaminedPath {
                readable: false,
                ..path()
            },
            "why not",
        );
        assert_hint(
            ExaminedPath {
                nowait: Some(false),
                ..path()
            },
            "RWF_NOWAIT",
        );
        assert_hint(
            ExaminedPath {
                submission: Some("thread"),
                ..path()
            },
            "a thread of its own reads it",
        );
        assert_hint(
            ExaminedPath {
                iostats: Some(false),
                ..path()
            },
            "queue/iostats",
        );
        let map = ExaminedPath {
            nowait: Some(false),
            map_of: Some(vec!["sda".to_owned(), "sdb".to_owned()]),
            ..path()
        };
        assert_hint(map, "these instead: sda, sdb");
    }

    #[test]
    fn without_a_backend_there_are_no_hints_about_paths() {
        let mut report = report("io_uring");
        report.paths = vec![ExaminedPath {
            readable: false,
            ..path()
        }];
        let about = |report: &DoctorReport| all(report).iter().any(|hint| hint.about == "/dev/x");
        assert!(about(&report));
        report.backends.backend = None;
        assert!(!about(&report));
    }

    #[test]
    fn a_hint_about_many_paths_is_shown_once() {
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
