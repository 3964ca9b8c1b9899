//! The section `[discovery]`: which disks are watched without being named.

use std::path::Path;

use toml::de::DeValue;

use super::pattern::Pattern;
use super::reader::{Section, boolean, integer, text};
use super::source::{Source, with_sources};
use super::values::bytes;

/// The default of `skip`: kernel names of disks, with the reason for each kind.
/// `packaging/pathpulse.toml` has the same list for users.
const SKIP: [&str; 17] = [
    // Not storage, or made of storage that is watched itself.
    "loop*",
    "zloop*",
    "zram*",
    "ram*",
    "dm-*",
    "md*",
    "bcache*",
    // A device that is open can't be removed: not unmapped (rbd, rnbd, nbd, ublk), not made a
    // secondary (drbd), not destroyed (zd, the volumes of ZFS).
    "rbd*",
    "rnbd*",
    "nbd*",
    "ublkb*",
    "drbd*",
    "zd*",
    // The boot partitions of an eMMC and its replay-protected memory: a read makes the card switch
    // to them and back, and the memory rejects the read.
    "mmcblk*boot*",
    "mmcblk*rpmb",
    // Raw flash: a read of a block reads its erase block, and a NAND has bad blocks by design.
    "mtdblock*",
    "ubiblock*",
];

/// The kind of name for discovered disks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Names {
    /// The kernel's name: `/dev/sda`.
    #[default]
    Kernel,
    /// The identity, if udev has a link: `/dev/disk/by-id/...`.
    ById,
    /// The location, if udev has a link: `/dev/disk/by-path/...`.
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
    /// Where each key was given, in the order of [`Discovery::show`].
    sources: [Source; 6],
    /// Disks with one of these names are watched.
    pub(crate) include: Vec<Pattern>,
    /// Disks with one of these names are not watched.
    pub(crate) exclude: Vec<Pattern>,
    /// Disks with one of these kernel names are not watched.
    skip: Vec<Pattern>,
    /// `skip` has its default value.
    skips_usual: bool,
    pub(crate) names: Names,
    /// Paths of dm-multipath maps are watched even if `include` does not match them.
    pub(crate) multipath_paths: bool,
    /// Smaller disks are not watched; in bytes.
    pub(crate) minimum_size: u64,
}

impl Default for Discovery {
    /// The values of an empty section.
    fn default() -> Discovery {
        let defaults = |patterns: &[&str]| {
            patterns
                .iter()
                .filter_map(|p| Pattern::new(p).ok())
                .collect()
        };
        Discovery {
            sources: [Source::Default; 6],
            include: defaults(&["/dev/**"]),
            exclude: Vec::new(),
            skip: defaults(&SKIP),
            skips_usual: true,
            names: Names::default(),
            multipath_paths: true,
            minimum_size: 0,
        }
    }
}

impl Discovery {
    /// Reads a section.
    pub(super) fn read(mut section: Section<'_, '_>) -> Discovery {
        let defaults = Discovery::default();
        let names = |value: &DeValue<'_>| {
            let word = text(value)?;
            let name = NAMES.iter().find(|(name, _)| *name == word);
            name.map(|(_, names)| *names)
                .ok_or_else(|| format!("invalid value `{word}`: expected kernel, by-id or by-path"))
        };
        let skip = section.list_or("skip", Pattern::of_kernel_names, defaults.skip);
        let include = section.list_or("include", Pattern::of_disks, defaults.include);
        let exclude = section.list_or("exclude", Pattern::of_disks, defaults.exclude);
        let names = section.take_or("names", names, defaults.names);
        let paths = section.take_or("multipath_legs", boolean, defaults.multipath_paths);
        let size = section.take_or("minimum_size", size, defaults.minimum_size);
        let discovery = Discovery {
            sources: [
                include.source,
                exclude.source,
                skip.source,
                names.source,
                paths.source,
                size.source,
            ],
            include: include.value,
            exclude: exclude.value,
            skips_usual: skip.source == Source::Default,
            skip: skip.value,
            names: names.value,
            multipath_paths: paths.value,
            minimum_size: size.value,
        };
        section.finish();
        discovery
    }

    /// Whether the disk with this kernel name is skipped. The default list does not skip a path of
    /// a map, which the map holds open anyway, nor a disk whose kind `include` spells out:
    /// `/dev/drbd*` does, `/dev/*` does not.
    pub(crate) fn skips(&self, kernel: &Path, is_multipath_path: bool) -> bool {
        let node = Path::new("/dev").join(kernel);
        let is_asked_for = |skip: &Pattern| {
            let kind = format!("/dev/{}", skip.beginning());
            let mut include = self.include.iter();
            include.any(|name| name.beginning().starts_with(&kind) && name.matches(&node))
        };
        let mut skip = self.skip.iter().filter(|skip| skip.matches(kernel));
        match self.skips_usual {
            true => !is_multipath_path && skip.any(|skip| !is_asked_for(skip)),
            false => skip.next().is_some(),
        }
    }

    /// The keys and values as in a file, with where they were given.
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
            ("multipath_legs", self.multipath_paths.to_string()),
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
