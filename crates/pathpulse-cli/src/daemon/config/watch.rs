//! The keys for the settings of paths: the same in all sections and on the command line.

use std::ops::Range;
use std::time::Duration;

use pathpulse::{Place, Settings, Sleeping};
use pathpulse_kernel_compat::MAX_READ_LEN;
use toml::de::DeValue;

use super::reader::{Section, integer, text};
use super::source::Source;
use super::values::{bytes, duration_from, show_duration};

/// A key and what it sets.
struct Key {
    name: &'static str,
    kind: Kind,
}

/// How a key is parsed, and which setting it changes.
enum Kind {
    /// A duration of at least this many milliseconds.
    Span(u64, fn(&mut Settings) -> &mut Duration),
    Count(Range<u64>, fn(&mut Settings) -> &mut u32),
    Bytes(fn(&mut Settings) -> &mut u32),
    Place(fn(&mut Settings) -> &mut Place),
    Sleeping(fn(&mut Settings) -> &mut Sleeping),
}

const KEYS: [Key; 14] = [
    key("interval", Kind::Span(1, |s| &mut s.interval)),
    key("timeout", Kind::Span(1, |s| &mut s.timeout)),
    key("backoff_max", Kind::Span(0, |s| &mut s.backoff_max)),
    key("fall", Kind::Count(1..1_001, |s| &mut s.rules.fall)),
    key("rise", Kind::Count(1..1_001, |s| &mut s.rules.rise)),
    key(
        "marginal_errors",
        Kind::Count(0..1_001, |s| &mut s.rules.marginal_errors_per_mille),
    ),
    key("flaps", Kind::Count(0..8, |s| &mut s.rules.flaps)),
    key("flap_window", Kind::Span(1, |s| &mut s.rules.flap_window)),
    key(
        "marginal_latency",
        Kind::Count(0..1_001, |s| &mut s.rules.marginal_latency),
    ),
    key(
        "marginal_latency_floor",
        Kind::Span(0, |s| &mut s.rules.marginal_latency_floor),
    ),
    key("recovery", Kind::Span(0, |s| &mut s.rules.recovery)),
    key("read_place", Kind::Place(|s| &mut s.region.place)),
    key("read_length", Kind::Bytes(|s| &mut s.region.len_bytes)),
    key("sleeping", Kind::Sleeping(|s| &mut s.sleeping)),
];

/// The names of the keys.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|key| key.name)
}

const PLACES: [(&str, Place); 3] = [
    ("first", Place::First),
    ("last", Place::Last),
    ("rotating", Place::Rotating),
];

const SLEEPING: [(&str, Sleeping); 2] = [("read", Sleeping::Read), ("leave", Sleeping::Leave)];

/// The value with this name.
fn of_word<T: Copy>(known: &[(&str, T)], word: &str) -> Result<T, String> {
    let found = known.iter().find(|(name, _)| *name == word);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        let (last, others) = names.split_last().unwrap_or((&"", &[]));
        format!(
            "invalid value `{word}`: expected {} or {last}",
            others.join(", ")
        )
    })
}

/// The name of this value, quoted.
fn word_of<T: PartialEq>(known: &[(&str, T)], value: &T) -> String {
    let named = known.iter().find(|(_, one)| one == value);
    format!("\"{}\"", named.map_or("", |(name, _)| name))
}

const fn key(name: &'static str, kind: Kind) -> Key {
    Key { name, kind }
}

/// A value as it was written.
enum Written<'a, 'v> {
    Toml(&'a DeValue<'v>),
    Option(&'a str),
}

impl Key {
    /// Parses a value into the settings.
    fn read(&self, written: &Written<'_, '_>, to: &mut Settings) -> Result<(), String> {
        let word = || match written {
            Written::Toml(value) => text(value),
            Written::Option(text) => Ok(*text),
        };
        let count = |limits: &Range<u64>| match written {
            Written::Toml(value) => integer(value, limits),
            Written::Option(text) => {
                let number = text.parse().ok().filter(|number| limits.contains(number));
                number.ok_or_else(|| format!("expected {} to {}", limits.start, limits.end - 1))
            }
        };
        match &self.kind {
            Kind::Span(least_ms, field) => {
                *field(to) = duration_from(word()?, Duration::from_millis(*least_ms))?;
            }
            Kind::Count(limits, field) => {
                *field(to) = u32::try_from(count(limits)?).unwrap_or(u32::MAX);
            }
            Kind::Bytes(field) => {
                let limits = 0..u64::from(MAX_READ_LEN) + 1;
                let size = word().and_then(bytes).or_else(|_| count(&limits))?;
                let size = u32::try_from(size)
                    .ok()
                    .filter(|size| *size <= MAX_READ_LEN);
                *field(to) =
                    size.ok_or_else(|| format!("expected at most {MAX_READ_LEN} bytes"))?;
            }
            Kind::Place(field) => *field(to) = of_word(&PLACES, word()?)?,
            Kind::Sleeping(field) => *field(to) = of_word(&SLEEPING, word()?)?,
        }
        Ok(())
    }

    /// The value as in a file.
    fn show(&self, settings: &Settings) -> String {
        let mut settings = *settings;
        match &self.kind {
            Kind::Span(_, field) => format!("\"{}\"", show_duration(*field(&mut settings))),
            Kind::Count(_, field) | Kind::Bytes(field) => field(&mut settings).to_string(),
            Kind::Place(field) => word_of(&PLACES, field(&mut settings)),
            Kind::Sleeping(field) => word_of(&SLEEPING, field(&mut settings)),
        }
    }

    fn copy(&self, from: &Settings, to: &mut Settings) {
        let mut from = *from;
        match &self.kind {
            Kind::Span(_, field) => *field(to) = *field(&mut from),
            Kind::Count(_, field) | Kind::Bytes(field) => *field(to) = *field(&mut from),
            Kind::Place(field) => *field(to) = *field(&mut from),
            Kind::Sleeping(field) => *field(to) = *field(&mut from),
        }
    }
}

/// The settings that one place gives: some of the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layer {
    /// Only the keys in `given` are valid.
    settings: Settings,
    /// Indexes in [`KEYS`].
    given: Vec<(usize, Source)>,
}

impl Layer {
    /// Reads the keys of a section.
    pub(crate) fn of_section(section: &mut Section<'_, '_>) -> Layer {
        let mut layer = Layer::default();
        for (index, key) in KEYS.iter().enumerate() {
            let read = |value: &DeValue<'_>| key.read(&Written::Toml(value), &mut layer.settings);
            if let Some(read) = section.take(key.name, read) {
                layer.given.push((index, read.source));
            }
        }
        layer
    }

    /// Sets the key with the name of an option.
    pub(crate) fn of_option(name: &str, value: &str) -> Result<Layer, String> {
        let mut layer = Layer::default();
        for (index, key) in KEYS.iter().enumerate().filter(|(_, key)| key.name == name) {
            key.read(&Written::Option(value), &mut layer.settings)?;
            layer.given.push((index, Source::CommandLine));
        }
        Ok(layer)
    }

    /// Adds the settings of another layer, which have precedence.
    pub(crate) fn add(&mut self, other: &Layer) {
        for (index, source) in &other.given {
            KEYS[*index].copy(&other.settings, &mut self.settings);
            self.given.retain(|(known, _)| known != index);
            self.given.push((*index, *source));
        }
    }

    /// The settings, with defaults for the keys that are not given.
    pub(crate) fn settings(&self) -> Settings {
        // Keys that are not given have their defaults.
        self.settings
    }

    /// All keys with their values and where they were given.
    pub(crate) fn show(&self) -> impl Iterator<Item = (&'static str, String, Source)> {
        KEYS.iter().enumerate().map(|(index, key)| {
            let given = self.given.iter().find(|(known, _)| *known == index);
            let source = given.map_or(Source::Default, |(_, source)| *source);
            (key.name, key.show(&self.settings), source)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_shown_as_it_is_read() {
        let values = [
            ("interval", "500ms"),
            ("timeout", "1m30s"),
            ("backoff_max", "0s"),
            ("fall", "3"),
            ("rise", "4"),
            ("marginal_errors", "1000"),
            ("flaps", "7"),
            ("flap_window", "1h"),
            ("marginal_latency", "0"),
            ("marginal_latency_floor", "10ms"),
            ("recovery", "2m"),
            ("read_place", "rotating"),
            ("read_length", "4096"),
            ("sleeping", "leave"),
        ];
        let mut all = Layer::default();
        for (name, value) in values {
            let layer = Layer::of_option(name, value).expect("read");
            assert_ne!(layer.settings(), Settings::default(), "{name}");
            all.add(&layer);
        }
        let shown: Vec<_> = all
            .show()
            .map(|(name, value, source)| {
                assert_eq!(source, Source::CommandLine, "{name}");
                (name, value.trim_matches('"').to_owned())
            })
            .collect();
        let expected: Vec<_> = values.map(|(name, value)| (name, value.to_owned())).into();
        assert_eq!(shown, expected);
    }

    #[test]
    fn limits_are_kept() {
        for (name, value) in [
            ("fall", "0"),
            ("flaps", "8"),
            ("interval", "0s"),
            ("marginal_errors", "1001"),
            ("read_length", "1MiB"),
            ("read_place", "middle"),
            ("sleeping", "wake"),
        ] {
            assert!(Layer::of_option(name, value).is_err(), "{name} {value}");
        }
    }
}
