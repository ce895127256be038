//! What every bench understands on its command line.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::Patience;

#[derive(Clone, Debug, Args)]
pub struct Common {
    /// A look at whether all works: fewer rounds, shorter, less exact.
    #[arg(long)]
    pub quick: bool,
    /// How often each turn comes.
    #[arg(long, value_name = "N")]
    pub rounds: Option<usize>,
    /// Put the tables into this file, between the bench's markers.
    #[arg(long, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// How long to wait, in all, for other programs to be quiet, and to repeat
    /// what they disturbed.
    #[arg(long, value_name = "S")]
    patience: Option<u64>,
    /// What `cargo bench` passes.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Common {
    pub fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 2 } else { 5 }).max(1)
    }

    pub fn patience(&self) -> Patience {
        let usual = if self.quick { 0 } else { 120 };
        Patience::of(Duration::from_secs(self.patience.unwrap_or(usual)))
    }
}
