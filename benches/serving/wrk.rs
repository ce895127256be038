//! wrk, a load generator that nobody here wrote, for what ours does not do:
//! HTTPS, and a connection for each request.

#![allow(
    clippy::disallowed_methods,
    reason = "a bench sets its scene as it likes, in a folder of its own"
)]

use std::{fs, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};

use crate::support::Stage;

/// Asked for with the figures of all its threads, in units.
const SCRIPT: &str = r#"
done = function(summary)
  local errors = summary.errors
  local broken = errors.connect + errors.read + errors.write + errors.status
  io.write(string.format("figures %d %d %d %d\n",
    summary.requests, summary.bytes, summary.duration, broken))
end
"#;

/// What it saw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub answers: f64,
    pub bytes: f64,
    pub took_s: f64,
}

/// How it asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    pub connections: usize,
    /// Of whole seconds, as it has it.
    pub time: Duration,
    /// A connection for each request.
    pub close: bool,
}

pub(crate) fn run(stage: &Stage, url: &str, way: Way) -> Result<Seen> {
    let script = stage.make("wrk")?.join("figures.lua");
    fs::write(&script, SCRIPT)?;
    let mut command = Command::new("wrk");
    command.args(["-t1", "-c", &way.connections.to_string()]);
    command.args(["-d", &format!("{}s", way.time.as_secs().max(1))]);
    command.arg("-s").arg(script);
    command.args(way.close.then_some(["-H", "Connection: close"]).into_iter().flatten());
    let output = command.arg(url).output().context("cannot run wrk; benches/run installs it")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let figures = || {
        let line = said.lines().find_map(|line| line.strip_prefix("figures "))?;
        let figures: Vec<f64> = line.split(' ').filter_map(|n| n.parse().ok()).collect();
        <[f64; 4]>::try_from(figures).ok()
    };
    let [answers, bytes, microseconds, broken] =
        figures().with_context(|| format!("wrk has no figures of {url}:\n{said}"))?;
    ensure!(broken == 0.0, "wrk had {broken} errors with {url}:\n{said}");
    Ok(Seen { answers, bytes, took_s: microseconds / 1e6 })
}
