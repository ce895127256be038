//! Arguments of the commands for casts: messages to nodes.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{LoginArgs, MasterTargetArgs, destination::Destination, units};

#[derive(Clone, Debug, Args)]
#[command(after_help = concat!(
    "Examples:\n",
    "  edge-mirror cast 'moved to 10:30' --to all\n",
    "  edge-mirror cast 'door 2 is closed' --to site:east --to hall-3F --wait 1m\n",
    "  edge-mirror cast '{\"volume\": 3}' --body-json --topic screens --to label:screen\n",
    "\nExit codes: 0 done, 1 failed, 2 wrong arguments, 3 with --wait: not all nodes have it.",
))]
pub struct CastCommandArgs {
    /// The message, of at most 4 KiB; - reads it from the standard input.
    #[arg(value_name = "TEXT", allow_hyphen_values = true)]
    pub text: String,
    /// The nodes that get it: all, a node's ID, site:NAME, label:NAME, group:NAME or
    /// virtual:NAME; can be given several times.
    #[arg(long, value_name = "NODES", required = true)]
    pub to: Vec<Destination>,
    /// Programs at the nodes choose messages by it, and get those of one topic in
    /// order.
    #[arg(long, value_name = "TEXT", default_value = "notice")]
    pub topic: String,
    /// TEXT is JSON, and is sent as such.
    #[arg(long)]
    pub body_json: bool,
    /// How urgent it is; it is up to the programs at the nodes what they make of it.
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t = MessagePriority::Normal)]
    pub priority: MessagePriority,
    /// Nodes that are away get it when they return within this time.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = units::duration)]
    pub expires: Duration,
    /// With the same key, the same message is sent once, however often it is
    /// repeated.
    #[arg(long, value_name = "TEXT")]
    pub key: Option<String>,
    /// Wait until all nodes have it, but no longer than this.
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub wait: Option<Duration>,
    #[command(flatten)]
    pub at: MasterTargetArgs,
    #[command(flatten)]
    pub login: LoginArgs,
    /// Print the message and its delivery as JSON, as returned by the main server.
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MessagePriority {
    Low,
    Normal,
    High,
    Urgent,
}

impl MessagePriority {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
            Self::Urgent => "urgent",
        }
    }
}

#[derive(Clone, Debug, Args)]
#[command(after_help = concat!(
    "Examples:\n",
    "  edge-mirror casts\n",
    "  edge-mirror casts --follow --topic notice\n",
    "  edge-mirror casts --search 10:30 --limit 5 --json\n",
    "\nExit codes: 0 done, 1 failed, 2 wrong arguments.",
))]
pub struct CastsCommandArgs {
    /// Only messages of this topic.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub topic: String,
    /// Only messages that have this text.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub search: String,
    /// How many of the latest messages to list.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = units::list_length)]
    pub limit: u32,
    /// Go on with new messages, and tell how far each is on its way, until Ctrl-C.
    #[arg(long)]
    pub follow: bool,
    #[command(flatten)]
    pub at: MasterTargetArgs,
    #[command(flatten)]
    pub login: LoginArgs,
    /// Print each message with its delivery as a line of JSON.
    #[arg(long)]
    pub json: bool,
}
