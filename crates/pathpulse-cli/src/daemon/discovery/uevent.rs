//! The kernel's uevents: block devices appeared, disappeared or changed.
//!
//! A message is only a hint to search again, since sysfs shows what exists. So lost messages, when
//! the socket overflows, and wrong messages do no harm.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recvfrom, socket_with};

/// The kernel's own messages; group 2 has udev's.
const KERNEL: u32 = 1;
/// Messages are shorter (UEVENT_BUFFER_SIZE is 2048).
const MESSAGE_BYTES: usize = 8192;
/// Room for the messages when a whole fabric disappears.
const SOCKET_BYTES: usize = 8 << 20;
/// Messages within this time are reported as one change ...
const QUIET: Duration = Duration::from_millis(50);
/// ... but at the latest after this time.
const TOGETHER: Duration = Duration::from_millis(500);

/// A message about a block device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Uevent {
    /// `add`, `remove`, `change` and others.
    pub(crate) action: String,
    /// Its major and minor number.
    pub(crate) device: (u32, u32),
    /// Its kernel name.
    pub(crate) name: String,
}

/// Which devices changed; if messages were lost, any device may have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeviceChanges {
    pub(crate) devices: BTreeSet<(u32, u32)>,
    pub(crate) lost: bool,
}

/// Parses a message of the kernel; `None` if it is invalid or not about a block device.
pub(crate) fn parse(message: &[u8]) -> Option<Uevent> {
    let mut parts = message.split(|byte| *byte == 0);
    // The first line is for people: add@/devices/virtual/block/loop0
    let head = parts.next()?;
    if !head.contains(&b'@') {
        return None;
    }
    let (mut action, mut name, mut major, mut minor) = (None, None, None, None);
    let mut is_block = false;
    for part in parts {
        // The name is informational and may contain any bytes.
        let text = String::from_utf8_lossy(part);
        match text.split_once('=') {
            Some(("ACTION", value)) => action = Some(value.to_owned()),
            Some(("DEVNAME", value)) => name = Some(value.to_owned()),
            Some(("SUBSYSTEM", value)) => is_block = value == "block",
            Some(("MAJOR", value)) => major = value.parse().ok(),
            Some(("MINOR", value)) => minor = value.parse().ok(),
            _ => {}
        }
    }
    let event = Uevent {
        action: action?,
        device: (major?, minor?),
        name: name?,
    };
    is_block.then_some(event)
}

/// A socket that receives uevents.
#[derive(Debug)]
pub(crate) struct UeventListener(OwnedFd);

impl UeventListener {
    /// Receives messages from now on.
    pub(crate) fn open() -> io::Result<UeventListener> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let kind = SocketType::DGRAM;
        let socket = socket_with(AddressFamily::NETLINK, kind, flags, Some(KOBJECT_UEVENT))?;
        // Exceeding the system's limit needs CAP_NET_ADMIN.
        if set_socket_recv_buffer_size_force(&socket, SOCKET_BYTES).is_err() {
            set_socket_recv_buffer_size(&socket, SOCKET_BYTES)?;
        }
        bind(&socket, &SocketAddrNetlink::new(0, KERNEL))?;
        Ok(UeventListener(socket))
    }

    /// Waits for a change, and for others that follow closely.
    pub(crate) fn next(&self) -> io::Result<DeviceChanges> {
        let mut changes = DeviceChanges::default();
        self.wait(None)?;
        let end = Instant::now() + TOGETHER;
        loop {
            self.take(&mut changes)?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.wait(Some(QUIET.min(left)))? {
                break;
            }
        }
        Ok(changes)
    }

    /// `false` if nothing arrives within the limit.
    fn wait(&self, limit: Option<Duration>) -> io::Result<bool> {
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        match poll(&mut fds, limit.as_ref()) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Reads all messages that wait.
    fn take(&self, changes: &mut DeviceChanges) -> io::Result<()> {
        let mut buffer = [0u8; MESSAGE_BYTES];
        loop {
            match recvfrom(&self.0, &mut buffer, RecvFlags::empty()) {
                Ok((length, _, from)) => {
                    let from = from.and_then(|from| SocketAddrNetlink::try_from(from).ok());
                    // Root may send messages, too; those of the kernel come from number 0.
                    if from.is_some_and(|from| from.pid() == 0) {
                        let event = parse(&buffer[..length.min(MESSAGE_BYTES)]);
                        tracing::trace!("the kernel says {event:?}");
                        changes.devices.extend(event.map(|event| event.device));
                    }
                }
                Err(Errno::NOBUFS) => changes.lost = true,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOP: &[u8] = b"change@/devices/virtual/block/loop7\0ACTION=change\0DEVPATH=/devices/virtual/block/loop7\0SUBSYSTEM=block\0MAJOR=7\0MINOR=7\0DEVNAME=loop7\0DEVTYPE=disk\0SEQNUM=42\0";

    #[test]
    fn a_block_device_is_understood() {
        let expected = Uevent {
            action: "change".to_owned(),
            device: (7, 7),
            name: "loop7".to_owned(),
        };
        assert_eq!(parse(LOOP), Some(expected));
    }

    #[test]
    fn what_is_something_else_or_broken_is_passed_over() {
        let other = |from: &str, to: &str| {
            let text = std::str::from_utf8(LOOP).expect("text").replace(from, to);
            parse(text.as_bytes())
        };
        assert_eq!(other("=block", "=net"), None);
        assert_eq!(other("MAJOR=7", "MAJOR=x"), None);
        assert_eq!(other("MINOR=7", "MINOR=99999999999"), None);
        assert_eq!(other("ACTION=change", "ACTION"), None);
        assert_eq!(parse(b"libudev\0\xfe\xed\xca\xfe"), None);
        assert_eq!(parse(b""), None);
        for length in 0..LOOP.len() {
            let _ = parse(&LOOP[..length]);
        }
        let mut binary = LOOP.to_vec();
        binary.extend(b"X=\xff\xff\0DEVNAME=caf\xe9\0");
        assert!(parse(&binary).is_some());
    }
}
