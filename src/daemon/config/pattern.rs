//! Names of paths and groups, with wildcards: `*` and `?` stop at a slash, `**` does not.

use std::path::Path;

use globset::{GlobBuilder, GlobMatcher};

/// What matches some names.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    text: String,
    matcher: GlobMatcher,
}

/// Two are the same when they are written alike.
impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl Pattern {
    /// Reads a pattern.
    pub(crate) fn new(text: &str) -> Result<Pattern, String> {
        let glob = GlobBuilder::new(text).literal_separator(true).build();
        let matcher = glob.map_err(|error| error.to_string())?.compile_matcher();
        let text = text.to_owned();
        Ok(Pattern { text, matcher })
    }

    /// As it was written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// What all names begin with that match.
    pub(crate) fn beginning(&self) -> &str {
        let end = self.text.find(['*', '?', '[', '{', '\\']);
        &self.text[..end.unwrap_or(self.text.len())]
    }

    pub(crate) fn matches(&self, name: impl AsRef<Path>) -> bool {
        self.matcher.is_match(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stop_at_slashes() {
        let matches = |text, name| Pattern::new(text).expect("a pattern").matches(name);
        assert!(matches("/dev/sd*", "/dev/sda") && !matches("/dev/sd*", "/dev/sda/x"));
        assert!(matches("/dev/**", "/dev/disk/by-id/x") && matches("3600?", "3600a"));
        assert!(matches("/dev/{sda,sdb}", "/dev/sdb") && !matches("/dev/sd[ab]", "/dev/sdc"));
        assert!(Pattern::new("/dev/[").is_err());
    }

    #[test]
    fn a_pattern_begins_with_what_it_spells_out() {
        let beginning = |text: &str| {
            Pattern::new(text)
                .expect("a pattern")
                .beginning()
                .to_owned()
        };
        assert_eq!(beginning("/dev/sd*"), "/dev/sd");
        assert_eq!(beginning("/dev/sda"), "/dev/sda");
        assert_eq!(beginning("{/dev/sda,/dev/sdb}"), "");
        assert_eq!(beginning(r"/dev/a\*b"), "/dev/a");
    }
}
