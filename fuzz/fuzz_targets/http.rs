//! Any request to the daemon's router.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pathpulse_cli::fuzzing::http(input));
