//! Arguments, configuration, one role, exit code.

use std::{net::SocketAddr, process::ExitCode, sync::Arc};

use anyhow::{Result, bail};
use clap::Parser;
use edge_mirror::{
    cli::{self, Cli, Command, MasterArgs, NodeArgs},
    config::Settings,
    node::{Node, NodeOptions},
    tasks::Interrupt,
    telemetry::Telemetry,
};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(help) if !help.use_stderr() => {
            let _ = help.print();
            return ExitCode::SUCCESS;
        }
        Err(wrong) => return failure(&cli::one_line(&wrong), 2),
    };
    match run(cli.command()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure(&format!("{error:#}"), 1),
    }
}

fn failure(line: &str, code: u8) -> ExitCode {
    eprintln!("edge-mirror: {line}");
    ExitCode::from(code)
}

#[tokio::main]
async fn run(command: Command) -> Result<()> {
    let interrupt = Interrupt::listen()?;
    match command {
        Command::Node(args) => node(args, interrupt).await,
        Command::Master(args) => bail!("{args:?}"),
        Command::Demo => bail!("{interrupt:?}"),
    }
}

async fn node(args: NodeArgs, mut interrupt: Interrupt) -> Result<()> {
    let telemetry = Telemetry::start("file_node", "INFO");
    let settings = Arc::new(Settings::load_or_create(&args.config)?);
    telemetry.apply(&settings.current());
    let options = NodeOptions { host: args.host, port: args.port };
    let node = Node::start(settings.clone(), options).await?;
    let failed = tokio::select! {
        () = interrupt.received() => None,
        failed = node.failed() => Some(failed),
        () = telemetry.follow(&settings) => None,
    };
    tokio::select! {
        _ = node.shut_down() => {}
        () = interrupt.received() => bail!("stopped at once by a second signal"),
    }
    match failed {
        Some(failed) => bail!("{failed}"),
        None => Ok(()),
    }
}
