//! Summaries like those of Prometheus' Go library: quantiles of the values of the last ten seconds, and sum and number
//! of all values. Formats nothing.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The quantiles of every summary.
pub(super) const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];

/// The time whose values have quantiles. Without values, the quantiles are NaN.
const WINDOW: Duration = Duration::from_secs(10);

/// The number of values that are kept for quantiles. If the window has more, the latest count.
const MOST: usize = 512;

#[derive(Debug, Default)]
pub(super) struct Summary {
    pub(super) sum: f64,
    pub(super) count: u64,
    window: VecDeque<(Instant, f64)>,
}

impl Summary {
    pub(super) fn add(&mut self, value: f64, now: Instant) {
        self.sum += value;
        self.count += 1;
        if self.window.len() == MOST {
            self.window.pop_front();
        }
        self.window.push_back((now, value));
    }

    /// The quantiles at [`QUANTILES`].
    pub(super) fn quantiles(&self, now: Instant) -> [f64; 3] {
        let recent = self.window.iter().filter(|(at, _)| now.saturating_duration_since(*at) <= WINDOW);
        let mut values: Vec<f64> = recent.map(|(_, value)| *value).collect();
        values.sort_unstable_by(f64::total_cmp);
        QUANTILES.map(|quantile| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "there are few values, and a quantile is below 1"
            )]
            let rank = (values.len() as f64 * quantile) as usize;
            values.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_last_seconds_and_of_a_bounded_number() {
        let (mut summary, start) = (Summary::default(), Instant::now());
        summary.add(1000.0, start);
        assert_eq!(summary.quantiles(start), [1000.0; 3]);
        assert!(summary.quantiles(start + WINDOW * 2).iter().all(|value| value.is_nan()));
        for _ in 0..3 * MOST {
            summary.add(1.0, start);
        }
        assert_eq!(summary.quantiles(start), [1.0; 3], "the oldest was dropped");
        assert_eq!((summary.count, summary.window.len()), (1 + 3 * MOST as u64, MOST));
    }
}
