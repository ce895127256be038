//! The runner as a program, for the tests of this crate.

use std::{path::PathBuf, process::ExitCode};

use edge_mirror_tasks::runner::{self, RunnerOptions};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "--confine"] => runner::confine(),
        [_, "--types", types, "--work", work] => {
            let (types, work) = (PathBuf::from(types), PathBuf::from(work));
            runner::run(&RunnerOptions { types, work, unit: false })
        }
        _ => return ExitCode::from(2),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(127)
        }
    }
}
