//! The daemon's time limits, which its events are checked against.
//!
//! **Down**, after a fault that lets no read succeed, within `interval * fall + timeout +
//! tolerance` of the injection. The last check without the fault started before it, so the next one
//! starts within an interval. That check and the following ones are bad, and a bad check takes at
//! most the timeout. If the device may take longer than an interval to answer, the next check is
//! delayed by the difference.
//!
//! **Up**, after the end of the fault, within `linger + interval + slot + (rise - 1) * (interval /
//! 4 + slot) + rise * latency + tolerance`. Reads may still hang for the linger time of the fault.
//! The next check starts at most an interval later, and a path that is about to come back is
//! checked every quarter of an interval. Checks that are due within a slot, a twentieth of the
//! interval, start together. A device that came back under its name must be found first: each check
//! tries the name, and if the device appears just after that, the next check finds it. A path that
//! has been down for long is checked less often: after a 32nd of that time, if that is longer than
//! the interval.

use std::time::Duration;

/// A point in time: the time since the start of the run.
pub type At = Duration;

/// The daemon's settings that determine its events and their times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The time between checks.
    pub interval: Duration,
    /// The time limit of a check.
    pub timeout: Duration,
    /// Consecutive bad checks that take a path down.
    pub fall: u32,
    /// Consecutive good checks that bring it back.
    pub rise: u32,
    /// The allowance for the machine.
    pub tolerance: Duration,
    /// A returning path is marginal after more falls than this within `flap_window`; 0 for never.
    pub flaps: u32,
    /// See `flaps`.
    pub flap_window: Duration,
    /// How long a marginal path must have no bad check.
    pub recovery: Duration,
    /// A path is marginal after more bad checks than this, per mille of the last hundred; 1000 for
    /// never.
    pub marginal_errors: u32,
    /// The additional time for finding a device that was gone.
    pub reopen: Duration,
}

impl Limits {
    /// The given interval and timeout, and the daemon's defaults otherwise.
    pub fn new(interval: Duration, timeout: Duration) -> Limits {
        Limits {
            interval,
            timeout,
            fall: 1,
            rise: 2,
            tolerance: Duration::from_millis(250),
            flaps: 3,
            flap_window: Duration::from_secs(300),
            recovery: Duration::from_secs(60),
            marginal_errors: 100,
            reopen: interval + slot(interval),
        }
    }

    /// Whether a path can be marginal because of its share of bad checks.
    pub fn has_error_rate(&self) -> bool {
        self.marginal_errors < 1000
    }

    /// A configuration file of the daemon with these settings.
    pub fn as_configuration(&self) -> String {
        let Limits {
            fall,
            rise,
            flaps,
            marginal_errors,
            ..
        } = self;
        let ms = |span: Duration| format!("\"{}ms\"", span.as_millis());
        format!(
            "[defaults]\ninterval = {}\ntimeout = {}\nfall = {fall}\nrise = {rise}\n\
            marginal_errors = {marginal_errors}\nflaps = {flaps}\nflap_window = {}\nrecovery = {}\n",
            ms(self.interval),
            ms(self.timeout),
            ms(self.flap_window),
            ms(self.recovery)
        )
    }

    /// The limit for `down` after a device with this latency stopped working.
    pub fn detection_limit(&self, latency: Duration) -> Duration {
        let put_off = latency.saturating_sub(self.interval);
        self.interval * self.fall + self.timeout + put_off + self.tolerance
    }

    /// The limit for coming back after the last read of a fault has ended, for a device with this
    /// latency.
    pub fn recovery_limit(&self, latency: Duration) -> Duration {
        let later = (self.interval / 4 + slot(self.interval)) * self.rise.saturating_sub(1);
        self.interval + slot(self.interval) + later + latency * self.rise + self.tolerance
    }

    /// The limit for being up again after the last bad check of a marginal path.
    pub fn marginal_limit(&self, latency: Duration) -> Duration {
        self.recovery + self.interval + slot(self.interval) + latency + self.tolerance
    }

    /// How much later a path is checked that has been down for this long.
    pub fn backoff(&self, down_for: Duration) -> Duration {
        (down_for / 32).saturating_sub(self.interval)
    }
}

/// Checks that are due within this time start together.
fn slot(interval: Duration) -> Duration {
    (interval / 20).clamp(Duration::from_millis(1), Duration::from_millis(64))
}
