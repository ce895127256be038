//! From "meeting started at the main server" to "the node's heartbeat says
//! synced", with the pull and without it; and what polling costs a node.
//!
//! `cargo bench --bench ready -- --help`; `just bench` prepares everything.

mod support;

#[path = "ready/costs.rs"]
mod costs;
#[path = "ready/log.rs"]
mod log;
#[path = "ready/ours.rs"]
mod ours;
#[path = "ready/theirs.rs"]
mod theirs;
#[path = "ready/times.rs"]
mod times;

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use anyhow::Result;
use clap::Parser;
use edge_mirror_base::tasks::Tasks;
use serde_json::Value;
use tokio::runtime::Runtime;

use support::{Common, Places, Report, Server, Stage, node};

/// From "meeting started" to "everyone has it".
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    Stage::run(move |stage| bench(stage, &arguments.common))
}

fn bench(stage: &Stage, common: &Common) -> Result<()> {
    let mut report = Report::begin("ready", &[])?;
    let mut patience = common.patience();
    let scene = Scene { stage: stage.clone(), runtime: Runtime::new()?, tasks: Tasks::new() };
    let mut limits = times::run(&scene, common, &mut patience, &mut report)?;
    limits.extend(costs::run(&scene, common, &mut patience, &mut report)?);
    report.limits(&limits);
    scene.runtime.block_on(scene.tasks.shut_down(Duration::from_secs(1)));
    report.finish(common, &patience)
}

/// The main servers share this process; a node has one of its own.
struct Scene {
    stage: Stage,
    runtime: Runtime,
    tasks: Tasks,
}

impl Scene {
    /// An empty node, as it is shipped but for these settings.
    fn node(&self, main_server: SocketAddr, settings: &Value) -> Result<Server> {
        let storage = self.stage.make_new("storage")?;
        node::start(&self.stage, main_server, &storage, Places::default(), settings)
    }
}
