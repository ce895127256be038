//! Medians, spread and ratios, and their formatting.

use std::fmt;

/// Measured values, sorted; without those that could not be measured (a ratio to zero,
/// for example).
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Samples(Vec<f64>);

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut values: Vec<_> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }
}

impl Samples {
    /// Ratios of measurements made in pairs, one in each round.
    pub(crate) fn ratios(over: &[f64], under: &[f64]) -> Self {
        over.iter().zip(under).map(|(over, under)| over / under).collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Returns the value below which this share of them lies (nearest rank); NaN if empty.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.clamp(1, self.0.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
    }

    /// Returns the middle one, or the mean of the two in the middle.
    pub(crate) fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        match self.0.len() {
            0 => f64::NAN,
            odd if odd % 2 == 1 => self.0[middle],
            _ => f64::midpoint(self.0[middle - 1], self.0[middle]),
        }
    }

    pub(crate) fn min(&self) -> f64 {
        self.0.first().copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn max(&self) -> f64 {
        self.0.last().copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len() as f64
    }

    /// Formats `median (min–max)`, each times `scale`.
    pub(crate) fn spread(&self, scale: f64) -> String {
        let part = |value: f64| figure(value * scale);
        match self.0.len() {
            0 => "–".to_owned(),
            1 => part(self.median()),
            _ => format!("{} ({}–{})", part(self.median()), part(self.min()), part(self.max())),
        }
    }
}

impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.spread(1.0))
    }
}

/// Formats three significant digits.
pub(crate) fn figure(value: f64) -> String {
    match value.abs() {
        _ if value.is_nan() => "–".to_owned(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 || size == 0.0 => format!("{value:.2}"),
        size if size >= 0.01 => format!("{value:.3}"),
        _ => format!("{value:.5}"),
    }
}

/// Formats a number that somebody chose.
pub(crate) fn plain(value: f64) -> String {
    value.to_string()
}

/// Tells if a measurement keeps a limit, and by how much it does not.
pub(crate) fn verdict(measured: f64, at_most: f64) -> String {
    match measured / at_most - 1.0 {
        beyond if beyond.is_nan() => "not measured".to_owned(),
        beyond if beyond <= 0.0 => "kept".to_owned(),
        beyond => format!("**missed by {} %**", figure(beyond * 100.0)),
    }
}

/// Formats a ratio, all alike to compare.
pub(crate) fn ratio(value: f64) -> String {
    if value.is_nan() { "–".to_owned() } else { format!("{value:.2}") }
}

/// Formats `median (min–max)` of ratios.
pub(crate) fn ratio_spread(samples: &Samples) -> String {
    match samples.count() {
        0 | 1 => ratio(samples.median()),
        _ => format!(
            "**{}** ({}–{})",
            ratio(samples.median()),
            ratio(samples.min()),
            ratio(samples.max())
        ),
    }
}
