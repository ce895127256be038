//! Arguments of files for nodes: those of the main server, and those of `push`.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use edge_mirror_main_server::DispatchOptions;

use reqwest::Url;

use super::{LoginArgs, MasterTargetArgs, destination::Destination, units};

#[derive(Clone, Debug, Args)]
pub struct DispatchArgs {
    /// A folder whose files operators can send to nodes by their paths, without an
    /// upload. Links in it are not followed. By default files have to be uploaded.
    #[arg(long, value_name = "FOLDER")]
    pub dispatch_root: Option<PathBuf>,
    /// URLs below which operators can name files to send; can be repeated, or a
    /// list with commas. Redirects to other places are refused. By default no URL is
    /// fetched.
    #[arg(long, value_name = "URL", value_delimiter = ',', value_parser = allowed_url)]
    pub dispatch_urls: Vec<Url>,
    /// How many tasks keep nodes busy at a time; the others wait, the most urgent
    /// at the front.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = units::task_count)]
    pub dispatch_max_active: u64,
    /// Bytes of files per second to all nodes together, such as 20MB/s; by default
    /// there is no limit.
    #[arg(long, value_name = "RATE", value_parser = units::rate)]
    pub dispatch_limit: Option<u64>,
}

/// Parses a URL below which files may lie.
fn allowed_url(text: &str) -> Result<Url, String> {
    let is_plain = |url: &Url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none()
    };
    Url::parse(text).ok().filter(is_plain).ok_or_else(|| {
        units::told(
            "请填写完整的网址，例如 https://files.example/firmware/，不含 ?、# 和用户名",
            "a whole URL is needed, such as https://files.example/firmware/, without ?, # and a user name",
        )
    })
}

impl DispatchArgs {
    pub fn options(&self) -> DispatchOptions {
        let max_active = usize::try_from(self.dispatch_max_active).unwrap_or(usize::MAX);
        let (root, urls) = (self.dispatch_root.clone(), self.dispatch_urls.clone());
        DispatchOptions { root, urls, max_active, limit: self.dispatch_limit.unwrap_or(0) }
    }
}

#[derive(Clone, Debug, Args)]
#[command(after_help = concat!(
    "Examples:\n",
    "  edge-mirror push firmware.bin --to all --master 192.168.1.10:8000 --wait\n",
    "  edge-mirror push slides.pdf photos --to site:north --to node-7 --urgent\n",
    "\nExit codes: 0 done, 1 failed, 2 wrong arguments, 3 with --wait: not all nodes have the files.",
))]
pub struct PushArgs {
    /// The files to send; of a folder, all files in it with their folders.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// The nodes that get them: all, a node's ID, site:NAME, label:NAME or group:NAME;
    /// can be given several times.
    #[arg(long, value_name = "NODES", required = true)]
    pub to: Vec<Destination>,
    #[command(flatten)]
    pub at: MasterTargetArgs,
    /// A title for people; by default the first file's name.
    #[arg(long, value_name = "TEXT")]
    pub title: Option<String>,
    /// Send it before other tasks.
    #[arg(long)]
    pub urgent: bool,
    /// How long nodes that are away can still get it; by default seven days.
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub deadline: Option<Duration>,
    /// Nodes keep the files until they are taken back; by default until 30 days
    /// after the deadline.
    #[arg(long)]
    pub keep: bool,
    /// Bytes per second that each node pulls at most, such as 2MB/s.
    #[arg(long, value_name = "RATE", value_parser = units::rate)]
    pub limit: Option<u64>,
    /// Anybody may download the files from the nodes; by default only those who
    /// may manage the nodes.
    #[arg(long)]
    pub open: bool,
    /// Wait until each node has the files or has failed. The exit code is 3 if one
    /// has.
    #[arg(long)]
    pub wait: bool,
    #[command(flatten)]
    pub login: LoginArgs,
    /// Print the task as JSON.
    #[arg(long)]
    pub json: bool,
}
