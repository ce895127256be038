//! What criterion found, as a table.

use std::{fs, path::Path};

use anyhow::Result;
use serde_json::Value;

use super::{COUNTS, PANEL, PLANNING, STATUS};
use crate::support::{Limit, Samples, Table, stats};

/// Beyond ten, it is the processor's caches that no longer hold everything;
/// what sorts comes to 14.
const LINEAR: f64 = 12.0;

/// Of one thing, the medians at [`COUNTS`], in milliseconds.
pub(crate) struct Found {
    name: String,
    medians_ms: [f64; COUNTS.len()],
}

impl Found {
    fn at_most_ms(&self) -> f64 {
        self.medians_ms[COUNTS.len() - 1]
    }

    /// By how much ten times as many cost more, over the last two steps: below
    /// them, what does not grow is most of it.
    fn growth(&self) -> f64 {
        (self.medians_ms[3] / self.medians_ms[1]).sqrt()
    }
}

/// What was measured at each of the counts.
pub(crate) fn read(results: &Path) -> Result<Vec<Found>> {
    let groups = fs::read_dir(results)?.flatten();
    let mut found: Vec<_> = groups.filter_map(|group| of_group(&group.path())).collect();
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

fn of_group(group: &Path) -> Option<Found> {
    let mut found = Found { name: String::new(), medians_ms: [f64::NAN; COUNTS.len()] };
    for (median_ms, count) in found.medians_ms.iter_mut().zip(COUNTS) {
        let run = group.join(count.to_string()).join("new");
        let read = |file| serde_json::from_slice::<Value>(&fs::read(run.join(file)).ok()?).ok();
        read("benchmark.json")?["group_id"].as_str()?.clone_into(&mut found.name);
        *median_ms = read("estimates.json")?["median"]["point_estimate"].as_f64()? / 1e6;
    }
    Some(found)
}

pub(crate) fn table(found: &[Found]) -> Table {
    let mut table =
        Table::new(&["CPU time, ms (ns for each)", "10", "100", "1,000", "10,000", "×10 →"]);
    for found in found {
        let cells = found.medians_ms.iter().zip(COUNTS).map(|(ms, count)| {
            let each_ns = ms * 1e6 / count as f64;
            format!("{} ({})", stats::figure(*ms), stats::figure(each_ns))
        });
        let (name, growth) = (found.name.clone(), stats::figure(found.growth()));
        table.row([name].into_iter().chain(cells).chain([growth]));
    }
    table
}

pub(crate) fn limits(found: &[Found]) -> Vec<Limit> {
    let milliseconds = |name: &str, at_most| {
        let of = found.iter().find(|found| found.name == name);
        let measured = of.map_or(f64::NAN, Found::at_most_ms);
        Limit::new(format!("{name}: 10,000 packages"), at_most, "ms", measured)
    };
    let worst = found.iter().map(Found::growth).collect::<Samples>().max();
    vec![
        milliseconds(STATUS, 20.0),
        milliseconds(PANEL, 20.0),
        milliseconds(PLANNING, 5.0),
        Limit::new("growth of any, for ten times as many (10 is linear)", LINEAR, "", worst),
    ]
}
