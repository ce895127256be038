//! Strangers at our main server, which asks its nodes for no key, and kills.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{StreamExt, future::join_all, stream};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket},
};

use super::{Attack, tries};
use crate::support::{
    client,
    old_node::OldNode,
    process::{MemoryPeak, Process, binary},
    until, zip_of,
};

/// A tenth of what the attacks took before.
const MOST_MEBIBYTES: f64 = 100.0;
const HEARTBEAT: &str = "/api/v1/nodes/heartbeat";

struct MainServer {
    data: Arc<tempfile::TempDir>,
    process: Process,
    address: SocketAddr,
}

impl MainServer {
    async fn start() -> Self {
        Self::over(Arc::new(tempfile::tempdir().unwrap())).await
    }

    async fn over(data: Arc<tempfile::TempDir>) -> Self {
        let mut command = binary();
        command.args(["master", "--host", "127.0.0.1", "--port", "0", "--data"]).arg(data.path());
        let mut process = Process::spawn(command);
        let address = process.until_listening().await;
        Self { data, process, address }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn json(&self, path: &str) -> Value {
        client().get(self.url(path)).send().await.unwrap().json().await.unwrap()
    }

    async fn node(&self, node_id: &str) -> Value {
        let list = self.json("/api/v1/nodes/list").await;
        let mut nodes = list.as_array().unwrap().iter();
        nodes.find(|node| node["node_id"] == node_id).cloned().unwrap_or_default()
    }

    /// A running meeting that never had another package.
    async fn begin(&self, id: &str, package: Vec<u8>) {
        let (meetings, client) = (self.url("/api/v1/meetings"), client());
        for request in [
            client.post(&meetings).json(&json!({"id": id, "title": "Board"})),
            client.put(format!("{meetings}/{id}/package")).body(package),
            client.post(format!("{meetings}/{id}/start")),
        ] {
            assert!(request.send().await.unwrap().status().is_success());
        }
    }
}

/// Somebody at another address of this machine.
fn stranger(n: u8) -> Client {
    let at = IpAddr::from(Ipv4Addr::new(127, 0, 1, n));
    edge_mirror_http::tls::http(edge_mirror_http::tls::client()).local_address(at).build().unwrap()
}

/// A heartbeat with a thousand meetings, each of which takes so many bytes.
fn heartbeat(node_id: &str, bytes: usize) -> Value {
    let ids: Vec<_> = (0..1000).map(|n| format!("{n:032x}")).collect();
    let title = "题".repeat(bytes / 3);
    let active: Vec<_> = ids.iter().map(|id| json!({"id": id, "title": title})).collect();
    json!({
        "node_id": node_id, "address": "127.0.0.1:1", "status": "online",
        "active_meetings": active, "synced_meetings": ids,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_of_strangers_fill_no_memory() {
    let count = tries(60, 301);
    let main = MainServer::start().await;
    let honest = OldNode::of(&main.address.to_string(), "honest");
    honest.register().await;
    honest.heartbeat().await;
    let memory = MemoryPeak::watch(main.process.id());
    let (attacker, url) = (stranger(1), main.url(HEARTBEAT));
    let beats = stream::iter(0..count).map(|n| {
        let request = attacker.post(&url).json(&heartbeat(&format!("a{n}"), 750));
        async move { request.send().await.unwrap().status() }
    });
    let answers: Vec<_> = beats.buffer_unordered(8).collect().await;
    let taken = answers.iter().filter(|status| **status == StatusCode::OK).count();
    let list = client().get(main.url("/api/v1/nodes/list")).send().await.unwrap();
    let list = list.bytes().await.unwrap();
    let nodes: Vec<Value> = serde_json::from_slice(&list).unwrap();
    honest.heartbeat().await;
    // Those that were heard longer than 30 s ago are off the list again.
    let is_listed = nodes.len() <= taken + 1 && !main.node("honest").await.is_null();
    let peak = memory.mebibytes();
    let kept = if peak < MOST_MEBIBYTES && is_listed { count } else { 0 };
    Attack {
        fault: "a stranger sends the main server heartbeats of 850 KB, each as another node, and reads the list of nodes",
        promise: "the main server takes less than 100 MiB, and its own nodes stay listed",
    }
    .report(count, kept, &format!("{peak:.0} MiB at most, {taken} taken"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_never_end_fill_no_memory_and_hold_nobody_up() {
    let count = tries(200, 300);
    let main = MainServer::start().await;
    let memory = MemoryPeak::watch(main.process.id());
    let body = heartbeat("a", 750).to_string();
    let head = format!(
        "POST {HEARTBEAT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len() + 1
    );
    let (begun, whole) = (Arc::new(AtomicUsize::new(0)), Arc::new(head.clone() + &body));
    let attackers: Vec<_> = (0..count)
        .map(|n| {
            let (begun, whole, to, head) = (begun.clone(), whole.clone(), main.address, head.len());
            tokio::spawn(async move {
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind(([127, 0, 1, 1 + (n % 8) as u8], 0).into()).unwrap();
                let mut connection = socket.connect(to).await.unwrap();
                connection.write_all(&whole.as_bytes()[..head]).await.unwrap();
                begun.fetch_add(1, Ordering::SeqCst);
                // All but the last byte, as far as it is taken.
                let _ = connection.write_all(&whole.as_bytes()[head..]).await;
                let _ = connection.read_to_end(&mut Vec::new()).await;
            })
        })
        .collect();
    until("attackers", async || (begun.load(Ordering::SeqCst) == count).then_some(())).await;
    let mut slowest = Duration::ZERO;
    for _ in 0..5 {
        let began = Instant::now();
        let request = client().post(main.url(HEARTBEAT)).json(&heartbeat("honest", 60));
        assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
        slowest = slowest.max(began.elapsed());
    }
    attackers.iter().for_each(|attacker| attacker.abort());
    let peak = memory.mebibytes();
    let kept = peak < MOST_MEBIBYTES && slowest < Duration::from_secs(5);
    Attack {
        fault: "connections from eight addresses send the main server heartbeats of 850 KB without their last byte",
        promise: "the main server takes less than 100 MiB, and a node's heartbeat is answered within 5 s",
    }
    .report(
        count,
        if kept { count } else { 0 },
        &format!("{peak:.0} MiB at most, the slowest answer took {slowest:.1?}"),
    );
}

/// Accepts and never answers, at as many addresses.
async fn silent_addresses(count: u8) -> Vec<SocketAddr> {
    let silent = (0..count).map(async |n| {
        let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 2, n), 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((connection, _)) = listener.accept().await {
                held.push(connection);
            }
        });
        address
    });
    join_all(silent).await
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_nodes_keep_no_node_from_being_reached() {
    let count = tries(1500, 3000);
    let main = MainServer::start().await;
    let (silent, url) = (silent_addresses(60).await, main.url("/api/v1/nodes/register"));
    let attackers: Vec<_> = (0..10).map(|n| stranger(1 + n)).collect();
    let registrations = stream::iter(0..count).map(|n| {
        let address = silent[n % silent.len()].to_string();
        let body = json!({"node_id": format!("a{n:05}"), "address": address, "status": "online"});
        let request = attackers[n % attackers.len()].post(&url).json(&body);
        async move { assert_eq!(request.send().await.unwrap().status(), StatusCode::OK) }
    });
    registrations.buffer_unordered(10).collect::<Vec<()>>().await;
    let honest = OldNode::of(&main.address.to_string(), "honest");
    let began = Instant::now();
    honest.register().await;
    until("the honest node is reached", async || {
        (main.node("honest").await["reachable"] == true).then_some(())
    })
    .await;
    let took = began.elapsed();
    let kept = if took < Duration::from_secs(6) { count } else { 0 };
    Attack {
        fault: "strangers at ten addresses register nodes whose ports accept and never answer",
        promise: "a new node is probed and gets clients within 6 s",
    }
    .report(count, kept, &format!("after {took:.1?}"));
}

/// Kills the main server while it replaces a package, once `moment` has come.
async fn killed_while_replacing(moment: usize) -> bool {
    let mut main = MainServer::start().await;
    let (old, new) = (zip_of("old"), zip_of("new"));
    main.begin("m", old).await;
    let before = main.json("/api/v1/meetings/m").await["sha256"].clone();
    let watched =
        ["state.sqlite-wal", "packages/meeting_m/package.zip", "packages/meeting_m/manifest.json"];
    let watched: PathBuf = main.data.path().join(watched[moment % watched.len()]);
    // A renamed file has another inode, the database another time.
    let look =
        move || std::fs::metadata(&watched).map_or((0, 0), |file| (file.ino(), file.mtime_nsec()));
    let first = look();
    let put = client().put(main.url("/api/v1/meetings/m/package")).body(new);
    let put = tokio::spawn(put.send());
    // Without a pause: what comes next is done within microseconds.
    let looking = tokio::task::spawn_blocking(move || {
        let ends = Instant::now() + Duration::from_secs(20);
        while look() == first && Instant::now() < ends {
            std::hint::spin_loop();
        }
    });
    looking.await.unwrap();
    main.process.kill();
    let _ = put.await.unwrap();

    let main = MainServer::over(main.data.clone()).await;
    let now = until("the package is verified", async || {
        let sha256 = main.json("/api/v1/meetings/m").await["sha256"].clone();
        (!sha256.is_null()).then_some(sha256)
    })
    .await;
    // It has the old one, and can't say which one it has.
    let body = json!({
        "node_id": "old", "address": "127.0.0.1:1", "status": "online",
        "active_meetings": [], "synced_meetings": ["m"],
    });
    let heard = client().post(main.url(HEARTBEAT)).json(&body).send().await.unwrap();
    assert_eq!(heard.status(), StatusCode::OK);
    let passes = main.json("/api/v1/meetings/m").await["nodes"] == json!(["old"]);
    !passes || now == before
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_no_old_node_passes_for_current() {
    let count = tries(6, 99);
    let mut kept = 0;
    for n in 0..count {
        kept += usize::from(killed_while_replacing(n).await);
    }
    Attack {
        fault: "the main server is killed while it replaces a running meeting's package",
        promise: "no node with the old package counts as having the new one",
    }
    .report(
        count,
        kept,
        "killed after the state was written, or the package or the manifest renamed",
    );
}

/// Changes that were answered and are there after a kill, and those that were answered.
async fn killed_while_changing(moment: usize) -> (usize, usize) {
    const CLIENTS: usize = 16;
    let mut main = MainServer::start().await;
    let (url, client) = (main.url("/api/v1/meetings"), client());
    let answered = Arc::new(AtomicUsize::new(0));
    let clients = (0..CLIENTS).map(|number| {
        let (url, client, answered) = (url.clone(), client.clone(), answered.clone());
        tokio::spawn(async move {
            let mut known = Vec::new();
            for n in 0.. {
                let id = format!("{number}-{n}");
                let created = client.post(&url).json(&json!({"id": id, "title": "T"})).send().await;
                match created {
                    Ok(answer) if answer.status() == StatusCode::CREATED => known.push(id),
                    Ok(_) | Err(_) => return known,
                }
                answered.fetch_add(1, Ordering::Relaxed);
            }
            known
        })
    });
    let clients: Vec<_> = clients.collect();
    let enough = 20 + 37 * moment;
    until("changes are answered", async || {
        (answered.load(Ordering::Relaxed) >= enough).then_some(())
    })
    .await;
    main.process.kill();
    let known: Vec<_> =
        join_all(clients).await.into_iter().flat_map(|known| known.unwrap()).collect();
    let main = MainServer::over(main.data.clone()).await;
    let list = main.json("/api/v1/meetings").await;
    let kept: std::collections::HashSet<_> =
        list.as_array().unwrap().iter().map(|meeting| meeting["id"].as_str().unwrap()).collect();
    (known.iter().filter(|id| kept.contains(id.as_str())).count(), known.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answered_change_is_lost_by_a_kill() {
    let (mut count, mut kept) = (0, 0);
    for n in 0..tries(3, 40) {
        let (there, answered) = killed_while_changing(n).await;
        (kept, count) = (kept + there, count + answered);
    }
    Attack {
        fault: "the main server is killed while 16 clients create meetings as fast as they can",
        promise: "each meeting whose creation was answered is there afterwards",
    }
    .report(count, kept, "answered changes are counted");
}
