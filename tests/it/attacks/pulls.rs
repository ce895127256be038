//! Requests for packages that there are not, and packages that are none.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use futures_util::future::{join_all, select};
use reqwest::{Client, Method};
use serde_json::json;

use super::{Attack, tries};
use crate::support::{Fault, ScriptedMain, process::NodeFolder, until, zip_of, zips::big_zip};

/// The n-th of many addresses of this machine.
fn client_at(n: usize) -> Client {
    let address = Ipv4Addr::new(127, 1, (n / 200) as u8, (n % 200) as u8 + 1);
    edge_mirror_http::tls::http(edge_mirror_http::tls::client())
        .local_address(Some(address.into()))
        .build()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn invented_ids_do_not_hold_up_a_meeting_that_starts() {
    let (clients, tries) = (tries(60, 300), tries(1, 5));
    let (mut kept, mut slowest) = (0, Duration::ZERO);
    for _ in 0..tries {
        let main = ScriptedMain::start().await;
        main.fail("invented-", vec![Fault::Silence(Duration::from_millis(300)); 100_000]);
        let folder = NodeFolder::of(&main.authority());
        let node = folder.start().await;
        let asking = join_all((0..clients).map(async |client| {
            let http = client_at(client);
            for n in 0.. {
                let url = node.package_url(&format!("invented-{client}-{n}"));
                // Refused at once or after a while: it asks again.
                let _ = http.get(url).send().await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }));
        let starting = async {
            until("the attack", async || (main.count(Method::GET, "invented-") > 5).then_some(()))
                .await;
            let began = Instant::now();
            main.activate("m1", "Board", &zip_of("papers"));
            node.until_synced("m1").await;
            began.elapsed()
        };
        let synced = select(Box::pin(asking), Box::pin(starting)).await;
        let futures_util::future::Either::Right((took, _)) = synced else { unreachable!() };
        slowest = slowest.max(took);
        kept += usize::from(took < Duration::from_secs(6));
    }
    Attack {
        fault: "300 clients at as many addresses ask for ids that they invent; the main server takes 0.3 s for each 404",
        promise: "a meeting that starts is synced within 6 s (polled each second)",
    }
    .report(tries, kept, &format!("synced after {:.1} s at most", slowest.as_secs_f64()));
}

const PAGE: &str = "<html>no room here</html>\n";
const DRESSED: &str = "PK\u{3}\u{4}<html>no room</html>\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_false_length_evicts_no_package() {
    // Begins like a page or like an archive; of an active meeting or another.
    let cases = [(PAGE, true), (PAGE, false), (DRESSED, true), (DRESSED, false)];
    let cases = &cases[..tries(3, cases.len())];
    let kept = join_all(cases.iter().map(|(page, active)| keeps_packages(page, *active))).await;
    Attack {
        fault: "26 bytes that are no package are announced as 19.9 MB, with the storage full of packages of ended meetings",
        promise: "none of these is removed",
    }
    .report(cases.len(), kept.iter().filter(|kept| **kept).count(), "3 packages each");
}

async fn keeps_packages(page: &'static str, active: bool) -> bool {
    let main = ScriptedMain::start().await;
    let ids = ["m1", "m2", "m3"];
    let full = json!({
        "storage": {"maxSize": 20_000_000, "cleanupThreshold": 1.0},
        "cleanup": {"enabled": false},
        "network": {"retryCount": 1},
    });
    let folder = NodeFolder::of(&main.authority()).with(full);
    let node = folder.start().await;
    for (n, id) in ids.iter().enumerate() {
        main.activate(id, "Board", &big_zip(6_000_000, n as u64));
        node.until_synced(id).await;
        main.end(id);
    }
    until("the meetings' ends", async || {
        let meetings = node.status().await["meetings"].as_array().unwrap().clone();
        meetings.iter().all(|meeting| meeting["state"] == "inactive").then_some(())
    })
    .await;
    let announced = vec![Fault::Announcing(19_900_000, page); 100];
    main.fail("_liar_", announced.clone());
    main.fail("/liar/", announced);
    if active {
        main.activate("liar", "Board", b"");
        until("the failure", async || {
            (node.meeting("liar").await["state"] == "failing").then_some(())
        })
        .await;
    }
    let _ = node.get_package("liar").await.bytes().await;
    ids.iter().all(|id| folder.storage().join(format!("meeting_{id}/package.zip")).exists())
}
