//! Medians, quantiles and spreads.

/// The value below which the share `q` of the samples lies, between samples by their distance. `None` of no samples.
#[must_use]
pub fn quantile(samples: &[f64], q: f64) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let place = q.clamp(0.0, 1.0) * last as f64;
    let (below, share) = (place.floor(), place.fract());
    let at = |index: f64| sorted[(index as usize).min(last)];
    Some(at(below) * (1.0 - share) + at(below + 1.0) * share)
}

/// The middle of the samples.
#[must_use]
pub fn median(samples: &[f64]) -> Option<f64> {
    quantile(samples, 0.5)
}

/// What a figure comes to over the rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// The middle round.
    pub median: f64,
    /// The smallest round.
    pub min: f64,
    /// The largest round.
    pub max: f64,
    /// The median distance from the median.
    pub deviation: f64,
    /// How many rounds.
    pub rounds: usize,
}

impl Summary {
    /// The summary of these samples, one of each round. `None` of no samples.
    #[must_use]
    pub fn of(samples: &[f64]) -> Option<Self> {
        let median = median(samples)?;
        let distances: Vec<f64> = samples.iter().map(|sample| (sample - median).abs()).collect();
        Some(Self {
            median,
            min: quantile(samples, 0.0)?,
            max: quantile(samples, 1.0)?,
            deviation: self::median(&distances)?,
            rounds: samples.len(),
        })
    }

    /// The deviation as a share of the median.
    #[must_use]
    pub fn relative_deviation(&self) -> f64 {
        if self.median == 0.0 { 0.0 } else { (self.deviation / self.median).abs() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_lies_between_the_samples_around_it() {
        let samples = [40.0, 10.0, 20.0, 30.0];
        let cases = [(0.0, 10.0), (0.5, 25.0), (1.0, 40.0), (0.25, 17.5), (2.0, 40.0)];
        for (q, expected) in cases {
            assert_eq!(quantile(&samples, q), Some(expected), "{q}");
        }
        assert_eq!(quantile(&[7.0], 0.99), Some(7.0));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn a_wild_round_moves_neither_median_nor_deviation_far() {
        let summary = Summary::of(&[10.0, 11.0, 9.0, 10.0, 1_000.0]).unwrap();
        assert_eq!((summary.median, summary.min, summary.max), (10.0, 9.0, 1_000.0));
        assert_eq!((summary.deviation, summary.rounds), (1.0, 5));
        assert!((summary.relative_deviation() - 0.1).abs() < 1e-12);
        assert_eq!(Summary::of(&[]), None);
    }
}
