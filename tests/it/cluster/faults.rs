//! A database that is away, and main servers and databases killed at any moment.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use reqwest::{RequestBuilder, Response};
use tokio_util::sync::CancellationToken;

use super::*;

/// Longer than a node that is not heard of is listed (30 s).
const OUTAGE: Duration = Duration::from_secs(60);
/// The time in which changes can be saved again once the database is back.
const RECOVERY: Duration = Duration::from_secs(2);
/// Kills for each meeting.
const KILLS: usize = 4;

/// Tablets and an operator, while the database is away.
async fn serve_in_spite_of_it(servers: &[ClusterServer], package: &[u8], ends: Instant) {
    let addresses = addresses(servers);
    loop {
        for (server, address) in servers.iter().zip(&addresses) {
            assert!(download(std::slice::from_ref(address), "first").await == package);
            let listed = server.json("meetings/first").await;
            assert_eq!(listed["nodes"].as_array().map(Vec::len), Some(2), "{listed}");
            let body = json!({"id": "refused", "title": "Board"});
            let made = client().post(server.url("meetings")).json(&body).send().await.unwrap();
            assert_eq!(made.status(), StatusCode::SERVICE_UNAVAILABLE);
            let reason: Value = made.json().await.unwrap();
            assert!(reason["detail"].as_str().unwrap().contains("try again later"), "{reason}");
        }
        if ends < Instant::now() {
            return;
        }
    }
}

/// Waits until changes are saved again at each, and asserts that it took no longer than it may.
async fn recover(servers: &[ClusterServer], name: &str) {
    let back = Instant::now();
    for (n, server) in servers.iter().enumerate() {
        until("changes are saved again", async || {
            let body = json!({"id": format!("{name}-{n}"), "title": "Board"});
            let made = client().post(server.url("meetings")).json(&body).send().await.unwrap();
            (made.status() == StatusCode::CREATED).then_some(())
        })
        .await;
    }
    assert!(back.elapsed() < RECOVERY, "it took {:?}", back.elapsed());
    for server in servers {
        for n in 0..servers.len() {
            let path = format!("meetings/{name}-{n}");
            until("what was saved at the other one", async || {
                (server.json(&path).await["title"] == "Board").then_some(())
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_away_packages_status_and_redirects_go_on() {
    let (mut postgres, packages) = (TestPostgres::start().await, tempfile::tempdir().unwrap());
    let database = tasks::blocking(postgres.creation("fleet")).await;
    let one = ClusterServer::start(&database, packages.path()).await;
    let other = ClusterServer::start(&database, packages.path()).await;
    let servers = [one, other];
    let addresses = addresses(&servers);
    // A node at each.
    let back = [addresses[1].clone(), addresses[0].clone()];
    let nodes = [node_of(&addresses, "node-0").await, node_of(&back, "node-1").await];
    let package = big_zip(1 << 20, 1);
    servers[0].create("first").await;
    servers[0].put("first", &package).await;
    servers[0].begin_meeting("first").await;
    for server in &servers {
        server.until_held_by("first", 2).await;
    }
    // It hangs, as a machine does that swaps, and its connections with it.
    tasks::block_in_place(|| postgres.freeze());
    serve_in_spite_of_it(&servers, &package, Instant::now() + OUTAGE).await;
    tasks::block_in_place(|| postgres.thaw());
    recover(&servers, "thawed").await;
    // It is killed, and starts again after a while.
    tasks::block_in_place(|| postgres.kill());
    until("the outage is noticed", async || {
        let body = json!({"id": "noticed", "title": "Board"});
        let made = client().post(servers[1].url("meetings")).json(&body).send().await.unwrap();
        (made.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
    serve_in_spite_of_it(&servers, &package, Instant::now()).await;
    tasks::block_in_place(|| postgres.resume());
    recover(&servers, "resumed").await;
    for (_, node) in &nodes {
        assert_eq!(node.download("first").await, (StatusCode::OK, package.clone()));
    }
}

/// An operator behind a load balancer, who tries again what was not acknowledged.
struct Operator {
    addresses: Vec<String>,
}

impl Operator {
    /// The first answer that is no failure of the server's, at whichever answers.
    async fn ask(&self, what: &str, request: impl Fn(String) -> RequestBuilder) -> Response {
        until(what, async || {
            for address in &self.addresses {
                let asked = request(format!("http://{address}/api/v1")).send().await;
                let Ok(answer) = asked else { continue };
                match answer.status() {
                    // One of before that was not acknowledged may still be under way.
                    StatusCode::CONFLICT if what != "create" => {}
                    // What was done at the other one is known here a moment later.
                    StatusCode::NOT_FOUND => {}
                    status if status.is_server_error() => {}
                    _ => return Some(answer),
                }
            }
            None
        })
        .await
    }

    /// Runs a meeting until tablets are told of it; all that is returned was acknowledged.
    async fn run(&self, id: &str, zip: &[u8]) {
        let body = json!({"id": id, "title": "Board"});
        let made =
            self.ask("create", |url| client().post(format!("{url}/meetings")).json(&body)).await;
        assert!([StatusCode::CREATED, StatusCode::CONFLICT].contains(&made.status()), "{made:?}");
        let path = format!("meetings/{id}");
        let put =
            self.ask("put", |url| client().put(format!("{url}/{path}/package")).body(zip.to_vec()));
        assert_eq!(put.await.status(), StatusCode::OK);
        let started = self.ask("start", |url| client().post(format!("{url}/{path}/start")));
        assert_eq!(started.await.status(), StatusCode::OK);
        until("tablets are told", async || {
            let overview = self.ask("overview", |url| client().get(format!("{url}/overview")));
            let overview: Value = overview.await.json().await.ok()?;
            let mut meetings = overview["meetings"].as_array()?.iter();
            meetings.any(|m| m["id"] == id && m["announced"] == true).then_some(())
        })
        .await;
    }
}

/// Kills one of two main servers or the database, again and again.
struct Killer {
    postgres: TestPostgres,
    database: String,
    packages: PathBuf,
    servers: Vec<ClusterServer>,
    random: fastrand::Rng,
    /// Kills that it may still do: whoever has to announce a start must be there at some time.
    left: Arc<AtomicUsize>,
    kills: usize,
}

impl Killer {
    /// Until `stop`; then all are there.
    async fn run(mut self, stop: CancellationToken) -> Self {
        while !stop.is_cancelled() {
            let victim = self.random.usize(..2);
            // Any moment of what the others do.
            for _ in 0..=self.random.usize(..40) {
                self.servers[1 - victim].json("meetings").await;
            }
            let may_kill = |left: usize| left.checked_sub(1);
            if self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, may_kill).is_err() {
                continue;
            }
            self.kills += 1;
            if self.kills.is_multiple_of(4) {
                tasks::block_in_place(|| {
                    self.postgres.kill();
                    self.postgres.resume();
                });
                continue;
            }
            self.servers[victim].process.kill();
            for _ in 0..self.random.usize(..40) {
                self.servers[1 - victim].json("meetings").await;
            }
            let gone = self.servers.remove(victim);
            let back = gone.restarted(&self.database, &self.packages).await;
            self.servers.insert(victim, back);
        }
        self
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_killed_nothing_acknowledged_is_lost_and_nothing_told_early_or_twice() {
    let (postgres, packages) = (TestPostgres::start().await, tempfile::tempdir().unwrap());
    let database = tasks::blocking(postgres.creation("fleet")).await;
    let mut servers = Vec::new();
    for _ in 0..2 {
        servers.push(ClusterServer::start(&database, packages.path()).await);
    }
    let operator = Operator { addresses: addresses(&servers) };
    let mut nodes = Vec::new();
    for n in 0..3 {
        let (folder, node) = node_of(&operator.addresses, &format!("node-{n}")).await;
        // A pull takes a while, in which nobody may be told.
        node.configure(json!({"network": {"bandwidth": 1_000_000}})).await;
        nodes.push((folder, node));
    }
    for server in &servers {
        until("all nodes are there", async || {
            (server.json("nodes/list").await.as_array()?.len() == 3).then_some(())
        })
        .await;
    }
    let (packages, stop) = (packages.path().to_owned(), CancellationToken::new());
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let random = fastrand::Rng::with_seed(seed);
    let left = Arc::<AtomicUsize>::default();
    let killer =
        Killer { postgres, database, packages, servers, random, left: left.clone(), kills: 0 };
    let running = async {
        let mut meetings = Vec::new();
        for n in 0..4 {
            let (id, zip) = (format!("m{n}"), big_zip(700_000, n));
            left.fetch_add(KILLS, Ordering::Relaxed);
            operator.run(&id, &zip).await;
            for (_, node) in &nodes {
                // A download would wait for the end of a pull.
                let state = node.meeting(&id).await["state"].clone();
                assert_eq!(state, "synced", "{id} was told too early");
                assert_eq!(node.download(&id).await, (StatusCode::OK, zip.clone()));
            }
            meetings.push((id, zip));
        }
        stop.cancel();
        meetings
    };
    let (killer, meetings) = tokio::join!(killer.run(stop.clone()), running);
    let Killer { postgres, servers, kills, .. } = killer;
    assert!(kills >= KILLS, "{kills} kills");
    for server in &servers {
        for (id, zip) in &meetings {
            let meeting = server.json(&format!("meetings/{id}")).await;
            assert_eq!(meeting["status"], "进行中", "{meeting}");
            server.until_held_by(id, 3).await;
            let direct = format!("meetings/{id}/download-package-direct");
            let kept = client().get(server.url(&direct)).send().await.unwrap().bytes().await;
            assert!(kept.unwrap() == *zip);
        }
    }
    let revision = "SELECT revision FROM edge_mirror_doc WHERE kind = 'token'";
    let told = tasks::block_in_place(|| postgres.ask("fleet", revision));
    assert_eq!(told, (1 + meetings.len()).to_string(), "each start is told once");
}
