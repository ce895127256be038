//! Arguments of task types at a node: checking declarations, and the runner of programs.

use std::path::PathBuf;

use clap::Args;

#[derive(Clone, Debug, Args)]
#[command(after_help = concat!(
    "Examples:\n",
    "  edge-mirror tasks check\n",
    "  edge-mirror tasks check ./tasks.d --json\n",
    "\nExit codes: 0 all are valid, 1 failed, 2 wrong arguments, 3 mistakes were found.",
))]
pub struct TypeCheckArgs {
    /// The folder; by default tasks.folder of the configuration.
    #[arg(value_name = "DIR")]
    pub folder: Option<PathBuf>,
    /// The configuration file; by default node_config.json here, or else the one
    /// in /etc/edge-mirror.
    #[arg(long, value_name = "FILE", conflicts_with = "folder")]
    pub config: Option<PathBuf>,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// The program of one run; the node or systemd starts it.
#[derive(Clone, Debug, Args)]
pub struct TaskRunnerArgs {
    #[arg(long, required_unless_present = "confine")]
    pub types: Option<PathBuf>,
    #[arg(long, required_unless_present = "confine")]
    pub work: Option<PathBuf>,
    /// It is a unit of systemd.
    #[arg(long)]
    pub unit: bool,
    /// The second step, which becomes the program.
    #[arg(long, conflicts_with_all = ["types", "work", "unit"])]
    pub confine: bool,
}
