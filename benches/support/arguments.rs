//! Command line arguments of every bench.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::Patience;

#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// A check that everything works: fewer rounds, shorter, less exact.
    #[arg(long)]
    pub quick: bool,
    /// Number of rounds.
    #[arg(long, value_name = "N")]
    pub rounds: Option<usize>,
    /// Put the tables into this file, between the bench's markers.
    #[arg(long, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// Total time to wait for other programs to be quiet, and to repeat disturbed
    /// measurements.
    #[arg(long, value_name = "S")]
    patience: Option<u64>,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Common {
    pub(crate) fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 2 } else { 5 }).max(1)
    }

    pub(crate) fn patience(&self) -> Patience {
        let usual = if self.quick { 0 } else { 120 };
        Patience::of(Duration::from_secs(self.patience.unwrap_or(usual)))
    }
}
