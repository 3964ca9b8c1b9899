//! Sample values of everything that messages consist of, for tests: at least one of each variant.

use std::borrow::Cow;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use pathpulse_kernel_compat::{Errno, Mono};

/// A type with samples.
pub(super) trait Samples: Sized {
    /// Some values, at least one.
    fn samples() -> Vec<Self>;
}

/// Picks samples for the fields of a value.
pub(super) struct Picker {
    round: usize,
    rounds: usize,
}

impl Picker {
    /// A value of the next field.
    pub(super) fn next<T: Samples>(&mut self) -> T {
        let mut samples = T::samples();
        self.rounds = self.rounds.max(samples.len());
        samples.swap_remove(self.round % samples.len())
    }
}

/// Makes as many values as it takes until each sample of each field was in one.
pub(super) fn vary<T>(mut make: impl FnMut(&mut Picker) -> T) -> Vec<T> {
    let mut picker = Picker {
        round: 0,
        rounds: 1,
    };
    let mut values = Vec::new();
    while picker.round < picker.rounds {
        values.push(make(&mut picker));
        picker.round += 1;
    }
    values
}

/// Implements [`Samples`] for an enum. All variants must be listed.
macro_rules! enum_samples {
    ($Type:ident { $(
        $Variant:ident $({ $($field:ident),+ })? $(( $($place:ident),+ ))?
    ),+ $(,)? }) => {
        impl $crate::reader::samples::Samples for $Type {
            fn samples() -> Vec<Self> {
                // A variant that is not listed makes this fail to compile.
                let _ = |value: &Self| match value {
                    $($Type::$Variant { .. } => (),)+
                };
                let mut all = Vec::new();
                $(all.extend($crate::reader::samples::vary(|_pick| {
                    $($(let $field = _pick.next();)+)?
                    $($(let $place = _pick.next();)+)?
                    $Type::$Variant $({ $($field),+ })? $(( $($place),+ ))?
                }));)+
                all
            }
        }
    };
}

pub(super) use enum_samples;

macro_rules! samples {
    ($($Type:ty: $samples:expr;)+) => {$(
        impl Samples for $Type {
            fn samples() -> Vec<Self> {
                $samples.into()
            }
        }
    )+};
}

samples! {
    u32: [7, 0, u32::MAX];
    u64: [9, 0, u64::MAX];
    bool: [false, true];
    String: ["wwid 3600a", "", "ä\n"].map(String::from);
    Cow<'static, str>: [Cow::Borrowed("io_uring_setup"), Cow::Owned(String::new())];
    PathBuf: [b"/dev/sda".to_vec(), b"/dev/\xff".to_vec()].map(|name| OsString::from_vec(name).into());
    Duration: [Duration::from_millis(2), Duration::ZERO, Duration::from_nanos(u64::MAX)];
    SystemTime: Duration::samples().into_iter().map(|time| SystemTime::UNIX_EPOCH + time).collect::<Vec<_>>();
    Mono: [Mono::from_nanos(1), Mono::from_nanos(u64::MAX)];
    Errno: [1, 121, 4095].map(Errno::from_raw);
}

impl<T: Samples> Samples for Option<T> {
    fn samples() -> Vec<Self> {
        let some = T::samples().into_iter().map(Some);
        some.chain([None]).collect()
    }
}

impl<T: Samples> Samples for Vec<T> {
    fn samples() -> Vec<Self> {
        vec![T::samples(), Vec::new()]
    }
}
