//! Which node a client is sent to, as operators decide.

use edge_mirror_settings::SecurityConfig;
use edge_mirror_store::testing::zip_of;

use super::*;
use crate::LiveOptions;

const RULES: &str = "/api/v1/fleet/rules";
const FROM_3: &str = "10.3.0.7";

/// A running meeting, two nodes that have it, and one of them at site 3.
struct Venue {
    t: TestMaster,
    addresses: [String; 2],
    _nodes: [Tasks; 2],
}

impl Venue {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
        let security = SecurityConfig { trusted_proxies, ..SecurityConfig::default() };
        let live = LiveOptions { security, ..LiveOptions::default() };
        let options = MasterOptions { live, ..options(&folder, LONG) };
        let t = TestMaster::with_options(folder, options).await;
        let sha256 = t.meeting("m", &zip_of(b"x")).await;
        let (third, third_tasks) = fake_node("third").await;
        let (other, other_tasks) = fake_node("other").await;
        for (id, address) in [("third", &third), ("other", &other)] {
            t.beat(id, address, &[("m", &sha256)], 0).await;
        }
        t.started("m").await;
        for id in ["third", "other"] {
            t.reached(id).await;
        }
        t.until_known("third").await;
        let site = json!({"site": "3"});
        let edit = t.request(Method::PATCH, "/api/v1/fleet/nodes/third").json(&site);
        assert_eq!(both(edit).await.0, 200);
        Self { t, addresses: [third, other], _nodes: [third_tasks, other_tasks] }
    }

    async fn set_rules(&self, rules: Value) -> (StatusCode, Value) {
        both(self.t.request(Method::PUT, RULES).json(&rules)).await
    }

    /// The nodes that thirty downloads of a client go to.
    async fn sent(&self, client: &str) -> Vec<&str> {
        let mut seen = [false; 2];
        for _ in 0..30 {
            let request = self.t.request(Method::GET, "/api/v1/meetings/m/download-package");
            let answer = request.header("x-forwarded-for", client).send().await.unwrap();
            let to = location(&answer).unwrap();
            let node = self.addresses.iter().position(|address| to.contains(&**address)).unwrap();
            seen[node] = true;
        }
        let names = ["third", "other"].into_iter().zip(seen);
        names.filter(|(_, seen)| *seen).map(|(name, _)| name).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tablets_of_a_subnet_go_to_the_nodes_of_their_floor() {
    let venue = Venue::open().await;
    assert_eq!(venue.sent(FROM_3).await, ["third", "other"], "no rule yet");
    let rules = json!({"rules": [{"clients": ["10.3.0.9/16"], "sites": ["3"]}]});
    let (status, saved) = venue.set_rules(rules).await;
    assert_eq!((status, &saved["rules"][0]["clients"]), (StatusCode::OK, &json!(["10.3.0.0/16"])));
    assert_eq!(venue.sent(FROM_3).await, ["third"]);
    assert!(venue.sent("10.4.0.7").await.contains(&"other"), "it is the less busy one now");
    let edit = venue.t.request(Method::PATCH, "/api/v1/fleet/nodes/third");
    assert_eq!(both(edit.json(&json!({"drained": true}))).await.0, 200);
    assert_eq!(venue.sent(FROM_3).await, ["other"], "overflow: the site's node is drained");

    let explain = format!("/api/v1/meetings/m/explain?client={FROM_3}");
    let explained = venue.t.json(&explain).await;
    assert_eq!((&explained["outcome"], &explained["rule"]["number"]), (&json!("node"), &json!(1)));
    assert_eq!(explained["tiers"][0]["nodes"][0]["node_id"], "other");
    assert_eq!(explained["tiers"][0]["named_by_rule"], false);
    assert_eq!(explained["excluded"], json!([{"node_id": "third", "reason": "drained"}]));
    assert!(explained["reason"].as_str().unwrap().contains("one of the others (1)"), "{explained}");

    let only = json!({"rules": [{"clients": ["10.3.0.0/16"], "sites": ["3"], "only": true}]});
    assert_eq!(venue.set_rules(only.clone()).await.0, 200);
    let request = venue.t.request(Method::GET, "/api/v1/meetings/m/download-package");
    let answer = request.header("x-forwarded-for", FROM_3).send().await.unwrap();
    assert_eq!(answer.status(), 200, "from the main server itself");
    assert_eq!(venue.t.json(&explain).await["outcome"], "main_server");
    assert_eq!(venue.t.json("/api/v1/overview").await["routing"], venue.t.json(RULES).await);

    let t = venue.t.restarted().await;
    assert_eq!(t.json(RULES).await["rules"][0]["only"], true, "they survive a restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_make_no_sense_are_refused_and_the_others_stay() {
    let t = TestMaster::start().await;
    let good = json!({"rules": [{"clients": ["10.3.0.0/16"], "sites": ["3"]}], "overflow": 80});
    let set = async |rules: &Value| both(t.request(Method::PUT, RULES).json(rules)).await;
    assert_eq!(set(&good).await.0, 200);
    for (bad, named) in [
        (json!({"rules": [{"clients": ["10.3.0.0/99"], "sites": ["3"]}]}), "malformed"),
        (json!({"rules": [{"clients": ["10.3.0.0/16"], "site": ["3"]}]}), "unknown field `site`"),
        (json!({"rules": [{"clients": ["10.3.0.0/16"]}]}), "rule 1 names no node"),
        (json!({"rules": [], "overflow": 101}), "from 1 to 100"),
        (json!({"rules": [], "overflow": "x"}), "malformed"),
    ] {
        let (status, answer) = set(&bad).await;
        assert_eq!(status, 400, "{bad}");
        assert!(answer["detail"].as_str().unwrap().contains(named), "{answer}");
    }
    assert_eq!(t.json(RULES).await["overflow"], 80);
    for path in ["/api/v1/meetings/none/explain", "/api/v1/meetings/none/explain?client=10.0.0.1"] {
        assert_eq!(t.get(path).await.status(), 404);
    }
    t.post("/api/v1/meetings", json!({"id": "m", "title": "M"})).await;
    let path = "/api/v1/meetings/m/explain?client=nobody";
    assert_eq!(t.get(path).await.status(), 400);
    assert_eq!(t.json("/api/v1/meetings/m/explain").await["outcome"], "refused");
}
