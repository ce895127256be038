//! Downloads and nodes over the last thirty days: by the minute for a day, by the hour
//! before. Pure: the time is passed in.

use std::time::Duration;

use edge_mirror_base::clock::{UnixMillis, fractional_seconds};
use serde::{Deserialize, Serialize};

/// The lengths of the periods that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HistoryStep {
    Minute,
    Hour,
}

impl HistoryStep {
    pub(crate) const fn length(self) -> Duration {
        Duration::from_secs(match self {
            Self::Minute => 60,
            Self::Hour => 3600,
        })
    }

    /// Age at which periods are dropped. Minutes outlast the hour that is made of them.
    pub(crate) const fn kept_for(self) -> Duration {
        const DAY_S: u64 = 24 * 3600;
        Duration::from_secs(match self {
            Self::Minute => DAY_S,
            Self::Hour => 30 * DAY_S,
        })
    }

    /// The start of the period that `at` is in.
    pub(crate) fn start_of(self, at: UnixMillis) -> UnixMillis {
        let length_s = self.length().as_secs();
        UnixMillis::from_secs(at.as_secs() / length_s * length_s)
    }
}

/// Counts of a period, and what was there at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PeriodFigures {
    /// Downloads that were redirected to nodes.
    pub(crate) redirects: u64,
    /// Downloads that were served by the main server.
    pub(crate) own_downloads: u64,
    /// Downloads that clients asked for and did not get.
    pub(crate) refused_downloads: u64,
    /// Bytes of packages that the main server sent.
    pub(crate) bytes_served: u64,
    /// Nodes that were there; the fewest of it in a longer period.
    pub(crate) nodes: u64,
    /// Known nodes that were silent; the most of it.
    pub(crate) silent_nodes: u64,
    /// Meetings that were running; the most of it.
    pub(crate) running_meetings: u64,
}

impl PeriodFigures {
    /// These figures, and those of a period after it.
    fn and(self, later: Self) -> Self {
        Self {
            redirects: self.redirects + later.redirects,
            own_downloads: self.own_downloads + later.own_downloads,
            refused_downloads: self.refused_downloads + later.refused_downloads,
            bytes_served: self.bytes_served + later.bytes_served,
            nodes: self.nodes.min(later.nodes),
            silent_nodes: self.silent_nodes.max(later.silent_nodes),
            running_meetings: self.running_meetings.max(later.running_meetings),
        }
    }

    /// The increase of the counters since `before`; the others as they are.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            redirects: self.redirects.saturating_sub(before.redirects),
            own_downloads: self.own_downloads.saturating_sub(before.own_downloads),
            refused_downloads: self.refused_downloads.saturating_sub(before.refused_downloads),
            bytes_served: self.bytes_served.saturating_sub(before.bytes_served),
            ..self
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct HistoryPeriod {
    /// Its start.
    #[serde(with = "fractional_seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub(crate) at: UnixMillis,
    #[serde(flatten)]
    pub(crate) figures: PeriodFigures,
}

/// Periods of a step to save, and the time from which those of before are kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HistoryChange {
    pub(crate) step: HistoryStep,
    pub(crate) periods: Vec<HistoryPeriod>,
    pub(crate) kept_from: UnixMillis,
}

/// Puts periods of the same time together, as several main servers have them.
pub(crate) fn together(periods: Vec<HistoryPeriod>) -> Vec<HistoryPeriod> {
    let mut all: Vec<HistoryPeriod> = Vec::with_capacity(periods.len());
    for period in periods {
        match all.last_mut().filter(|last| last.at == period.at) {
            // Each counts the nodes of all, but for one that has just begun to listen.
            Some(last) => {
                let nodes = last.figures.nodes.max(period.figures.nodes);
                last.figures = PeriodFigures { nodes, ..last.figures.and(period.figures) };
            }
            None => all.push(period),
        }
    }
    all
}

/// Puts the minutes of each hour together.
pub(crate) fn hours_of(minutes: &[HistoryPeriod]) -> Vec<HistoryPeriod> {
    let mut hours: Vec<HistoryPeriod> = Vec::new();
    for minute in minutes {
        let at = HistoryStep::Hour.start_of(minute.at);
        match hours.last_mut().filter(|hour| hour.at == at) {
            Some(hour) => hour.figures = hour.figures.and(minute.figures),
            None => hours.push(HistoryPeriod { at, figures: minute.figures }),
        }
    }
    hours
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_has_the_sum_of_its_minutes_and_the_worst_of_their_nodes() {
        let minute = |at_s, redirects, nodes, silent_nodes| HistoryPeriod {
            at: UnixMillis::from_secs(at_s),
            figures: PeriodFigures { redirects, nodes, silent_nodes, ..PeriodFigures::default() },
        };
        let hours = hours_of(&[
            minute(3540, 1, 9, 0),
            minute(3600, 2, 8, 1),
            minute(3660, 3, 9, 0),
            minute(7200, 4, 9, 0),
        ]);
        assert_eq!(hours, [minute(0, 1, 9, 0), minute(3600, 5, 8, 1), minute(7200, 4, 9, 0)]);
    }

    #[test]
    fn counters_count_from_the_last_period_and_gauges_stand_for_themselves() {
        let figures =
            |redirects, nodes| PeriodFigures { redirects, nodes, ..PeriodFigures::default() };
        assert_eq!(figures(7, 3).since(figures(5, 4)), figures(2, 3));
        let at = UnixMillis::from_millis(7_265_999);
        assert_eq!(HistoryStep::Minute.start_of(at).as_secs(), 7260);
        assert_eq!(HistoryStep::Hour.start_of(at).as_secs(), 7200);
    }
}
