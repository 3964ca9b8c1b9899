//! The file system: a folder with one file per disk. Everything except reads and writes is answered
//! at once, whatever the disk does, so that opening, attaching and closing never hang.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr,
    ReplyData, ReplyEntry, ReplyOpen, ReplyWrite, Request, Session, WriteFlags,
};

use crate::client::lock;
use crate::wire::context;

use super::disks::Disks;
use super::store::Store;

/// The kernel does not cache attributes, because a disk's size changes when it vanishes.
const ATTR_TTL: Duration = Duration::ZERO;
/// The inode of disk 0. Inode 1 is the folder.
const FIRST_DISK: u64 = 2;
/// The inode of `openN`, a file whose open fails with errno N, is this plus N.
const FAILS_TO_OPEN: u64 = 1 << 32;
/// The highest errno (`MAX_ERRNO` of the kernel).
const MAX_ERRNO: u64 = 4095;

/// A read or write that has not been answered yet.
#[derive(Debug)]
pub(super) enum DiskRequest {
    Read {
        offset: u64,
        size: u32,
        reply: ReplyData,
    },
    Write {
        offset: u64,
        data: Vec<u8>,
        reply: ReplyWrite,
    },
}

/// How a request ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum RequestEnd {
    Whole,
    AtMost(u32),
    Error(i32),
}

impl DiskRequest {
    /// Sends the answer. The kernel completes the request before this returns, and never blocks it.
    pub(super) fn end(self, end: RequestEnd, store: &Mutex<Store>) {
        let limit = match end {
            RequestEnd::Whole => u32::MAX,
            RequestEnd::AtMost(bytes) => bytes,
            RequestEnd::Error(errno) => return self.fail(errno),
        };
        match self {
            Self::Read {
                offset,
                size,
                reply,
            } => {
                let data = lock(store).read(offset, size.min(limit) as usize);
                reply.data(&data);
            }
            Self::Write {
                offset,
                data,
                reply,
            } => {
                let part = &data[..data.len().min(limit as usize)];
                lock(store).write(offset, part);
                reply.written(u32::try_from(part.len()).unwrap_or(u32::MAX));
            }
        }
    }

    fn fail(self, errno: i32) {
        let errno = Errno::from_i32(errno);
        match self {
            Self::Read { reply, .. } => reply.error(errno),
            Self::Write { reply, .. } => reply.error(errno),
        }
    }
}

/// Mounts the file system and serves it in a separate thread.
pub(super) fn mount(disks: Arc<Disks>, at: &Path) -> io::Result<BackgroundSession> {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName("faultdisk".into()),
        MountOption::NoSuid,
        MountOption::NoDev,
        MountOption::NoExec,
    ];
    let session = Session::new(FaultFs { disks }, at, &config);
    session
        .and_then(Session::spawn)
        .map_err(|e| context("mounting the FUSE file system", e))
}

#[derive(Debug)]
struct FaultFs {
    disks: Arc<Disks>,
}

impl FaultFs {
    fn attr(&self, ino: INodeNo) -> Option<FileAttr> {
        if ino == INodeNo::ROOT {
            return Some(attributes(ino, 0, FileType::Directory));
        }
        if ino.0 > FAILS_TO_OPEN {
            return Some(attributes(ino, 1 << 20, FileType::RegularFile));
        }
        let size = self.disks.size(self.disk(ino)?)?;
        Some(attributes(ino, size, FileType::RegularFile))
    }

    fn disk(&self, ino: INodeNo) -> Option<usize> {
        let disk = usize::try_from(ino.0.checked_sub(FIRST_DISK)?).ok()?;
        (disk < self.disks.len()).then_some(disk)
    }
}

fn attributes(ino: INodeNo, size: u64, kind: FileType) -> FileAttr {
    FileAttr {
        ino,
        size,
        blocks: size / 512,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm: if kind == FileType::Directory {
            0o755
        } else {
            0o600
        },
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

impl Filesystem for FaultFs {
    fn init(&mut self, _: &fuser::Request, config: &mut KernelConfig) -> io::Result<()> {
        let needed = InitFlags::FUSE_ASYNC_DIO;
        config
            .add_capabilities(needed)
            .map_err(|_| io::Error::other("this kernel's FUSE has no async direct I/O"))?;
        // A mount limits the number of asynchronous requests. At the default limit, the held reads
        // of one disk would block all others. So this sets the maximum, which is more than 500 loop
        // devices have tags.
        let most = |_| io::Error::other("the FUSE connection refuses 65535 background requests");
        config.set_max_background(u16::MAX).map_err(most)?;
        config.set_congestion_threshold(u16::MAX).map_err(most)?;
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let number = |kind| name.to_str()?.strip_prefix(kind)?.parse::<u64>().ok();
        let disk = number("disk").and_then(|n| n.checked_add(FIRST_DISK));
        let errno = number("open").filter(|n| (1..=MAX_ERRNO).contains(n));
        let ino = disk.or(errno.map(|n| n + FAILS_TO_OPEN));
        let ino = ino.filter(|_| parent == INodeNo::ROOT).map(INodeNo);
        match ino.and_then(|ino| self.attr(ino)) {
            Some(attr) => reply.entry(&ATTR_TTL, &attr, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attr(ino) {
            Some(attr) => reply.attr(&ATTR_TTL, &attr),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        if let Some(errno) = ino.0.checked_sub(FAILS_TO_OPEN) {
            let errno = i32::try_from(errno).map_or(Errno::EIO, Errno::from_i32);
            return reply.error(errno);
        }
        // Never use the page cache: every read of the bare file is a request.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.disk(ino) {
            Some(disk) => self.disks.arrived(
                disk,
                DiskRequest::Read {
                    offset,
                    size,
                    reply,
                },
            ),
            None => reply.error(Errno::EISDIR),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.disk(ino) {
            Some(disk) => self.disks.arrived(
                disk,
                DiskRequest::Write {
                    offset,
                    data: data.to_vec(),
                    reply,
                },
            ),
            None => reply.error(Errno::EISDIR),
        }
    }
}
