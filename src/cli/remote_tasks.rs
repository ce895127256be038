//! Arguments of the commands for remote tasks: work that nodes do.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};

use super::{
    LoginArgs, MasterTargetArgs, destination::Destination, messages::MessagePriority,
    task_types::TypeCheckArgs, units,
};

#[derive(Clone, Debug, Args)]
#[command(after_help = concat!(
    "Examples:\n",
    "  edge-mirror run sleep seconds=3 --wait\n",
    "  edge-mirror run verify --on site:north --master 192.168.1.10:8000 --wait\n",
    "  edge-mirror run convert format=pdf --split --input documents.txt --wait\n",
    "\nExit codes: 0 done, 1 failed, 2 wrong arguments, 3 with --wait: not all of it was done.",
))]
pub struct RunArgs {
    /// The type of task; 'edge-mirror tasks types' lists those that nodes offer.
    #[arg(value_name = "TYPE")]
    pub task_type: String,
    /// Its parameters, such as seconds=3. A value is JSON where the type takes a
    /// number or a boolean, else a text.
    #[arg(value_name = "KEY=VALUE", value_parser = parameter)]
    pub parameters: Vec<(String, String)>,
    /// Run it once on each of these: all, a node's ID, site:NAME, label:NAME or
    /// group:NAME; can be given several times. By default the best node runs it.
    #[arg(long, value_name = "NODES")]
    pub on: Vec<Destination>,
    /// Only the best of the nodes that --on names runs it.
    #[arg(long, requires = "on", conflicts_with = "split")]
    pub best: bool,
    /// JSON for its standard input, from a file; - reads it from the standard
    /// input. With --split, a JSON list, or a text whose lines are the items.
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Divide the items of --input among nodes.
    #[arg(long, requires = "input")]
    pub split: bool,
    /// A title for people; by default the type.
    #[arg(long, value_name = "TEXT")]
    pub title: Option<String>,
    /// How urgent it is.
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t = MessagePriority::Normal)]
    pub priority: MessagePriority,
    /// How long a run may take.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = units::duration)]
    pub timeout: Duration,
    /// What is not done within this time is not done any more; by default a day,
    /// or seven for each of several nodes.
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub deadline: Option<Duration>,
    /// With the same key, the same task is created once, however often it is
    /// repeated.
    #[arg(long, value_name = "TEXT")]
    pub key: Option<String>,
    /// Wait until it is over, and print its result. The exit code is 3 if not all
    /// of it was done.
    #[arg(long)]
    pub wait: bool,
    #[command(flatten)]
    pub at: MasterTargetArgs,
    #[command(flatten)]
    pub login: LoginArgs,
    /// Print the task as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Parses `key=value`.
fn parameter(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
    let (key, value) = pair.ok_or_else(|| {
        units::told("应为 名称=值，例如 seconds=3", "key=value is needed, such as seconds=3")
    })?;
    Ok((key.to_owned(), value.to_owned()))
}

#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true, after_help = concat!(
    "Examples:\n",
    "  edge-mirror tasks\n",
    "  edge-mirror tasks types\n",
    "  edge-mirror tasks show 1a2b3c4d5e6-0f1e2d3c --json\n",
    "\nExit codes: 0 done, 1 failed, 2 wrong arguments.",
))]
pub struct TasksArgs {
    #[command(subcommand)]
    pub command: Option<TasksCommand>,
    #[command(flatten)]
    pub list: FindTasksArgs,
}

#[derive(Clone, Debug, Subcommand)]
pub enum TasksCommand {
    /// List remote tasks, the newest first.
    List(FindTasksArgs),
    /// Show a task: its runs, their nodes, and what came of them.
    Show(RemoteTaskArgs),
    /// Cancel a task: no more of it is begun, and what runs is stopped.
    Cancel(RemoteTaskArgs),
    /// Do what failed of a finished task again, in a new one.
    Retry(RemoteTaskArgs),
    /// Tell which node is best placed for a task, and why.
    Explain(RemoteTaskArgs),
    /// List the types of task that nodes offer, and their parameters.
    Types(TaskTypesArgs),
    /// Check the declarations of task types in a folder of this machine.
    Check(TypeCheckArgs),
}

#[derive(Clone, Debug, Args)]
pub struct FindTasksArgs {
    /// Only tasks in this state: queued, running, cancelling, succeeded, partial,
    /// failed or cancelled.
    #[arg(long, value_name = "STATE")]
    pub status: Option<String>,
    /// How many of the latest tasks to list.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = units::list_length)]
    pub limit: u32,
    #[command(flatten)]
    pub at: MasterTargetArgs,
    #[command(flatten)]
    pub login: LoginArgs,
    /// Print the list as JSON, as returned by the main server.
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
pub struct RemoteTaskArgs {
    /// The task's ID.
    #[arg(value_name = "ID")]
    pub id: String,
    #[command(flatten)]
    pub at: MasterTargetArgs,
    #[command(flatten)]
    pub login: LoginArgs,
    /// Print the answer as JSON, as returned by the main server.
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
pub struct TaskTypesArgs {
    #[command(flatten)]
    pub at: MasterTargetArgs,
    #[command(flatten)]
    pub login: LoginArgs,
    /// Print the list as JSON, as returned by the main server.
    #[arg(long)]
    pub json: bool,
}
