//! Which drivers may put the thread that submits a read to sleep.
//!
//! `RWF_NOWAIT` covers only the allocation of the request's tag. A driver whose queue has the flag
//! `BLK_MQ_F_BLOCKING` may also sleep in its `queue_rq`, in the submitting thread, as long as its
//! device or its peer needs. sysfs does not show the flag, so this file lists the drivers. Sources:
//! the kernel, Linux 5.11 to 6.18.
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
//! | SCSI disks of `ufshcd` | drivers/ufs/core/ufshcd.c (`queuecommand_may_block`) | the link to leave its sleep state |
//! | null_blk with `blocking=1` | drivers/block/null_blk/main.c | nothing of a device: not listed below |
//!
//! Loop devices are not in the list: kernel threads do the I/O of their files. Drivers that take
//! bios instead of requests (dm, md, DRBD, zram, bcache) either support `RWF_NOWAIT` or are read
//! without it, by kernel threads. But the disks below dm and md get their requests in the
//! submitting thread, so a stacked device may block if one of its leaves may. A partition is like
//! its disk.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use pathpulse_kernel_compat::Submission;

use crate::device::{list_names, read_attr};

/// Names of disks whose drivers have the flag, without their numbers or letters.
const BLOCKING_DISKS: [&str; 11] = [
    "nbd", "rnbd", "mmcblk", "ubiblock", "mtdblock", "ftl", "nftl", "inftl", "rfd", "ssfdc",
    "gdrom",
];

/// SCSI hosts whose `queuecommand` may block, by `proc_name` in sysfs.
const BLOCKING_HOSTS: [&str; 1] = ["ufshcd"];

/// Limit of the levels of stacked devices. sysfs has no cycles, but the limit makes that
/// unimportant.
const DEPTH_MAX: u32 = 16;

/// What sysfs shows of the driver of one disk that is not stacked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct DriverFacts {
    /// The kernel's name of the disk.
    disk: String,
    /// `proc_name` of its SCSI host.
    host: Option<String>,
    /// The connection to the NVMe controller is TCP with TLS.
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

/// The name of a disk up to the first digit. For the old flash drivers (`nftla`), which count disks
/// with a letter, the name without that letter.
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

/// Whether a read of the disk with this sysfs directory may block its submitter.
pub(crate) fn submission_of(disk: &Path) -> Submission {
    submission_below(disk, DEPTH_MAX)
}

fn submission_below(disk: &Path, depth: u32) -> Submission {
    // The directory of a partition is inside that of its disk.
    let disk = match disk.join("partition").exists() {
        true => disk.join(".."),
        false => disk.to_path_buf(),
    };
    let slaves = disk.join("slaves");
    let leaves = list_names(&slaves);
    if leaves.is_empty() || depth == 0 {
        return facts_of(&disk).submission();
    }
    let mut leaves = leaves
        .iter()
        .map(|leaf| submission_below(&slaves.join(leaf), depth - 1));
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

/// `proc_name` of the SCSI host of a disk at `.../hostN/targetN:0:0/.../block/sda`.
fn host_of(disk: &Path) -> Option<String> {
    let is_host = |folder: &&Path| {
        let name = folder.file_name().and_then(OsStr::to_str);
        let number = name.and_then(|name| name.strip_prefix("host"));
        number.is_some_and(|number| number.parse::<u32>().is_ok())
    };
    let host = disk.ancestors().find(is_host)?;
    read_attr(
        &host
            .join("scsi_host")
            .join(host.file_name()?)
            .join("proc_name"),
    )
}

/// Whether an NVMe controller, or one of a subsystem's controllers, uses TCP with TLS.
fn is_over_tls(controller: &Path) -> bool {
    let has_tls = |folder: &PathBuf| {
        read_attr(&folder.join("transport")).as_deref() == Some("tcp")
            // Without TLS `(none)` or 0; drivers/nvme/host/sysfs.c.
            && ["tls_key", "tls_configured_key"].iter().any(|file| {
                read_attr(&folder.join(file))
                    .is_some_and(|key| !matches!(key.as_str(), "" | "(none)" | "0" | "00000000"))
            })
    };
    let controllers = list_names(controller);
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
    fn only_the_drivers_of_the_table_may_block() {
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
    fn scsi_hosts_and_nvme_tls_may_block() {
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

    /// A sysfs tree with these files and links.
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
    fn a_partition_is_like_its_disk_and_a_stack_like_its_leaves() {
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
    fn scsi_hosts_and_nvme_controllers_are_found() {
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
