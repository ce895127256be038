//! Versions of one package that are hard to tell apart.

use reqwest::{Method, Response, StatusCode, header};
use serde_json::json;

use super::{
    super::support::{ScriptedMain, client, process::NodeFolder, until, zips::big_zip},
    Attack, tries,
};

const M1: &str = "m1";
const SIZE: usize = 200_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_main_servers_odd_dates_stop_no_download() {
    const DATES: [&str; 5] = [
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Sat, 01 Jan 10000 00:00:00 GMT",
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "Wed, 31 Dec 1969 23:59:59 GMT",
        "Mon, 99 Foo 2026 25:61:61 GMT",
    ];
    let rounds = tries(1, 4);
    let mut kept = 0;
    for date in DATES.iter().cycle().take(rounds * DATES.len()) {
        let main = ScriptedMain::start().await;
        main.play().last_modified = Some(date);
        let folder = NodeFolder::of(&main.authority());
        let (one, two) = (big_zip(SIZE, 1), big_zip(SIZE, 2));
        main.activate(M1, "T", &one);
        let mut node = folder.start().await;
        let first = node.until_synced(M1).await["sha256"].clone();
        let before = node.download(M1).await;
        main.activate(M1, "T", &two);
        let good = |(status, bytes): &(StatusCode, Vec<u8>), zip: &[u8]| {
            *status == StatusCode::OK && bytes == zip
        };
        until("the second version is synced", async || {
            (node.until_synced(M1).await["sha256"] != first).then_some(())
        })
        .await;
        let after = try_download(&node.package_url(M1)).await;
        node.process.kill();
        let node = folder.start().await;
        node.until_synced(M1).await;
        let restarted = try_download(&node.package_url(M1)).await;
        let kept_all = good(&before, &one)
            && [after, restarted].iter().all(|got| got.as_ref().is_some_and(|got| good(got, &two)));
        kept += usize::from(kept_all);
    }
    Attack {
        fault: "two versions whose Last-Modified is the end of the year 9999, 1969 or no date",
        promise: "both are downloaded whole, the second after a restart, too",
    }
    .report(rounds * DATES.len(), kept, "no download broke");
}

async fn try_download(url: &str) -> Option<(StatusCode, Vec<u8>)> {
    let answer = client().get(url).send().await.ok()?;
    Some((answer.status(), answer.bytes().await.ok()?.to_vec()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_date_joins_no_two_versions() {
    let main = ScriptedMain::start().await;
    // The same for all versions, and before now, so that it is served.
    main.play().last_modified = Some("Sat, 21 Nov 2026 07:00:00 GMT");
    let folder = NodeFolder::of(&main.authority()).with(json!({"cleanup": {"enabled": false}}));
    let versions = [big_zip(SIZE, 1), big_zip(SIZE, 2)];
    main.activate(M1, "T", &versions[0]);
    let node = folder.start().await;
    node.until_synced(M1).await;
    let package = node.package_url(M1);
    let half = SIZE / 2;
    let tries = tries(4, 40);
    let mut kept = 0;
    for turn in 1..=tries {
        let begun = client().get(&package).header(header::RANGE, format!("bytes=0-{}", half - 1));
        let begun = begun.send().await.unwrap();
        let date = begun.headers()[header::LAST_MODIFIED].clone();
        let begun = begun.bytes().await.unwrap();
        main.end(M1);
        until("it is removed", async || {
            let gone = client().request(Method::DELETE, node.url("/api/meetings/m1")).send().await;
            gone.unwrap().status().is_success().then_some(())
        })
        .await;
        main.activate(M1, "T", &versions[turn % 2]);
        node.until_synced(M1).await;
        let condition = [header::IF_RANGE, header::IF_UNMODIFIED_SINCE][turn / 2 % 2].clone();
        let rest = client().get(&package).header(header::RANGE, format!("bytes={half}-"));
        let rest = rest.header(condition, date).send().await.unwrap();
        kept += usize::from(together(begun.to_vec(), rest).await == versions[turn % 2]);
    }
    Attack {
        fault: "a download goes on by date after its package was removed and another of the same date pulled",
        promise: "the client gets one version whole, never parts of two",
    }
    .report(tries, kept, "each was sent the whole");
}

/// What a client has in the end.
async fn together(begun: Vec<u8>, rest: Response) -> Vec<u8> {
    let begun = if rest.status() == StatusCode::PARTIAL_CONTENT { begun } else { Vec::new() };
    [begun, rest.bytes().await.unwrap().to_vec()].concat()
}
