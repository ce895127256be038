//! Fleets in which not every node and main server knows of relaying.

use reqwest::{Response, header};
use serde_json::json;

use super::{
    by_rank::{KEY, pulls},
    planned::served,
    scripted::{announce, digest},
};
use crate::support::{
    ScriptedMain, TestMaster, TestNode, client, metrics::Metrics, old_node::OldNode, until,
    zips::big_zip,
};

/// A node as versions of ours were before relaying: it reports packages with their
/// digests, polls for the section `packages`, and says neither its name nor where others
/// would reach it.
struct EarlierNode {
    node: OldNode,
    main_server: String,
    tag: Option<String>,
}

impl EarlierNode {
    async fn start(main_server: &str, id: &'static str) -> Self {
        let node = OldNode::of(main_server, id);
        node.register().await;
        Self { node, main_server: main_server.to_owned(), tag: None }
    }

    async fn heartbeat(&self, package: Option<&[u8]>) {
        let digest = package.map(|package| digest(package).to_string());
        let held: Vec<_> =
            digest.iter().map(|sha256| json!({"id": "m", "sha256": sha256})).collect();
        let mirror = json!({"version": "1.0.0", "downloads": 0, "free_bytes": 1_u64 << 40, "packages": held});
        self.node.heartbeat_with(Some(mirror)).await;
    }

    /// Asks what is running; the answer is held back until there is another one.
    async fn poll(&mut self) -> (Vec<String>, String) {
        let url = format!("http://{}/api/v1/meetings/status/node", self.main_server);
        let mut asked = client().get(url).header("edge-mirror-accept", "version=1, packages");
        asked = asked.header("prefer", "wait=25");
        if let Some(tag) = &self.tag {
            asked = asked.header(header::IF_NONE_MATCH, tag);
        }
        let answer = asked.send().await.unwrap();
        self.tag = Some(answer.headers()[header::ETAG].to_str().unwrap().to_owned());
        read(answer).await
    }
}

/// The names of the headers, and the body without the time.
async fn read(answer: Response) -> (Vec<String>, String) {
    assert_eq!(answer.status(), 200);
    let names = answer.headers().keys().map(ToString::to_string);
    let mut names: Vec<_> = names.filter(|name| name != "date").collect();
    names.sort();
    let body = answer.text().await.unwrap();
    let (head, time) = body.split_once("\"timestamp\":").unwrap();
    assert!(time.strip_suffix('}').unwrap().parse::<f64>().is_ok(), "{time}");
    (names, head.to_owned())
}

fn sorted(names: &[&str]) -> Vec<String> {
    let mut names: Vec<_> = names.iter().map(ToString::to_string).collect();
    names.sort();
    names
}

async fn start_new(master: &TestMaster, id: &str) -> TestNode {
    let node = TestNode::of(&master.authority()).with(json!({"nodeId": id})).start().await;
    master.until_reached(id).await;
    node
}

async fn sum(nodes: &[TestNode], sample: &str) -> f64 {
    let mut sum = 0.0;
    for node in nodes {
        let metrics = Metrics::of(&node.url("")).await;
        let fits = |name: &&str| name.split('{').next() == Some(sample);
        sum += metrics.samples().filter(fits).map(|name| metrics.get(name)).sum::<f64>();
    }
    sum
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_know_nothing_of_relaying_are_answered_as_ever_and_are_nobodys_parents() {
    let master = TestMaster::build().start().await;
    let (package, address) = (big_zip(3 << 20, 1), master.authority());
    let python = OldNode::of(&address, "python");
    python.register().await;
    let mut earlier = EarlierNode::start(&address, "earlier").await;
    let mut nodes = vec![start_new(&master, "new-1").await, start_new(&master, "new-2").await];
    for id in ["python", "earlier"] {
        master.until_reached(id).await;
    }
    master.create("m", "Board").await;
    master.put("m", &package).await;
    let (token, _) = (earlier.poll().await, python.heartbeat().await);
    assert!(token.1.contains(r#""active_meetings":[],"#), "{}", token.1);

    // Held back until the start, like those of the others.
    let begin = async {
        until("all polls are held", async || {
            let held = Metrics::of(&master.url("")).await.get("edge_mirror_master_held_polls");
            (held == 3.0).then_some(())
        })
        .await;
        master.begin("m").await;
    };
    let ((headers, body), ()) = tokio::join!(earlier.poll(), begin);
    let (sha256, size) = (digest(&package), package.len());
    let id = body.split('"').nth(3).unwrap().to_owned();
    let url = "/uploads/packages/meeting_m_pdfs.zip";
    let hint = format!(r#""sha256":"{sha256}","size":{size},"package_url":"{url}""#);
    let meeting = r#"{"id":"m","title":"Board""#;
    assert_eq!(
        body,
        format!(
            r#"{{"id":"{id}","active_meetings":[{meeting}}}],"edge_mirror":{{"version":1,"packages":[{{"id":"m",{hint}}}]}},"#
        )
    );
    let common = ["content-length", "content-type", "etag"];
    let of_every_answer = ["content-security-policy", "referrer-policy", "x-content-type-options"];
    let of_extended = ["cache-control", "preference-applied", "vary"];
    assert_eq!(headers, sorted(&[common, of_every_answer, of_extended].concat()));
    let url = master.url("/api/v1/meetings/status/node");
    let (headers, body) = read(client().get(url).send().await.unwrap()).await;
    assert_eq!(headers, sorted(&[common, of_every_answer].concat()));
    assert_eq!(body, format!(r#"{{"id":"{id}","active_meetings":[{meeting},{hint}}}],"#));

    // Meanwhile the new ones pass it on, and the old ones pull it by themselves.
    python.sync().await;
    earlier.node.sync().await;
    python.heartbeat().await;
    earlier.heartbeat(Some(&package)).await;
    for node in &nodes {
        node.until_synced("m").await;
        assert!(node.download("m").await.1 == package);
    }
    assert_eq!(served(&master).await, 3.0 * size as f64);
    master.until_held_by("m", &["earlier", "new-1", "new-2", "python"]).await;

    // Now those hold it that must not be asked; one more comes.
    nodes.push(start_new(&master, "new-3").await);
    nodes[2].until_synced("m").await;
    assert!(nodes[2].download("m").await.1 == package);
    assert_eq!(served(&master).await, 3.0 * size as f64);
    assert_eq!(sum(&nodes, "edge_mirror_relay_received_bytes_total").await, 2.0 * size as f64);
    assert_eq!(sum(&nodes, "edge_mirror_relay_parent_changes_total").await, 0.0, "of old nodes");
    for node in nodes {
        node.shut_down().await;
    }
    python.unregister().await;
    earlier.node.unregister().await;
    master.stop().await;
}

/// Our main server as it was before: it announces packages, and names no parents.
#[tokio::test(flavor = "multi_thread")]
async fn under_our_main_server_of_before_nodes_pull_directly_or_by_rank_with_a_key() {
    for (key, expected) in [(None, 2), (Some(KEY), 1)] {
        let (main, package) = (ScriptedMain::start().await, big_zip(3 << 20, 7));
        let mut nodes = Vec::new();
        for id in ["node-a", "node-b"] {
            let config = json!({"nodeId": id, "relay": {"key": key}});
            nodes.push(TestNode::of(&main.authority()).with(config).start().await);
            until("it is registered", async || main.knows(id)).await;
        }
        announce(&main, &package, None);
        for node in &nodes {
            node.until_synced("m").await;
            assert!(node.download("m").await.1 == package);
        }
        assert_eq!(pulls(&main), expected, "{key:?}");
        for node in nodes {
            node.shut_down().await;
        }
    }
}
