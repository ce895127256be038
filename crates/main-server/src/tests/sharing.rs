//! Two main servers on one PostgreSQL.

use edge_mirror_http::access::Vault;

use super::*;
use crate::{
    server::Server,
    state::{fleet::NodeCaller, shared_calls::SharedCall},
};

/// Longest time in which one knows of what another has done; with what a slow machine needs.
const PATIENCE: Duration = Duration::from_secs(20);

async fn fleet(postgres: &TestPostgres) -> [TestMaster; 2] {
    let location = postgres.database("fleet").await;
    [on(&location).await, on(&location).await]
}

async fn on(location: &StateLocation) -> TestMaster {
    in_folder_on(tempfile::tempdir().unwrap(), location).await
}

async fn in_folder_on(folder: TempDir, location: &StateLocation) -> TestMaster {
    let options = MasterOptions { state: location.clone(), ..options(&folder, LONG) };
    TestMaster::with_options(folder, options).await
}

/// Waits for something that `look` finds.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl TestMaster {
    async fn meeting_status(&self, id: &str) -> Option<String> {
        let answer = self.get(&format!("/api/v1/meetings/{id}")).await;
        let meeting: Value = answer.json().await.unwrap();
        meeting["status"].as_str().map(str::to_owned)
    }

    async fn until_status(&self, id: &str, wanted: Option<&str>) {
        let what = format!("meeting {id} is {wanted:?}");
        until(&what, async || (self.meeting_status(id).await.as_deref() == wanted).then_some(()))
            .await;
    }

    async fn listed(&self, node_id: &str) -> Option<Value> {
        let list = self.json("/api/v1/nodes/list").await;
        list.as_array().unwrap().iter().find(|node| node["node_id"] == node_id).cloned()
    }

    async fn deleted(&self, id: &str) -> StatusCode {
        let path = format!("/api/v1/meetings/{id}");
        self.request(Method::DELETE, &path).send().await.unwrap().status()
    }

    async fn new_meeting(&self, id: &str) -> StatusCode {
        self.post("/api/v1/meetings", json!({"title": "T", "id": id})).await.0
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_at_one_is_known_at_the_other_and_the_first_one_of_two_counts() {
    let postgres = TestPostgres::start().await;
    let [one, other] = fleet(&postgres).await;
    assert_eq!(one.new_meeting("a").await, 201);
    other.until_status("a", Some("未开始")).await;
    // Both at once, whoever knows what already.
    let meetings = async |t: &TestMaster, name: &str| {
        for n in 0..20 {
            assert_eq!(t.new_meeting(&format!("{name}{n}")).await, 201);
        }
    };
    tokio::join!(meetings(&one, "x"), meetings(&other, "y"));
    let (first, second) = tokio::join!(one.new_meeting("same"), other.new_meeting("same"));
    let mut statuses = [first.as_u16(), second.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409]);
    let list = async |t: &TestMaster| t.json("/api/v1/meetings").await.as_array().map(Vec::len);
    for t in [&one, &other] {
        until("all of them", async || (list(t).await == Some(42)).then_some(())).await;
    }
    // A start, that is announced once, and its end.
    other.started("a").await;
    one.until_status("a", Some("进行中")).await;
    let told = until("the start is announced", async || {
        let (one, other) = (one.token().await, other.token().await);
        (one == other && one != "none").then_some(one)
    });
    let token = told.await;
    let (ended, _) = one.post("/api/v1/meetings/a/end", Value::Null).await;
    assert_eq!(ended, 200);
    other.until_status("a", Some("已结束")).await;
    let told = until("a token", async || {
        let (one, other) = (one.token().await, other.token().await);
        (one == other).then_some(one)
    });
    assert_ne!(told.await, token);
    // One of them goes, and the other one goes on.
    assert!(one.master.shut_down(GRACE).await);
    assert_eq!(other.new_meeting("alone").await, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_calls_one_is_known_at_the_other_and_may_change_sides() {
    let postgres = TestPostgres::start().await;
    let [one, other] = fleet(&postgres).await;
    let sha256 = one.meeting("m", &zip_of(b"x")).await;
    one.started("m").await;
    let (address, _node) = fake_node("n1").await;
    one.register("n1", &address).await;
    one.beat("n1", &address, &[("m", &sha256)], 3).await;
    until("the other one has it, and knows that it can be reached", async || {
        let node = other.listed("n1").await?;
        (node["reachable"] == true && node["downloads"] == 3).then_some(())
    })
    .await;
    // It fails over: what it says there counts, and is known here.
    other.register("n1", &address).await;
    until("it calls there now", async || {
        other.beat("n1", &address, &[("m", &sha256)], 7).await;
        let node = one.listed("n1").await?;
        (node["downloads"] == 7).then_some(())
    })
    .await;
    // It takes its leave.
    let (status, _) = other.post("/api/v1/nodes/unregister", json!({"node_id": "n1"})).await;
    assert_eq!(status, 200);
    until("it is gone", async || one.listed("n1").await.is_none().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_log_in_at_either_by_the_same_credentials() {
    let postgres = TestPostgres::start().await;
    let [one, other] = fleet(&postgres).await;
    let [here, there] =
        [&one, &other].map(|t| Vault::at(crate::vault_path(&t.folder.path().join("data"))));
    until("the same credentials", async || {
        let (here, there) = (here.clone(), there.clone());
        let read = tasks::blocking(move || (here.text(), there.text())).await;
        (read.0.is_some() && read.0 == read.1).then_some(())
    })
    .await;
    let changing = here.clone();
    let made = tasks::blocking(move || {
        changing.set_node_key(Some("a key of all nodes")).unwrap();
        changing.replace_token().unwrap().token
    });
    let token = made.await;
    until("a token that was made at one", async || {
        let (there, token) = (there.clone(), token.clone());
        tasks::blocking(move || there.log_in(&token)).await.ok().flatten().map(drop)
    })
    .await;
    let key = tasks::blocking(move || there.check_node_key(Some("a key of all nodes")));
    assert_eq!(key.await, edge_mirror_http::access::NodeKeyCheck::Right);
    // Who comes later takes them, and makes none of its own.
    let postgres_url = postgres.url("fleet").parse().unwrap();
    let third = on(&postgres_url).await;
    assert_eq!(third.master.first_code(), None);
    let vault = Vault::at(crate::vault_path(&third.folder.path().join("data")));
    assert!(tasks::blocking(move || vault.log_in(&token)).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_moves_to_another_database_brings_its_credentials() {
    let postgres = TestPostgres::start().await;
    let first = on(&postgres.database("first").await).await;
    let vault =
        |master: &TestMaster| Vault::at(crate::vault_path(&master.folder.path().join("data")));
    let token = blocking_at(&vault(&first), |vault| vault.replace_token().unwrap().token).await;
    // What is shared lies in the file now.
    until("it is shared", async || {
        blocking_at(&vault(&first), |v| v.changed_access().is_none().then_some(())).await
    })
    .await;
    let second = postgres.database("second").await;
    let moved = in_folder_on(first.stopped().await, &second).await;
    let saved = async || moved.master.server.state().access;
    until("the other database has it", async || saved().await).await;
    let joined = on(&second).await;
    let vault = vault(&joined);
    let logged_in = blocking_at(&vault, move |vault| vault.log_in(&token).unwrap()).await;
    assert!(logged_in.is_some());
}

async fn blocking_at<T: Send + 'static>(
    vault: &Vault,
    work: impl FnOnce(Vault) -> T + Send + 'static,
) -> T {
    let vault = vault.clone();
    tasks::blocking(move || work(vault)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_are_changed_at_two_at_once_are_changed_at_both() {
    let postgres = TestPostgres::start().await;
    let servers = fleet(&postgres).await;
    let [here, there] =
        servers.each_ref().map(|t| Vault::at(crate::vault_path(&t.folder.path().join("data"))));
    let agree = async || {
        until("the same credentials", async || {
            let texts = (blocking_at(&here, |v| v.text()), blocking_at(&there, |v| v.text()));
            let (one, other) = (texts.0.await, texts.1.await);
            (one.is_some() && one == other).then_some(())
        })
        .await;
    };
    agree().await;
    let logs_in = async |at: &Vault, code: String| {
        let logged_in = blocking_at(at, move |vault| vault.log_in(&code).unwrap().is_some());
        logged_in.await
    };
    let new_code = |vault: Vault| vault.new_code().unwrap().unwrap();
    for _ in 0..3 {
        let one = blocking_at(&here, new_code).await;
        let other = blocking_at(&there, new_code).await;
        for (vault, code) in [(&there, one), (&here, other)] {
            until("a code of the other one", async || {
                logs_in(vault, code.clone()).await.then_some(())
            })
            .await;
        }
        agree().await;
    }
    // A new token ends the codes that are made beside it.
    let code = blocking_at(&there, new_code).await;
    let token = blocking_at(&here, |vault| vault.replace_token().unwrap().token).await;
    until("the new token", async || logs_in(&there, token.clone()).await.then_some(())).await;
    agree().await;
    for vault in [&here, &there] {
        assert!(!logs_in(vault, code.clone()).await, "it was ended");
        assert!(logs_in(vault, token.clone()).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_them_leads_and_when_it_goes_another_one_does() {
    let postgres = TestPostgres::start().await;
    let [one, other] = fleet(&postgres).await;
    let leads = |t: &TestMaster| *t.master.server.leads.borrow();
    until("a leader", async || (leads(&one) || leads(&other)).then_some(())).await;
    assert!(!(leads(&one) && leads(&other)));
    let (leader, follower) = if leads(&one) { (one, other) } else { (other, one) };
    until("they know each other", async || (follower.master.server.others().0 == 1).then_some(()))
        .await;
    assert!(leader.master.shut_down(GRACE).await);
    until("another leader", async || leads(&follower).then_some(())).await;
    let others = follower.master.server.others();
    assert_eq!((others.0, others.1.len()), (0, 0), "who stops in order is not silent");
}

fn shared_beat(server: &Server, node_id: &str, n: u8) {
    let body = json!({
        "node_id": node_id, "address": "127.0.0.1:9", "status": "online",
        "active_meetings": [], "synced_meetings": [],
    });
    let caller = NodeCaller { client: [10, 0, 0, n].into(), is_proven: true };
    server.share(SharedCall::Heartbeat, caller, body.as_object().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_nodes_are_known_at_the_other_one_by_a_few_statements() {
    let postgres = TestPostgres::start().await;
    let [one, other] = fleet(&postgres).await;
    for n in 0..1000 {
        shared_beat(&one.master.server, &format!("n{n}"), u8::try_from(n / 250).unwrap());
    }
    until("all nodes", async || {
        let list = other.json("/api/v1/nodes/list").await;
        (list.as_array().unwrap().len() == 1000).then_some(())
    })
    .await;
    let written = "SELECT COUNT(*) FROM edge_mirror_presence WHERE calls <> ''";
    let rows = tasks::block_in_place(|| postgres.ask("fleet", written));
    assert!(rows.parse::<usize>().unwrap() <= 3, "{rows} statements");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_heard_while_the_database_was_away_is_as_old_as_it_is() {
    let mut postgres = TestPostgres::start().await;
    let [one, other] = fleet(&postgres).await;
    shared_beat(&one.master.server, "n1", 1);
    until("the node is known", async || other.listed("n1").await).await;
    tasks::block_in_place(|| postgres.kill());
    until("the outage is noticed", async || {
        other.master.server.state_fault.borrow().is_some().then_some(())
    })
    .await;
    shared_beat(&one.master.server, "n1", 1);
    let called_at = other.master.server.clock.now();
    let heard_at = || {
        let server = &other.master.server;
        let registry = server.registry();
        registry.live(server.clock.now()).find(|(id, _)| *id == "n1").map(|(_, node)| node.heard_at)
    };
    until("it stays while nothing can be heard of it", async || {
        (heard_at()? > called_at + Duration::from_secs(3)).then_some(())
    })
    .await;
    tasks::block_in_place(|| postgres.resume());
    until("its last call", async || {
        (heard_at()? < called_at + Duration::from_secs(1)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_notifications_each_change_is_seen_all_the_same() {
    let postgres = TestPostgres::start().await;
    let location = postgres.database("fleet").await;
    tasks::block_in_place(|| postgres.lose_notifications("fleet"));
    let [one, other] = [on(&location).await, on(&location).await];
    for round in 0..3 {
        // Deleted and created again at the other one, with the same id.
        assert_eq!(one.new_meeting("a").await, 201, "round {round}");
        other.until_status("a", Some("未开始")).await;
        let uploaded = other.upload("a", zip_of(format!("{round}").as_bytes())).await;
        assert_eq!(uploaded.0, 200);
        other.started("a").await;
        one.until_status("a", Some("进行中")).await;
        assert_eq!(other.deleted("a").await, 200);
        one.until_status("a", None).await;
        assert_eq!(other.new_meeting("a").await, 201, "round {round}");
        one.until_status("a", Some("未开始")).await;
        assert_eq!(one.deleted("a").await, 200);
        other.until_status("a", None).await;
    }
    let (address, _node) = fake_node("n1").await;
    one.register("n1", &address).await;
    until("a node of the other one", async || other.listed("n1").await).await;
    let lost = tasks::block_in_place(|| postgres.ask("fleet", "SELECT COUNT(*) FROM lost"));
    assert!(lost.parse::<usize>().unwrap() > 10, "{lost} were lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_a_package_that_is_only_at_the_other_one_is_told_to_ask_again() {
    let postgres = TestPostgres::start().await;
    let [one, other] = fleet(&postgres).await;
    let zip = zip_of(b"x");
    one.meeting("m", &zip).await;
    one.started("m").await;
    other.until_status("m", Some("进行中")).await;
    until("they know each other", async || (other.master.server.others().0 == 1).then_some(()))
        .await;
    for path in ["download-package", "download-package-direct"] {
        let path = format!("/api/v1/meetings/m/{path}");
        let refused = other.get(&path).await;
        assert_eq!(refused.status(), 503);
        assert!(refused.headers().contains_key(header::RETRY_AFTER));
        let reason = refused.text().await.unwrap();
        assert!(reason.contains("at another main server"), "{reason}");
        assert_eq!(one.get(&path).await.bytes().await.unwrap(), zip);
    }
    let problems = other.json("/api/v1/overview").await["problems"].to_string();
    assert!(problems.contains("packages_not_shared"), "{problems}");
    // One that nobody has uploaded is at neither.
    assert_eq!(one.new_meeting("empty").await, 201);
    one.started("empty").await;
    other.until_status("empty", Some("进行中")).await;
    let missing = other.get("/api/v1/meetings/empty/download-package").await;
    assert_eq!(missing.status(), 500);
}
