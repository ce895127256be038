//! Commands for the operators of nodes and main servers.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use edge_mirror_http::tls::TrustPolicy;
use url::Url;

use super::{
    dispatch::PushArgs,
    gofd::GofdPasswordArgs,
    messages::{CastCommandArgs, CastsCommandArgs},
    remote_tasks::{RunArgs, TasksArgs},
    server::{self, ServerUrl},
    units,
};

/// Text after a command's options in its help.
macro_rules! more {
    ($($line:literal),+ $(,)?) => {
        concat!($($line, "\n"),+, "\nExit codes: 0 done, 1 failed, 2 wrong arguments.")
    };
    ($($line:literal),+ ; $found:literal) => {
        concat!($($line, "\n"),+, "\nExit codes: 0 done, 1 failed, 2 wrong arguments, ", $found, ".")
    };
}

#[derive(Debug, Subcommand)]
pub enum OperateCommand {
    /// Download a package and verify it.
    ///
    /// Follows redirects, resumes broken connections, and turns to another node
    /// or the main server when one fails. FILE appears only once it is complete
    /// and verified; an interrupted download is kept in a hidden file beside it
    /// and resumed by the next run.
    Get(GetArgs),
    /// Show a node's state: its meetings, what is being pulled, what is wrong.
    Status(StatusArgs),
    /// Check every stored package against its digest.
    ///
    /// The running node does it; if none uses this machine's storage, the
    /// command does it by itself. Damaged packages are removed and pulled again.
    Verify(VerifyArgs),
    /// Create a meeting from a package on a main server, and start it.
    Publish(PublishArgs),
    /// Send files to nodes, from this machine through a main server.
    Push(PushArgs),
    /// Have nodes run a task of a type that they offer, through a main server.
    Run(RunArgs),
    /// List remote tasks and the types that nodes offer, cancel or repeat one.
    Tasks(TasksArgs),
    /// List a main server's nodes, or decide which nodes it accepts.
    Nodes(NodesArgs),
    /// List a main server's meetings, and how ready the nodes are for them.
    Meetings(MeetingsArgs),
    /// Tell whether all nodes are ready for a meeting, and which ones are not.
    Ready(ReadyArgs),
    /// Send a message to programs that listen at nodes.
    ///
    /// It is kept until it expires: nodes that are away get it when they return.
    Cast(CastCommandArgs),
    /// List messages to nodes, and how far they are on their way.
    Casts(CastsCommandArgs),
    /// Encrypt a password as the configuration of GoFD has it.
    GofdPassword(GofdPasswordArgs),
    /// Have a node pull or check a running meeting's package now, and wait for
    /// the result.
    Sync(SyncArgs),
    /// Show, change or check settings, in the configuration file or through a
    /// running node.
    Config(ConfigArgs),
}

#[derive(Clone, Debug, Args)]
#[command(after_help = more!(
    "Examples:",
    "  edge-mirror get 192.168.1.10:8000/api/v1/meetings/m1/download-package -o m1.zip",
    "  edge-mirror get 192.168.1.20:8001/api/v1/meetings/m1/download-package -o m1.zip --json",
    "  edge-mirror get https://192.168.1.20:8001/api/v1/meetings/m1/download-package -o m1.zip --cacert ca.pem",
))]
pub struct GetArgs {
    /// The package's URL on a node or a main server.
    #[arg(value_name = "URL", value_parser = server::address)]
    pub url: Url,
    /// The file to write; an existing one is replaced.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// How many times to try again when no server can provide it; starts over
    /// after any progress.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = units::retries)]
    pub retries: u32,
    /// A server has failed when nothing arrives for this long.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = units::duration)]
    pub patience: Duration,
    #[command(flatten)]
    pub authority: AuthorityArgs,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// The certificates that https:// is checked against.
#[derive(Clone, Debug, Args)]
pub struct AuthorityArgs {
    /// For https://: trust only this CA or server certificate (a PEM file)
    /// instead of the system's CAs.
    #[arg(long, value_name = "FILE")]
    pub cacert: Option<PathBuf>,
}

impl AuthorityArgs {
    pub fn trust(&self) -> TrustPolicy {
        match &self.cacert {
            Some(path) => TrustPolicy::File { setting: "--cacert", path: path.clone() },
            None => TrustPolicy::System,
        }
    }
}

/// The node that a command is about.
#[derive(Clone, Debug, Args)]
pub struct NodeTargetArgs {
    /// The node, such as 192.168.1.20:8001; by default the one on this machine.
    #[arg(long, value_name = "URL")]
    pub node: Option<ServerUrl>,
    /// The configuration file of the node on this machine; by default
    /// node_config.json here, or else the one in /etc/edge-mirror.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub authority: AuthorityArgs,
}

/// The main server that a command is about.
#[derive(Clone, Debug, Args)]
pub struct MasterTargetArgs {
    /// The main server, such as 192.168.1.10:8000; by default the one on this
    /// machine.
    #[arg(long, value_name = "URL", default_value = ServerUrl::LOCAL_MAIN_SERVER)]
    pub master: ServerUrl,
    #[command(flatten)]
    pub authority: AuthorityArgs,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = more!(
    "Examples:",
    "  edge-mirror status",
    "  edge-mirror status --node 192.168.1.20:8001 --watch",
    "  edge-mirror status --json | jq '.problems[].code'";
    "3 the node has a problem"
))]
pub struct StatusArgs {
    #[command(flatten)]
    pub at: NodeTargetArgs,
    /// Print the node's whole status as JSON; with --watch, a line each second.
    #[arg(long)]
    pub json: bool,
    /// Keep it on the screen, up to date, until Ctrl-C.
    #[arg(long)]
    pub watch: bool,
    /// Also show technical details: addresses asked and what they answered.
    #[arg(short, long)]
    pub verbose: bool,
}

/// The right to make changes.
#[derive(Clone, Debug, Args)]
pub struct LoginArgs {
    /// The admin token, for a server on another machine. Better set it in the
    /// environment as EDGE_MIRROR_TOKEN: other users here can see arguments.
    // One of 64 tokens begins with a hyphen.
    #[arg(long, value_name = "TOKEN", allow_hyphen_values = true)]
    pub token: Option<String>,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = more!(
    "Examples:",
    "  edge-mirror verify",
    "  edge-mirror verify --no-repair --json",
    "  EDGE_MIRROR_TOKEN=... edge-mirror verify --node 192.168.1.20:8001";
    "3 damage was found, repaired or not"
))]
pub struct VerifyArgs {
    #[command(flatten)]
    pub at: NodeTargetArgs,
    #[command(flatten)]
    pub login: LoginArgs,
    /// Only report what is damaged; change nothing.
    #[arg(long)]
    pub no_repair: bool,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = more!(
    "Examples:",
    "  edge-mirror publish board.zip --master 192.168.1.10:8000 --title 'Board, May'",
    "  edge-mirror publish board.zip --title Board --id board-5 --no-start",
))]
pub struct PublishArgs {
    /// The package, a ZIP file.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    pub at: MasterTargetArgs,
    /// The meeting's title.
    #[arg(long, value_name = "TEXT")]
    pub title: String,
    /// The meeting's ID; by default the main server generates one.
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// When it takes place, in any words; by default now.
    #[arg(long, value_name = "TEXT")]
    pub time: Option<String>,
    /// Don't start the meeting yet.
    #[arg(long)]
    pub no_start: bool,
    #[command(flatten)]
    pub login: LoginArgs,
    /// Print the meeting as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true, after_help = more!(
    "Examples:",
    "  edge-mirror nodes",
    "  edge-mirror nodes --master 192.168.1.10:8000 --json",
    "  edge-mirror nodes approve hall-3F",
))]
pub struct NodesArgs {
    #[command(subcommand)]
    pub command: Option<NodesCommand>,
    #[command(flatten)]
    pub list: ListArgs,
}

#[derive(Clone, Debug, Subcommand)]
pub enum NodesCommand {
    /// Accept a pending node (a new one, or a known one that calls from another
    /// address), or one that was refused.
    Approve(NodeDecisionArgs),
    /// Refuse a pending node or, if none waits with this ID, the known one; it
    /// stays refused until it is approved or removed.
    Refuse(NodeDecisionArgs),
    /// Forget a node; if it registers again, it is a new one.
    Remove(NodeDecisionArgs),
}

#[derive(Clone, Debug, Args)]
pub struct NodeDecisionArgs {
    /// The node's ID.
    #[arg(value_name = "ID")]
    pub id: String,
    #[command(flatten)]
    pub at: MasterTargetArgs,
    #[command(flatten)]
    pub login: LoginArgs,
}

#[derive(Clone, Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    pub at: MasterTargetArgs,
    #[command(flatten)]
    pub login: LoginArgs,
    /// Print the list as JSON, as returned by the main server.
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = more!(
    "Examples:",
    "  edge-mirror meetings --watch",
    "  edge-mirror meetings --master 192.168.1.10:8000 --json",
))]
pub struct MeetingsArgs {
    #[command(flatten)]
    pub at: MasterTargetArgs,
    /// Print the list as JSON, as returned by the main server; with --watch, a
    /// line each second.
    #[arg(long)]
    pub json: bool,
    /// Keep it on the screen, up to date, until Ctrl-C. If not all meetings fit,
    /// those that need attention come first.
    #[arg(long)]
    pub watch: bool,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = concat!(
    "Examples:\n",
    "  edge-mirror ready m1\n",
    "  edge-mirror ready m1 --wait 5m --master 192.168.1.10:8000\n",
    "\nExit codes: 0 all nodes are ready, 1 not, 2 wrong arguments or no such meeting.",
))]
pub struct ReadyArgs {
    /// The meeting's ID.
    #[arg(value_name = "ID")]
    pub id: String,
    /// Wait until all nodes are ready, but no longer than this.
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub wait: Option<Duration>,
    #[command(flatten)]
    pub at: MasterTargetArgs,
    /// Print the result as JSON, with every node.
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = more!(
    "Examples:",
    "  edge-mirror sync m1",
    "  EDGE_MIRROR_TOKEN=... edge-mirror sync m1 --node 192.168.1.20:8001",
))]
pub struct SyncArgs {
    /// The meeting's ID.
    #[arg(value_name = "ID")]
    pub id: String,
    #[command(flatten)]
    pub at: NodeTargetArgs,
    #[command(flatten)]
    pub login: LoginArgs,
    /// Stop waiting after this long.
    #[arg(long, value_name = "TIME", default_value = "600s", value_parser = units::duration)]
    pub patience: Duration,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = more!(
    "Examples:",
    "  edge-mirror config get mainServerIp",
    "  edge-mirror config set mainServerIp=192.168.1.10 storage.maxSize=50GB",
    "  edge-mirror config check --config /etc/edge-mirror/node_config.json",
    "  EDGE_MIRROR_TOKEN=... edge-mirror config set syncInterval=5 --node 192.168.1.20:8001";
    "3 check found mistakes"
))]
pub struct ConfigArgs {
    #[command(subcommand)]
    pub what: ConfigCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print settings: those that are named, or all.
    Get {
        /// Such as mainServerIp or storage.maxSize.
        #[arg(value_name = "KEY")]
        keys: Vec<String>,
        #[command(flatten)]
        of: ConfigTargetArgs,
    },
    /// Change settings: all of those given, or none if one is invalid. A
    /// running node picks up a changed file by itself.
    Set {
        /// Such as syncInterval=5 or storage.maxSize=50GB; KEY=null clears a value.
        #[arg(value_name = "KEY=VALUE", required = true, value_parser = assignment)]
        changes: Vec<(String, String)>,
        #[command(flatten)]
        of: ConfigTargetArgs,
    },
    /// Report what is wrong with the configuration, or would be after a change.
    Check {
        /// Changes to try, such as syncInterval=5.
        #[arg(value_name = "KEY=VALUE", value_parser = assignment)]
        changes: Vec<(String, String)>,
        #[command(flatten)]
        of: ConfigTargetArgs,
    },
}

/// The configuration that a command is about.
#[derive(Clone, Debug, Args)]
pub struct ConfigTargetArgs {
    /// A running node, such as 192.168.1.20:8001, instead of a file.
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    pub node: Option<ServerUrl>,
    /// The file; by default node_config.json here, or else the one in
    /// /etc/edge-mirror.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub login: LoginArgs,
    #[command(flatten)]
    pub authority: AuthorityArgs,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| {
        units::told(
            "请写成 KEY=VALUE，例如 syncInterval=5",
            "KEY=VALUE is needed, such as syncInterval=5",
        )
    })?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}
