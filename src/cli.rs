//! The command line.

mod operate;
mod server;
mod service;
mod units;

use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::config::Subnet;
pub use operate::{
    At, Authority, ConfigArgs, ConfigCommand, ConfigOf, GetArgs, ListArgs, Login, Operate,
    PublishArgs, StatusArgs, SyncArgs, VerifyArgs,
};
pub use server::Server;
pub use service::{InstallArgs, MainServer, UninstallArgs};

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
    Master(MasterArgs),
    /// Run a main server, two nodes and a sample meeting on this machine, to
    /// try everything out. Works in a temporary folder that it removes at the
    /// end; Ctrl-C ends it.
    Demo,
    /// Make a link that logs in once, within the hour; or a new admin token.
    Token(TokenArgs),
    /// Rehearse the storm: many clients download a meeting's package at once,
    /// and how they fared is shown. It is a real load for the node and the
    /// network; don't run it while a meeting needs them.
    Bench(BenchArgs),
    /// Install it as a service of this machine, or upgrade what is installed.
    Install(InstallArgs),
    /// Take away what install made; configuration and packages only with --purge.
    Uninstall(UninstallArgs),
    /// Print what makes a shell complete this command line.
    ///
    /// bash: edge-mirror completions bash > /etc/bash_completion.d/edge-mirror
    #[command(verbatim_doc_comment)]
    Completions { shell: Shell },
    /// Write the manual pages into a folder.
    #[command(hide = true)]
    Man { folder: PathBuf },
    #[command(flatten)]
    Operate(Operate),
}

#[derive(Clone, Debug, Args)]
pub struct NodeArgs {
    /// The configuration file; written with defaults where there is none.
    /// Relative paths in it are relative to its folder.
    #[arg(long, value_name = "FILE", default_value = "node_config.json")]
    pub config: PathBuf,
    /// The one address to listen on; 0.0.0.0 is IPv4 alone. Left out: all
    /// addresses of this machine, IPv4 and IPv6.
    #[arg(long, value_name = "ADDRESS")]
    pub host: Option<IpAddr>,
    /// Listen on this port instead of the configuration's nodePort, for this
    /// run only; 0 takes a free one.
    #[arg(long, value_name = "N")]
    pub port: Option<u16>,
}

#[derive(Clone, Debug, Args)]
pub struct MasterArgs {
    /// Where meetings and packages are kept; made where there is none.
    #[arg(long, value_name = "DIR", default_value = "master-data")]
    pub data: PathBuf,
    /// The one address to listen on; 0.0.0.0 is IPv4 alone. Left out: all
    /// addresses of this machine, IPv4 and IPv6.
    #[arg(long, value_name = "ADDRESS")]
    pub host: Option<IpAddr>,
    /// The port to listen on; 0 takes a free one.
    #[arg(long, value_name = "N", default_value_t = 8000)]
    pub port: u16,
    /// Only this address or network may manage meetings; may be given several
    /// times. This machine always may.
    #[arg(long, value_name = "NETWORK")]
    pub allow_from: Vec<Subnet>,
    /// A reverse proxy whose X-Forwarded-For counts; may be given several times.
    #[arg(long, value_name = "NETWORK")]
    pub trusted_proxy: Vec<Subnet>,
    /// Ask for a login on this machine, too: for a reverse proxy here that does
    /// not add X-Forwarded-For.
    #[arg(long)]
    pub no_trust_local: bool,
    /// Let everybody who reaches the port manage meetings, without a login.
    #[arg(long)]
    pub open: bool,
}

#[derive(Clone, Debug, Args)]
pub struct TokenArgs {
    /// Replace the admin token; it and all logins of before end.
    #[arg(long)]
    pub new: bool,
    /// The configuration file of the node that the link is for.
    #[arg(long, value_name = "FILE", default_value = "node_config.json")]
    pub config: PathBuf,
    /// For the main server with this data folder, not for a node.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    pub data: Option<PathBuf>,
    /// The port it listens on, if not the configuration's nodePort, or 8000
    /// for a main server.
    #[arg(long, value_name = "N")]
    pub port: Option<u16>,
}

#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// A node, or a main server that sends clients to its nodes, such as
    /// http://192.168.1.20:8001.
    #[arg(long, value_name = "URL")]
    pub url: String,
    /// The id of the meeting whose package they download.
    #[arg(long, value_name = "ID")]
    pub meeting: String,
    /// How many clients, each with a connection of its own.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clients)]
    pub clients: usize,
    /// The time within which they arrive; 0 is all at once.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = units::duration)]
    pub arrive: Duration,
    /// How fast each reads at most, such as 2MB/s: what a tablet gets of the
    /// wireless network, say.
    #[arg(long, value_name = "RATE", value_parser = units::rate)]
    pub rate_limit: Option<u64>,
    /// Compare what arrives with the SHA-256 that the server names.
    #[arg(long)]
    pub verify: bool,
    #[command(flatten)]
    pub authority: Authority,
    /// A client to which nothing comes for so long gives up.
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
    count.ok_or_else(|| format!("a number from 1 to {MAX_CLIENTS} is wanted"))
}

impl Cli {
    pub fn command(self) -> Command {
        self.command.unwrap_or(Command::Node(self.node))
    }
}

/// A parser's complaint on one line: what is wrong, the nearest mend, where
/// to read on.
pub fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let said = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let pointer = |line: &&str| line.is_empty() || line.starts_with("For more information");
    let said: Vec<_> = said.filter(|line| !pointer(line)).collect();
    let said = said.join("; ");
    format!("{}; see edge-mirror --help", said.trim_start_matches("error: "))
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

    #[test]
    fn complaints_fit_on_one_line_and_name_the_mend() {
        for (args, parts) in [
            (["--prot", "1"], ["--prot", "--port"]),
            (["--port", "x"], ["--port", "x"]),
            (["--host", "nowhere"], ["--host", "nowhere"]),
        ] {
            let error = Cli::try_parse_from(["edge-mirror"].into_iter().chain(args)).unwrap_err();
            let line = one_line(&error);
            assert!(!line.contains('\n') && parts.iter().all(|part| line.contains(part)), "{line}");
        }
    }
}
