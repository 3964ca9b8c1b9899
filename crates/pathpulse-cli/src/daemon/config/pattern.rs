//! Patterns for names of paths and groups: `*` and `?` do not match a slash, `**` does.

use std::path::Path;

use globset::{GlobBuilder, GlobMatcher};

/// A pattern with wildcards.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    text: String,
    matcher: GlobMatcher,
}

/// Two patterns are equal if their texts are.
impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl Pattern {
    /// Parses a pattern.
    pub(crate) fn new(text: &str) -> Result<Pattern, String> {
        let glob = GlobBuilder::new(text).literal_separator(true).build();
        let matcher = glob.map_err(|error| error.to_string())?.compile_matcher();
        let text = text.to_owned();
        Ok(Pattern { text, matcher })
    }

    /// Parses a pattern for names of paths, which begin with a slash.
    ///
    /// # Errors
    /// The text is no pattern, or can't match such a name.
    pub(crate) fn of_paths(text: &str) -> Result<Pattern, String> {
        let is_whole = text.starts_with(['/', '{']) || text.starts_with("**");
        if is_whole {
            return Pattern::new(text);
        }
        let name = text.strip_prefix("dev/").unwrap_or(text).escape_debug();
        Err(format!(
            "`{}` matches nothing: whole names are compared, and they begin with a slash; did you mean `/dev/{name}`?",
            text.escape_debug()
        ))
    }

    /// Parses a pattern for names of disks that discovery knows: those in `/dev` and in two folders
    /// with links.
    ///
    /// # Errors
    /// The text is no pattern, or can't match such a name.
    pub(crate) fn of_disks(text: &str) -> Result<Pattern, String> {
        const NAMES: &str =
            "disks are known as /dev/NAME, /dev/disk/by-id/... and /dev/disk/by-path/...";
        let pattern = Pattern::of_paths(text)?;
        let begins = |folder: &str| {
            let beginning = pattern.beginning();
            let is_open = beginning.len() < text.len() && folder.starts_with(beginning);
            is_open || (beginning.starts_with(folder) && text.len() > folder.len())
        };
        let is_link = begins("/dev/disk/by-id/") || begins("/dev/disk/by-path/");
        let is_node = begins("/dev/")
            && !["/dev/disk/", "/dev/mapper/"]
                .iter()
                .any(|not| text.starts_with(not));
        if (is_link || is_node) && !text.ends_with('/') {
            return Ok(pattern);
        }
        let hint = match text.starts_with("/dev/mapper/") {
            true => "; a map is a /dev/dm-N, and has a /dev/disk/by-id/dm-name-...",
            false => "",
        };
        Err(format!(
            "`{}` matches nothing: {NAMES}{hint}",
            text.escape_debug()
        ))
    }

    /// Parses a pattern for kernel names of disks, such as `sda`.
    ///
    /// # Errors
    /// The text is no pattern, or can't match such a name.
    pub(crate) fn of_kernel_names(text: &str) -> Result<Pattern, String> {
        let Some(name) = text.strip_prefix('/') else {
            return Pattern::new(text);
        };
        let name = name.strip_prefix("dev/").unwrap_or(name).escape_debug();
        Err(format!(
            "`{}` matches nothing: the kernel's names have no folder; did you mean `{name}`?",
            text.escape_debug()
        ))
    }

    /// The text of the pattern.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The common prefix of all names that match.
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
    fn what_can_match_nothing_is_refused_with_a_hint() {
        for good in [
            "/dev/**",
            "**",
            "**/sdb",
            "/d*/sda",
            "{/dev/sda,/dev/sdb}",
            "/dev/sdb",
            "/dev/disk/by-path/*-fc-*",
            "/dev/disk/by-{id,path}/x*",
            "/dev/disk/*/wwn-0x5",
            "/dev/cciss/c0d0",
            "/dev/d*",
        ] {
            assert!(
                Pattern::of_disks(good).is_ok(),
                "{good}: {:?}",
                Pattern::of_disks(good)
            );
        }
        for (wrong, hint) in [
            ("sdb", "did you mean `/dev/sdb`?"),
            ("sd*", "did you mean `/dev/sd*`?"),
            ("dev/sdb", "did you mean `/dev/sdb`?"),
            ("/sys/block/sda", "disks are known as"),
            ("/dev/", "disks are known as"),
            ("/dev/sda/", "disks are known as"),
            ("/dev/disk/by-uuid/x", "by-id"),
            ("/dev/mapper/mpatha", "dm-name-"),
            ("", "begin with a slash"),
        ] {
            let why = Pattern::of_disks(wrong).expect_err(wrong);
            assert!(why.contains(hint), "{wrong}: {why}");
        }
        let why = Pattern::of_kernel_names("/dev/loop*").expect_err("a folder");
        assert!(why.contains("did you mean `loop*`?"), "{why}");
        assert!(Pattern::of_kernel_names("cciss/*").is_ok());
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
