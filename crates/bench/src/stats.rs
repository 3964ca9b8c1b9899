//! Medians and spread.

use serde::Serialize;

/// The median, minimum and maximum.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The minimum.
    pub least: f64,
    /// The maximum.
    pub greatest: f64,
}

impl Spread {
    /// `None` if there are no values.
    pub fn of(figures: &[f64]) -> Option<Spread> {
        Some(Spread {
            median: rounded(percentile(figures, 50.0)?),
            least: rounded(percentile(figures, 0.0)?),
            greatest: rounded(percentile(figures, 100.0)?),
        })
    }
}

/// The smallest value that is not below `percent` percent of the values. `None` if there are none.
pub(crate) fn percentile(figures: &[f64], percent: f64) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let index = (last as f64 * percent / 100.0).ceil() as usize;
    sorted.get(index.min(last)).copied()
}

/// Rounds to four digits, because these values are not more precise.
pub(crate) fn rounded(figure: f64) -> f64 {
    if figure == 0.0 || !figure.is_finite() {
        return 0.0;
    }
    let scale = 10_f64.powi(3 - figure.abs().log10().floor() as i32);
    (figure * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_measured_values() {
        let figures = [5.0, 1.0, 3.0, 2.0, 4.0];
        assert_eq!(percentile(&figures, 0.0), Some(1.0));
        assert_eq!(percentile(&figures, 50.0), Some(3.0));
        assert_eq!(percentile(&figures, 99.0), Some(5.0));
        assert_eq!(percentile(&[], 50.0), None);
    }

    #[test]
    fn four_digits_are_kept() {
        assert_eq!(rounded(1_234_567.0), 1_235_000.0);
        assert_eq!(rounded(0.012_345_6), 0.012_35);
        assert_eq!(rounded(0.0), 0.0);
    }
}
