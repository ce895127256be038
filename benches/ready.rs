//! From "meeting started at the main server" to "the node's heartbeat says
//! synced", with the pull and without it; and what polling costs a node.
//!
//! `cargo bench --bench ready` prints Markdown tables; `-- --quick` takes fewer
//! and shorter samples. `EDGE_MIRROR_BIN` names another binary to measure.

#![allow(
    clippy::disallowed_methods,
    reason = "a bench sets its scene as it likes, in a folder of its own"
)]

#[path = "ready/log.rs"]
mod log;
#[path = "ready/node.rs"]
mod node;
#[path = "ready/ours.rs"]
mod ours;
#[path = "ready/theirs.rs"]
mod theirs;

use std::time::Duration;

use edge_mirror::tasks::Tasks;
use log::Times;
use node::Node;
use ours::Ours;
use serde_json::json;
use theirs::Theirs;

/// Of its 1,000 packages a node asks for the versions every 45 s: the time
/// that the costs are taken over has one such round in it.
const COST_OVER: Duration = Duration::from_secs(45);

struct Plan {
    runs: usize,
    cost_over: Duration,
}

fn main() {
    // Arguments of cargo's and of `benches/run` are none of ours.
    let plan = match std::env::args().any(|argument| argument == "--quick") {
        true => Plan { runs: 5, cost_over: COST_OVER / 9 },
        false => Plan { runs: 25, cost_over: COST_OVER },
    };
    let runtime = tokio::runtime::Runtime::new().expect("the system has threads");
    runtime.block_on(async {
        let tasks = Tasks::new();
        times(&plan, &tasks).await;
        costs(&plan, &tasks).await;
        tasks.shut_down(Duration::from_secs(1)).await;
    });
}

async fn times(plan: &Plan, tasks: &Tasks) {
    println!(
        "| Main server | Package | Started → told, median | worst | Pull, median | Rest, mean | median | worst |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|");
    for (size, bytes) in [("10 KB", 10_000), ("1 MB", 1_000_000), ("50 MB", 50_000_000)] {
        let ours = Ours::start(tasks).await;
        let node = Node::start(&ours.authority(), json!({"syncInterval": 3600}));
        ours.log.until_heard().await;
        let package = theirs::package(bytes);
        let mut taken = Vec::new();
        for run in 0..plan.runs {
            let id = format!("m{run}");
            ours.prepare(&id, &package).await;
            pause().await;
            let began = ours.begin(&id).await;
            taken.push(ours.log.times(&id, began).await);
            ours.end(&id).await;
        }
        drop(node);
        print_times("ours, held polls", size, &taken);
    }
    for (size, bytes) in [("10 KB", 10_000), ("1 MB", 1_000_000)] {
        let theirs = Theirs::start(tasks);
        let node = Node::start(&theirs.authority(), json!({"syncInterval": 1}));
        theirs.log.until_heard().await;
        let package = theirs::package(bytes);
        let mut taken = Vec::new();
        // The interval is a lot longer than all else: its mean takes more runs.
        for run in 0..2 * plan.runs {
            pause().await;
            let id = format!("m{run}");
            let began = theirs.begin(&id, &package);
            taken.push(theirs.log.times(&id, began).await);
            theirs.end(&id);
        }
        drop(node);
        print_times("theirs, polled each 1 s", size, &taken);
    }
    println!();
}

/// So that starts and polls do not fall into step.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(fastrand::u64(200..1200))).await;
}

fn print_times(main_server: &str, size: &str, taken: &[Times]) {
    let sorted = |of: fn(&Times) -> f64| {
        let mut ms: Vec<f64> = taken.iter().map(of).collect();
        ms.sort_by(f64::total_cmp);
        ms
    };
    let all = [sorted(Times::all_ms), sorted(Times::pull_ms), sorted(Times::rest_ms)];
    let [all, pull, rest] = &all;
    let (median, worst) = (|ms: &[f64]| ms[ms.len() / 2], |ms: &[f64]| ms[ms.len() - 1]);
    let mean = rest.iter().sum::<f64>() / rest.len() as f64;
    println!(
        "| {main_server} | {size} | {:.1} ms | {:.1} | {:.1} | {mean:.1} | {:.1} | {:.1} |",
        median(all),
        worst(all),
        median(pull),
        median(rest),
        worst(rest),
    );
}

async fn costs(plan: &Plan, tasks: &Tasks) {
    println!("| Node | Active meetings | Share of a core | Wake-ups/s | Anonymous memory |");
    println!("|---|--:|--:|--:|--:|");
    let every_second = || json!({"syncInterval": 1});
    let small = theirs::package(1_000);
    for count in [0, 1_000] {
        let theirs = Theirs::start(tasks);
        for n in 0..count {
            theirs.begin(&format!("meeting-{n}"), &small);
        }
        let node = Node::start(&theirs.authority(), every_second());
        theirs.log.until_synced(count).await;
        print_cost("theirs, polled each second", count, &node, plan).await;

        let ours = Ours::start(tasks).await;
        for n in 0..count {
            let id = format!("meeting-{n}");
            ours.prepare(&id, &small).await;
            ours.begin(&id).await;
        }
        let node = Node::start(&ours.authority(), every_second());
        ours.log.until_synced(count).await;
        print_cost("ours, polls held for 1 s", count, &node, plan).await;
    }
    let theirs = Theirs::start(tasks);
    let node = Node::start(&theirs.authority(), json!({}));
    theirs.log.until_synced(0).await;
    print_cost("theirs, all settings as they come", 0, &node, plan).await;
}

async fn print_cost(what: &str, count: usize, node: &Node, plan: &Plan) {
    let cost = node.cost_over(plan.cost_over).await;
    println!(
        "| {what} | {count} | {:.2} % | {:.1} | {:.1} MiB |",
        100.0 * cost.core,
        cost.wakes_per_s,
        cost.anonymous_bytes as f64 / 1_048_576.0,
    );
}
