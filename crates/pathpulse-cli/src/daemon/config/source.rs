//! Values with the place where they were given.

/// Where a value was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Source {
    /// The value is the default.
    #[default]
    Default,
    /// In this line of the file.
    Line(usize),
    /// On the command line.
    CommandLine,
    /// In this variable of the environment.
    Environment(&'static str),
}

/// A value, and where it was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sourced<T> {
    pub(crate) value: T,
    pub(crate) source: Source,
}

/// Adds to keys and values where they were given.
pub(super) fn with_sources<const KEYS: usize>(
    values: [(&'static str, String); KEYS],
    sources: [Source; KEYS],
) -> [(&'static str, String, Source); KEYS] {
    let mut sources = sources.into_iter();
    values.map(|(key, value)| (key, value, sources.next().unwrap_or_default()))
}

impl<T> Sourced<T> {
    /// A default value.
    pub(crate) fn default(value: T) -> Sourced<T> {
        Sourced {
            value,
            source: Source::Default,
        }
    }

    /// The value of the command line (or of `source`), else that of the file, else the default.
    pub(crate) fn first(
        (command_line, source): (Option<T>, Source),
        file: Option<Sourced<T>>,
        default: T,
    ) -> Sourced<T> {
        command_line
            .map(|value| Sourced { value, source })
            .or(file)
            .unwrap_or(Sourced::default(default))
    }
}
