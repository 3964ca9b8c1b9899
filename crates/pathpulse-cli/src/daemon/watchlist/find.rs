//! The path that a query names.

use pathpulse::{Monitor, PathId};

use crate::api::{UnopenedPath, candidates};

/// A path on the watchlist.
pub(crate) enum ListedPath<'a> {
    Open(PathId),
    Unopened(&'a UnopenedPath),
}

/// The path on the watchlist with this name, or the open path whose device has this second name.
/// `None` if the watchlist has no such name.
pub(crate) fn find<'a>(
    monitor: &Monitor,
    unopened: &'a [UnopenedPath],
    text: &str,
) -> Option<ListedPath<'a>> {
    candidates(text).find_map(|name| match monitor.find(&name) {
        Some(id) => Some(ListedPath::Open(id)),
        None => {
            let path = unopened.iter().find(|path| path.name == name)?;
            let open = path.same_as.as_ref().and_then(|name| monitor.find(name));
            Some(open.map_or(ListedPath::Unopened(path), ListedPath::Open))
        }
    })
}
