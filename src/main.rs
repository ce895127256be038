//! Arguments, one role or command, exit code.

use std::process::ExitCode;

use anyhow::Result;
use edge_mirror::{
    bench,
    cli::{self, CliError, Command},
    commands, install, manual,
    roles::{self, demo, main_server, node, task_runner},
    telemetry::Telemetry,
    terminal::{Language, print_line},
    token,
};
use edge_mirror_base::tasks::Interrupt;

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(CliError::Shown(help)) => {
            let _ = help.print();
            // The end of the help must not run into the prompt.
            if !help.to_string().ends_with('\n') {
                print_line("");
            }
            return ExitCode::SUCCESS;
        }
        Err(CliError::Printed(text)) => {
            print_line(&text);
            return ExitCode::SUCCESS;
        }
        Err(CliError::Wrong(line)) => return failure(&line, 2),
    };
    // It has no runtime and no other thread: what it limits, it limits for itself.
    if let Command::TaskRunner(args) = command {
        return task_runner::run(args);
    }
    // The log of a service is in both languages.
    let is_service = match &command {
        Command::Node(_) => true,
        Command::Master(args) => args.command.is_none(),
        _ => false,
    };
    let language = (!is_service).then(Language::from_env);
    match roles::block_on(run(command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match commands::exit_code(&error) {
            (code, true) => ExitCode::from(code),
            (code, false) => failure(&commands::error_line(&error, language), code),
        },
    }
}

fn failure(line: &str, code: u8) -> ExitCode {
    eprintln!("edge-mirror: {line}");
    ExitCode::from(code)
}

async fn run(command: Command) -> Result<()> {
    match command {
        Command::Node(args) => node::run(args, Interrupt::listen()?).await,
        Command::Master(args) => match args.command {
            Some(command) => commands::run_for_state(command).await,
            None => main_server::run(*args, Interrupt::listen()?).await,
        },
        Command::Demo(args) => {
            let telemetry = Telemetry::start("demo", "WARNING");
            demo::run(&args, &telemetry, &mut Interrupt::listen_to_hangup()?, print_line).await
        }
        Command::Bench(args) => bench::run(args, &mut Interrupt::listen()?).await,
        Command::Operate(command) => commands::run(command, &mut Interrupt::listen()?).await,
        // Signals end these as they end any command.
        Command::Token(args) => token::run(args).await.map(|text| print_line(&text)),
        Command::Install(args) => install::run(args, print_line).await,
        Command::Uninstall(args) => Ok(install::uninstall(&args, print_line)?),
        Command::Completions { shell } => Ok(manual::completions(shell)?),
        Command::TaskRunner(_) => Ok(()),
        Command::Man { folder } => Ok(manual::pages(&folder)?),
    }
}
