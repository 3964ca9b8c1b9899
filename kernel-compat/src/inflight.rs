//! The reads that the kernel owns.
//!
//! The table of flights owns every operation and its buffer from the submission to the last
//! completion. A flight whose deadline passed stays in the table with its buffer, in quarantine:
//! nothing else may use that memory before the read's own completion arrives, if it ever does.

use crate::backend::Op;
use crate::buffer::Buffer;
use crate::table::Table;

/// One operation that the kernel knows. `X` is the backend's own state of it.
pub(crate) struct Flight<X> {
    /// The operation as submitted.
    pub(crate) op: Op,
    /// The memory that the kernel writes into. `None` once the read ended and the buffer went back
    /// to the pool.
    pub(crate) buffer: Option<Buffer>,
    /// The backend's own state.
    pub(crate) state: X,
}

/// All flights of one backend.
pub(crate) type InFlight<X> = Table<Flight<X>>;
