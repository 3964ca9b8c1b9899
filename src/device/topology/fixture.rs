//! sysfs trees for tests, taken from real hosts and shortened.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::device::Sysfs;

/// A sysfs tree of its own.
pub(crate) struct Tree(tempfile::TempDir);

impl Tree {
    /// The directory of the SCSI disk of [`Tree::fibre_channel`].
    pub(crate) const SCSI_DISK: &str =
        "devices/pci0000:3a/0000:3b:00.0/host3/rport-3:0-0/target3:0:0/3:0:0:1";

    /// A leg `sdb` (8:16) of the multipath map `mpatha` (253:0).
    pub(crate) fn fibre_channel() -> Tree {
        let tree = Tree::new();
        let host = "devices/pci0000:3a/0000:3b:00.0/host3";
        let device = Tree::SCSI_DISK;
        tree.write(
            &format!("{host}/fc_host/host3/port_name"),
            "0x10000090fa000001",
        );
        let port = "rport-3:0-0/fc_remote_ports/rport-3:0-0/port_name";
        tree.write(&format!("{host}/{port}"), "0x207000c0ff000001");
        tree.write(&format!("{device}/vendor"), "HP      ");
        tree.write(&format!("{device}/model"), "MSA 2050 SAN    ");
        tree.write(&format!("{device}/wwid"), "naa.600a");
        // A designator of the disk, then the target port group: type 5, of the port, 4 bytes.
        let page = [
            0, 0x83, 0, 16, 1, 3, 0, 4, 0x60, 0x0a, 0, 0, 1, 0x15, 0, 4, 0, 0, 0, 2,
        ];
        tree.write_bytes(&format!("{device}/vpd_pg83"), &page);
        let disk = format!("{device}/block/sdb");
        tree.write(&format!("{disk}/size"), "2097152");
        tree.link(&format!("{disk}/device"), device);
        let map = "devices/virtual/block/dm-0";
        tree.write(&format!("{map}/dm/uuid"), "mpath-3600a");
        tree.write(&format!("{map}/dm/name"), "mpatha");
        tree.link(&format!("{disk}/holders/dm-0"), map);
        tree.number(8, 16, &disk);
        tree.number(253, 0, map);
        let links = "N:sdb\nS:disk/by-path/fc-lun-1\nS:disk/by-id/wwn-0x600a\nE:ID_BUS=scsi\n";
        tree.write("udev/b8:16", links);
        tree
    }

    /// A disk `sdc` (8:32).
    pub(crate) fn iscsi() -> Tree {
        let tree = Tree::new();
        let host = "devices/platform/host5";
        let initiator = "iscsi_host/host5/initiatorname";
        tree.write(&format!("{host}/{initiator}"), "iqn.1993-08.org:host");
        let session = format!("{host}/session1/iscsi_session/session1");
        tree.write(&format!("{session}/targetname"), "iqn.2001-04.org:disk");
        tree.write(&format!("{session}/tpgt"), "1");
        let device = format!("{host}/session1/target5:0:0/5:0:0:0");
        let disk = format!("{device}/block/sdc");
        tree.write(&format!("{disk}/size"), "8");
        tree.link(&format!("{disk}/device"), &device);
        tree.number(8, 32, &disk);
        tree
    }

    /// `nvme0n1` (259:0) of a controller, and `nvme1n1` (259:1) of a subsystem.
    pub(crate) fn nvme() -> Tree {
        let tree = Tree::new();
        let pcie = "devices/pci0000:00/0000:00:01.0/0000:01:00.0/nvme/nvme0";
        tree.write(&format!("{pcie}/transport"), "pcie");
        tree.write(&format!("{pcie}/address"), "0000:01:00.0");
        tree.write(&format!("{pcie}/nvme0n1/size"), "8");
        tree.link(&format!("{pcie}/nvme0n1/device"), pcie);
        tree.number(259, 0, &format!("{pcie}/nvme0n1"));
        let tcp = "devices/virtual/nvme-fabrics/ctl/nvme1";
        tree.write(&format!("{tcp}/transport"), "tcp");
        let address = "traddr=10.0.0.1,trsvcid=4420,host_iface=eth1,src_addr=10.0.0.7";
        tree.write(&format!("{tcp}/address"), address);
        let subsystem = "devices/virtual/nvme-subsystem/nvme-subsys1";
        tree.write(&format!("{subsystem}/nvme1n1/size"), "8");
        tree.link(&format!("{subsystem}/nvme1n1/device"), subsystem);
        tree.link(&format!("{subsystem}/nvme1"), tcp);
        tree.number(259, 1, &format!("{subsystem}/nvme1n1"));
        tree
    }

    /// Adds a second controller to the subsystem of [`Tree::nvme`].
    pub(crate) fn add_second_controller(&self) {
        let other = "devices/virtual/nvme-fabrics/ctl/nvme2";
        self.write(&format!("{other}/transport"), "tcp");
        self.link("devices/virtual/nvme-subsystem/nvme-subsys1/nvme2", other);
    }

    /// `vda` (254:0) and `loop0` (7:0).
    pub(crate) fn virtual_disks() -> Tree {
        let tree = Tree::new();
        let virtio = "devices/pci0000:00/0000:00:04.0/virtio1";
        tree.write(&format!("{virtio}/vendor"), "0x1af4");
        tree.write(&format!("{virtio}/block/vda/size"), "8");
        tree.link(&format!("{virtio}/block/vda/device"), virtio);
        tree.number(254, 0, &format!("{virtio}/block/vda"));
        tree.write("devices/virtual/block/loop0/size", "8");
        tree.number(7, 0, "devices/virtual/block/loop0");
        tree
    }

    /// The device with this number.
    pub(crate) fn sysfs(&self, major: u32, minor: u32) -> Sysfs {
        Sysfs::below(self.0.path(), major, minor).expect("the device is in the tree")
    }

    /// Its resolved directory.
    pub(crate) fn folder(&self, major: u32, minor: u32) -> PathBuf {
        fs::canonicalize(self.sysfs(major, minor).disk_dir()).expect("the device is in the tree")
    }

    /// Writes a file with a trailing line feed, as the kernel does.
    pub(crate) fn write(&self, name: &str, text: &str) {
        self.write_bytes(name, format!("{text}\n").as_bytes());
    }

    fn new() -> Tree {
        Tree(tempfile::tempdir().expect("a folder"))
    }

    fn write_bytes(&self, name: &str, bytes: &[u8]) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        fs::write(path, bytes).expect("a file");
    }

    fn number(&self, major: u32, minor: u32, folder: &str) {
        self.link(&format!("dev/block/{major}:{minor}"), folder);
    }

    fn link(&self, name: &str, target: &str) {
        let link = self.0.path().join(name);
        fs::create_dir_all(link.parent().expect("a parent")).expect("folders");
        symlink(Path::new(self.0.path()).join(target), link).expect("a link");
    }
}
