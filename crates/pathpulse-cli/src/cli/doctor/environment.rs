//! The kernel's release and switches, and the limits of this process.

use std::fs;
use std::str::FromStr;

use rustix::process::{Resource, Rlimit, getrlimit};
use serde::Serialize;

/// Kernel, limits and switches.
#[derive(Debug, Serialize)]
pub(super) struct Environment {
    pub(super) kernel: Kernel,
    pub(super) limits: Limits,
    pub(super) io_uring_disabled: Option<u8>,
    pub(super) seccomp: Option<&'static str>,
}

/// The answer of uname(2).
#[derive(Debug, Serialize)]
pub(super) struct Kernel {
    pub(super) system: String,
    pub(super) release: String,
    pub(super) version: String,
    pub(super) machine: String,
}

/// Limits that matter to backends.
#[derive(Debug, Serialize)]
pub(super) struct Limits {
    /// Slots of libaio in the whole system: used, and maximum.
    pub(super) aio_nr: Option<u64>,
    pub(super) aio_max_nr: Option<u64>,
    pub(super) memlock_bytes: Limit,
    pub(super) open_files: Limit,
}

/// A resource limit; `None` is unlimited.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Limit {
    pub(super) soft: Option<u64>,
    pub(super) hard: Option<u64>,
}

impl From<Rlimit> for Limit {
    fn from(limit: Rlimit) -> Limit {
        Limit {
            soft: limit.current,
            hard: limit.maximum,
        }
    }
}

impl Environment {
    /// Reads them. Nothing here waits for a device.
    pub(super) fn read() -> Environment {
        Environment {
            kernel: Kernel::read(),
            limits: Limits {
                aio_nr: number_in("/proc/sys/fs/aio-nr"),
                aio_max_nr: number_in("/proc/sys/fs/aio-max-nr"),
                memlock_bytes: getrlimit(Resource::Memlock).into(),
                open_files: getrlimit(Resource::Nofile).into(),
            },
            io_uring_disabled: number_in("/proc/sys/kernel/io_uring_disabled"),
            // It has the program's name, which may not be UTF-8.
            seccomp: fs::read("/proc/self/status")
                .ok()
                .and_then(|status| seccomp_in(&String::from_utf8_lossy(&status))),
        }
    }
}

impl Kernel {
    fn read() -> Kernel {
        let name = rustix::system::uname();
        let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
        Kernel {
            system: text(name.sysname()),
            release: text(name.release()),
            version: text(name.version()),
            machine: text(name.machine()),
        }
    }
}

fn number_in<T: FromStr>(file: &str) -> Option<T> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The field `Seccomp` of /proc/self/status (proc_pid_status(5)).
fn seccomp_in(status: &str) -> Option<&'static str> {
    let mut fields = status.lines().filter_map(|line| line.split_once(':'));
    let (_, mode) = fields.find(|(name, _)| *name == "Seccomp")?;
    match mode.trim() {
        "0" => Some("off"),
        "1" => Some("strict"),
        _ => Some("filter"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_a_kernel_and_limits() {
        let found = Environment::read();
        assert_eq!(found.kernel.system, "Linux");
        assert!(!found.kernel.release.is_empty() && !found.kernel.machine.is_empty());
        assert!(found.limits.open_files.soft.is_none_or(|soft| soft > 2));
    }

    #[test]
    fn the_mode_of_seccomp_is_not_its_number_of_filters() {
        let with = |mode| format!("NoNewPrivs:\t0\nSeccomp:\t{mode}\nSeccomp_filters:\t1\n");
        assert_eq!(seccomp_in(&with(0)), Some("off"));
        assert_eq!(seccomp_in(&with(1)), Some("strict"));
        assert_eq!(seccomp_in(&with(2)), Some("filter"));
        assert_eq!(seccomp_in("Name:\tpathpulse\n"), None);
    }
}
