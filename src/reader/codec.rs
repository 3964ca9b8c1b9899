//! Values as bytes, and messages as frames of a stream.
//!
//! Both ends are the same program on the same host, so there are no names and no alternatives in
//! the bytes: fields in their order, integers in little-endian order, a length before what varies
//! in length, a tag before each variant. There is one encoding of each value. Bytes that are no
//! encoding are refused ([`Malformed`]), and never cause a panic: the other end may have been
//! replaced by another version of the program. The encodings of plain values are in `values.rs`,
//! those of messages in `message`; the sockets belong to the callers.

mod values;

use std::fmt;

/// The most bytes of a message.
pub(crate) const MESSAGE_MAX: usize = 1 << 20;

/// The bytes of a frame before its message: the length of the message.
const HEADER: usize = size_of::<u32>();

/// The received bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(
    /// What is wrong with them.
    pub(crate) &'static str,
);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed message: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

/// A message has more than [`MESSAGE_MAX`] bytes and can't be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message of more than {MESSAGE_MAX} bytes")
    }
}

impl std::error::Error for TooLong {}

/// A value that has an encoding, of at least one byte.
pub(crate) trait Wire: Sized {
    /// Appends the encoding.
    fn put(&self, out: &mut Vec<u8>);

    /// Takes a value from the beginning of the input.
    fn take(from: &mut Input<'_>) -> Result<Self, Malformed>;
}

/// The bytes of a message that were not taken yet.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn bytes(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self
            .0
            .split_at_checked(len)
            .ok_or(Malformed("it ends early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self
            .0
            .split_first_chunk()
            .ok_or(Malformed("it ends early"))?;
        self.0 = rest;
        Ok(*taken)
    }

    /// The number of items that follow, each of at least one byte.
    fn count(&mut self) -> Result<usize, Malformed> {
        let count = u32::take(self)? as usize;
        let fits = count <= self.0.len();
        fits.then_some(count)
            .ok_or(Malformed("a length beyond its end"))
    }
}

/// Appends a frame with this message.
///
/// # Errors
/// The message is too long; nothing was appended.
pub(crate) fn put_frame(message: &impl Wire, out: &mut Vec<u8>) -> Result<(), TooLong> {
    let start = out.len();
    out.extend([0; HEADER]);
    message.put(out);
    let len = out.len() - start - HEADER;
    if len > MESSAGE_MAX {
        out.truncate(start);
        return Err(TooLong);
    }
    out[start..start + HEADER].copy_from_slice(&(len as u32).to_le_bytes());
    Ok(())
}

/// Decodes a whole message.
fn decode<T: Wire>(bytes: &[u8]) -> Result<T, Malformed> {
    let mut input = Input(bytes);
    let message = T::take(&mut input)?;
    let all_taken = input.0.is_empty();
    all_taken
        .then_some(message)
        .ok_or(Malformed("bytes after its end"))
}

/// Collects the bytes of a stream, and divides them into messages.
#[derive(Debug, Default)]
pub(crate) struct FrameReader {
    bytes: Vec<u8>,
    /// How many of the bytes were returned as messages.
    used: usize,
}

impl FrameReader {
    /// Adds bytes that were received. The caller then takes all messages with
    /// [`next`](FrameReader::next), so that at most one incomplete frame is kept.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.used);
        self.used = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether the stream may end here: no frame is incomplete.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.used == self.bytes.len()
    }

    /// The next message; `None` until more bytes arrive.
    ///
    /// # Errors
    /// The bytes are no frame, or no message. The stream is of no use any more: every further call
    /// returns an error, too.
    pub(crate) fn next<T: Wire>(&mut self) -> Result<Option<T>, Malformed> {
        let Some((header, rest)) = self.bytes[self.used..].split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let len = u32::from_le_bytes(*header) as usize;
        if len > MESSAGE_MAX {
            return Err(Malformed("it is too long"));
        }
        let Some(body) = rest.get(..len) else {
            return Ok(None);
        };
        let message = decode(body)?;
        self.used += HEADER + len;
        Ok(Some(message))
    }
}

/// Implements [`Wire`] for a struct: its fields in this order. All fields must be listed.
macro_rules! wire_struct {
    ($Type:ident { $($field:ident),+ $(,)? }) => {
        impl $crate::reader::codec::Wire for $Type {
            fn put(&self, out: &mut Vec<u8>) {
                let $Type { $($field),+ } = self;
                $($crate::reader::codec::Wire::put($field, out);)+
            }

            fn take(
                from: &mut $crate::reader::codec::Input<'_>,
            ) -> Result<Self, $crate::reader::codec::Malformed> {
                $(let $field = $crate::reader::codec::Wire::take(from)?;)+
                Ok($Type { $($field),+ })
            }
        }

        #[cfg(test)]
        impl $crate::reader::samples::Samples for $Type {
            fn samples() -> Vec<Self> {
                $crate::reader::samples::vary(|pick| {
                    $(let $field = pick.next();)+
                    $Type { $($field),+ }
                })
            }
        }
    };
}

/// Implements [`Wire`] for an enum: a tag, then the fields in this order. All variants must be
/// listed, each with a tag of its own.
macro_rules! wire_enum {
    ($Type:ident { $(
        $tag:literal => $Variant:ident $({ $($field:ident),+ })? $(( $($place:ident),+ ))?
    ),+ $(,)? }) => {
        impl $crate::reader::codec::Wire for $Type {
            fn put(&self, out: &mut Vec<u8>) {
                match self {
                    $($Type::$Variant $({ $($field),+ })? $(( $($place),+ ))? => {
                        out.push($tag);
                        $($($crate::reader::codec::Wire::put($field, out);)+)?
                        $($($crate::reader::codec::Wire::put($place, out);)+)?
                    })+
                }
            }

            fn take(
                from: &mut $crate::reader::codec::Input<'_>,
            ) -> Result<Self, $crate::reader::codec::Malformed> {
                Ok(match <u8 as $crate::reader::codec::Wire>::take(from)? {
                    $($tag => {
                        $($(let $field = $crate::reader::codec::Wire::take(from)?;)+)?
                        $($(let $place = $crate::reader::codec::Wire::take(from)?;)+)?
                        $Type::$Variant $({ $($field),+ })? $(( $($place),+ ))?
                    })+
                    _ => {
                        let what = concat!("an unknown tag of ", stringify!($Type));
                        return Err($crate::reader::codec::Malformed(what));
                    }
                })
            }
        }

        #[cfg(test)]
        $crate::reader::samples::enum_samples!($Type {
            $($Variant $({ $($field),+ })? $(( $($place),+ ))?),+
        });
    };
}

pub(super) use {wire_enum, wire_struct};

#[cfg(test)]
mod tests;
