//! Any bytes as a message of the kernel.
#![no_main]

libfuzzer_sys::fuzz_target!(|message: &[u8]| pathpulse_cli::fuzzing::uevent(message));
