//! Parses the kernel's tables of mounts and swap. Names are bytes: they need not be UTF-8.

/// One mount: a line of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// The number of the device; some file systems have a number of their own.
    pub(super) number: Vec<u8>,
    /// Where it is mounted.
    pub(crate) place: Vec<u8>,
    /// The type of the file system.
    pub(crate) kind: Vec<u8>,
    /// The source: one device, several devices, or another text.
    pub(crate) source: Vec<u8>,
    /// The devices in the source, relative to `/dev` or by their kernel names.
    pub(crate) devices: Vec<Vec<u8>>,
}

impl Mount {
    /// Parses a line; `None` if it is invalid.
    pub(crate) fn parse(line: &[u8]) -> Option<Mount> {
        let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let [_, _, number, _, place, ..] = words[..] else {
            return None;
        };
        // The type, the source and the options follow a hyphen. The number of words before it
        // varies.
        let hyphen = words.iter().skip(6).position(|word| *word == b"-")? + 6;
        let [kind, source, ..] = words[hyphen + 1..] else {
            return None;
        };
        let source = unescape(source);
        let mut devices = match kind {
            b"bcachefs" => source.split(|byte| *byte == b':').map(below_dev).collect(),
            _ => members(&source),
        };
        // An external log or a second device, as XFS shows it: logdev=/dev/sdc1.
        let options = words.get(hyphen + 3).copied().unwrap_or_default();
        for option in options.split(|byte| *byte == b',') {
            let value = option.splitn(2, |byte| *byte == b'=').nth(1).map(unescape);
            devices.extend(value.iter().flat_map(|value| members(value)));
        }
        Some(Mount {
            number: number.to_vec(),
            place: unescape(place),
            kind: unescape(kind),
            source,
            devices,
        })
    }
}

/// The devices in a source such as `/dev/sda1`, or `/dev/sda:/dev/sdb` of a file system on several
/// devices. Names may contain colons, as those in `/dev/disk/by-path` do.
fn members(source: &[u8]) -> Vec<Vec<u8>> {
    const NEXT: &[u8] = b":/dev/";
    let mut members = Vec::new();
    let mut rest = source.strip_prefix(b"/dev/");
    while let Some(names) = rest {
        let end = names.windows(NEXT.len()).position(|part| part == NEXT);
        members.push(names[..end.unwrap_or(names.len())].to_vec());
        rest = end.map(|end| &names[end + NEXT.len()..]);
    }
    members
}

/// A name relative to `/dev`.
fn below_dev(name: &[u8]) -> Vec<u8> {
    name.strip_prefix(b"/dev/").unwrap_or(name).to_vec()
}

/// The device in a line of `/proc/swaps`; `None` for a file and for the heading.
pub(super) fn swap(line: &[u8]) -> Option<Vec<u8>> {
    let name = line.split(u8::is_ascii_whitespace).next()?;
    let name = unescape(name.strip_prefix(b"/dev/")?);
    // The kernel adds this when udev has removed the node of a lost disk.
    let name = name.strip_suffix(b" (deleted)").unwrap_or(&name);
    Some(name.to_vec())
}

/// Undoes the kernel's escapes, a backslash and three octal digits (`mangle_path` of
/// fs/seq_file.c).
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [byte, after @ ..] = rest {
        let octal = |digits: &[u8]| {
            let is_octal = digits.iter().all(|digit| (b'0'..=b'7').contains(digit));
            let value = |sum: u32, digit: &u8| sum * 8 + u32::from(digit - b'0');
            is_octal.then(|| digits.iter().fold(0, value))
        };
        let code = match byte {
            b'\\' => after.get(..3).and_then(octal),
            _ => None,
        };
        match code.and_then(|code| u8::try_from(code).ok()) {
            Some(code) => {
                plain.push(code);
                rest = &after[3..];
            }
            None => {
                plain.push(*byte);
                rest = after;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(line: &str) -> Vec<String> {
        let mount = Mount::parse(line.as_bytes()).expect("a mount");
        let text = |name: Vec<u8>| String::from_utf8(name).expect("text");
        mount.devices.into_iter().map(text).collect()
    }

    #[test]
    fn all_devices_of_a_mount_are_known() {
        let of = |kind_and_source: &str| {
            devices(&format!("36 35 0:42 / /data rw - {kind_and_source} rw"))
        };
        assert_eq!(of("ext4 /dev/sda1"), ["sda1"]);
        assert_eq!(of("bcachefs /dev/sda:/dev/sdb"), ["sda", "sdb"]);
        assert_eq!(of("bcachefs sda:sdb1"), ["sda", "sdb1"]);
        let by_path = "btrfs /dev/disk/by-path/pci-0000:00:1f.2-ata-1";
        assert_eq!(of(by_path), ["disk/by-path/pci-0000:00:1f.2-ata-1"]);
        assert_eq!(of("nfs4 server:/dev/sda"), [""; 0]);
        assert_eq!(of("zfs tank/data"), [""; 0]);
        assert_eq!(of("ext4 /dev/a\\040b"), ["a b"]);
        let log = "36 35 8:1 / /data rw master:1 shared:2 - xfs /dev/sda1 rw,logdev=/dev/sdb1,rtdev=/dev/sdc,noquota";
        assert_eq!(devices(log), ["sda1", "sdb1", "sdc"]);
        // A place that is called as the mark before the type.
        assert_eq!(devices("36 35 8:1 / - rw - ext4 /dev/sda1 rw"), ["sda1"]);
    }

    #[test]
    fn names_are_bytes_and_lose_their_escapes() {
        let line = b"36 35 0:42 / /caf\xe9\\040\\134\\011x rw - tmpfs none rw";
        let mount = Mount::parse(line).expect("a mount");
        assert_eq!(mount.place, b"/caf\xe9 \\\tx");
        assert_eq!(unescape(br"\04\999\777\"), br"\04\999\777\");
        for wrong in [
            "",
            "nonsense",
            "36 35 8:1 / /data rw",
            "36 35 8:1 / /data rw - ext4",
        ] {
            assert_eq!(Mount::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn swap_is_known_although_its_name_was_taken_away() {
        assert_eq!(
            swap(b"/dev/sda1 partition 1 0 -2").as_deref(),
            Some(&b"sda1"[..])
        );
        let deleted = br"/dev/sda1\040(deleted)  partition 8 0 -2";
        assert_eq!(swap(deleted).as_deref(), Some(&b"sda1"[..]));
        assert_eq!(swap(b"/swapfile file 8 0 -2"), None);
        assert_eq!(swap(b"Filename Type Size Used Priority"), None);
    }
}
