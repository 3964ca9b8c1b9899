//! Names of paths on their way in and out of the daemon: as text, escaped (`pathpulse::display_name`).

use std::path::{Path, PathBuf};

use pathpulse::{Monitor, PathId, display_name, parse_name};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::daemon::watchlist::WaitingPath;

/// A name as it is in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name(pub(crate) PathBuf);

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&display_name(&self.0))
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Name, D::Error> {
        let text = String::deserialize(from)?;
        let name = parse_name(&text).ok_or_else(|| {
            let what = r"a backslash that begins no escape; a backslash of the name itself is \\\\";
            Error::custom(format!("{text}: {what} in JSON"))
        })?;
        Ok(Name(name))
    }
}

/// What may be meant by a name in a query: what the text stands for, else its very bytes.
pub(crate) fn meant(text: &str) -> impl Iterator<Item = PathBuf> {
    let parsed = parse_name(text);
    let is_other = parsed.as_deref() != Some(Path::new(text));
    parsed
        .into_iter()
        .chain(is_other.then(|| PathBuf::from(text)))
}

/// A path on the list.
pub(crate) enum Listed<'a> {
    Watched(PathId),
    Waiting(&'a WaitingPath),
}

/// The path on the list that a query names, by its name or another one of its device that is on the list;
/// `None` if there is none of that very name.
pub(crate) fn listed<'a>(
    monitor: &Monitor,
    waiting: &'a [WaitingPath],
    text: &str,
) -> Option<Listed<'a>> {
    meant(text).find_map(|name| match monitor.find(&name) {
        Some(id) => Some(Listed::Watched(id)),
        None => {
            let waiting = waiting.iter().find(|path| path.name == name)?;
            let first = waiting.same_as.as_ref().and_then(|name| monitor.find(name));
            Some(first.map_or(Listed::Waiting(waiting), Listed::Watched))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_travel_byte_for_byte() {
        for text in [r#""/dev/sda""#, r#""/mnt/a\\xff\\n\\\\b""#] {
            let name: Name = serde_json::from_str(text).expect("a name");
            assert_eq!(serde_json::to_string(&name).expect("text"), text);
        }
        let refused = serde_json::from_str::<Name>(r#""/dev/a\\q""#).expect_err("no escape");
        assert!(
            refused.to_string().contains("begins no escape"),
            "{refused}"
        );
    }

    #[test]
    fn a_query_may_mean_what_its_text_stands_for_or_its_bytes() {
        let all = |text| meant(text).collect::<Vec<_>>();
        assert_eq!(all("/dev/sda"), [PathBuf::from("/dev/sda")]);
        assert_eq!(
            all(r"/a\x20b"),
            [PathBuf::from("/a b"), PathBuf::from(r"/a\x20b")]
        );
        assert_eq!(all(r"/a\q"), [PathBuf::from(r"/a\q")]);
    }
}
