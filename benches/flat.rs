//! What grows with the number of meetings, at 10, 100, 1,000 and 10,000 of
//! them, and that it grows no faster than they do.
//!
//! `cargo bench --bench flat -- --help`; `just bench` prepares everything.

#![allow(
    clippy::disallowed_methods,
    reason = "a bench sets its scene as it likes, in a folder of its own"
)]

mod support;

#[path = "flat/cpu.rs"]
mod cpu;
#[path = "flat/found.rs"]
mod found;
#[path = "flat/parts.rs"]
mod parts;

use std::{hint::black_box, path::Path, process::ExitCode, time::Duration};

use anyhow::Result;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use clap::Parser;
use cpu::CpuTime;
use criterion::{Bencher, BenchmarkId, Criterion, SamplingMode};
use edge_mirror_http::delivery::conditions;
use edge_mirror_node::api::StatusAudience;
use edge_mirror_protocol as protocol;
use edge_mirror_store::Store;
use parts::{Parts, planned, status_answer};

use support::{Common, Patience, Report, Stage, process, quiet::Watch, storage};

const COUNTS: [usize; 4] = [10, 100, 1_000, 10_000];
const STATUS: &str = "status, as bytes";
const PANEL: &str = "panel, a second with news";
const PLANNING: &str = "sync planning";

/// What grows with the number of meetings.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Only what has this in its name.
    #[arg(long, value_name = "WORDS", default_value = "")]
    only: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    Stage::run(move |stage| bench(stage, &arguments))
}

fn bench(stage: &Stage, arguments: &Arguments) -> Result<()> {
    let common = &arguments.common;
    let mut report = Report::begin("flat", &[])?;
    let results = stage.make("criterion")?;
    let quick = |quick, usual| Duration::from_millis(if common.quick { quick } else { usual });
    let criterion = Criterion::default()
        .with_measurement(CpuTime)
        .output_directory(&results)
        .sample_size(if common.quick { 10 } else { 30 })
        .warm_up_time(quick(50, 300))
        .measurement_time(quick(150, 1_000));
    let only = arguments.only.clone();
    let mut engine = Engine { criterion, only, patience: common.patience() };
    for count in COUNTS {
        eprintln!("{count} meetings");
        let parts = Parts::set(stage, count)?;
        status(&mut engine, &parts)?;
        panel(&mut engine, &parts)?;
        polls(&mut engine, &parts)?;
        planning(&mut engine, &parts)?;
        conditions_and_ranges(&mut engine, count)?;
        manifests(&mut engine, count, &parts.close())?;
    }
    let found = found::read(&results)?;
    report.table(&found::table(&found));
    report.limits(&found::limits(&found));
    report.finish(common, &engine.patience)
}

/// Criterion, which measures again what others disturbed.
struct Engine {
    criterion: Criterion<CpuTime>,
    only: String,
    patience: Patience,
}

impl Engine {
    fn bench<T>(&mut self, name: &str, count: usize, mut work: impl FnMut() -> T) -> Result<()> {
        if !name.contains(&self.only) {
            return Ok(());
        }
        let mut run = |bencher: &mut Bencher<'_, CpuTime>| bencher.iter(|| black_box(work()));
        self.patience.turn(|| {
            let (watch, before) = (Watch::begin()?, process::all_ours_s()?);
            let mut group = self.criterion.benchmark_group(name);
            // What takes long is not to take it more and more often.
            group.sampling_mode(SamplingMode::Flat);
            group.bench_function(BenchmarkId::from_parameter(count), &mut run);
            group.finish();
            Ok(((), watch.others(process::all_ours_s()? - before)?))
        })
    }
}

/// `GET /api/status`, from the workers' reports to bytes.
fn status(engine: &mut Engine, parts: &Parts) -> Result<()> {
    engine.bench(STATUS, parts.count, || parts.snapshot(StatusAudience::Anybody))
}

/// What a page that follows costs each second, nothing or one thing new.
fn panel(engine: &mut Engine, parts: &Parts) -> Result<()> {
    let before = parts.snapshot(StatusAudience::Pages);
    engine.bench("panel, a second without news", parts.count, || {
        assert!(parts.snapshot(StatusAudience::Pages).difference(&before).is_none());
    })?;
    engine.bench(PANEL, parts.count, || {
        parts.serve_one();
        parts.snapshot(StatusAudience::Pages).difference(&before).expect("a package was served")
    })
}

/// A poll's answer, from bytes to what is published, and the steps it leads to.
fn polls(engine: &mut Engine, parts: &Parts) -> Result<()> {
    let (known, store, count) = (&mut parts.known(), &parts.store, parts.count);
    let same = status_answer(&parts.manifests, count, 1.0);
    let fingerprint = protocol::fingerprint(&same);
    let again = status_answer(&parts.manifests, count, 2.0);
    engine.bench("poll, the same answer", count, || {
        assert_eq!(protocol::fingerprint(&again), fingerprint);
        known.take_unchanged();
        (planned(known, store), known.view())
    })?;
    // One meeting comes, and goes with the next answer.
    let less = status_answer(&parts.manifests, count - 1, 1.0);
    let mut turn = false;
    engine.bench("poll, another answer", count, || {
        turn = !turn;
        let answer = if turn { &less } else { &same };
        let mut status = protocol::read_status(answer).expect("it is well-formed");
        let offers = status.offers.take().expect("it tells of them");
        known.take_status(status);
        known.take_offers(offers);
        black_box(known.catalogue());
        (planned(known, store), known.view())
    })
}

fn planning(engine: &mut Engine, parts: &Parts) -> Result<()> {
    let mut known = parts.known();
    engine.bench(PLANNING, parts.count, || {
        let steps = planned(&mut known, &parts.store);
        assert!(steps.is_empty());
    })
}

/// Here it is the number of tags and of ranges in one request that grows.
fn conditions_and_ranges(engine: &mut Engine, count: usize) -> Result<()> {
    let manifest = storage::manifest()?;
    let header = |member: &str, begin: &str| {
        let list = vec![member; count].join(",");
        HeaderValue::from_str(&format!("{begin}{list}")).expect("it is plain")
    };
    let mut asked = HeaderMap::new();
    asked.insert(header::IF_NONE_MATCH, header("\"0\"", ""));
    engine.bench("conditions, that many tags", count, || {
        conditions::evaluate(&Method::GET, &asked, &manifest)
    })?;
    let mut asked = HeaderMap::new();
    asked.insert(header::RANGE, header("0-0", "bytes="));
    engine
        .bench("ranges, that many", count, || conditions::evaluate(&Method::GET, &asked, &manifest))
}

/// A start with that many packages on disk.
fn manifests(engine: &mut Engine, count: usize, folder: &Path) -> Result<()> {
    engine.bench("manifests, at a start", count, || {
        let (store, found) = Store::open(folder).expect("it opens");
        assert!(store.count() == count && found.unverified.is_empty());
    })
}
