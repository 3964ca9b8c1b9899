//! Which drivers may put the thread that submits a read to sleep.
//!
//! `RWF_NOWAIT` covers the request's tag only. A driver whose queue is flagged `BLK_MQ_F_BLOCKING`
//! may sleep in its `queue_rq` besides, on the stack of whoever submits, for as long as its device
//! or its peer likes. No file in sysfs shows the flag, so it is known here, by driver. Kernel source,
//! Linux 5.11 to 6.18:
//!
//! | disks | flagged in | sleeps for |
//! |---|---|---|
//! | `nbd*` | drivers/block/nbd.c | room in the server's socket, a lock held for it, a reconnection |
//! | `rnbd*` | drivers/block/rnbd/rnbd-clt.c | a permit of the transport |
//! | `mmcblk*` | drivers/mmc/core/queue.c | the host, the card, power management |
//! | `ubiblock*` | drivers/mtd/ubi/block.c | reads of the flash |
//! | `mtdblock*`, `ftl*`, `nftl*`, `inftl*`, `rfd*`, `ssfdc*` | drivers/mtd/mtd_blkdevs.c | the same |
//! | `gdrom*` | drivers/cdrom/gdrom.c | the drive |
//! | NVMe over TCP with TLS | drivers/nvme/host/tcp.c (`NVME_F_BLOCKING`) | locks of the TLS layer; without TLS it sends with `MSG_DONTWAIT` |
//! | SCSI disks of `ufshcd` | drivers/ufs/core/ufshcd.c (`queuecommand_may_block`) | the link's way out of its sleep |
//! | null_blk with `blocking=1` | drivers/block/null_blk/main.c | nothing that a device does: not treated so |
//!
//! A loop device is not among these: kernel threads do the I/O of its backing file. Drivers that take
//! bios and no requests (dm, md, DRBD, zram, bcache) either know `RWF_NOWAIT` or are read without it,
//! by kernel threads; what lies below dm and md gets its requests on the submitter's stack, so a
//! stacked device is as its leaves are. A partition is as its disk.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use pathpulse_kernel_compat::Submission;

use crate::device::{names_in, word};

/// Names of disks whose drivers are flagged, without their numbers or letters.
const BLOCKING_DISKS: [&str; 11] = [
    "nbd", "rnbd", "mmcblk", "ubiblock", "mtdblock", "ftl", "nftl", "inftl", "rfd", "ssfdc",
    "gdrom",
];

/// SCSI hosts, as `proc_name` in sysfs has them, whose `queuecommand` may block.
const BLOCKING_HOSTS: [&str; 1] = ["ufshcd"];

/// Stacked devices lie on stacked devices; sysfs has no cycles, but this needs no proof.
const DEPTH_MAX: u32 = 16;

/// What the kernel says about the driver of one disk that is not stacked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct DriverFacts {
    /// The kernel's name of the disk.
    disk: String,
    /// `proc_name` of its SCSI host.
    host: Option<String>,
    /// Its way to an NVMe controller is TCP with TLS.
    nvme_tls: bool,
}

impl DriverFacts {
    /// Whether a read of such a disk may block its submitter.
    fn submission(&self) -> Submission {
        let is_blocking = self.nvme_tls
            || BLOCKING_DISKS.contains(&kind_of(&self.disk))
            || (self.host.as_deref()).is_some_and(|host| BLOCKING_HOSTS.contains(&host));
        match is_blocking {
            true => Submission::MayBlock,
            false => Submission::Prompt,
        }
    }
}

/// A disk's name without what follows the first digit, or without the letter that counts the disks
/// of the old flash drivers (`nftla`).
fn kind_of(disk: &str) -> &str {
    let kind = disk
        .split(|c: char| c.is_ascii_digit())
        .next()
        .unwrap_or(disk);
    let is_lettered = kind.len() == disk.len() && kind.len() > 1;
    let without = &kind[..kind.len() - usize::from(is_lettered && kind.is_ascii())];
    match BLOCKING_DISKS.contains(&without) {
        true => without,
        false => kind,
    }
}

/// Whether a read of this disk may block its submitter, given its folder in sysfs.
pub(crate) fn submission_of(disk: &Path) -> Submission {
    below(disk, DEPTH_MAX)
}

fn below(disk: &Path, depth: u32) -> Submission {
    // A partition's folder lies in its disk's.
    let disk = match disk.join("partition").exists() {
        true => disk.join(".."),
        false => disk.to_path_buf(),
    };
    let slaves = disk.join("slaves");
    let leaves = names_in(&slaves);
    if leaves.is_empty() || depth == 0 {
        return facts_of(&disk).submission();
    }
    let mut leaves = leaves
        .iter()
        .map(|leaf| below(&slaves.join(leaf), depth - 1));
    match leaves.any(|leaf| leaf == Submission::MayBlock) {
        true => Submission::MayBlock,
        false => Submission::Prompt,
    }
}

fn facts_of(disk: &Path) -> DriverFacts {
    let real = fs::canonicalize(disk).unwrap_or_default();
    let name = real.file_name().and_then(OsStr::to_str).unwrap_or_default();
    DriverFacts {
        disk: name.to_owned(),
        host: host_of(&real),
        nvme_tls: is_over_tls(&real.join("device")),
    }
}

/// `proc_name` of the SCSI host above a disk: `.../hostN/targetN:0:0/.../block/sda`.
fn host_of(disk: &Path) -> Option<String> {
    let is_host = |folder: &&Path| {
        let name = folder.file_name().and_then(OsStr::to_str);
        let number = name.and_then(|name| name.strip_prefix("host"));
        number.is_some_and(|number| number.parse::<u32>().is_ok())
    };
    let host = disk.ancestors().find(is_host)?;
    word(
        &host
            .join("scsi_host")
            .join(host.file_name()?)
            .join("proc_name"),
    )
}

/// Whether an NVMe controller, or one of those of a subsystem, is reached by TCP with TLS.
fn is_over_tls(controller: &Path) -> bool {
    let has_tls = |folder: &PathBuf| {
        word(&folder.join("transport")).as_deref() == Some("tcp")
            // `(none)` or 0 without; drivers/nvme/host/sysfs.c.
            && ["tls_key", "tls_configured_key"].iter().any(|file| {
                word(&folder.join(file))
                    .is_some_and(|key| !matches!(key.as_str(), "" | "(none)" | "0" | "00000000"))
            })
    };
    let controllers = names_in(controller);
    let controllers = controllers.iter().filter(|name| name.starts_with("nvme"));
    std::iter::once(controller.to_path_buf())
        .chain(controllers.map(|name| controller.join(name)))
        .any(|folder| has_tls(&folder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Submission::{MayBlock, Prompt};
    use std::os::unix::fs::symlink;

    fn of_name(disk: &str) -> Submission {
        let facts = DriverFacts {
            disk: disk.to_owned(),
            ..DriverFacts::default()
        };
        facts.submission()
    }

    #[test]
    fn the_drivers_of_the_table_may_block_and_no_others() {
        for disk in [
            "nbd0",
            "nbd15",
            "rnbd3",
            "mmcblk0",
            "mmcblk0boot0",
            "ubiblock0_1",
            "mtdblock2",
            "nftla",
            "inftlb",
            "gdrom",
        ] {
            assert_eq!(of_name(disk), MayBlock, "{disk}");
        }
        for disk in [
            "sda",
            "sdnbd",
            "nvme0n1",
            "nvme0c0n1",
            "loop0",
            "zram0",
            "ram0",
            "vda",
            "xvda",
            "dm-0",
            "md127",
            "sr0",
            "rbd0",
            "drbd0",
            "ublkb0",
            "nullb0",
            "dasda",
            "",
            "é",
        ] {
            assert_eq!(of_name(disk), Prompt, "{disk}");
        }
    }

    #[test]
    fn hosts_and_transports_count_too() {
        let host = |name: &str| DriverFacts {
            disk: "sda".to_owned(),
            host: Some(name.to_owned()),
            ..DriverFacts::default()
        };
        assert_eq!(host("ufshcd").submission(), MayBlock);
        assert_eq!(host("qla2xxx").submission(), Prompt);
        let nvme = |nvme_tls| DriverFacts {
            disk: "nvme0n1".to_owned(),
            nvme_tls,
            ..DriverFacts::default()
        };
        assert_eq!(nvme(true).submission(), MayBlock);
        assert_eq!(nvme(false).submission(), Prompt);
    }

    /// A sysfs of these files and links.
    fn sysfs(files: &[(&str, &str)], links: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        let place = |name: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            path
        };
        for (name, text) in files {
            fs::write(place(name), text).expect("a file");
        }
        for (name, target) in links {
            symlink(root.path().join(target), place(name)).expect("a link");
        }
        root
    }

    #[test]
    fn a_partition_is_as_its_disk_and_a_stack_as_its_leaves() {
        let root = sysfs(
            &[
                ("block/nbd0/stat", ""),
                ("block/nbd0/nbd0p1/partition", "1\n"),
                ("block/sda/stat", ""),
                ("block/dm-0/dm/uuid", ""),
                ("block/dm-1/dm/uuid", ""),
                ("block/dm-2/dm/uuid", ""),
            ],
            &[
                ("block/dm-0/slaves/sda", "block/sda"),
                ("block/dm-0/slaves/nbd0p1", "block/nbd0/nbd0p1"),
                ("block/dm-1/slaves/dm-0", "block/dm-0"),
                ("block/dm-2/slaves/sda", "block/sda"),
            ],
        );
        let of = |name: &str| submission_of(&root.path().join("block").join(name));
        assert_eq!(of("nbd0"), MayBlock);
        assert_eq!(of("nbd0/nbd0p1"), MayBlock);
        assert_eq!(of("dm-0"), MayBlock);
        assert_eq!(of("dm-1"), MayBlock);
        assert_eq!(of("dm-2"), Prompt);
        assert_eq!(of("sda"), Prompt);
        assert_eq!(of("missing"), Prompt);
    }

    #[test]
    fn hosts_and_controllers_are_found_above_the_disk() {
        let lun = "devices/pci0/host3/target3:0:0/3:0:0:0/block/sda";
        let root = sysfs(
            &[
                (&format!("{lun}/stat"), ""),
                ("devices/pci0/host3/scsi_host/host3/proc_name", "ufshcd\n"),
                ("devices/nvme0/transport", "tcp\n"),
                ("devices/nvme0/tls_key", "0a1b2c3d\n"),
                ("devices/nvme0/nvme0c0n1/stat", ""),
                ("devices/nvme1/transport", "tcp\n"),
                ("devices/nvme1/tls_key", "(none)\n"),
                ("devices/nvme1/nvme1n1/stat", ""),
                ("devices/nvme-subsys0/nvme0n1/stat", ""),
            ],
            &[
                ("class/sda", lun),
                ("devices/nvme0/nvme0c0n1/device", "devices/nvme0"),
                ("devices/nvme1/nvme1n1/device", "devices/nvme1"),
                ("devices/nvme-subsys0/nvme0", "devices/nvme0"),
                (
                    "devices/nvme-subsys0/nvme0n1/device",
                    "devices/nvme-subsys0",
                ),
            ],
        );
        let of = |name: &str| submission_of(&root.path().join(name));
        assert_eq!(of("class/sda"), MayBlock);
        assert_eq!(of("devices/nvme0/nvme0c0n1"), MayBlock);
        assert_eq!(of("devices/nvme1/nvme1n1"), Prompt);
        assert_eq!(of("devices/nvme-subsys0/nvme0n1"), MayBlock);
    }
}
