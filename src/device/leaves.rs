//! Reads the activity of a device and of the disks below it from sysfs, without any I/O to them.
//!
//! `slaves` of a stacked device has links to the devices below it
//! (Documentation/ABI/testing/sysfs-block-dm, bd_link_disk_holder of block/holder.c: dm, md,
//! bcache). The paths of an NVMe head are below its subsystem (drivers/nvme/host/multipath.c:
//! `nvmeScCnN` for the head `nvmeSnN`).

use std::fs;
use std::path::{Path, PathBuf};

use crate::device::{list_names, read_attr};
use crate::health::{Activity, Counters, Layout, Leaf};

/// More levels than real stacks have. Counters of deeper levels are ignored.
const LEVELS_MAX: u32 = 16;

/// Activity of the disk with this sysfs directory and of those below it, now.
pub(crate) fn activity_of(disk: &Path) -> Activity {
    let mut suspended = false;
    let layout = layout_of(disk, String::new(), 0, &mut suspended);
    Activity { suspended, layout }
}

/// Whether any one of several devices below can answer a read of this one.
pub(crate) fn is_redundant(disk: &Path) -> bool {
    fn has_choice(layout: &Layout) -> bool {
        match layout {
            Layout::Leaf(_) => false,
            Layout::All(below) => below.iter().any(has_choice),
            Layout::Any(_) => true,
        }
    }
    has_choice(&activity_of(disk).layout)
}

fn layout_of(disk: &Path, name: String, level: u32, suspended: &mut bool) -> Layout {
    *suspended |= read_attr(&disk.join("dm/suspended")).as_deref() == Some("1");
    let below = devices_below(disk);
    if below.is_empty() || level == LEVELS_MAX {
        let own = !is_stacked(disk) && level < LEVELS_MAX;
        let counters = own.then(|| counters_of(disk)).flatten();
        return Layout::Leaf(Leaf { name, counters });
    }
    let any = takes_any(disk, &below);
    let layouts = below.into_iter();
    let mut layouts: Vec<Layout> = layouts
        .map(|(name, folder)| layout_of(&folder, name, level + 1, suspended))
        .collect();
    match layouts.len() {
        1 => layouts.remove(0),
        _ if any => Layout::Any(layouts),
        _ => Layout::All(layouts),
    }
}

/// The numbers (`major:minor`) of a disk and of all devices below it, at every level.
pub(crate) fn numbers_of(disk: &Path) -> Vec<String> {
    fn collect(disk: &Path, level: u32, numbers: &mut Vec<String>) {
        numbers.extend(read_attr(&disk.join("dev")));
        if level < LEVELS_MAX {
            let below = devices_below(disk);
            below
                .iter()
                .for_each(|(_, folder)| collect(folder, level + 1, numbers));
        }
    }
    let mut numbers = Vec::new();
    collect(disk, 0, &mut numbers);
    numbers
}

/// Whether the kernel has suspended the disk or one below it (`rpm_status_str` of
/// drivers/base/power/sysfs.c).
pub(crate) fn is_asleep(disk: &Path) -> bool {
    fn sleeps(disk: &Path, level: u32) -> bool {
        let status = read_attr(&disk.join("device/power/runtime_status"));
        let below = || match level {
            LEVELS_MAX => Vec::new(),
            _ => devices_below(disk),
        };
        matches!(status.as_deref(), Some("suspended" | "suspending"))
            || below().iter().any(|(_, folder)| sleeps(folder, level + 1))
    }
    sleeps(disk, 0)
}

/// Whether the device is stacked. Its own counters are useless then: they count refused reads.
pub(crate) fn is_stacked(disk: &Path) -> bool {
    let kinds = ["dm", "md", "bcache"].map(|kind| disk.join(kind));
    kinds.iter().any(|folder| folder.exists())
}

/// The devices directly below: names and sysfs directories. A partition is replaced by its disk.
fn devices_below(disk: &Path) -> Vec<(String, PathBuf)> {
    let slaves = disk.join("slaves");
    let whole = |name: String| {
        let mut folder = slaves.join(&name);
        if folder.join("partition").exists() {
            // The parent of the directory that the link leads to.
            folder.push("..");
        }
        (name, folder)
    };
    let below: Vec<(String, PathBuf)> = list_names(&slaves).into_iter().map(whole).collect();
    if below.is_empty() {
        return nvme_paths(disk);
    }
    below
}

/// The paths of an NVMe head; none for any other disk.
fn nvme_paths(disk: &Path) -> Vec<(String, PathBuf)> {
    let subsystem = disk.join("device");
    // Only a subsystem has a policy for choosing paths.
    if !subsystem.join("iopolicy").exists() {
        return Vec::new();
    }
    let Some((instance, namespace)) = head_numbers(disk) else {
        return Vec::new();
    };
    let is_path = |name: &str| {
        let rest = name
            .strip_prefix("nvme")
            .and_then(|rest| rest.split_once('c'));
        let Some((of, rest)) = rest else {
            return false;
        };
        let controller_namespace = rest.split_once('n');
        of == instance && controller_namespace.is_some_and(|(_, of)| of == namespace)
    };
    let controllers = list_names(&subsystem).into_iter();
    let controllers = controllers.filter(|name| name.starts_with("nvme"));
    let paths = controllers.flat_map(|controller| {
        let folder = subsystem.join(controller);
        let names = list_names(&folder).into_iter().filter(|name| is_path(name));
        names
            .map(|name| (name.clone(), folder.join(name)))
            .collect::<Vec<_>>()
    });
    paths.collect()
}

/// The numbers of subsystem and namespace in the name of a head, `nvme0n1`.
fn head_numbers(disk: &Path) -> Option<(String, String)> {
    let folder = fs::canonicalize(disk).ok()?;
    let name = folder.file_name()?.to_str()?;
    let (instance, namespace) = name.strip_prefix("nvme")?.split_once('n')?;
    Some((instance.to_owned(), namespace.to_owned()))
}

/// Whether any one of the devices below can answer the reads of this one.
fn takes_any(disk: &Path, below: &[(String, PathBuf)]) -> bool {
    if disk.join("device/iopolicy").exists() {
        return true;
    }
    if let Some(level) = read_attr(&disk.join("md/level")) {
        return matches!(
            level.as_str(),
            "raid1" | "raid4" | "raid5" | "raid6" | "raid10"
        );
    }
    let uuid = read_attr(&disk.join("dm/uuid")).unwrap_or_default();
    // Names of the parts of LVM raid and mirror volumes (lvmraid(7)).
    let is_part = |(_, folder): &(String, PathBuf)| {
        let name = read_attr(&folder.join("dm/name")).unwrap_or_default();
        ["_rimage_", "_rmeta_", "_mimage_", "_mlog"]
            .iter()
            .any(|part| name.contains(part))
    };
    uuid.starts_with("mpath-") || below.iter().all(is_part)
}

/// The counters of a disk itself, as in the table of `health/evidence.rs`.
fn counters_of(disk: &Path) -> Option<Counters> {
    let scsi = |file: &str| {
        let text = read_attr(&disk.join("device").join(file))?;
        u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
    };
    let failed = scsi("ioerr_cnt");
    if read_attr(&disk.join("queue/iostats")).as_deref() == Some("0") {
        let (done, asked) = (scsi("iodone_cnt")?, scsi("iorequest_cnt")?);
        return Some(Counters {
            completed: done.wrapping_sub(failed?),
            in_flight: asked.saturating_sub(done),
        });
    }
    let counters = parse_counters(&read_attr(&disk.join("stat"))?)?;
    Some(Counters {
        completed: counters.completed.wrapping_sub(failed.unwrap_or(0)),
        ..counters
    })
}

/// Parses `stat` (Documentation/block/stat.rst). Counted from 1, fields 1, 5, 12 and 16 are
/// completed reads, writes, discards and flushes; field 9 is the number of requests in flight.
fn parse_counters(stat: &str) -> Option<Counters> {
    let fields: Vec<u64> = stat
        .split_ascii_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    let completed = [0, 4, 11, 15]
        .iter()
        .filter_map(|&field| fields.get(field))
        .sum();
    Some(Counters {
        completed,
        in_flight: *fields.get(8)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A tree of disks as in sysfs: the directory of each disk, with links to those below it.
    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new() -> Tree {
            Tree(tempfile::tempdir().expect("a folder"))
        }

        fn disk(&self, name: &str, files: &[(&str, &str)], on: &[&str]) -> PathBuf {
            let folder = self.0.path().join(name);
            fs::create_dir_all(folder.join("slaves")).expect("folders");
            for (file, text) in files {
                let path = folder.join(file);
                fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
                fs::write(path, text).expect("a file");
            }
            for below in on {
                let link = folder.join("slaves").join(below.replace('/', "-"));
                symlink(self.0.path().join(below), link).expect("a link");
            }
            folder
        }
    }

    fn stat(completed: u64, in_flight: u64) -> String {
        format!("{completed} 0 0 0 0 0 0 0 {in_flight} 0 0\n")
    }

    fn leaf(name: &str, completed: u64, in_flight: u64) -> Layout {
        Layout::Leaf(Leaf {
            name: name.to_owned(),
            counters: Some(Counters {
                completed,
                in_flight,
            }),
        })
    }

    #[test]
    fn a_stack_has_the_counters_of_its_leaf_disks() {
        let tree = Tree::new();
        tree.disk("sda", &[("stat", &stat(5, 1))], &[]);
        tree.disk(
            "sda/sda1",
            &[("stat", &stat(4, 1)), ("partition", "1")],
            &[],
        );
        tree.disk("sdb", &[("stat", &stat(7, 0))], &[]);
        let own = ("stat", &*stat(999, 0));
        tree.disk("dm-0", &[own, ("dm/suspended", "0")], &["sda/sda1"]);
        tree.disk("dm-1", &[own, ("dm/suspended", "1")], &["dm-0", "sdb"]);
        let dm = activity_of(&tree.0.path().join("dm-0"));
        assert_eq!(dm.layout, leaf("sda-sda1", 5, 1), "the disk's own tags");
        assert!(!dm.suspended);
        let top = tree.disk("dm-2", &[own, ("dm/suspended", "0")], &["dm-1"]);
        let top = activity_of(&top);
        let both = vec![leaf("sda-sda1", 5, 1), leaf("sdb", 7, 0)];
        assert_eq!(top.layout, Layout::All(both));
        assert!(top.suspended, "a level below is suspended");
    }

    #[test]
    fn redundant_stacks_differ_from_those_that_need_all_legs() {
        let tree = Tree::new();
        for disk in ["sda", "sdb"] {
            tree.disk(disk, &[("stat", &stat(1, 1))], &[]);
        }
        let any = |name: &str, files: &[(&str, &str)]| {
            let disk = tree.disk(name, files, &["sda", "sdb"]);
            assert_eq!(
                is_redundant(&disk),
                matches!(activity_of(&disk).layout, Layout::Any(_))
            );
            is_redundant(&disk)
        };
        assert!(any("md0", &[("md/level", "raid1\n")]));
        assert!(any("md1", &[("md/level", "raid6\n")]));
        assert!(!any("md2", &[("md/level", "raid0\n")]));
        assert!(!any("md3", &[("md/level", "linear\n")]));
        assert!(any("dm-0", &[("dm/uuid", "mpath-3600a\n")]));
        assert!(!any("dm-1", &[("dm/uuid", "LVM-abc\n")]));
        let on_raid = tree.disk("dm-2", &[("dm/uuid", "LVM-abc")], &["md0"]);
        assert!(is_redundant(&on_raid), "through the device below");
        for leg in ["dm-3", "dm-4"] {
            tree.disk(leg, &[("dm/name", "vg-lv_rimage_0\n")], &["sda"]);
        }
        let lvm = tree.disk("dm-5", &[("dm/uuid", "LVM-abc")], &["dm-3", "dm-4"]);
        assert!(is_redundant(&lvm), "LVM's raid");
    }

    #[test]
    fn the_paths_of_an_nvme_head_are_below_its_subsystem() {
        let tree = Tree::new();
        for path in ["nvme0/nvme0c0n1", "nvme1/nvme0c1n1", "nvme1/nvme0c1n12"] {
            let below = format!("nvme-subsys0/{path}");
            tree.disk(&below, &[("stat", &stat(3, 0))], &[]);
        }
        let subsystem = tree.0.path().join("nvme-subsys0");
        fs::write(subsystem.join("iopolicy"), "numa\n").expect("a file");
        let head = tree.disk("nvme0n1", &[("stat", &stat(0, 0))], &[]);
        symlink(&subsystem, head.join("device")).expect("a link");
        let paths = vec![leaf("nvme0c0n1", 3, 0), leaf("nvme0c1n1", 3, 0)];
        assert_eq!(activity_of(&head).layout, Layout::Any(paths));
    }

    #[test]
    fn failed_requests_are_subtracted_where_they_are_counted() {
        let tree = Tree::new();
        let scsi = |iostats| {
            let files = [
                ("stat", &*stat(20, 2)),
                ("queue/iostats", iostats),
                ("device/ioerr_cnt", "0x5\n"),
                ("device/iodone_cnt", "0x1e\n"),
                ("device/iorequest_cnt", "0x21\n"),
            ];
            activity_of(&tree.disk("sda", &files, &[])).layout
        };
        assert_eq!(scsi("1\n"), leaf("", 15, 2));
        assert_eq!(scsi("0\n"), leaf("", 25, 3));
    }

    #[test]
    fn useless_counters_are_ignored() {
        let tree = Tree::new();
        let none = Activity::of_disk(None);
        let off = [("stat", &*stat(20, 2)), ("queue/iostats", "0\n")];
        assert_eq!(activity_of(&tree.disk("vda", &off, &[])), none);
        let zero = [("stat", &*stat(20, 2)), ("dm/suspended", "0\n")];
        assert_eq!(activity_of(&tree.disk("dm-9", &zero, &[])), none);
    }

    #[test]
    fn all_kinds_of_requests_are_counted() {
        let stat = "  10 0 80 3 20 0 160 5 7 12 8 1 0 8 0 4 2\n";
        let expected = Counters {
            completed: 10 + 20 + 1 + 4,
            in_flight: 7,
        };
        assert_eq!(parse_counters(stat), Some(expected));
        let old = parse_counters("10 0 80 3 20 0 160 5 7 12 8").expect("parsed");
        assert_eq!(old.completed, 30);
        assert_eq!(parse_counters("10 0"), None);
    }
}
