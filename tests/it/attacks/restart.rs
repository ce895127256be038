//! A running meeting is ended and started again with another package between
//! two polls; tablets come as soon as the node has said that it is synced.

use std::time::Duration;

use serde_json::json;

use super::{Attack, tries};
use crate::support::{ScriptedMain, process::NodeFolder, zips::big_zip};

const ID: &str = "m1";

#[tokio::test(flavor = "multi_thread")]
async fn a_meeting_is_started_again_with_another_package_at_any_moment() {
    let main = ScriptedMain::start().await;
    main.activate(ID, "Board", &big_zip(200_000, 0));
    let folder = NodeFolder::of(&main.authority()).with(json!({"syncInterval": 3}));
    let node = folder.start().await;
    main.until_told(ID, 0).await;
    let rounds = tries(4, 50);
    let (mut new, mut longest) = (0, Duration::ZERO);
    for round in 0..rounds {
        tokio::time::sleep(Duration::from_millis(fastrand::u64(..3000))).await;
        let package = big_zip(200_000, 1 + round as u64);
        let started = main.restart(ID, &package).await;
        let began = tokio::time::Instant::now();
        let before = main.until_told(ID, started).await;
        longest = longest.max(began.elapsed());
        let got = node.download(ID).await.1;
        new += usize::from(got == package && before.iter().any(|asked| asked.is_pull_of(ID)));
    }
    let attack = Attack {
        fault: "a running meeting ended and started again with another package within one poll",
        promise: "tablets that come once the heartbeat lists the meeting get the new package",
    };
    attack.report(rounds, new, &format!("told after {:.1} s at the most", longest.as_secs_f64()));
}
