//! What the daemon promises, in time: the limits that its events are held to.
//!
//! **Down**, after a fault that lets no read succeed, within `interval * fall + timeout + tolerance` of the injection:
//! the last check that the fault spared began before it, so the next one begins within an interval; that one and those
//! that follow are bad, and a bad check takes at most the timeout. A check that the device was allowed to take longer
//! over than an interval puts the next one off by what it took.
//!
//! **Up**, after the fault has ended, within `linger + interval + slot + (rise - 1) * (interval / 4 + slot) + rise *
//! latency + tolerance`: reads may still hang for as long as the fault lingers; the next check begins an interval later
//! at most, and as long as a path is about to come back it is checked every quarter of an interval. What is due within
//! a slot, a twentieth of the interval, is due together. A device that came back under its name has to be found first: the name
//! is tried at every check, and one that came too early puts it off to the next. A path that has been down for long is
//! checked less often: after a 32nd of that time, if that is longer than the interval.

use std::time::Duration;

/// A moment: the time since the run began.
pub type At = Duration;

/// The daemon's settings, as far as they decide what it has to say and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// From check to check.
    pub interval: Duration,
    /// What a check may take.
    pub timeout: Duration,
    /// Bad checks in a row that make a path down.
    pub fall: u32,
    /// Good checks in a row that bring it back.
    pub rise: u32,
    /// What the machine may add.
    pub tolerance: Duration,
    /// More falls than this within `flap_window` make a path marginal that comes back; 0 for never.
    pub flaps: u32,
    /// See `flaps`.
    pub flap_window: Duration,
    /// How long a marginal path has to be without a bad check.
    pub recovery: Duration,
    /// More bad checks than this, per mille of the last hundred, make a path marginal; 1000 for never.
    pub marginal_errors: u32,
    /// What it may take longer to find a device that was gone.
    pub reopen: Duration,
}

impl Terms {
    /// The daemon's own settings for all but these.
    pub fn new(interval: Duration, timeout: Duration) -> Terms {
        Terms {
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

    /// Whether a path may be marginal for the share of its bad checks.
    pub fn has_error_rate(&self) -> bool {
        self.marginal_errors < 1000
    }

    /// A configuration file of the daemon that says all of this.
    pub fn as_configuration(&self) -> String {
        let Terms {
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

    /// The limit for `down` after a device that took `latency` to answer stopped working.
    pub fn detection(&self, latency: Duration) -> Duration {
        let put_off = latency.saturating_sub(self.interval);
        self.interval * self.fall + self.timeout + put_off + self.tolerance
    }

    /// The limit for coming back after the last read of a fault has ended, of a device with this latency.
    pub fn comeback(&self, latency: Duration) -> Duration {
        let later = (self.interval / 4 + slot(self.interval)) * self.rise.saturating_sub(1);
        self.interval + slot(self.interval) + later + latency * self.rise + self.tolerance
    }

    /// The limit for being up again after the last bad check that a marginal path may have had.
    pub fn cleared(&self, latency: Duration) -> Duration {
        self.recovery + self.interval + slot(self.interval) + latency + self.tolerance
    }

    /// How much later a path is checked that has been down for so long.
    pub fn patience(&self, down_for: Duration) -> Duration {
        (down_for / 32).saturating_sub(self.interval)
    }
}

/// What is due within this is due together.
fn slot(interval: Duration) -> Duration {
    (interval / 20).clamp(Duration::from_millis(1), Duration::from_millis(64))
}
