//! Encodings of the library's types that messages consist of. Enums that have a code already are
//! sent as that code.

use pathpulse_kernel_compat::{BackendKind, Choice, KernelError, RingFeatures, Unavailable};

use crate::config::{BackendInfo, StartError};
use crate::device::{DeviceId, DeviceInfo, Identity, OpenProblem, Unbacked};
use crate::health::{Cause, Rules, State, pack, unpack};
use crate::reader::codec::{Input, Malformed, Wire, wire_enum, wire_struct};
use crate::settings::{Place, Region, Settings, Sleeping};
use crate::status::NameDecision;

// Settings.

wire_struct!(Settings {
    interval,
    timeout,
    backoff_max,
    rules,
    region,
    sleeping
});
wire_struct!(Rules {
    fall,
    rise,
    marginal_errors_per_mille,
    flaps,
    flap_window,
    marginal_latency,
    marginal_latency_floor,
    recovery
});
wire_struct!(Region { place, len_bytes });
wire_enum!(Place { 0 => First, 1 => Last, 2 => Rotating });
wire_enum!(Sleeping { 0 => Read, 1 => Leave });

// The backend.

wire_enum!(Choice { 0 => Auto, 1 => Only(kind), 2 => Unlinked });
wire_enum!(BackendKind { 0 => IoUring, 1 => Aio, 2 => Sync, 3 => Scripted });
wire_struct!(BackendInfo {
    kind,
    features,
    unavailable
});
wire_struct!(RingFeatures {
    defer_taskrun,
    coop_taskrun,
    registered_ring_fd,
    registered_files,
    registered_buffers,
    min_wait,
    no_iowait,
    bounded_workers,
    sq_entries,
    cq_entries
});
wire_struct!(Unavailable { kind, error });
wire_struct!(KernelError { call, errno, hint });
wire_enum!(StartError { 0 => NoBackend(tried), 1 => NoThread(error) });

// Devices and names.

wire_enum!(DeviceId { 0 => Block { major, minor }, 1 => File { filesystem, inode } });
wire_struct!(Identity { device, generation });
wire_enum!(OpenProblem {
    0 => Open(errno),
    1 => NotStorage,
    2 => NoDirectIo,
    3 => Empty { size, block },
    4 => BlockSize(block),
    5 => Unbacked(why),
    6 => Twice { first },
    7 => Blocked,
    8 => Closed,
});
wire_enum!(Unbacked { 0 => Hole, 1 => Unwritten, 2 => Inline, 3 => Encoded, 4 => Buffered });
wire_enum!(NameDecision { 0 => Follow, 1 => KeepDevice(description), 2 => NotWatched });

impl Wire for DeviceInfo {
    fn put(&self, out: &mut Vec<u8>) {
        let (size_bytes, texts) = self.parts();
        size_bytes.put(out);
        Box::<str>::from(texts).put(out);
    }

    fn take(from: &mut Input<'_>) -> Result<DeviceInfo, Malformed> {
        let info = DeviceInfo::from_parts(Wire::take(from)?, Wire::take(from)?);
        info.ok_or(Malformed("a description with an empty line at its end"))
    }
}

// States.

impl Wire for State {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(*self as u8);
    }

    fn take(from: &mut Input<'_>) -> Result<State, Malformed> {
        let state = State::ALL.get(usize::from(u8::take(from)?));
        state.copied().ok_or(Malformed("an unknown state"))
    }
}

/// Packed with a state that is of no account.
impl Wire for Cause {
    fn put(&self, out: &mut Vec<u8>) {
        pack(State::default(), *self).put(out);
    }

    fn take(from: &mut Input<'_>) -> Result<Cause, Malformed> {
        let word = u64::take(from)?;
        let (_, cause) = unpack(word);
        let is_known = pack(State::default(), cause) == word;
        is_known
            .then_some(cause)
            .ok_or(Malformed("an unknown cause"))
    }
}

/// Samples of the types whose encodings are not derived.
#[cfg(test)]
mod samples {
    use super::*;
    use crate::health::VerdictKind;
    use crate::reader::samples::{Samples, enum_samples};

    enum_samples!(State {
        Pending,
        Up,
        Marginal,
        Standby,
        Down,
        Paused
    });
    enum_samples!(Cause {
        NotChecked,
        Verdict(kind, errno),
        ErrorRate,
        Flapping,
        Slow,
        LastUsable,
        Command,
        LateAnswer,
        LeadsElsewhere,
    });
    enum_samples!(VerdictKind {
        Good,
        Busy,
        Failed,
        ShortRead,
        TimedOut,
        Saturated,
        Offline,
        Standby,
        Unknown,
    });
    impl Samples for DeviceInfo {
        fn samples() -> Vec<DeviceInfo> {
            let parts = [(Some(512), "sda\n\n3600a"), (None, ""), (Some(0), "dm-0")];
            let infos = parts.map(|(size, texts)| DeviceInfo::from_parts(size, texts.into()));
            infos.into_iter().flatten().collect()
        }
    }
}
