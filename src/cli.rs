//! The command line.

mod castray;
mod casts;
mod chinese;
mod complaint;
mod demand;
mod destination;
mod dispatch;
mod file;
mod gofd;
mod help;
mod messages;
mod operate;
mod remote_tasks;
mod server;
mod service;
mod state;
mod task_types;
mod units;

use std::{ffi::OsString, net::IpAddr, path::PathBuf, time::Duration};

use clap::{ArgMatches, Args, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use edge_mirror_main_server::{NodePolicy, ShownOption};
use edge_mirror_settings::Subnet;

use crate::terminal::Language;
pub use castray::CastRayArgs;
pub use casts::CastArgs;
pub use demand::DemandArgs;
pub use destination::Destination;
pub use dispatch::{DispatchArgs, PushArgs};
use file::{CompletedLine, OptionSources};
pub use gofd::{GofdArgs, GofdPasswordArgs};
pub use messages::{CastCommandArgs, CastsCommandArgs};
pub use operate::{
    AuthorityArgs, ConfigArgs, ConfigCommand, ConfigTargetArgs, GetArgs, ListArgs, LoginArgs,
    MasterTargetArgs, MeetingsArgs, NodeDecisionArgs, NodeTargetArgs, NodesArgs, NodesCommand,
    OperateCommand, PublishArgs, ReadyArgs, StatusArgs, SyncArgs, VerifyArgs,
};
pub use remote_tasks::{
    FindTasksArgs, RemoteTaskArgs, RunArgs, TaskTypesArgs, TasksArgs, TasksCommand,
};
pub use server::ServerUrl;
pub use service::{InstallArgs, MainServerAddress, UninstallArgs};
pub use state::{StateCommand, StatePlaceArgs};
pub use task_types::{TaskRunnerArgs, TypeCheckArgs};

/// Mirrors meeting packages from a main server and serves them to tablets.
///
/// Without a command it runs an edge node, as `edge-mirror node` does.
#[derive(Debug, Parser)]
#[command(name = "edge-mirror", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run an edge node (the default).
    Node(NodeArgs),
    /// Run the embedded main server.
    Master(Box<MasterArgs>),
    /// Try everything out: a main server, a few nodes and a sample meeting.
    ///
    /// They run on this machine, in a temporary folder that is removed at the
    /// end. Ctrl-C ends the demo.
    Demo(DemoArgs),
    /// Create a one-time login link that is valid for an hour, or a new admin
    /// token.
    Token(TokenArgs),
    /// Rehearse a meeting: many clients download one package at once.
    ///
    /// Simulates one client per tablet, shows progress live, and reports how
    /// long they took and what failed. It is a real load for the node and the
    /// network: don't run it during a meeting.
    Bench(BenchArgs),
    /// Install as a service of this machine, or upgrade the installed one.
    Install(InstallArgs),
    /// Remove the service and the program; configuration and packages are kept
    /// unless --purge is given.
    Uninstall(UninstallArgs),
    /// Print a completion script for a shell.
    ///
    /// For bash: edge-mirror completions bash > /etc/bash_completion.d/edge-mirror
    Completions {
        /// The shell to complete for.
        shell: Shell,
    },
    /// Write the manual pages into a folder.
    #[command(hide = true)]
    Man { folder: PathBuf },
    /// Run the program of a remote task.
    #[command(hide = true)]
    TaskRunner(TaskRunnerArgs),
    #[command(flatten)]
    Operate(OperateCommand),
}

#[derive(Clone, Debug, Args)]
pub struct NodeArgs {
    /// The configuration file; created with defaults if it does not exist.
    /// Relative paths in it are relative to its folder.
    #[arg(long, value_name = "FILE", default_value = "node_config.json")]
    pub config: PathBuf,
    /// The address to listen on; 0.0.0.0 is IPv4 only. By default all IPv4 and
    /// IPv6 addresses of this machine.
    #[arg(long, value_name = "ADDRESS", value_parser = units::address)]
    pub host: Option<IpAddr>,
    /// Listen on this port instead of the configuration's nodePort, for this
    /// run only; 0 takes any free port.
    #[arg(long, value_name = "N", value_parser = units::port)]
    pub port: Option<u16>,
}

#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct MasterArgs {
    #[command(subcommand)]
    pub command: Option<StateCommand>,
    /// Read options from this JSON file, under their names here without the
    /// dashes. The command line wins over it, and so do variables such as
    /// EDGE_MIRROR_MASTER_PORT.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the options that are in force as such a file, and exit.
    #[arg(long)]
    pub print_config: bool,
    /// The folder for meetings and packages; created if it does not exist.
    #[arg(long, value_name = "DIR", default_value = "master-data")]
    pub data: PathBuf,
    /// Keep meetings in a PostgreSQL database, such as
    /// postgres://USER@HOST/DATABASE, instead of the data folder. Pass the
    /// password in the environment variable PGPASSWORD: other users of this
    /// machine can see arguments.
    #[arg(long, value_name = "URL")]
    pub state: Option<String>,
    /// Keep packages in a store that several main servers share: s3://BUCKET/PREFIX
    /// or the absolute path of a folder. The data folder then has copies. Pass the
    /// credentials and the server of S3 in the usual environment variables, such as
    /// AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT_URL.
    #[arg(long, value_name = "URL")]
    pub packages: Option<String>,
    /// With --packages, how much the copies in the data folder may take; those of
    /// running meetings stay. By default there is no limit.
    #[arg(long, value_name = "SIZE", value_parser = units::cache_size, requires = "packages")]
    pub package_cache: Option<u64>,
    /// The address to listen on; 0.0.0.0 is IPv4 only. By default all IPv4 and
    /// IPv6 addresses of this machine.
    #[arg(long, value_name = "ADDRESS", value_parser = units::address)]
    pub host: Option<IpAddr>,
    /// The port to listen on; 0 takes any free port.
    #[arg(long, value_name = "N", default_value_t = 8000, value_parser = units::port)]
    pub port: u16,
    /// Serve HTTPS with this certificate, a PEM file with the whole chain. A
    /// changed file takes effect by itself.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's key, a PEM file without a password.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Also listen on this port for plain HTTP and redirect it to HTTPS.
    #[arg(long, value_name = "N", value_parser = units::fixed_port, requires = "tls_cert")]
    pub redirect_port: Option<u16>,
    #[command(flatten)]
    pub demand: DemandArgs,
    #[command(flatten)]
    pub casts: CastArgs,
    #[command(flatten)]
    pub dispatch: DispatchArgs,
    /// Run remote tasks of the types sleep, verify and probe on this machine where no
    /// node offers them. Not with a database that several main servers use.
    #[arg(long)]
    pub tasks_local: bool,
    #[command(flatten)]
    pub castray: CastRayArgs,
    #[command(flatten)]
    pub gofd: GofdArgs,
    /// Only this address or network may manage meetings; can be repeated. This
    /// machine always may.
    #[arg(long, value_name = "NETWORK")]
    pub allow_from: Vec<Subnet>,
    /// A reverse proxy whose X-Forwarded-For is trusted; can be repeated.
    #[arg(long, value_name = "NETWORK")]
    pub trusted_proxy: Vec<Subnet>,
    /// Require a login on this machine as well: for a reverse proxy here that
    /// does not add X-Forwarded-For.
    #[arg(long)]
    pub no_trust_local: bool,
    /// Which new nodes are accepted: approve waits for an operator, unless they
    /// send the node key or register over loopback; open accepts all.
    #[arg(long, value_name = "POLICY", default_value = "approve", value_parser = units::node_policy)]
    pub nodes: NodePolicy,
    /// How many connections one client address may have, an IPv6 network of /64
    /// being one; 0 is three quarters of all.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = units::connections)]
    pub max_connections_per_client: u64,
    /// Let everyone who can reach the port manage meetings, without a login.
    #[arg(long)]
    pub open: bool,
}

#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// The size of the sample package.
    #[arg(long, value_name = "SIZE", default_value = "200MB", value_parser = units::sample_size)]
    pub size: u64,
    /// How many tablets to simulate; they download the package again and again.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = units::few)]
    pub clients: u32,
    /// How many nodes to start.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = units::demo_nodes)]
    pub nodes: u16,
    /// Limit what the main server sends in all, to see how the nodes pass the package on.
    #[arg(long, value_name = "RATE", value_parser = units::rate)]
    pub limit: Option<u64>,
    /// How many main servers to start. With more than one, each of them and each node is a
    /// process that can be killed.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = units::demo_masters)]
    pub masters: u16,
    /// The empty PostgreSQL database of several main servers, such as
    /// postgres://USER@HOST/DATABASE.
    #[arg(long, value_name = "URL")]
    pub postgres: Option<String>,
    /// The package store of several main servers: s3://BUCKET/PREFIX or a folder; by default
    /// a temporary one.
    #[arg(long, value_name = "PLACE")]
    pub s3: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub struct TokenArgs {
    /// Replace the admin token; the old one and all logins stop working.
    #[arg(long)]
    pub new: bool,
    /// The configuration file of the node that the link is for.
    #[arg(long, value_name = "FILE", default_value = "node_config.json")]
    pub config: PathBuf,
    /// For the main server with this data folder instead of a node.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    pub data: Option<PathBuf>,
    /// The port it listens on, if not the configuration's nodePort, or 8000
    /// for a main server.
    #[arg(long, value_name = "N", value_parser = units::fixed_port)]
    pub port: Option<u16>,
}

#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// A node, or a main server that redirects clients to its nodes, such as
    /// 192.168.1.20:8001.
    #[arg(long, value_name = "URL")]
    pub url: ServerUrl,
    /// The ID of the meeting whose package is downloaded.
    #[arg(long, value_name = "ID")]
    pub meeting: String,
    /// How many clients, each with its own connection.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clients)]
    pub clients: usize,
    /// The time over which they arrive; 0 means all at once.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = units::duration)]
    pub arrive: Duration,
    /// How fast each client reads at most, such as 2MB/s: a tablet's share of
    /// the wireless network, for example.
    #[arg(long, value_name = "RATE", value_parser = units::rate)]
    pub rate_limit: Option<u64>,
    /// Compare what arrives with the server's SHA-256.
    #[arg(long)]
    pub verify: bool,
    #[command(flatten)]
    pub authority: AuthorityArgs,
    /// A client gives up after receiving nothing for this long.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = units::duration)]
    pub patience: Duration,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Ports of this machine end the range: one for each connection to a server.
const MAX_CLIENTS: usize = 20_000;

fn clients(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| (1..=MAX_CLIENTS).contains(count));
    count.ok_or_else(|| {
        Language::from_env().of(
            format!("请填写 1 到 {MAX_CLIENTS} 的整数"),
            format!("a whole number from 1 to {MAX_CLIENTS} is needed"),
        )
    })
}

impl Cli {
    pub fn command(self) -> Command {
        self.command.unwrap_or(Command::Node(self.node))
    }
}

/// A command line without a command to run.
#[derive(Debug)]
pub enum CliError {
    /// Help or the version was asked for.
    Shown(clap::Error),
    /// Options were asked for.
    Printed(String),
    /// One line that says what is wrong and where to read on.
    Wrong(String),
}

/// Reads the arguments, the program's name first.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, CliError> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let (matches, _) = read(&arguments)?;
    if let Some(document) = file::printed(&matches) {
        return Err(CliError::Printed(document));
    }
    command_of(&matches, &arguments)
}

/// The options of a main server as they are now, its file being read anew.
#[derive(Debug)]
pub struct CurrentOptions {
    pub args: MasterArgs,
    pub shown: Vec<ShownOption>,
}

/// Reads the arguments of a main server once more. The error lists all that is wrong.
pub fn reread_master(
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<CurrentOptions, CliError> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let (matches, sources) = read(&arguments)?;
    let shown = file::shown(&matches, &sources);
    match command_of(&matches, &arguments)? {
        Command::Master(args) => Ok(CurrentOptions { args: *args, shown }),
        _ => Err(CliError::Wrong("not a main server's arguments".to_owned())),
    }
}

/// The arguments, completed from the environment and the file that they name.
fn read(arguments: &[OsString]) -> Result<(ArgMatches, OptionSources), CliError> {
    let language = Language::from_env();
    let command = help::command(language);
    let first = file::lenient(command.clone()).try_get_matches_from(arguments);
    let first = first.map_err(CliError::Shown)?;
    let completed = file::completed(arguments, &first, std::env::vars_os());
    let line = completed.map_err(CliError::Wrong)?.unwrap_or_else(|| CompletedLine {
        arguments: arguments.to_vec(),
        ..CompletedLine::default()
    });
    let matches = command.try_get_matches_from(&line.arguments);
    let matches = matches.map_err(|error| match error.use_stderr() {
        true => CliError::Wrong(complaint::one_line(&error, &line.arguments, language)),
        false => CliError::Shown(error),
    })?;
    Ok((matches, line.sources))
}

fn command_of(matches: &ArgMatches, arguments: &[OsString]) -> Result<Command, CliError> {
    let cli = Cli::from_arg_matches(matches);
    let wrong = |error| complaint::one_line(&error, arguments, Language::from_env());
    Ok(cli.map_err(|error| CliError::Wrong(wrong(error)))?.command())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        <Cli as CommandFactory>::command().debug_assert();
    }

    #[test]
    fn no_command_is_the_node_command() {
        let Command::Node(plain) = Cli::parse_from(["edge-mirror", "--port", "7"]).command() else {
            panic!("not a node");
        };
        let Command::Node(named) =
            Cli::parse_from(["edge-mirror", "node", "--port", "7"]).command()
        else {
            panic!("not a node");
        };
        assert_eq!((plain.port, plain.config.clone()), (named.port, named.config));
    }

    #[test]
    fn a_token_may_begin_with_a_hyphen() {
        for command in [&["verify"][..], &["sync", "m"], &["config", "get"]] {
            let args = [&["edge-mirror"], command, &["--token", "-Rb--"]].concat();
            assert!(Cli::try_parse_from(&args).is_ok(), "{args:?}");
        }
    }
}
