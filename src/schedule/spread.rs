//! Numbers that are spread evenly, however many there are.

/// The `nth` of numbers below `range` that are spread evenly, for any count of them: multiples of
/// the golden ratio. One more of them moves none.
pub(crate) fn spread(nth: u64, range: u64) -> u64 {
    /// Two to the power of 64, divided by the golden ratio.
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let fraction = u128::from(nth.wrapping_mul(GOLDEN));
    ((fraction * u128::from(range)) >> 64) as u64
}
