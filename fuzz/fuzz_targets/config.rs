//! Any text as a configuration file.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| pathpulse_cli::fuzzing::config(text));
