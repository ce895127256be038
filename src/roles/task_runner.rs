//! The program of one remote task, started by the node or by systemd.

use std::process::ExitCode;

use edge_mirror_tasks::runner::{self, RunnerOptions};

use crate::cli::TaskRunnerArgs;

/// As shells say that a command can't be run.
const NOT_RUN: u8 = 127;

/// Runs to the end of the task.
pub fn run(args: TaskRunnerArgs) -> ExitCode {
    let done = match (args.types, args.work) {
        (Some(types), Some(work)) => runner::run(&RunnerOptions { types, work, unit: args.unit }),
        _ => runner::confine(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("edge-mirror: {error}");
            ExitCode::from(NOT_RUN)
        }
    }
}
