//! What the kernel owns.
//!
//! The table of flights owns every operation and its buffer from submit until the kernel's last
//! word about it. A flight whose deadline passed stays, with its buffer, in quarantine: nothing
//! else may use that memory until the read's own completion, should it ever come.

use crate::backend::Op;
use crate::buffer::Buffer;
use crate::table::Table;

/// One operation that the kernel knows of. `X` is what the backend itself notes about it.
pub(crate) struct Flight<X> {
    /// As it was submitted.
    pub(crate) op: Op,
    /// What the kernel writes into; `None` once the read ended and it went back to the pool.
    pub(crate) buffer: Option<Buffer>,
    /// The backend's own notes.
    pub(crate) notes: X,
}

/// All flights of one backend.
pub(crate) type InFlight<X> = Table<Flight<X>>;
