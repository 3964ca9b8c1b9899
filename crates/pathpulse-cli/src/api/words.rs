//! Words of a fixed list in a document: enums in the program, the same strings in JSON.
//!
//! A client may be older than its daemon and read a word that it does not know. It keeps such a
//! word as `Other` and shows it as it is.

/// Defines an enum of the words of one JSON field, with `Other` for the words of a newer daemon.
macro_rules! words {
    (
        $(#[$about:meta])*
        $name:ident { $( $(#[$what:meta])* $variant:ident = $word:literal, )+ }
    ) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(from = "String", into = "String")]
        pub(crate) enum $name {
            $( $(#[$what])* $variant, )+
            /// A word of a newer daemon.
            Other(String),
        }

        impl $name {
            /// All words that this version knows.
            #[cfg(test)]
            pub(crate) const KNOWN: &[$name] = &[$( $name::$variant, )+];

            /// The word in JSON and in tables.
            pub(crate) fn as_str(&self) -> &str {
                match self {
                    $( $name::$variant => $word, )+
                    $name::Other(word) => word,
                }
            }
        }

        impl From<&str> for $name {
            fn from(word: &str) -> $name {
                match word {
                    $( $word => $name::$variant, )+
                    other => $name::Other(other.to_owned()),
                }
            }
        }

        impl From<String> for $name {
            fn from(word: String) -> $name {
                $name::from(word.as_str())
            }
        }

        impl From<$name> for String {
            fn from(word: $name) -> String {
                word.as_str().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

pub(super) use words;
