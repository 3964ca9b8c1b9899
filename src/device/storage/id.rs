//! Storage ids as multipath gets them from udev, built from what the kernel shows in sysfs.
//!
//! | in sysfs | multipath's id |
//! |---|---|
//! | `naa.600a` | `3600a`: the type of the designator as a digit (SPC-4, 7.8.6.3), then its digits |
//! | `eui.0025` | `20025` |
//! | `t10.VENDOR  PRODUCT   SERIAL` | `1VENDOR_PRODUCT_SERIAL` |
//! | `iqn.2001-04.org:disk` | `8iqn.2001-04.org:disk` |
//! | a vendor-specific designator | `0VENDOR_MODEL_ID` |
//! | no designator, but a serial number | `SVENDOR_MODEL_SERIAL` |
//! | of NVMe: `eui.`, `uuid.`, `nvme.` | unchanged |
//!
//! Blanks and other characters that a link name may not contain become underscores, as scsi_id(8)
//! with `--replace-whitespace` and udev(7) describe for `ID_SERIAL`. The prefixes are those of
//! udev's links, as in `/dev/disk/by-id/scsi-1ATA_...`.
//!
//! Cheap disks and bridges fill these fields with zeros, blanks or one repeated digit. Such a value
//! is ignored. So is a serial number on USB: two bridges of the same model often share it.

/// Vendor and model of a SCSI disk.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) vendor: String,
    pub(super) model: String,
    /// Whether the disk is behind a USB bridge.
    pub(super) is_usb: bool,
}

/// Widths of vendor and model in the INQUIRY data (SPC-4, 6.6.2), in bytes.
const VENDOR_BYTES: usize = 8;
const MODEL_BYTES: usize = 16;
/// Width of an ATA disk's model in its T10 designator; 20 bytes of serial follow (SAT-4, 10.4.2.4).
const ATA_MODEL_BYTES: usize = 40;
/// Serial numbers that count up like this are placeholders.
const COUNTING: &str = "0123456789abcdef";

/// From the name of an NVMe namespace (`wwid_show` of drivers/nvme/host/sysfs.c).
pub(super) fn of_nvme(wwid: &str) -> Option<String> {
    let says_nothing = match wwid.split_once('.') {
        Some(("eui" | "uuid", digits)) => is_filler(digits),
        // nvme.VENDOR-SERIAL-MODEL-NAMESPACE, with serial and model in hexadecimal.
        Some(("nvme", parts)) => {
            let serial = parts.split('-').nth(1).unwrap_or_default();
            bytes_of(serial).is_none_or(|bytes| is_filler(&String::from_utf8_lossy(&bytes)))
        }
        _ => wwid.trim_matches(['0', ' ']).is_empty(),
    };
    (!says_nothing).then(|| wwid.to_owned())
}

/// From the name of a SCSI disk (`scsi_vpd_lun_id` of drivers/scsi/scsi_lib.c).
pub(super) fn of_scsi(wwid: &str, model: &Model) -> Option<String> {
    match wwid.split_once('.') {
        Some(("naa", digits)) => {
            // The first digit is the type of the name and is set even if the rest is empty.
            let own = digits.get(1..).unwrap_or_default();
            let is_null = is_filler(digits) || own.trim_matches('0').is_empty();
            let is_null = is_null || own.trim_matches(['f', 'F']).is_empty();
            (!is_null).then(|| format!("3{}", digits.to_ascii_lowercase()))
        }
        Some(("eui", digits)) => {
            (!is_filler(digits)).then(|| format!("2{}", digits.to_ascii_lowercase()))
        }
        Some(("t10", text)) => of_vendor(text, model),
        Some(("iqn", _)) => Some(link_safe(&format!("8{wwid}"))),
        _ => (!is_filler(wwid)).then(|| wwid.to_owned()),
    }
}

/// From a T10 designator: a vendor, followed by vendor-specific text; for ATA disks model and
/// serial.
fn of_vendor(text: &str, model: &Model) -> Option<String> {
    let (vendor, rest) = text.split_at_checked(VENDOR_BYTES)?;
    let serial = match vendor.trim() {
        "ATA" => rest.get(ATA_MODEL_BYTES..).unwrap_or_default(),
        // The model alone is the same on all disks of a model.
        _ => rest.trim().strip_prefix(&model.model).unwrap_or(rest),
    };
    (!model.is_usb && !is_filler(serial)).then(|| link_safe(&format!("1{text}")))
}

/// From page 0x83 (SPC-4, 7.8.6): the first vendor-specific designator of the disk.
pub(super) fn of_designators(page: &[u8], model: &Model) -> Option<String> {
    const ASCII: u8 = 2;
    let of_no_standard = |one: &Designator| (one.about, one.kind) == (Designator::DISK, 0);
    let one = designators(page).find(of_no_standard)?;
    let id = match one.coding == ASCII {
        true => text_of(one.id),
        false => one.id.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    with_model('0', &id, model)
}

/// The target port group in page 0x83. Usually an array has one per controller (SPC-4, 7.8.6.8).
pub(crate) fn target_port_group(page: &[u8]) -> Option<u16> {
    const GROUP: u8 = 5;
    let is_group = |one: &Designator| (one.about, one.kind) == (Designator::PORT, GROUP);
    let group = designators(page).find(is_group)?.id.get(2..4)?;
    Some(u16::from_be_bytes([group[0], group[1]]))
}

/// One designator of page 0x83.
struct Designator<'a> {
    coding: u8,
    /// What it identifies: [`Designator::DISK`] or [`Designator::PORT`].
    about: u8,
    kind: u8,
    id: &'a [u8],
}

impl Designator<'_> {
    const DISK: u8 = 0;
    const PORT: u8 = 1;
}

/// The designators of page 0x83, up to the first truncated one.
fn designators(page: &[u8]) -> impl Iterator<Item = Designator<'_>> {
    let mut rest = page.get(4..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (head, after) = rest.split_at_checked(4)?;
        let (id, next) = after.split_at_checked(usize::from(head[3]))?;
        rest = next;
        Some(Designator {
            coding: head[0] & 0xf,
            about: head[1] >> 4 & 3,
            kind: head[1] & 0xf,
            id,
        })
    })
}

/// From page 0x80, the serial number (SPC-4, 7.8.14).
pub(super) fn of_serial(page: &[u8], model: &Model) -> Option<String> {
    let (head, rest) = page.split_at_checked(4)?;
    let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
    with_model('S', &text_of(rest.get(..length)?), model)
}

fn with_model(kind: char, id: &str, model: &Model) -> Option<String> {
    if model.is_usb || is_filler(id) {
        return None;
    }
    let (vendor, model) = (&model.vendor, &model.model);
    let text = format!("{kind}{vendor:VENDOR_BYTES$}{model:MODEL_BYTES$}{id}");
    Some(link_safe(&text))
}

/// The bytes before the first zero, as text.
fn text_of(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned()
}

/// Replaces characters that a link name may not contain. Runs of blanks become one underscore, and
/// trailing blanks are removed.
fn link_safe(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let is_kept = |c: char| c.is_ascii_alphanumeric() || "#+-.:=@_".contains(c);
    let kept = |c: char| match c.is_ascii() && !is_kept(c) {
        true => '_',
        false => c,
    };
    words.join("_").chars().map(kept).collect()
}

/// Whether the field was never set: blanks, one repeated character, or a counting sequence.
fn is_filler(text: &str) -> bool {
    let signs = || {
        let signs = text
            .chars()
            .filter(|c| !c.is_whitespace() && !"-_.\0".contains(*c));
        signs.map(|c| c.to_ascii_lowercase())
    };
    let mut rest = signs();
    let Some(first) = rest.next() else {
        return true;
    };
    let count = signs().count();
    let is_one = rest.all(|c| c == first);
    let counts = || {
        let text: String = signs().collect();
        count >= 8 && COUNTING.contains(&text)
    };
    (is_one && (count > 1 || first == '0')) || counts()
}

/// Decodes hexadecimal digits; `None` if there are other characters.
fn bytes_of(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs.map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scsi(wwid: &str) -> Option<String> {
        of_scsi(wwid, &Model::default())
    }

    fn made(vendor: &str, model: &str) -> Model {
        Model {
            vendor: vendor.to_owned(),
            model: model.to_owned(),
            is_usb: false,
        }
    }

    /// Values of real disks and of udev's links to them.
    #[test]
    fn scsi_disks_are_named_as_scsi_id_names_them() {
        for (wwid, id) in [
            (
                "naa.600508b400105e210000900000490000",
                "3600508b400105e210000900000490000",
            ),
            ("naa.5000c500A0B1C2D3", "35000c500a0b1c2d3"),
            ("eui.0025385b71b0a1c2", "20025385b71b0a1c2"),
            (
                "t10.ATA     WDC WD10EZEX-00BN5A0                         WD-WCC3F1234567",
                "1ATA_WDC_WD10EZEX-00BN5A0_WD-WCC3F1234567",
            ),
            (
                "t10.ATA     QEMU HARDDISK                           QM00001             ",
                "1ATA_QEMU_HARDDISK_QM00001",
            ),
            (
                "t10.LIO-ORG disk1:5a0d4c5e-0c8a-4a0b-9d5e-3c1f7f3d2a11",
                "1LIO-ORG_disk1:5a0d4c5e-0c8a-4a0b-9d5e-3c1f7f3d2a11",
            ),
            ("t10.IET     00010001", "1IET_00010001"),
            ("t10.ACME    A/B (C)", "1ACME_A_B__C_"),
            ("iqn.2001-04.org:disk,1", "8iqn.2001-04.org:disk_1"),
        ] {
            assert_eq!(scsi(wwid).as_deref(), Some(id), "{wwid}");
        }
    }

    #[test]
    fn nvme_names_stay_unchanged() {
        for wwid in [
            "eui.0025385b71b0a1c2",
            "uuid.7a7b3f7e-5a0d-4c5e-8c8a-4a0b9d5e3c1f",
            "nvme.8086-50484b53373335323030474c343830474e-494e54454c-00000001",
            "x",
        ] {
            assert_eq!(of_nvme(wwid).as_deref(), Some(wwid));
        }
    }

    #[test]
    fn placeholder_ids_are_ignored() {
        for wwid in [
            "naa.0000000000000000",
            "naa.00000000000000000000000000000000",
            "naa.5000000000000000",
            "naa.ffffffffffffffff",
            "naa.5fffffffffffffff",
            "naa.1111111111111111",
            "naa.",
            "eui.0000000000000000",
            "eui.FFFFFFFFFFFFFFFF",
            "t10.ATA     WDC WD10EZEX-00BN5A0                    ",
            "t10.ATA     SSD                                     00000000000000000000",
            "t10.ATA     SSD                                     0123456789ABCDEF",
            "t10.ACME",
            "t10.ACME    ",
            "t10.ACME    0000",
            "0000",
            "",
        ] {
            assert_eq!(scsi(wwid), None, "{wwid}");
        }
        let acme = made("ACME", "DISK 9000");
        assert_eq!(of_scsi("t10.ACME    DISK 9000       ", &acme), None);
        assert_eq!(of_scsi("t10.ACME    DISK 9000       0000", &acme), None);
        let good = of_scsi("t10.ACME    DISK 9000       7F", &acme);
        assert_eq!(good.as_deref(), Some("1ACME_DISK_9000_7F"));
        for wwid in [
            "eui.0000000000000000",
            "eui.00000000000000000000000000000000",
            "eui.ffffffffffffffff",
            "uuid.00000000-0000-0000-0000-000000000000",
            "nvme.0000--4d4f44454c-00000001",
            "nvme.1234-2020202020-4d4f44454c-00000001",
            "nvme.1234-30303030-4d4f44454c-00000001",
            "nvme.0000-0000000000000000-00-00000001",
            "nvme.1234",
            "0000",
        ] {
            assert_eq!(of_nvme(wwid), None, "{wwid}");
        }
    }

    #[test]
    fn disks_without_wwid_are_named_by_their_vpd_pages() {
        let qemu = made("QEMU", "QEMU HARDDISK");
        let mut page = vec![0, 0x83, 0, 0];
        page.extend(*b"\x61\x93\x00\x08\x50\x01\x02\x03\x04\x05\x06\x07"); // of the port
        page.extend(*b"\x02\x00\x00\x0bdrive-scsi0");
        let id = of_designators(&page, &qemu);
        assert_eq!(id.as_deref(), Some("0QEMU_QEMU_HARDDISK_drive-scsi0"));
        let id = of_designators(b"\0\x83\0\x08\x01\x00\x00\x04\x9a\x34\x56\x78", &qemu);
        assert_eq!(id.as_deref(), Some("0QEMU_QEMU_HARDDISK_9a345678"));
        let id = of_serial(b"\0\x80\0\x07QM00001", &made("ATA", "QEMU HARDDISK"));
        assert_eq!(id.as_deref(), Some("SATA_QEMU_HARDDISK_QM00001"));
        let blank: [&[u8]; 4] = [
            b"\0\x80\0\x04    ",
            b"\0\x80\0\x040000",
            b"\0\x80\0\x09x",
            b"",
        ];
        for page in blank {
            assert_eq!(of_serial(page, &qemu), None, "{page:?}");
        }
        for length in 0..page.len() {
            let _ = of_designators(&page[..length], &qemu);
        }
    }
}
