//! The loop driver's ioctls: add, attach, resize, detach and remove loop devices. The only unsafe
//! code of this crate is in the two functions at the end.
//!
//! A rig adds devices with numbers that it picks itself, far above those that `losetup --find`
//! assigns, and removes them afterwards. So rigs do not compete with each other or with other
//! programs for free devices.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use linux_raw_sys::loop_device::{
    LO_FLAGS_DIRECT_IO, LOOP_CLR_FD, LOOP_CONFIGURE, LOOP_CTL_ADD, LOOP_CTL_REMOVE,
    LOOP_SET_CAPACITY, loop_config, loop_info64,
};
use rustix::fs::{CWD, FileType, Mode, OFlags, makedev, mknodat};
use rustix::io::Errno;

use crate::wire::context;

/// The range of numbers for rigs. `losetup --find` uses lower ones. 4096 is the limit with
/// `max_part=255`.
const NUMBERS: std::ops::Range<u32> = 256..4096;
const LOOP_MAJOR: u32 = 7;

/// The node of the loop device with this number.
pub(crate) fn node(number: u32) -> PathBuf {
    PathBuf::from(format!("/dev/loop{number}"))
}

/// The node's device number. It differs from `number` if the loop module was loaded with
/// `max_part`.
pub(crate) fn device_number(number: u32) -> io::Result<(u32, u32)> {
    let text = std::fs::read_to_string(format!("/sys/block/loop{number}/dev"))?;
    let parse = |part: &str| part.parse::<u32>().ok();
    let pair = text
        .trim()
        .split_once(':')
        .and_then(|(major, minor)| parse(major).zip(parse(minor)));
    pair.ok_or_else(|| io::Error::other(format!("unexpected content of sysfs: {text:?}")))
}

/// Where to start looking for a free number. It is random, to avoid reusing a number that was just
/// released.
pub(crate) fn random_start() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(()) as u32
}

/// Adds a loop device with the first unused number from `start` on, and ensures that its node
/// exists.
pub(crate) fn add(control: &File, start: u32) -> io::Result<u32> {
    let len = NUMBERS.end - NUMBERS.start;
    for step in 0..len {
        let number = NUMBERS.start + (start % len + step) % len;
        match ioctl_with_number::<LOOP_CTL_ADD>(control, number as usize) {
            Ok(()) => {
                ensure_node(number)?;
                return Ok(number);
            }
            Err(Errno::EXIST) => {}
            Err(error) => return Err(context(format_args!("adding loop device {number}"), error)),
        }
    }
    Err(io::Error::other(
        "all loop device numbers from 256 to 4095 are in use",
    ))
}

/// Whether the kernel has this device, attached or not.
pub(crate) fn exists(number: u32) -> bool {
    Path::new(&format!("/sys/block/loop{number}")).exists()
}

/// Creates the node if it does not exist. devtmpfs creates it before the ioctl returns, but `/dev`
/// may be another file system.
pub(crate) fn ensure_node(number: u32) -> io::Result<()> {
    let (major, minor) = device_number(number).unwrap_or((LOOP_MAJOR, number));
    match mknodat(
        CWD,
        node(number),
        FileType::BlockDevice,
        Mode::RUSR | Mode::WUSR,
        makedev(major, minor),
    ) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(context(node(number).display(), error)),
    }
}

/// Attaches `file` to the loop device with direct I/O. Without that, the driver reads through the
/// page cache, one read at a time.
pub(crate) fn attach(number: u32, file: &Path, logical_block: u32) -> io::Result<()> {
    let direct = OFlags::DIRECT.bits().cast_signed();
    let mut options = OpenOptions::new();
    let backing = options
        .read(true)
        .write(true)
        .custom_flags(direct)
        .open(file);
    let backing = backing.map_err(|e| context(file.display(), e))?;
    let device = open_device(number)?;
    let config = loop_config {
        fd: backing.as_raw_fd().cast_unsigned(),
        block_size: logical_block,
        info: direct_io_info(),
        __reserved: [0; 8],
    };
    ioctl_with_config(&device, config)
        .map_err(|e| context(format_args!("attaching {}", file.display()), e))?;
    let dio = std::fs::read_to_string(format!("/sys/block/loop{number}/loop/dio"))?;
    if dio.trim() == "1" {
        Ok(())
    } else {
        Err(io::Error::other(
            "the loop driver refuses direct I/O on FUSE files",
        ))
    }
}

fn direct_io_info() -> loop_info64 {
    loop_info64 {
        lo_device: 0,
        lo_inode: 0,
        lo_rdevice: 0,
        lo_offset: 0,
        lo_sizelimit: 0,
        lo_number: 0,
        lo_encrypt_type: 0,
        lo_encrypt_key_size: 0,
        lo_flags: LO_FLAGS_DIRECT_IO as u32,
        lo_file_name: [0; 64],
        lo_crypt_name: [0; 64],
        lo_encrypt_key: [0; 32],
        lo_init: [0; 2],
    }
}

/// How many requests the device takes at a time: the number of its tags.
pub(crate) fn tags(number: u32) -> io::Result<usize> {
    let text = std::fs::read_to_string(format!("/sys/block/loop{number}/queue/nr_requests"))?;
    text.trim().parse().map_err(io::Error::other)
}

/// The file attached to the device. `None` if none is attached, or the device does not exist.
pub(crate) fn backing_file(number: u32) -> Option<PathBuf> {
    let text =
        std::fs::read_to_string(format!("/sys/block/loop{number}/loop/backing_file")).ok()?;
    Some(PathBuf::from(text.trim_end_matches('\n')))
}

/// Whether the device will be detached when its last user closes it.
pub(crate) fn is_autoclear(number: u32) -> bool {
    let text = std::fs::read_to_string(format!("/sys/block/loop{number}/loop/autoclear"));
    text.is_ok_and(|text| text.trim() == "1")
}

/// Updates the device's size to the current size of its backing file.
pub(crate) fn adopt_size(number: u32) -> io::Result<()> {
    let device = open_device(number)?;
    ioctl_with_number::<LOOP_SET_CAPACITY>(&device, 0)
        .map_err(|e| context("setting the capacity", e))
}

/// Detaches the device: at once if nobody has it open, otherwise when its last user closes it.
pub(crate) fn detach(number: u32) -> io::Result<()> {
    let device = open_device(number)?;
    match ioctl_with_number::<LOOP_CLR_FD>(&device, 0) {
        Ok(()) | Err(Errno::NXIO) => Ok(()),
        Err(error) => Err(context(
            format_args!("detaching loop device {number}"),
            error,
        )),
    }
}

/// Removes the device and its node. `Ok(false)` means that it is still open.
pub(crate) fn remove(control: &File, number: u32) -> io::Result<bool> {
    match ioctl_with_number::<LOOP_CTL_REMOVE>(control, number as usize) {
        Ok(()) | Err(Errno::NODEV) => {
            let _ = std::fs::remove_file(node(number)); // In case devtmpfs does not do it.
            Ok(true)
        }
        Err(Errno::BUSY) => Ok(false),
        Err(error) => Err(context(
            format_args!("removing loop device {number}"),
            error,
        )),
    }
}

/// Opens `/dev/loop-control`.
pub(crate) fn control() -> io::Result<File> {
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/loop-control");
    opened.map_err(|e| context("/dev/loop-control", e))
}

fn open_device(number: u32) -> io::Result<File> {
    let path = node(number);
    let opened = OpenOptions::new().read(true).write(true).open(&path);
    opened.map_err(|e| context(path.display(), e))
}

/// For loop ioctls with a number as argument, or none.
fn ioctl_with_number<const OPCODE: u32>(fd: impl AsFd, number: usize) -> rustix::io::Result<()> {
    // SAFETY: all opcodes used here take a plain integer or ignore their argument. No memory is
    // passed.
    let request = unsafe { rustix::ioctl::IntegerSetter::<OPCODE>::new_usize(number) };
    // SAFETY: as above. The descriptor is borrowed for the call.
    unsafe { rustix::ioctl::ioctl(fd, request) }
}

fn ioctl_with_config(fd: impl AsFd, config: loop_config) -> rustix::io::Result<()> {
    // SAFETY: LOOP_CONFIGURE reads a `loop_config`, which is passed here.
    let request = unsafe { rustix::ioctl::Setter::<LOOP_CONFIGURE, loop_config>::new(config) };
    // SAFETY: the request owns the structure and lives until the call returns. The kernel copies it
    // and keeps no pointer.
    unsafe { rustix::ioctl::ioctl(fd, request) }
}
