//! Any text as a configuration file: what is taken says the same when it is shown and read again.
#![no_main]
#![allow(dead_code, unused_imports)]

#[path = "../../src/daemon/mod.rs"]
mod daemon;
#[path = "../../src/human.rs"]
mod human;
#[path = "../../src/lookup.rs"]
mod lookup;

use daemon::config::{CommandLine, Configuration};
use libfuzzer_sys::fuzz_target;
use std::path::{Path, PathBuf};

fuzz_target!(|text: &str| {
    let line = CommandLine::default();
    let Ok(configuration) = Configuration::parse(text, &line) else {
        return;
    };
    let shown = configuration.show();
    let again = Configuration::parse(&shown, &line);
    let again = again.unwrap_or_else(|problems| panic!("{problems:?}: {shown}"));
    let names = |configuration: &Configuration| -> Vec<PathBuf> {
        let named = configuration.named();
        named.iter().map(|(name, _)| name.to_path_buf()).collect()
    };
    assert_eq!(names(&configuration), names(&again));
    for name in names(&configuration) {
        assert_eq!(configuration.spec(&name), again.spec(&name));
    }
    let other = Path::new("/dev/sda");
    assert_eq!(configuration.spec(other), again.spec(other));
});
