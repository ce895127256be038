//! Commands for who operates nodes and main servers.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use url::Url;

use super::{
    server::{self, Server},
    units,
};
use crate::tls::Trust;

/// What follows a command's options in its help.
macro_rules! more {
    ($($line:literal),+ $(,)?) => {
        concat!($($line, "\n"),+, "\nExit codes: 0 done, 1 failed, 2 wrong arguments.")
    };
    ($($line:literal),+ ; $found:literal) => {
        concat!($($line, "\n"),+, "\nExit codes: 0 done, 1 failed, 2 wrong arguments, ", $found, ".")
    };
}

#[derive(Debug, Subcommand)]
pub enum Operate {
    /// Download a package and verify it.
    ///
    /// It follows redirects, goes on where a connection broke, and turns to
    /// another node or the main server when one fails. FILE is there only once
    /// the whole is verified; what an interrupted run has received lies hidden
    /// beside it, and the next run goes on with it.
    Get(GetArgs),
    /// Show how a node fares: its meetings, what is being pulled, what is wrong.
    Status(StatusArgs),
    /// Read every stored package again and compare it with its digest.
    ///
    /// A running node does it; where none runs on this machine's storage, it is
    /// done without one. What is damaged is removed, and pulled again.
    Verify(VerifyArgs),
    /// Make a meeting of a package on a main server, and start it.
    Publish(PublishArgs),
    /// List a main server's nodes.
    Nodes(ListArgs),
    /// List a main server's meetings.
    Meetings(ListArgs),
    /// Have a node pull or compare a running meeting's package now, and wait
    /// for the outcome.
    Sync(SyncArgs),
    /// Show, change or check settings: in the configuration file, or through a
    /// running node.
    Config(ConfigArgs),
}

#[derive(Clone, Debug, Args)]
#[command(after_help = more!(
    "Examples:",
    "  edge-mirror get http://192.168.1.10:8000/api/v1/meetings/m1/download-package -o m1.zip",
    "  edge-mirror get http://192.168.1.20:8001/api/v1/meetings/m1/download-package -o m1.zip --json",
    "  edge-mirror get https://192.168.1.20:8001/api/v1/meetings/m1/download-package -o m1.zip --cacert ca.pem",
))]
pub struct GetArgs {
    /// The package's address at a node or a main server.
    #[arg(value_name = "URL", value_parser = server::address)]
    pub url: Url,
    /// Where to put it; what is there is replaced.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// How often all are asked again when none can give it; what comes on
    /// counts as a new beginning.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub retries: u32,
    /// A server from which nothing comes for so long has failed.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = units::duration)]
    pub patience: Duration,
    #[command(flatten)]
    pub authority: Authority,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Whom https:// is believed.
#[derive(Clone, Debug, Args)]
pub struct Authority {
    /// For https://: the server's authority, or its own certificate, as a PEM
    /// file; nobody else is believed then. Without it: the system's authorities.
    #[arg(long, value_name = "FILE")]
    pub cacert: Option<PathBuf>,
}

impl Authority {
    pub fn trust(&self) -> Trust {
        match &self.cacert {
            Some(path) => Trust::File { setting: "--cacert", path: path.clone() },
            None => Trust::System,
        }
    }
}

/// Which node is meant.
#[derive(Clone, Debug, Args)]
pub struct At {
    /// The node, such as http://192.168.1.20:8001; the one on this machine
    /// unless it is given.
    #[arg(long, value_name = "URL")]
    pub node: Option<Server>,
    /// The configuration of the node on this machine: node_config.json here,
    /// or else the one in /etc/edge-mirror.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub authority: Authority,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = more!(
    "Examples:",
    "  edge-mirror status",
    "  edge-mirror status --node http://192.168.1.20:8001 --watch",
    "  edge-mirror status --json | jq '.problems[].code'";
    "3 the node has a problem"
))]
pub struct StatusArgs {
    #[command(flatten)]
    pub at: At,
    /// Print the node's whole status as JSON; with --watch, a line each second.
    #[arg(long)]
    pub json: bool,
    /// Go on showing it until Ctrl-C.
    #[arg(long)]
    pub watch: bool,
}

/// Who asks.
#[derive(Clone, Debug, Args)]
pub struct Login {
    /// The admin token, for a server on another machine. Better given in the
    /// environment as EDGE_MIRROR_TOKEN: arguments are for everybody here to see.
    // One of 64 tokens begins with a hyphen.
    #[arg(long, value_name = "TOKEN", allow_hyphen_values = true)]
    pub token: Option<String>,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = more!(
    "Examples:",
    "  edge-mirror verify",
    "  edge-mirror verify --no-repair --json",
    "  EDGE_MIRROR_TOKEN=... edge-mirror verify --node http://192.168.1.20:8001";
    "3 damage was found, repaired or not"
))]
pub struct VerifyArgs {
    #[command(flatten)]
    pub at: At,
    #[command(flatten)]
    pub login: Login,
    /// Only say what is damaged, and leave it as it is.
    #[arg(long)]
    pub no_repair: bool,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = more!(
    "Examples:",
    "  edge-mirror publish board.zip --master http://192.168.1.10:8000 --title 'Board, May'",
    "  edge-mirror publish board.zip --master http://127.0.0.1:8000 --title Board --id board-5 --no-start",
))]
pub struct PublishArgs {
    /// The package, a ZIP.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The main server, such as http://192.168.1.10:8000.
    #[arg(long, value_name = "URL")]
    pub master: Server,
    /// What the meeting is called.
    #[arg(long, value_name = "TEXT")]
    pub title: String,
    /// The meeting's id; made up by the main server unless it is given.
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// When it is, in any words; now unless it is given.
    #[arg(long, value_name = "TEXT")]
    pub time: Option<String>,
    /// Leave it to somebody else to start the meeting.
    #[arg(long)]
    pub no_start: bool,
    #[command(flatten)]
    pub login: Login,
    #[command(flatten)]
    pub authority: Authority,
    /// Print the meeting as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = more!(
    "Examples:",
    "  edge-mirror nodes --master http://192.168.1.10:8000",
    "  edge-mirror meetings --master http://192.168.1.10:8000 --json",
))]
pub struct ListArgs {
    /// The main server, such as http://192.168.1.10:8000.
    #[arg(long, value_name = "URL")]
    pub master: Server,
    #[command(flatten)]
    pub authority: Authority,
    /// Print the list as JSON, as the main server gives it.
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = more!(
    "Examples:",
    "  edge-mirror sync m1",
    "  EDGE_MIRROR_TOKEN=... edge-mirror sync m1 --node http://192.168.1.20:8001",
))]
pub struct SyncArgs {
    /// The meeting.
    #[arg(value_name = "ID")]
    pub id: String,
    #[command(flatten)]
    pub at: At,
    #[command(flatten)]
    pub login: Login,
    /// Give up waiting after that.
    #[arg(long, value_name = "TIME", default_value = "600s", value_parser = units::duration)]
    pub patience: Duration,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = more!(
    "Examples:",
    "  edge-mirror config get mainServerIp",
    "  edge-mirror config set mainServerIp=192.168.1.10 storage.maxSize=50000000000",
    "  edge-mirror config check --config /etc/edge-mirror/node_config.json",
    "  EDGE_MIRROR_TOKEN=... edge-mirror config set syncInterval=5 --node http://192.168.1.20:8001";
    "3 check found mistakes"
))]
pub struct ConfigArgs {
    #[command(subcommand)]
    pub what: ConfigCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print settings; all of them unless some are named.
    Get {
        /// Such as mainServerIp or storage.maxSize.
        #[arg(value_name = "KEY")]
        keys: Vec<String>,
        #[command(flatten)]
        of: ConfigOf,
    },
    /// Change settings: all that are given, or none if one is not valid. A
    /// running node takes a changed file in by itself.
    Set {
        /// Such as syncInterval=5; KEY=null takes a value away.
        #[arg(value_name = "KEY=VALUE", required = true, value_parser = assignment)]
        changes: Vec<(String, String)>,
        #[command(flatten)]
        of: ConfigOf,
    },
    /// Say what is wrong with the configuration, or would be after a change.
    Check {
        #[arg(value_name = "KEY=VALUE", value_parser = assignment)]
        changes: Vec<(String, String)>,
        #[command(flatten)]
        of: ConfigOf,
    },
}

/// Whose configuration.
#[derive(Clone, Debug, Args)]
pub struct ConfigOf {
    /// A running node, such as http://192.168.1.20:8001, and not a file.
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    pub node: Option<Server>,
    /// The file: node_config.json here, or else the one in /etc/edge-mirror.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub login: Login,
    #[command(flatten)]
    pub authority: Authority,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("KEY=VALUE is wanted, such as syncInterval=5")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}
