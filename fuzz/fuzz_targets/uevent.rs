//! Any bytes as a message of the kernel.
#![no_main]
#![allow(dead_code, unused_imports)]

#[path = "../../src/daemon/mod.rs"]
mod daemon;
#[path = "../../src/human.rs"]
mod human;
#[path = "../../src/lookup.rs"]
mod lookup;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|message: &[u8]| {
    if let Some(event) = daemon::discovery::uevent::parse(message) {
        assert!(message.windows(5).any(|part| part == b"block"));
        assert!(event.name.len() < message.len());
    }
});
