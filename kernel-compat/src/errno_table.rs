//! The name of each Linux errno, its meaning for storage, and a hint for the user.
//!
//! The rows follow include/uapi/asm-generic/errno-base.h and errno.h, in their order. The numbers
//! come from libc, because some architectures use other numbers. Which component is at fault for an
//! errno is decided elsewhere: in `fault.rs` of the `pathpulse` crate.

use crate::errno::Errno;

macro_rules! errnos {
    ($($name:ident = $meaning:literal $(=> $hint:literal)?,)*) => {
        impl Errno {
            $(#[doc = concat!("`", stringify!($name), "`: ", $meaning, ".")]
            pub const $name: Errno = Errno::known(libc::$name);)*

            /// All errnos that have a name, in the order of the kernel's list.
            pub const ALL: &[Errno] = &[$(Errno::$name),*];

            /// The symbolic name, as in errno(3). `None` for a number that Linux returns to no
            /// program.
            pub fn name(self) -> Option<&'static str> {
                match self {
                    $(Errno::$name => Some(stringify!($name)),)*
                    _ => None,
                }
            }

            /// A short description.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Errno::$name => $meaning,)*
                    _ => "unknown error",
                }
            }

            /// What to do when opening or reading storage fails with this errno. `None` if that
            /// depends on more than the errno.
            pub fn hint(self) -> Option<&'static str> {
                match self {
                    $($(Errno::$name => Some($hint),)?)*
                    _ => None,
                }
            }

            /// The errno with this symbolic name, such as `"EIO"`.
            pub fn from_name(name: &str) -> Option<Errno> {
                match name {
                    $(stringify!($name) => Some(Errno::$name),)*
                    _ => None,
                }
            }
        }
    };
}

errnos! {
    EPERM = "not permitted"
        => "usually the device rules of a container (device cgroup) forbid it, even to root; allow the \
            device there (docker run --device, DeviceAllow= in a unit)",
    ENOENT = "no such file or device" => "see lsblk for the existing devices",
    ESRCH = "no such process",
    EINTR = "interrupted by a signal" => "try again",
    EIO = "input/output error; the driver gives no other reason"
        => "see dmesg for messages of the driver; a pulled cable also causes this",
    ENXIO = "no such device or address: the device is gone or offline"
        => "look for it in lsblk and dmesg; rescan the bus if it should be there",
    E2BIG = "argument list too long",
    ENOEXEC = "exec format error",
    EBADF = "bad file descriptor" => "please report this as a bug",
    ECHILD = "no child process",
    EAGAIN = "would block, or no slot is free" => "try again",
    ENOMEM = "out of memory" => "free some memory, or raise the limit of the cgroup",
    EACCES = "access denied"
        => "run as root or join the device's group (disk); check also the rules of SELinux or \
            AppArmor",
    EFAULT = "bad address" => "please report this as a bug",
    ENOTBLK = "not a block device" => "specify a block device or a regular file",
    EBUSY = "busy: another process has exclusive access"
        => "find the user with lsblk, fuser -v or drbdadm status",
    EEXIST = "already exists",
    EXDEV = "on another file system",
    ENODEV = "no such device: it is gone or offline"
        => "look for it in lsblk and dmesg; rescan the bus if it should be there",
    ENOTDIR = "a component of the path is not a directory" => "correct the path",
    EISDIR = "is a directory" => "specify a block device, or a file in the directory",
    EINVAL = "invalid argument",
    ENFILE = "the system has no file slots left" => "raise fs.file-max with sysctl",
    EMFILE = "the process has no file descriptors left"
        => "raise RLIMIT_NOFILE (ulimit -n, LimitNOFILE= in a unit)",
    ENOTTY = "the device does not support this request",
    ETXTBSY = "the file is being executed or is in use as swap"
        => "specify another file, or the block device",
    EFBIG = "file too large" => "specify the block device",
    ENOSPC = "no space left" => "free space in the file system or the thin pool",
    ESPIPE = "cannot seek" => "specify a block device or a regular file",
    EROFS = "read-only",
    EMLINK = "too many links",
    EPIPE = "broken pipe: the other end of the connection is closed"
        => "check the target and the network to it",
    EDOM = "argument out of the domain of a function",
    ERANGE = "out of range",
    EDEADLK = "would deadlock",
    ENAMETOOLONG = "name too long" => "use a shorter path, such as one in /dev/disk/by-id",
    ENOLCK = "no locks left",
    ENOSYS = "not built into this kernel, or blocked by a seccomp filter",
    ENOTEMPTY = "directory not empty",
    ELOOP = "too many symbolic links" => "follow the links with namei -l",
    ENOMSG = "no message of this type",
    EIDRM = "identifier removed",
    ECHRNG = "channel number out of range",
    EL2NSYNC = "level 2 not synchronized",
    EL3HLT = "level 3 halted",
    EL3RST = "level 3 reset",
    ELNRNG = "link number out of range",
    EUNATCH = "protocol driver not attached" => "load or attach the driver of the device",
    ENOCSI = "no CSI structure available",
    EL2HLT = "level 2 halted",
    EBADE = "reservation conflict: another host holds a reservation of the device"
        => "find the holder with sg_persist --in -r or nvme resv-report",
    EBADR = "invalid request descriptor",
    EXFULL = "exchange full",
    ENOANO = "no anode",
    EBADRQC = "invalid request code",
    EBADSLT = "invalid slot",
    EBFONT = "bad font file format",
    ENOSTR = "not a stream",
    ENODATA = "no data: the medium can't be read at this place"
        => "see smartctl -a or nvme smart-log; rewrite the block or replace the disk",
    ETIME = "timer expired: the device did not finish in time"
        => "see dmesg; check the load and the health of the device",
    ENOSR = "out of streams resources",
    ENONET = "not on the network" => "check the network to the target",
    ENOPKG = "package not installed",
    EREMOTE = "object is remote",
    ENOLINK = "the link to the target is down"
        => "check the cable, port, switch and target",
    EADV = "advertise error",
    ESRMNT = "srmount error",
    ECOMM = "communication error on send" => "check the cable, port, switch and target",
    EPROTO = "protocol error" => "see dmesg; a cable or an adapter may be bad",
    EMULTIHOP = "multihop attempted",
    EDOTDOT = "RFS specific error",
    EBADMSG = "bad message: a checksum does not match" => "check the file system",
    EOVERFLOW = "value too large",
    ENOTUNIQ = "name not unique on the network",
    EBADFD = "file descriptor in a bad state",
    EREMCHG = "remote address changed" => "try again",
    ELIBACC = "cannot access a needed shared library",
    ELIBBAD = "a shared library is corrupted",
    ELIBSCN = ".lib section in a.out corrupted",
    ELIBMAX = "too many shared libraries",
    ELIBEXEC = "cannot execute a shared library",
    EILSEQ = "integrity error: checksum or protection information does not match"
        => "see dmesg; rewrite the data, and test the memory, adapter and cable",
    ERESTART = "interrupted call should be restarted" => "try again",
    ESTRPIPE = "streams pipe error",
    EUSERS = "too many users",
    ENOTSOCK = "not a socket",
    EDESTADDRREQ = "destination address required",
    EMSGSIZE = "message too long",
    EPROTOTYPE = "wrong protocol type for the socket",
    ENOPROTOOPT = "protocol not available",
    EPROTONOSUPPORT = "protocol not supported",
    ESOCKTNOSUPPORT = "socket type not supported",
    EOPNOTSUPP = "not supported",
    EPFNOSUPPORT = "protocol family not supported",
    EAFNOSUPPORT = "address family not supported",
    EADDRINUSE = "address in use",
    EADDRNOTAVAIL = "address not available",
    ENETDOWN = "network down" => "check that the network interface is up (ip link)",
    ENETUNREACH = "network unreachable" => "check that a route to the target exists (ip route)",
    ENETRESET = "connection dropped by a reset of the network"
        => "check the network to the target",
    ECONNABORTED = "connection aborted" => "check the target and the network to it",
    ECONNRESET = "connection reset by the other side"
        => "check the target and the network to it",
    ENOBUFS = "no buffer space" => "free some memory",
    EISCONN = "already connected",
    ENOTCONN = "not connected: the target or the file system's server is gone"
        => "connect or mount it again",
    ESHUTDOWN = "connection was shut down" => "connect it again",
    ETOOMANYREFS = "too many references",
    ETIMEDOUT = "the transport timed out" => "check the cable, port, switch and target",
    ECONNREFUSED = "connection refused" => "check that the service runs on the target",
    EHOSTDOWN = "host down" => "check that the target runs",
    EHOSTUNREACH = "host unreachable"
        => "check that the target runs, and the network to it",
    EALREADY = "already in progress",
    EINPROGRESS = "now in progress",
    ESTALE = "stale handle: the server no longer knows the file"
        => "mount the file system again",
    EUCLEAN = "the structure of the file system is damaged" => "unmount it and run fsck",
    ENOTNAM = "not a XENIX named type file",
    ENAVAIL = "no XENIX semaphores available",
    EISNAM = "is a named type file",
    EREMOTEIO = "remote input/output error: the target failed the command"
        => "see dmesg for its sense data, and the log of the storage",
    EDQUOT = "quota exceeded" => "free space, or raise the quota",
    ENOMEDIUM = "no medium in the drive" => "insert a medium, or do not watch this drive",
    EMEDIUMTYPE = "wrong medium type: DRBD reports this for a secondary"
        => "watch it on the primary node, or watch the disk below it",
    ECANCELED = "cancelled",
    ENOKEY = "required key not available" => "unlock the encrypted storage",
    EKEYEXPIRED = "key has expired" => "renew the key",
    EKEYREVOKED = "key was revoked" => "renew the key",
    EKEYREJECTED = "key was rejected by the service" => "unlock it with the right key",
    EOWNERDEAD = "owner died",
    ENOTRECOVERABLE = "state not recoverable",
    ERFKILL = "disabled by rfkill",
    EHWPOISON = "memory page has a hardware error"
        => "the memory of this host is faulty; see dmesg and replace it",
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel's list has no 41 and 58: they are other names of 11 and 35.
    #[test]
    fn every_kernel_errno_has_a_name_and_a_meaning() {
        for raw in (1..=133).filter(|raw| ![41, 58].contains(raw)) {
            let errno = Errno::from_raw(raw);
            let name = errno.name().unwrap_or_else(|| panic!("{raw} has no name"));
            assert_eq!(Errno::from_name(name), Some(errno));
            assert_ne!(errno.meaning(), "unknown error", "{name}");
        }
        assert_eq!(Errno::ALL.len(), 131);
        assert_eq!(Errno::from_raw(4000).name(), None);
    }

    #[test]
    fn hints_and_meanings_are_well_formed() {
        for errno in Errno::ALL {
            let name = errno.name().expect("all have one");
            let texts = [Some(errno.meaning()), errno.hint()];
            for text in texts.into_iter().flatten() {
                assert!(
                    !text.is_empty() && !text.ends_with('.') && !text.contains("  "),
                    "{name}"
                );
                assert!(!text.contains(name), "{name}: {text}");
            }
        }
        for name in [
            "ENOMEDIUM",
            "EMEDIUMTYPE",
            "EBUSY",
            "EUCLEAN",
            "ENODATA",
            "EIO",
        ] {
            let errno = Errno::from_name(name).expect("known");
            assert!(errno.hint().is_some(), "{name}");
        }
    }
}
