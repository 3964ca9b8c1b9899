//! The section `[discovery]`: which disks are watched without being named.

use toml::de::DeValue;

use super::pattern::Pattern;
use super::reader::{Section, integer, text, yes_or_no};
use super::values::bytes;

/// What is no path to storage: made of other devices, or of memory.
const SKIP: [&str; 5] = ["loop*", "zram*", "ram*", "dm-*", "md*"];

/// What a disk is to be called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Names {
    /// As the kernel does: `/dev/sda`.
    #[default]
    Kernel,
    /// By what it is, if udev knows: `/dev/disk/by-id/...`.
    ById,
    /// By where it is, if udev knows: `/dev/disk/by-path/...`.
    ByPath,
}

const NAMES: [(&str, Names); 3] = [
    ("kernel", Names::Kernel),
    ("by-id", Names::ById),
    ("by-path", Names::ByPath),
];

/// Which disks are watched without being named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Discovery {
    /// In this line.
    pub(super) line: usize,
    /// Those with one of these names.
    pub(crate) include: Vec<Pattern>,
    /// Never those with one of these names.
    pub(crate) exclude: Vec<Pattern>,
    /// Never those that the kernel calls so.
    pub(crate) skip: Vec<Pattern>,
    pub(crate) names: Names,
    /// All legs of dm-multipath maps, whatever is included.
    pub(crate) multipath_legs: bool,
    /// No smaller ones; in bytes.
    pub(crate) minimum_size: u64,
}

impl Discovery {
    /// What a section says.
    pub(super) fn read(mut section: Section<'_, '_>) -> Discovery {
        let usual = |patterns: &[&str]| {
            patterns
                .iter()
                .filter_map(|p| Pattern::new(p).ok())
                .collect()
        };
        let mut patterns = |key| {
            let list = section.list(key, Pattern::new)?;
            Some(list.into_iter().map(|pattern| pattern.value).collect())
        };
        let (include, exclude) = (patterns("include"), patterns("exclude"));
        let skip = patterns("skip");
        let names = section.take("names", |value| {
            let word = text(value)?;
            let name = NAMES.iter().find(|(name, _)| *name == word);
            name.map(|(_, names)| *names)
                .ok_or_else(|| format!("`{word}` is none; they are kernel, by-id, by-path"))
        });
        let legs = section.take("multipath_legs", yes_or_no);
        let size = section.take("minimum_size", size);
        let discovery = Discovery {
            line: section.line(),
            include: include.unwrap_or_else(|| usual(&["/dev/**"])),
            exclude: exclude.unwrap_or_default(),
            skip: skip.unwrap_or_else(|| usual(&SKIP)),
            names: names.map(|names| names.value).unwrap_or_default(),
            multipath_legs: legs.is_none_or(|legs| legs.value),
            minimum_size: size.map_or(0, |size| size.value),
        };
        section.finish();
        discovery
    }

    /// Its keys and their values, as the file has them.
    pub(super) fn show(&self) -> [(&'static str, String); 6] {
        let list = |patterns: &[Pattern]| {
            let quoted: Vec<String> = patterns
                .iter()
                .map(|p| super::show::quote(p.text()))
                .collect();
            format!("[{}]", quoted.join(", "))
        };
        let names = NAMES.iter().find(|(_, names)| *names == self.names);
        [
            ("include", list(&self.include)),
            ("exclude", list(&self.exclude)),
            ("skip", list(&self.skip)),
            (
                "names",
                super::show::quote(names.map_or("", |(name, _)| name)),
            ),
            ("multipath_legs", self.multipath_legs.to_string()),
            ("minimum_size", self.minimum_size.to_string()),
        ]
    }
}

fn size(value: &DeValue<'_>) -> Result<u64, String> {
    match value {
        DeValue::String(text) => bytes(text),
        other => integer(other, &(0..1 << 62)),
    }
}
