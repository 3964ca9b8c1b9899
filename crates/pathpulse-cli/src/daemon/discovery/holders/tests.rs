use super::*;

/// A host: files by their paths, of which one that ends in a slash is a folder, and links.
struct Host(tempfile::TempDir);

impl Host {
    fn with(files: &[(&str, &[u8])]) -> Host {
        let host = Host(tempfile::tempdir().expect("a folder"));
        host.write("proc/self/mountinfo", b"");
        fs::create_dir(host.0.path().join("dev")).expect("a folder");
        for (file, text) in files {
            host.write(file, text);
        }
        host
    }

    fn write(&self, file: &str, text: &[u8]) {
        let path = self.0.path().join(file);
        fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        fs::write(path, text).expect("a file");
    }

    fn link(&self, name: &str, target: &str) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        std::os::unix::fs::symlink(target, path).expect("a link");
    }

    fn remove(&self, folder: &str) {
        fs::remove_dir_all(self.0.path().join(folder)).expect("removed");
    }

    fn parts(&self, disk: &str) -> DiskParts {
        let block = self.0.path().join("sys/block");
        DiskParts::of(&block.join(disk), &self.0.path().join("dev"))
    }

    /// What uses these parts, the disk being there or not.
    fn holder(&self, parts: &DiskParts) -> Option<Holder> {
        let root = self.0.path();
        Holders::read(&root.join("sys/block"), &root.join("proc")).of(parts)
    }
}

fn known(holder: &str) -> Option<Holder> {
    Some(Holder::Known(holder.to_owned()))
}

const SDA: [(&str, &[u8]); 4] = [
    ("sys/block/sda/dev", b"8:0\n"),
    ("sys/block/sda/sda1/dev", b"8:1\n"),
    ("sys/block/sda/sda1/partition", b"1\n"),
    ("run/udev/data/b8:0", b"E:ID_PART_TABLE_TYPE=gpt\n"),
];

/// The disk sda of this host, and the host after it went.
fn without_sda(more: &[(&str, &[u8])], links: &[(&str, &str)]) -> (Host, DiskParts) {
    let host = Host::with(&SDA);
    host.write("run/udev/data/b8:1", b"E:ID_FS_TYPE=ext4\n");
    for (file, text) in more {
        host.write(file, text);
    }
    for (name, target) in links {
        host.link(name, target);
    }
    let parts = host.parts("sda");
    host.remove("sys/block/sda");
    (host, parts)
}

#[test]
fn what_is_made_of_a_disk_uses_it_for_as_long_as_it_is_there() {
    let more: [(&str, &[u8]); 6] = [
        ("sys/block/sda/sda1/holders/md0/x", b""),
        ("sys/block/sda/sdaling/dev", b"8:77\n"),
        ("sys/block/sda/queue/x", b""),
        ("sys/block/sda/holders/dm-0/x", b""),
        ("sys/block/dm-0/x", b""),
        ("sys/block/md0/x", b""),
    ];
    let (host, parts) = without_sda(&more, &[]);
    let names = parts.names.iter().map(Vec::as_slice);
    assert!(names.eq([&b"sda"[..], b"sda1"]), "{parts:?}");
    let numbers = parts.numbers.iter().map(Vec::as_slice);
    assert!(numbers.eq([&b"8:0"[..], b"8:1"]), "{parts:?}");
    assert_eq!(host.holder(&parts), known("dm-0"));
    host.remove("sys/block/dm-0");
    assert_eq!(host.holder(&parts), known("md0"));
    host.remove("sys/block/md0");
    assert_eq!(host.holder(&parts), None);
}

#[test]
fn what_is_mounted_from_a_disk_uses_it_whatever_else_is_mounted() {
    let (host, parts) = without_sda(&[], &[]);
    let holder = |mounts: &[u8]| {
        host.write("proc/self/mountinfo", mounts);
        host.holder(&parts)
    };
    let used = known("what is mounted on /data");
    for mounted in [
        &b"36 35 8:1 / /data rw shared:1 - ext4 /dev/root rw\n"[..],
        b"36 35 0:42 / /data rw - btrfs /dev/sda1 rw\n",
        b"36 35 0:42 / /data rw - bcachefs /dev/sdb:/dev/sda1 rw\n",
        b"36 35 8:17 / /data rw - xfs /dev/sdb1 rw,logdev=/dev/sda1\n",
        // Names of other devices that are not UTF-8.
        b"35 1 0:41 / /caf\xe9 rw - tmpfs none rw\n36 35 8:1 / /data rw - ext4 /dev/root rw\n",
    ] {
        assert_eq!(holder(mounted), used, "{}", mounted.escape_ascii());
    }
    let other = b"36 35 8:16 / /data rw master:1 - xfs /dev/sdb rw\n36 35 0:21 /dev/sda /data rw - tmpfs none rw\n";
    assert_eq!(holder(other), None);
    let odd = holder(b"36 35 8:1 / /caf\xe9\\040x rw - ext4 /dev/root rw\n");
    assert_eq!(odd, known("what is mounted on /caf\\xe9 x"));
    // Mounted where this process doesn't see it.
    holder(b"");
    host.write("sys/fs/ext4/sda1/session_write_kbytes", b"1\n");
    assert_eq!(host.holder(&parts), known("a file system (ext4)"));
}

#[test]
fn swap_uses_a_disk_although_its_name_is_gone() {
    let (host, parts) = without_sda(&[], &[]);
    for (swaps, used) in [
        (
            "Filename Type Size Used Priority\n/dev/sda1 partition 1 0 -2\n",
            true,
        ),
        ("/dev/sda1\\040(deleted) partition 1 0 -2\n", true),
        ("/dev/sda12 partition 1 0 -2\n", false),
    ] {
        host.write("proc/swaps", swaps.as_bytes());
        assert_eq!(
            host.holder(&parts),
            used.then(|| known("swap")).flatten(),
            "{swaps}"
        );
    }
}

#[test]
fn every_member_of_a_file_system_over_several_disks_is_used() {
    let (btrfs, parts) = without_sda(&[], &[("sys/fs/btrfs/u-1/devices/sda1", "/gone/sda1")]);
    assert_eq!(btrfs.holder(&parts), known("btrfs u-1"));
    btrfs.remove("sys/fs/btrfs/u-1");
    assert_eq!(btrfs.holder(&parts), None);

    let (bcachefs, parts) = without_sda(
        &[],
        &[("sys/fs/bcachefs/u-2/dev-1/block", "../../block/sda/sda1")],
    );
    assert_eq!(bcachefs.holder(&parts), known("bcachefs u-2"));
    // It knows its member although the disk is none of it any more.
    fs::remove_file(bcachefs.0.path().join("sys/fs/bcachefs/u-2/dev-1/block")).expect("removed");
    assert_eq!(bcachefs.holder(&parts), known("bcachefs u-2"));
    bcachefs.remove("sys/fs/bcachefs/u-2/dev-1");
    assert_eq!(bcachefs.holder(&parts), None);

    let (bcache, parts) = without_sda(
        &[],
        &[("sys/fs/bcache/u-3/cache0", "../../../block/sda/sda1/bcache")],
    );
    assert_eq!(bcache.holder(&parts), known("bcache u-3"));
}

#[test]
fn a_member_of_a_zfs_pool_is_used_while_the_pool_is_imported() {
    let member: [(&str, &[u8]); 2] = [
        (
            "run/udev/data/b8:1",
            b"E:ID_FS_LABEL=big_tank\nE:ID_FS_TYPE=zfs_member\n",
        ),
        ("proc/spl/kstat/zfs/other/state", b"ONLINE\n"),
    ];
    let (host, parts) = without_sda(&member, &[]);
    assert_eq!(host.holder(&parts), None);
    host.write("proc/spl/kstat/zfs/big tank/state", b"DEGRADED\n");
    assert_eq!(host.holder(&parts), known("the ZFS pool big_tank"));
    // Without data of udev, the use of the disk is not known.
    let undescribed = Host::with(&SDA);
    let parts = undescribed.parts("sda");
    undescribed.remove("sys/block/sda");
    assert_eq!(undescribed.holder(&parts), None);
    undescribed.write("proc/spl/kstat/zfs/tank/state", b"ONLINE\n");
    let holder = undescribed.holder(&parts);
    assert!(
        matches!(&holder, Some(Holder::Uncertain(why)) if why.contains("tank")),
        "{holder:?}"
    );
}

#[test]
fn a_disk_is_known_by_its_links() {
    let (host, mut parts) = without_sda(&[], &[]);
    let dev = Path::new("/dev");
    let link = dev.join("disk/by-path/pci-0000:00:1f.2-ata-1-part1");
    let links = |name: &str| match name {
        "sda1" => vec![link.clone()],
        _ => Vec::new(),
    };
    parts.add_links(links, dev);
    let mounted = format!("36 35 0:42 / /data rw - btrfs {} rw\n", link.display());
    host.write("proc/self/mountinfo", mounted.as_bytes());
    assert_eq!(host.holder(&parts), known("what is mounted on /data"));
}

#[test]
fn what_cant_be_read_or_understood_is_in_doubt() {
    let (host, parts) = without_sda(&[], &[]);
    let is_in_doubt = |word: &str| {
        let holder = host.holder(&parts);
        assert!(
            matches!(&holder, Some(Holder::Uncertain(why)) if why.contains(word)),
            "{holder:?}"
        );
    };
    host.write(
        "proc/self/mountinfo",
        b"36 35 0:21 / /data rw - tmpfs none rw\nnonsense\n",
    );
    is_in_doubt("nonsense");
    host.remove("proc/self");
    is_in_doubt("mountinfo");
    host.write("proc/self/mountinfo", b"");
    assert_eq!(host.holder(&parts), None);
    fs::create_dir(host.0.path().join("proc/swaps")).expect("a folder");
    is_in_doubt("swaps");
    // A disk that goes while it is looked at.
    let gone = Host::with(&[("sys/block/sdb/dev", b"8:16\n")]).parts("sdc");
    let (host, _) = without_sda(&[], &[]);
    assert!(matches!(host.holder(&gone), Some(Holder::Uncertain(_))));
}
