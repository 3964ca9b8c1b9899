//! Encodings of plain values: numbers, texts, lists, times.

use std::borrow::Cow;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use pathpulse_kernel_compat::{Errno, Mono};

use super::{Input, Malformed, Wire};

macro_rules! wire_integers {
    ($($Type:ty),+) => {$(
        impl Wire for $Type {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend(self.to_le_bytes());
            }

            fn take(from: &mut Input<'_>) -> Result<Self, Malformed> {
                from.array().map(Self::from_le_bytes)
            }
        }
    )+};
}

wire_integers!(u8, u16, u32, u64);

impl Wire for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn take(from: &mut Input<'_>) -> Result<bool, Malformed> {
        match u8::take(from)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed("neither true nor false")),
        }
    }
}

impl<T: Wire> Wire for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn take(from: &mut Input<'_>) -> Result<Option<T>, Malformed> {
        bool::take(from)?.then(|| T::take(from)).transpose()
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        put_count(self.len(), out);
        for value in self {
            value.put(out);
        }
    }

    fn take(from: &mut Input<'_>) -> Result<Vec<T>, Malformed> {
        (0..from.count()?).map(|_| T::take(from)).collect()
    }
}

/// A length that does not fit makes the message longer than [`MESSAGE_MAX`], so it is never sent.
fn put_count(count: usize, out: &mut Vec<u8>) {
    u32::try_from(count).unwrap_or(u32::MAX).put(out);
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_count(bytes.len(), out);
    out.extend_from_slice(bytes);
}

fn take_bytes(from: &mut Input<'_>) -> Result<Vec<u8>, Malformed> {
    let len = from.count()?;
    from.bytes(len).map(<[u8]>::to_vec)
}

impl Wire for String {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(self.as_bytes(), out);
    }

    fn take(from: &mut Input<'_>) -> Result<String, Malformed> {
        String::from_utf8(take_bytes(from)?).map_err(|_| Malformed("a text that is not UTF-8"))
    }
}

impl Wire for Box<str> {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(self.as_bytes(), out);
    }

    fn take(from: &mut Input<'_>) -> Result<Box<str>, Malformed> {
        String::take(from).map(String::into_boxed_str)
    }
}

impl Wire for Cow<'static, str> {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(self.as_bytes(), out);
    }

    fn take(from: &mut Input<'_>) -> Result<Cow<'static, str>, Malformed> {
        String::take(from).map(Cow::Owned)
    }
}

/// A name need not be UTF-8.
impl Wire for PathBuf {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(self.as_os_str().as_bytes(), out);
    }

    fn take(from: &mut Input<'_>) -> Result<PathBuf, Malformed> {
        Ok(OsString::from_vec(take_bytes(from)?).into())
    }
}

/// In nanoseconds. More than 64 bits of them, which are 584 years, are as good as 584 years.
impl Wire for Duration {
    fn put(&self, out: &mut Vec<u8>) {
        u64::try_from(self.as_nanos()).unwrap_or(u64::MAX).put(out);
    }

    fn take(from: &mut Input<'_>) -> Result<Duration, Malformed> {
        u64::take(from).map(Duration::from_nanos)
    }
}

/// As the time since 1970. A clock that was set to a time before that is set wrongly.
impl Wire for SystemTime {
    fn put(&self, out: &mut Vec<u8>) {
        let since = self.duration_since(SystemTime::UNIX_EPOCH);
        since.unwrap_or_default().put(out);
    }

    fn take(from: &mut Input<'_>) -> Result<SystemTime, Malformed> {
        let time = SystemTime::UNIX_EPOCH.checked_add(Duration::take(from)?);
        time.ok_or(Malformed("a time that is too late"))
    }
}

/// `CLOCK_MONOTONIC` is the same for all processes, unless they are in different time namespaces
/// (time_namespaces(7)). A child is in that of its parent, unless either asks for another.
impl Wire for Mono {
    fn put(&self, out: &mut Vec<u8>) {
        self.as_nanos().put(out);
    }

    fn take(from: &mut Input<'_>) -> Result<Mono, Malformed> {
        u64::take(from).map(Mono::from_nanos)
    }
}

impl Wire for Errno {
    fn put(&self, out: &mut Vec<u8>) {
        // An errno is below 4096.
        (self.raw() as u16).put(out);
    }

    fn take(from: &mut Input<'_>) -> Result<Errno, Malformed> {
        let raw = i32::from(u16::take(from)?);
        let errno = Errno::from_raw(raw);
        (errno.raw() == raw)
            .then_some(errno)
            .ok_or(Malformed("a number that is no errno"))
    }
}
