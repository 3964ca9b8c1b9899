//! The section `[discovery]`: which disks are watched without being named.

use std::path::Path;

use toml::de::DeValue;

use super::pattern::Pattern;
use super::reader::{Section, Source, integer, text, with_sources, yes_or_no};
use super::values::bytes;

/// The kernel's names of disks that are skipped unless the file says otherwise, each kind for one reason.
/// `packaging/pathpulse.toml` has the same list for people.
const SKIP: [&str; 17] = [
    // Not storage, or made of storage that is watched below them.
    "loop*",
    "zloop*",
    "zram*",
    "ram*",
    "dm-*",
    "md*",
    "bcache*",
    // A device that somebody has open can't be taken away: not unmapped (rbd, rnbd, nbd, ublk), not made
    // a secondary (drbd), not destroyed (zd, the volumes of ZFS).
    "rbd*",
    "rnbd*",
    "nbd*",
    "ublkb*",
    "drbd*",
    "zd*",
    // The boot partitions of an eMMC and its replay-protected memory: a read makes the card switch to
    // them and back, and the memory refuses it.
    "mmcblk*boot*",
    "mmcblk*rpmb",
    // Raw flash: a block is read with its erase block, and a NAND's bad blocks are errors by design.
    "mtdblock*",
    "ubiblock*",
];

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
    /// Where each key was given, in the order in which they are shown.
    sources: [Source; 6],
    /// Those with one of these names.
    pub(crate) include: Vec<Pattern>,
    /// Never those with one of these names.
    pub(crate) exclude: Vec<Pattern>,
    /// Never those that the kernel calls so.
    skip: Vec<Pattern>,
    /// What is skipped is what is skipped by default.
    skips_usual: bool,
    pub(crate) names: Names,
    /// All legs of dm-multipath maps, whatever is included.
    pub(crate) multipath_legs: bool,
    /// No smaller ones; in bytes.
    pub(crate) minimum_size: u64,
}

impl Default for Discovery {
    /// What an empty section says.
    fn default() -> Discovery {
        let usual = |patterns: &[&str]| {
            patterns
                .iter()
                .filter_map(|p| Pattern::new(p).ok())
                .collect()
        };
        Discovery {
            sources: [Source::Default; 6],
            include: usual(&["/dev/**"]),
            exclude: Vec::new(),
            skip: usual(&SKIP),
            skips_usual: true,
            names: Names::default(),
            multipath_legs: true,
            minimum_size: 0,
        }
    }
}

impl Discovery {
    /// What a section says.
    pub(super) fn read(mut section: Section<'_, '_>) -> Discovery {
        let usual = Discovery::default();
        let names = |value: &DeValue<'_>| {
            let word = text(value)?;
            let name = NAMES.iter().find(|(name, _)| *name == word);
            name.map(|(_, names)| *names)
                .ok_or_else(|| format!("`{word}` is none; they are kernel, by-id, by-path"))
        };
        let skip = section.list_or("skip", Pattern::of_kernel_names, usual.skip);
        let include = section.list_or("include", Pattern::of_disks, usual.include);
        let exclude = section.list_or("exclude", Pattern::of_disks, usual.exclude);
        let names = section.take_or("names", names, usual.names);
        let legs = section.take_or("multipath_legs", yes_or_no, usual.multipath_legs);
        let size = section.take_or("minimum_size", size, usual.minimum_size);
        let discovery = Discovery {
            sources: [
                include.source,
                exclude.source,
                skip.source,
                names.source,
                legs.source,
                size.source,
            ],
            include: include.value,
            exclude: exclude.value,
            skips_usual: skip.source == Source::Default,
            skip: skip.value,
            names: names.value,
            multipath_legs: legs.value,
            minimum_size: size.value,
        };
        section.finish();
        discovery
    }

    /// Whether the disk that the kernel calls so is skipped. What is skipped by default is not if it is
    /// a leg of a map, which holds it anyway, or if `include` names its kind from the start: `/dev/drbd*`
    /// does, `/dev/*` does not.
    pub(crate) fn skips(&self, kernel: &Path, is_leg: bool) -> bool {
        let node = Path::new("/dev").join(kernel);
        let is_asked_for = |skip: &Pattern| {
            let kind = format!("/dev/{}", skip.beginning());
            let mut include = self.include.iter();
            include.any(|name| name.beginning().starts_with(&kind) && name.matches(&node))
        };
        let mut skip = self.skip.iter().filter(|skip| skip.matches(kernel));
        match self.skips_usual {
            true => !is_leg && skip.any(|skip| !is_asked_for(skip)),
            false => skip.next().is_some(),
        }
    }

    /// Its keys and their values, as the file has them, and where they were given.
    pub(super) fn show(&self) -> [(&'static str, String, Source); 6] {
        let list = |patterns: &[Pattern]| {
            let quoted: Vec<String> = patterns
                .iter()
                .map(|p| super::show::quote(p.text()))
                .collect();
            format!("[{}]", quoted.join(", "))
        };
        let names = NAMES.iter().find(|(_, names)| *names == self.names);
        let values = [
            ("include", list(&self.include)),
            ("exclude", list(&self.exclude)),
            ("skip", list(&self.skip)),
            (
                "names",
                super::show::quote(names.map_or("", |(name, _)| name)),
            ),
            ("multipath_legs", self.multipath_legs.to_string()),
            ("minimum_size", self.minimum_size.to_string()),
        ];
        with_sources(values, self.sources)
    }
}

fn size(value: &DeValue<'_>) -> Result<u64, String> {
    match value {
        DeValue::String(text) => bytes(text),
        other => integer(other, &(0..1 << 62)),
    }
}
