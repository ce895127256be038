//! The main server with 10, 1,000 and 10,000 nodes: redirects, heartbeats, held polls, the
//! page, and changes that are on disk.
//!
//! `cargo bench --bench master -- --help`; `just bench` prepares everything.

#![allow(
    clippy::disallowed_methods,
    reason = "a bench sets its scene as it likes, in a folder of its own"
)]

mod support;

#[path = "master/changes.rs"]
mod changes;
#[path = "master/connection.rs"]
mod connection;
#[path = "master/fleet.rs"]
mod fleet;
#[path = "master/idle.rs"]
mod idle;
#[path = "master/page.rs"]
mod page;
#[path = "master/postgres.rs"]
mod postgres;
#[path = "master/redirects.rs"]
mod redirects;
#[path = "serving/wrk.rs"]
#[allow(dead_code, reason = "it has more figures than are needed here")]
mod wrk;

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use clap::Parser;
use edge_mirror_base::tasks::Tasks;
use tokio::runtime::Runtime;

use support::{Common, Limit, Report, Stage};

const COUNTS: [usize; 3] = [10, 1_000, 10_000];

/// The main server with few and with many nodes.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Only these parts: redirects, idle, page, changes.
    #[arg(long, value_name = "PART")]
    only: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    Stage::run(move |stage| bench(stage, &arguments))
}

/// The nodes share this process; the main server has one of its own.
struct Scene {
    stage: Stage,
    runtime: Runtime,
    tasks: Tasks,
    quick: bool,
}

impl Scene {
    /// The time that something is measured for.
    fn time(&self) -> Duration {
        Duration::from_secs(if self.quick { 3 } else { 20 })
    }
}

fn bench(stage: &Stage, arguments: &Arguments) -> Result<()> {
    let common = &arguments.common;
    let mut report = Report::begin("master", &postgres::version().into_iter().collect::<Vec<_>>())?;
    let mut patience = common.patience();
    let scene = Scene {
        stage: stage.clone(),
        runtime: Runtime::new()?,
        tasks: Tasks::new(),
        quick: common.quick,
    };
    let is_wanted =
        |part: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == part);
    let mut limits = Vec::<Limit>::new();
    if is_wanted("redirects") {
        limits.extend(redirects::run(&scene, &mut patience, &mut report)?);
    }
    if is_wanted("idle") {
        limits.extend(idle::run(&scene, &mut patience, &mut report)?);
    }
    if is_wanted("page") {
        limits.extend(page::run(&scene, &mut patience, &mut report)?);
    }
    if is_wanted("changes") {
        limits.extend(changes::run(&scene, &mut patience, &mut report)?);
    }
    report.limits(&limits);
    scene.runtime.block_on(scene.tasks.shut_down(Duration::from_secs(1)));
    report.finish(common, &patience)
}
