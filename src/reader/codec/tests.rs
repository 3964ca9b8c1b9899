//! Single values, and frames.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use pathpulse_kernel_compat::Errno;

use super::*;

fn put(value: &impl Wire) -> Vec<u8> {
    let mut bytes = Vec::new();
    value.put(&mut bytes);
    bytes
}

#[test]
fn values_that_are_none_are_refused() {
    assert_eq!(decode(&[1]), Ok(true));
    assert!(decode::<bool>(&[2]).is_err());
    assert!(decode::<Option<u8>>(&[2, 0]).is_err());
    assert!(decode::<u16>(&[0, 0, 0]).is_err(), "too many bytes");
    assert!(decode::<String>(&[1, 0, 0, 0, 0xff]).is_err(), "not UTF-8");
    assert_eq!(
        decode(&[1, 0, 0, 0, 0xff]).map(|name: PathBuf| put(&name)),
        Ok(vec![1, 0, 0, 0, 0xff])
    );
    assert!(
        decode::<Vec<u8>>(&[0xff; 6]).is_err(),
        "longer than the input"
    );
    for raw in [0, 4096, u16::MAX] {
        assert!(decode::<Errno>(&put(&raw)).is_err(), "{raw}");
    }
    assert_eq!(decode(&put(&Errno::EIO)), Ok(Errno::EIO));
}

#[test]
fn times_out_of_range_become_the_nearest() {
    let longest = Duration::from_nanos(u64::MAX);
    assert_eq!(decode(&put(&Duration::MAX)), Ok(longest));
    let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
    assert_eq!(decode(&put(&before)), Ok(SystemTime::UNIX_EPOCH));
}

#[test]
fn frames_arrive_in_any_pieces() {
    let mut stream = Vec::new();
    for text in ["one", "", "three"] {
        put_frame(&text.to_owned(), &mut stream).expect("short");
    }
    for piece_len in 1..=stream.len() {
        let (mut reader, mut texts) = (FrameReader::default(), Vec::new());
        for piece in stream.chunks(piece_len) {
            reader.push(piece);
            while let Some(text) = reader.next::<String>().expect("well-formed") {
                texts.push(text);
            }
        }
        assert_eq!(texts, ["one", "", "three"]);
        assert!(reader.is_empty());
    }
}

#[test]
fn a_frame_has_at_most_a_mebibyte() {
    let longest = "x".repeat(MESSAGE_MAX - HEADER);
    let (mut out, mut reader) = (Vec::new(), FrameReader::default());
    put_frame(&longest, &mut out).expect("not too long");
    reader.push(&out);
    assert_eq!(reader.next(), Ok(Some(longest.clone())));

    out = vec![7];
    assert_eq!(put_frame(&(longest + "x"), &mut out), Err(TooLong));
    assert_eq!(out, [7], "nothing was appended");
    reader.push(&(MESSAGE_MAX as u32 + 1).to_le_bytes());
    assert!(
        reader.next::<String>().is_err(),
        "refused without its content"
    );
}

#[test]
fn a_malformed_message_ends_the_stream() {
    let mut reader = FrameReader::default();
    reader.push(&[1, 0, 0, 0, 2]);
    assert!(reader.next::<bool>().is_err());
    reader.push(&[1, 0, 0, 0, 1]);
    assert!(reader.next::<bool>().is_err());
    assert!(!reader.is_empty());
}
