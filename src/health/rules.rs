//! The settings of the state machine.

use std::time::Duration;

/// How verdicts become states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Bad verdicts in a row that make a path `Down`; at least 1.
    pub fall: u32,
    /// Good verdicts in a row that bring it back; at least 1.
    pub rise: u32,
    /// More bad verdicts than this, per mille of the last hundred, make a path `Marginal`. 1000
    /// disables the rule.
    pub marginal_errors_per_mille: u32,
    /// More falls than this within `flap_window` make a path `Marginal` when it comes back; at most
    /// 7. 0 disables the rule.
    pub flaps: u32,
    /// See `flaps`.
    pub flap_window: Duration,
    /// A median latency of more than this many times that of its peers makes a path `Marginal`. 0
    /// disables the rule.
    pub marginal_latency: u32,
    /// A median latency up to this is never too slow, however fast the peers are.
    pub marginal_latency_floor: Duration,
    /// How long a `Marginal` path must be without a bad verdict, and not slow, to become `Up`.
    pub recovery: Duration,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            fall: 1,
            rise: 2,
            marginal_errors_per_mille: 100,
            flaps: 3,
            flap_window: Duration::from_secs(300),
            marginal_latency: 5,
            marginal_latency_floor: Duration::from_millis(5),
            recovery: Duration::from_secs(60),
        }
    }
}
