//! All messages, and bytes that are none.

use std::fmt::Debug;

use pathpulse_kernel_compat::{BackendKind, Choice};

use super::*;
use crate::config::BackendInfo;
use crate::device::OpenedDevice;
use crate::reader::codec::{FrameReader, Malformed, Wire, put_frame};
use crate::reader::samples::Samples;
use crate::settings::Settings;

fn encoding_of(message: &impl Wire) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.put(&mut bytes);
    bytes
}

/// Decodes these bytes as the content of a frame.
fn decode<T: Wire>(bytes: &[u8]) -> Result<T, Malformed> {
    let mut reader = FrameReader::default();
    reader.push(&(bytes.len() as u32).to_le_bytes());
    reader.push(bytes);
    reader.next().map(|message| message.expect("a whole frame"))
}

/// Decodes bytes that may be a message. If they are one, they are its only encoding.
fn try_decode<T: Wire>(bytes: &[u8]) {
    if let Ok(message) = decode::<T>(bytes) {
        assert_eq!(encoding_of(&message), bytes);
    }
}

fn assert_round_trips<T: Wire + Samples + Debug + PartialEq>() {
    let (mut stream, mut reader) = (Vec::new(), FrameReader::default());
    for message in T::samples() {
        put_frame(&message, &mut stream).expect("short");
    }
    // Pieces that don't end where frames do.
    let mut received = Vec::new();
    for piece in stream.chunks(23) {
        reader.push(piece);
        while let Some(message) = reader.next::<T>().expect("well-formed") {
            received.push(message);
        }
    }
    assert_eq!(received, T::samples());
    assert!(reader.is_empty());
}

#[test]
fn every_message_round_trips() {
    assert_round_trips::<CommandMsg>();
    assert_round_trips::<GroupSlot>();
    assert_round_trips::<ReportMsg>();
    assert_round_trips::<OpenedDevice>();
}

fn assert_refuses_other_lengths<T: Wire + Samples + Debug>() {
    for message in T::samples() {
        let mut bytes = encoding_of(&message);
        for len in 0..bytes.len() {
            assert!(decode::<T>(&bytes[..len]).is_err(), "{len} of {message:?}");
        }
        bytes.push(0);
        assert!(decode::<T>(&bytes).is_err(), "one more than {message:?}");
    }
}

#[test]
fn truncated_and_extended_messages_are_refused() {
    assert_refuses_other_lengths::<CommandMsg>();
    assert_refuses_other_lengths::<ReportMsg>();
}

fn decode_damaged<T: Wire + Samples>(random: &mut fastrand::Rng) {
    for message in T::samples() {
        let bytes = encoding_of(&message);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            for value in [0, 1, 2, 0x7f, 0xff, random.u8(..)] {
                damaged[at] = value;
                try_decode::<T>(&damaged);
            }
        }
    }
    for _ in 0..20_000 {
        let mut bytes = vec![0; random.usize(..64)];
        // Small numbers are tags and lengths more often.
        let most = if random.bool() { 3 } else { u8::MAX };
        bytes.fill_with(|| random.u8(..=most));
        if let Some(tag) = bytes.first_mut() {
            *tag %= 16;
        }
        try_decode::<T>(&bytes);
    }
}

#[test]
fn damaged_messages_cause_no_panic() {
    let mut random = fastrand::Rng::with_seed(1);
    decode_damaged::<CommandMsg>(&mut random);
    decode_damaged::<ReportMsg>(&mut random);
}

#[test]
fn the_version_is_where_every_version_has_it() {
    let hello = CommandMsg::Hello {
        version: VERSION,
        backend: Choice::Auto,
        settings: Settings::default(),
    };
    let ready = ReportMsg::Ready {
        version: VERSION,
        backend: BackendInfo {
            kind: BackendKind::Sync,
            features: None,
            unavailable: Vec::new(),
        },
    };
    // The tag 0, then the version.
    let begin = [0, VERSION as u8, 0, 0, 0];
    assert!(encoding_of(&hello).starts_with(&begin));
    assert!(encoding_of(&ready).starts_with(&begin));
}
