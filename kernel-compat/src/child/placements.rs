//! Gives the files of a child the numbers that it expects them at.
//!
//! Before the child is started, its parent chooses where each file comes from ([`Placements`]). The
//! child then moves them ([`place`]), between fork and execve.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use crate::error::KernelError;

/// Which descriptor becomes which number in the child.
///
/// Each file is first copied to a number above all that were asked for. So no file is overwritten
/// before it was placed, whatever numbers the files have.
///
/// The standard library also has a descriptor in the child, through which it reports a failed
/// start. It must not be overwritten either. It takes a free number, so all numbers asked for are
/// kept busy while it starts. Where another part of this process has one, that part may close it
/// at any time; so the child checks that it still is what it was.
pub(super) struct Placements {
    pub(super) list: Vec<Placement>,
    /// The copies, and what keeps the numbers busy.
    pub(super) held: Vec<OwnedFd>,
}

/// Plain numbers, which the child uses without allocating.
#[derive(Clone, Copy)]
pub(super) struct Placement {
    from: i32,
    to: i32,
    /// What was at `to` in the parent.
    before: Option<FileId>,
}

/// The device and inode of a file.
type FileId = (u64, u64);

impl Placements {
    pub(super) fn new(files: &[(OwnedFd, i32)]) -> Result<Placements, KernelError> {
        let mut numbers: Vec<i32> = files.iter().map(|(_, number)| *number).collect();
        numbers.sort_unstable();
        assert!(
            numbers.iter().all(|number| *number > libc::STDERR_FILENO),
            "0 to 2 are the standard streams: {numbers:?}"
        );
        assert!(
            numbers.windows(2).all(|pair| pair[0] != pair[1]),
            "two files for one number: {numbers:?}"
        );
        let above = numbers.last().map_or(0, |number| number.saturating_add(1));
        let copies = files.iter().map(|(file, _)| copy_at_least(file, above));
        let copies = copies.collect::<Result<Vec<_>, _>>()?;
        let busy = files
            .iter()
            .map(|(file, number)| copy_at_least(file, *number));
        let busy = busy.collect::<Result<Vec<_>, _>>()?;
        let list = copies
            .iter()
            .zip(files)
            .map(|(copy, (_, number))| Placement {
                from: copy.as_raw_fd(),
                to: *number,
                before: file_at(*number),
            });
        Ok(Placements {
            list: list.collect(),
            held: copies.into_iter().chain(busy).collect(),
        })
    }
}

/// Copies a descriptor to the first free number from this one on.
fn copy_at_least(file: &OwnedFd, number: i32) -> Result<OwnedFd, KernelError> {
    rustix::io::fcntl_dupfd_cloexec(file, number)
        .map_err(|errno| KernelError::new("fcntl(F_DUPFD_CLOEXEC)", errno.into()))
}

/// The file of a descriptor, or `None` if the number is free.
fn file_at(number: i32) -> Option<FileId> {
    // SAFETY: the number is not -1. It owns no memory, and the kernel checks whether it is open.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    let stat = rustix::fs::fstat(descriptor).ok()?;
    Some((stat.st_dev, stat.st_ino))
}

/// In the child: gives each file its number, open across execve.
pub(super) fn place(list: &[Placement]) -> io::Result<()> {
    for placement in list {
        if file_at(placement.to) != placement.before {
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
        // SAFETY: dup2(2) takes no memory. What it closes at `to` belongs to this child's copy of
        // the descriptors, which execve replaces.
        if unsafe { libc::dup2(placement.from, placement.to) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::pipe;

    #[test]
    fn a_number_that_changed_hands_is_not_overwritten() {
        let (reader, writer) = pipe().expect("a pipe");
        let number = reader.as_raw_fd();
        let placement = |before| Placement {
            from: writer.as_raw_fd(),
            to: number,
            before,
        };
        for before in [None, file_at(0)] {
            let refused = place(&[placement(before)]).unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::EBUSY));
        }
        assert_ne!(file_at(number), None);
    }

    #[test]
    #[should_panic(expected = "two files for one number")]
    fn a_number_is_given_once() {
        let (reader, writer) = pipe().expect("a pipe");
        let _ = Placements::new(&[(reader.into(), 106), (writer.into(), 106)]);
    }
}
