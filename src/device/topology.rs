//! Where a disk is attached: adapter, port, target port, controller and session, as sysfs shows
//! them.
//!
//! The sysfs directory of a disk is inside those of everything between it and the host, so its path
//! has their names:
//!
//! | part of the path | meaning | its directory contains |
//! |---|---|---|
//! | `host3` | a SCSI adapter | `fc_host/host3/port_name`, `iscsi_host/host3/initiatorname` |
//! | `rport-3:0-0` | a Fibre Channel port of the target | `fc_remote_ports/rport-3:0-0/port_name` |
//! | `session1` | an iSCSI session | `iscsi_session/session1/targetname`, `tpgt` |
//! | `end_device-3:0` | a SAS port of the target | `sas_device/end_device-3:0/sas_address` |
//! | `nvme0` | an NVMe controller | `transport`, `address` |
//!
//! (drivers/scsi/scsi_transport_{fc,iscsi,sas}.c, drivers/nvme/host/sysfs.c.) The controller of a
//! SCSI array is identified by the target port group, from page 0x83 (SPC-4, 7.8.6).

use std::fs;
use std::path::{Path, PathBuf};

use crate::device::{read_text, target_port_group};

/// What is between a disk and the host. Two paths with an equal field share that part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// The adapter in this host: `host3` of SCSI, the PCI address of an NVMe or virtio disk, or the
    /// network interface of NVMe over fabrics if one is configured.
    pub adapter: Option<String>,
    /// The port of the adapter: its WWN, or the name or address of the initiator.
    pub adapter_port: Option<String>,
    /// The port of the target: its WWN, its SAS address, or name and address.
    pub target_port: Option<String>,
    /// The controller of the target: the NVMe controller, or the SCSI target port group.
    pub controller: Option<String>,
    /// The iSCSI session.
    pub session: Option<String>,
}

impl Topology {
    /// The topology of the disk with this resolved sysfs directory.
    pub(crate) fn of(folder: &Path) -> Topology {
        if let Some(controller) = nvme_controller(folder) {
            return of_nvme(&controller);
        }
        let Some(host) = ancestor(folder, "host") else {
            return Topology {
                adapter: pci_address(folder),
                ..Topology::default()
            };
        };
        let page = fs::read(folder.join("device/vpd_pg83")).unwrap_or_default();
        Topology {
            adapter: name(&host),
            adapter_port: adapter_port(&host),
            target_port: target_port(folder),
            controller: target_port_group(&page).map(|group| format!("tpg {group}")),
            session: ancestor(folder, "session").as_deref().and_then(name),
        }
    }
}

/// Host, channel, target and LUN of a SCSI device.
pub(crate) fn hctl(device: &Path) -> Option<String> {
    let folder = fs::canonicalize(device).ok()?;
    let text = folder.file_name()?.to_str()?;
    let mut parts = text.split(':');
    let is_hctl = parts.clone().count() == 4 && parts.all(|part| part.parse::<u64>().is_ok());
    is_hctl.then(|| text.to_owned())
}

/// The transport of the disk with this directory.
pub(crate) fn transport(folder: &Path) -> Option<String> {
    if let Some(controller) = nvme_controller(folder) {
        return read_text(&controller.join("transport"));
    }
    let kinds = [
        ("rport-", "fc"),
        ("session", "iscsi"),
        ("end_device-", "sas"),
        ("ata", "sata"),
        ("usb", "usb"),
        ("virtio", "virtio"),
    ];
    let known = kinds
        .iter()
        .find(|(prefix, _)| ancestor(folder, prefix).is_some());
    known.map(|(_, kind)| (*kind).to_owned())
}

/// The controller of a namespace. `None` if it has several, since each read may take another one.
fn nvme_controller(folder: &Path) -> Option<PathBuf> {
    let device = fs::canonicalize(folder.join("device")).ok()?;
    if device.join("transport").exists() {
        return Some(device);
    }
    // The subsystem of a namespace with several controllers has a link to each of them.
    let entries = fs::read_dir(device)
        .ok()?
        .flatten()
        .map(|entry| entry.path());
    let mut all =
        entries.filter(|entry| is_numbered(entry, "nvme") && entry.join("transport").exists());
    let first = all.next()?;
    all.next().is_none().then(|| fs::canonicalize(first).ok())?
}

fn of_nvme(controller: &Path) -> Topology {
    let address = read_text(&controller.join("address")).unwrap_or_default();
    let of = |key: &str| {
        let mut fields = address
            .split(',')
            .filter_map(|field| field.trim().split_once('='));
        fields
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value)
    };
    let target = of("traddr").map(|address| match of("trsvcid") {
        Some(port) if address.contains(':') && !address.starts_with("nn-") => {
            format!("[{address}]:{port}")
        }
        Some(port) => format!("{address}:{port}"),
        None => address.to_owned(),
    });
    Topology {
        adapter: of("host_iface")
            .map(str::to_owned)
            .or_else(|| pci_address(controller)),
        adapter_port: of("host_traddr")
            .or_else(|| of("src_addr"))
            .map(str::to_owned),
        target_port: target,
        controller: name(controller),
        session: None,
    }
}

fn adapter_port(host: &Path) -> Option<String> {
    let host_name = name(host)?;
    let files = [
        ("fc_host", "port_name"),
        ("iscsi_host", "initiatorname"),
        ("iscsi_host", "ipaddress"),
        ("sas_host", "device/sas_address"),
    ];
    let mut texts = files.iter().filter_map(|(class, file)| {
        let text = read_text(&host.join(class).join(&host_name).join(file))?;
        (!matches!(&*text, "(null)" | "<NULL>")).then_some(text)
    });
    texts.next()
}

fn target_port(folder: &Path) -> Option<String> {
    let text = |part: &Path, class: &str, file: &str| {
        read_text(&part.join(class).join(part.file_name()?).join(file))
    };
    if let Some(port) = ancestor(folder, "rport-") {
        return text(&port, "fc_remote_ports", "port_name");
    }
    if let Some(device) = ancestor(folder, "end_device-") {
        return text(&device, "sas_device", "sas_address");
    }
    let session = ancestor(folder, "session")?;
    let target = text(&session, "iscsi_session", "targetname")?;
    let group = text(&session, "iscsi_session", "tpgt");
    let group = group.map_or_else(String::new, |group| format!(",{group}"));
    Some(format!("{target}{group}"))
}

/// The nearest PCI function above this directory.
fn pci_address(folder: &Path) -> Option<String> {
    let mut above = folder.ancestors().filter_map(name);
    above.find(|name| {
        let parts: Vec<&str> = name.split([':', '.']).collect();
        let is_hex = |part: &&str| u32::from_str_radix(part, 16).is_ok();
        parts.len() == 4 && name.contains('.') && parts.iter().all(is_hex)
    })
}

/// The nearest ancestor whose name is this prefix and a number, such as `host3` or `rport-3:0-0`.
fn ancestor(folder: &Path, prefix: &str) -> Option<PathBuf> {
    let mut above = folder.ancestors();
    above
        .find(|above| is_numbered(above, prefix))
        .map(Path::to_path_buf)
}

fn is_numbered(folder: &Path, prefix: &str) -> bool {
    let name = folder.file_name().and_then(|name| name.to_str());
    let rest = name.and_then(|name| name.strip_prefix(prefix));
    rest.is_some_and(|rest| {
        rest.starts_with(|first: char| first.is_ascii_digit())
            && rest.chars().all(|c| c.is_ascii_digit() || ":-".contains(c))
    })
}

fn name(folder: &Path) -> Option<String> {
    Some(folder.file_name()?.to_str()?.to_owned())
}

#[cfg(test)]
pub(crate) mod fixture;

#[cfg(test)]
mod tests {
    use super::fixture::Tree;
    use super::*;

    fn parts(topology: &Topology) -> [Option<&str>; 5] {
        [
            topology.adapter.as_deref(),
            topology.adapter_port.as_deref(),
            topology.target_port.as_deref(),
            topology.controller.as_deref(),
            topology.session.as_deref(),
        ]
    }

    #[test]
    fn fibre_channel_shows_both_ports_and_the_controller() {
        let topology = Topology::of(&Tree::fibre_channel().folder(8, 16));
        let (ours, theirs) = ("0x10000090fa000001", "0x207000c0ff000001");
        let expected = [Some("host3"), Some(ours), Some(theirs), Some("tpg 2"), None];
        assert_eq!(parts(&topology), expected);
    }

    #[test]
    fn iscsi_shows_the_session_and_its_target() {
        let tree = Tree::iscsi();
        let topology = Topology::of(&tree.folder(8, 32));
        let target = "iqn.2001-04.org:disk,1";
        let expected = [
            Some("host5"),
            Some("iqn.1993-08.org:host"),
            Some(target),
            None,
            Some("session1"),
        ];
        assert_eq!(parts(&topology), expected);
        assert_eq!(transport(&tree.folder(8, 32)).as_deref(), Some("iscsi"));
        assert_eq!(
            hctl(&tree.folder(8, 32).join("device")).as_deref(),
            Some("5:0:0:0")
        );
    }

    #[test]
    fn nvme_shows_its_controller_unless_there_are_several() {
        let tree = Tree::nvme();
        let pcie = Topology::of(&tree.folder(259, 0));
        assert_eq!(
            parts(&pcie),
            [Some("0000:01:00.0"), None, None, Some("nvme0"), None]
        );
        assert_eq!(transport(&tree.folder(259, 0)).as_deref(), Some("pcie"));
        let tcp = Topology::of(&tree.folder(259, 1));
        let expected = [
            Some("eth1"),
            Some("10.0.0.7"),
            Some("10.0.0.1:4420"),
            Some("nvme1"),
            None,
        ];
        assert_eq!(parts(&tcp), expected);
        tree.add_second_controller();
        assert_eq!(Topology::of(&tree.folder(259, 1)), Topology::default());
    }

    #[test]
    fn a_virtio_disk_shows_its_pci_address_and_a_loop_device_nothing() {
        let tree = Tree::virtual_disks();
        let virtio = Topology::of(&tree.folder(254, 0));
        assert_eq!(
            parts(&virtio),
            [Some("0000:00:04.0"), None, None, None, None]
        );
        assert_eq!(transport(&tree.folder(254, 0)).as_deref(), Some("virtio"));
        assert_eq!(Topology::of(&tree.folder(7, 0)), Topology::default());
        assert_eq!(transport(&tree.folder(7, 0)), None);
    }
}
