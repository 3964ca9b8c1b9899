//! Names of paths in documents: text with escapes, as `pathpulse::display_name` makes it.

use std::path::{Path, PathBuf};

use pathpulse::{display_name, parse_name};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A name in a document; in the program it is the bytes.
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

/// The names that a query may mean: first the escaped form decoded, then the very bytes.
pub(crate) fn candidates(text: &str) -> impl Iterator<Item = PathBuf> {
    let parsed = parse_name(text);
    let is_other = parsed.as_deref() != Some(Path::new(text));
    parsed
        .into_iter()
        .chain(is_other.then(|| PathBuf::from(text)))
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
        let all = |text| candidates(text).collect::<Vec<_>>();
        assert_eq!(all("/dev/sda"), [PathBuf::from("/dev/sda")]);
        assert_eq!(
            all(r"/a\x20b"),
            [PathBuf::from("/a b"), PathBuf::from(r"/a\x20b")]
        );
        assert_eq!(all(r"/a\q"), [PathBuf::from(r"/a\q")]);
    }
}
