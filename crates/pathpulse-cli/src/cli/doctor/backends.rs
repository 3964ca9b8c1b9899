//! Tries each backend, and shows which one `auto` chooses.

use pathpulse::{BackendKind, Errno, KernelError, RingFeatures};
use pathpulse_kernel_compat::{AioConfig, Choice, open_backend};
use serde::Serialize;

/// All backends, and the choice.
#[derive(Debug, Serialize)]
pub(super) struct Backends {
    pub(super) backend: Option<String>,
    pub(super) reason: String,
    pub(super) backends: Vec<BackendRow>,
}

/// One backend, and why it does not work if it does not.
#[derive(Debug, Serialize)]
pub(super) struct BackendRow {
    pub(super) name: String,
    pub(super) available: bool,
    call: Option<String>,
    errno: Option<String>,
    hint: Option<String>,
}

impl BackendRow {
    fn new<T>(kind: BackendKind, tried: &Result<T, KernelError>) -> BackendRow {
        let error = tried.as_ref().err();
        BackendRow {
            name: kind.to_string(),
            available: error.is_none(),
            call: error.map(|error| error.call.to_string()),
            errno: error.map(|error| error.errno.to_string()),
            hint: error
                .filter(|error| !error.hint.is_empty())
                .map(|error| error.hint.to_string()),
        }
    }

    /// The failed call and its errno; `None` if the backend works.
    pub(super) fn failure(&self) -> Option<String> {
        Some(format!("{}: {}", self.call.as_ref()?, self.errno.as_ref()?))
    }

    /// What to do about the failure.
    pub(super) fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

/// Tries each backend with a read, in the order in which `auto` tries them.
pub(super) fn try_all() -> (Backends, Option<RingFeatures>) {
    let mut features = None;
    let mut rows = Vec::new();
    for kind in Choice::KINDS {
        let tried = try_one(kind);
        rows.push(BackendRow::new(kind, &tried));
        features = features.or(tried.ok().flatten());
    }
    (Backends::choose(rows), features)
}

/// Opens a backend for as many paths as a worker does, makes a read, and closes the backend.
fn try_one(kind: BackendKind) -> Result<Option<RingFeatures>, KernelError> {
    let opened = open_backend(Choice::Only(kind), AioConfig::default().paths);
    opened
        .map(|opened| opened.features)
        .map_err(|tried| match tried.into_iter().next() {
            Some(unavailable) => unavailable.error,
            None => KernelError::new("open", Errno::EOPNOTSUPP),
        })
}

impl Backends {
    fn choose(rows: Vec<BackendRow>) -> Backends {
        let chosen = rows.iter().position(|row| row.available);
        let failed = |rows: &[BackendRow]| {
            let failures = rows
                .iter()
                .filter_map(|row| Some(format!("{} ({})", row.name, row.failure()?)));
            failures.collect::<Vec<_>>().join(" and ")
        };
        let reason = match chosen {
            Some(0) => "it is the first choice, and works".to_owned(),
            Some(index) => format!("it is the next choice after {}", failed(&rows[..index])),
            None => format!("no backend works: {}", failed(&rows)),
        };
        Backends {
            backend: chosen.map(|index| rows[index].name.clone()),
            reason,
            backends: rows,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kind: BackendKind, error: Option<KernelError>) -> BackendRow {
        BackendRow::new(kind, &error.map_or(Ok(()), Err))
    }

    #[test]
    fn the_first_backend_that_works_is_chosen() {
        let (ring, other) = (BackendKind::IoUring, BackendKind::Aio);
        let refused = || Some(KernelError::new("io_uring_setup", Errno::EPERM).hint("allow it"));
        let best = Backends::choose(vec![row(ring, None), row(other, None)]);
        assert_eq!(best.backend.as_deref(), Some("io_uring"));
        let next = Backends::choose(vec![row(ring, refused()), row(other, None)]);
        assert_eq!(next.backend.as_deref(), Some("aio"));
        assert!(
            next.reason
                .ends_with("after io_uring (io_uring_setup: EPERM)")
        );
        let none = Backends::choose(vec![row(ring, refused())]);
        assert_eq!(none.backend, None);
        assert!(none.reason.contains("io_uring_setup: EPERM"));
        assert_eq!(none.backends[0].hint(), Some("allow it"));
    }
}
