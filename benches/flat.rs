//! What grows with the number of meetings, at 10, 100, 1,000 and 10,000 of
//! them, and that it grows no faster than they do.
//!
//! `cargo bench --bench flat` prints a Markdown table; `-- --quick` takes fewer
//! samples, `-- --only=status` only those that have the word in their names.

#![allow(
    clippy::disallowed_methods,
    reason = "a bench sets its scene as it likes, in a folder of its own"
)]

#[path = "flat/cpu.rs"]
mod cpu;
#[path = "flat/stage.rs"]
mod stage;

use std::{fs, hint::black_box, path::Path, time::Duration};

use axum::http::{HeaderMap, HeaderValue, Method, header};
use cpu::CpuTime;
use criterion::{BatchSize, BenchmarkId, Criterion};
use edge_mirror::{delivery::conditions, http::For, protocol, store::Store};
use serde_json::Value;
use stage::{Stage, planned, status_answer};

const COUNTS: [usize; 4] = [10, 100, 1_000, 10_000];

fn main() {
    // Others are cargo's and of `benches/run`, and none of ours.
    let quick = std::env::args().any(|argument| argument == "--quick");
    let only = std::env::args().find_map(|argument| Some(argument.strip_prefix("--only=")?.into()));
    let folder = tempfile::tempdir().expect("a folder for the results");
    let mut criterion = Criterion::default()
        .with_measurement(CpuTime)
        .with_filter(only.unwrap_or_else(String::new))
        .output_directory(folder.path())
        .sample_size(if quick { 10 } else { 30 })
        .warm_up_time(Duration::from_millis(if quick { 100 } else { 500 }))
        .measurement_time(Duration::from_millis(if quick { 300 } else { 2_000 }));
    for count in COUNTS {
        let stage = Stage::set(count);
        status(&mut criterion, &stage);
        panel(&mut criterion, &stage);
        polls(&mut criterion, &stage);
        planning(&mut criterion, &stage);
        conditions_and_ranges(&mut criterion, count);
        manifests(&mut criterion, stage);
    }
    print_table(folder.path());
}

/// `GET /api/status`, from the workers' reports to bytes.
fn status(criterion: &mut Criterion<CpuTime>, stage: &Stage) {
    bench(criterion, "status, as bytes", stage.count, || stage.snapshot(For::Anybody));
}

/// What a page that follows costs each second, nothing or one thing new.
fn panel(criterion: &mut Criterion<CpuTime>, stage: &Stage) {
    let before = stage.snapshot(For::Pages);
    bench(criterion, "panel, a second without news", stage.count, || {
        assert!(stage.snapshot(For::Pages).difference(&before).is_none());
    });
    bench(criterion, "panel, a second with news", stage.count, || {
        stage.serve_one();
        stage.snapshot(For::Pages).difference(&before).expect("a package was served")
    });
}

/// A poll's answer, from bytes to what is published, and the steps it leads to.
fn polls(criterion: &mut Criterion<CpuTime>, stage: &Stage) {
    let (known, store, count) = (&mut stage.known(), &stage.store, stage.count);
    let same = status_answer(&stage.manifests, count, 1.0);
    let fingerprint = protocol::fingerprint(&same);
    let again = status_answer(&stage.manifests, count, 2.0);
    bench(criterion, "poll, the same answer", count, || {
        assert_eq!(protocol::fingerprint(&again), fingerprint);
        known.take_same();
        (planned(known, store), known.view())
    });
    // One meeting comes, and goes with the next answer.
    let less = status_answer(&stage.manifests, count - 1, 1.0);
    let mut turn = false;
    bench(criterion, "poll, another answer", count, || {
        turn = !turn;
        let answer = if turn { &less } else { &same };
        let mut status = protocol::read_status(answer).expect("it is well-formed");
        let offers = status.offers.take().expect("it tells of them");
        known.take_status(status);
        known.take_offers(offers);
        black_box(known.catalogue());
        (planned(known, store), known.view())
    });
}

fn planning(criterion: &mut Criterion<CpuTime>, stage: &Stage) {
    let mut known = stage.known();
    bench(criterion, "sync planning", stage.count, || {
        let steps = planned(&mut known, &stage.store);
        assert!(steps.is_empty());
    });
}

/// Here it is the number of tags and of ranges in one request that grows.
fn conditions_and_ranges(criterion: &mut Criterion<CpuTime>, count: usize) {
    let manifest = stage::manifest();
    let header = |member: &str, begin: &str| {
        let list = vec![member; count].join(",");
        HeaderValue::from_str(&format!("{begin}{list}")).expect("it is plain")
    };
    let mut asked = HeaderMap::new();
    asked.insert(header::IF_NONE_MATCH, header("\"0\"", ""));
    bench(criterion, "conditions, that many tags", count, || {
        conditions::evaluate(&Method::GET, &asked, &manifest)
    });
    let mut asked = HeaderMap::new();
    asked.insert(header::RANGE, header("0-0", "bytes="));
    bench(criterion, "ranges, that many", count, || {
        conditions::evaluate(&Method::GET, &asked, &manifest)
    });
}

/// A start with that many packages on disk.
fn manifests(criterion: &mut Criterion<CpuTime>, stage: Stage) {
    let (count, folder) = (stage.count, stage.close());
    let open = |()| {
        let (store, found) = Store::open(&folder.path().join("storage")).expect("it opens");
        assert!(store.count() == count && found.unverified.is_empty());
    };
    let mut group = criterion.benchmark_group("manifests, at a start");
    group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
        bencher.iter_batched(|| (), open, BatchSize::PerIteration);
    });
}

fn bench<T>(
    criterion: &mut Criterion<CpuTime>,
    name: &str,
    count: usize,
    mut work: impl FnMut() -> T,
) {
    let mut group = criterion.benchmark_group(name);
    group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
        bencher.iter(|| black_box(work()));
    });
}

/// Medians, and the growth over the last two steps: ten is linear. Beyond
/// that, it is the processor's caches that no longer hold everything.
fn print_table(results: &Path) {
    println!("\n| CPU time | 10 | 100 | 1,000 | 10,000 | ×10 → |");
    println!("|---|--:|--:|--:|--:|--:|");
    let names = fs::read_dir(results).expect("the results are there");
    let mut rows: Vec<_> = names.flatten().filter_map(|group| row(&group.path())).collect();
    rows.sort();
    rows.iter().for_each(|row| println!("{row}"));
}

fn row(group: &Path) -> Option<String> {
    let median = |count: &usize| -> Option<(String, f64)> {
        let run = group.join(count.to_string()).join("new");
        let read = |file| serde_json::from_slice::<Value>(&fs::read(run.join(file)).ok()?).ok();
        let name = read("benchmark.json")?["group_id"].as_str()?.to_owned();
        Some((name, read("estimates.json")?["median"]["point_estimate"].as_f64()?))
    };
    let medians: Vec<_> = COUNTS.iter().map(median).collect::<Option<_>>()?;
    let name = &medians[0].0;
    let cells = medians.iter().map(|(_, ns)| format!("{:.3} ms", ns / 1e6)).collect::<Vec<_>>();
    let growth = (medians[3].1 / medians[1].1).sqrt();
    Some(format!("| {name} | {} | {growth:.1} |", cells.join(" | ")))
}
