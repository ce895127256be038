//! The product's own limits, compared with measurements.

use super::{Table, stats};

pub(crate) struct Limit {
    pub what: String,
    pub at_most: f64,
    pub unit: &'static str,
    pub measured: f64,
}

impl Limit {
    pub(crate) fn new(
        what: impl Into<String>,
        at_most: f64,
        unit: &'static str,
        measured: f64,
    ) -> Self {
        Self { what: what.into(), at_most, unit, measured }
    }
}

pub(crate) fn table(limits: &[Limit]) -> Table {
    let mut table = Table::new(&["limit", "at most", "measured", ""]);
    for limit in limits {
        let unit = if limit.unit.is_empty() { "" } else { &format!(" {}", limit.unit) };
        table.row([
            limit.what.clone(),
            format!("{}{unit}", stats::plain(limit.at_most)),
            format!("{}{unit}", stats::figure(limit.measured)),
            stats::verdict(limit.measured, limit.at_most),
        ]);
    }
    table
}
