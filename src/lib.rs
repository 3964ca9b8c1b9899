//! pathpulse
