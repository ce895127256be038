//! Casts that operators send, on both engines where the database counts.

use super::*;
use crate::CastLimits;

const CASTS: &str = "/api/v1/casts";

impl TestMaster {
    async fn with_casts(limits: CastLimits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = MasterOptions { casts: limits, ..options(&folder, LONG) };
        let t = Self::with_options(folder, options).await;
        t.register("a", "127.0.0.1:1").await;
        t.until_known("a").await;
        t
    }

    async fn cast(&self, changed: Value) -> (StatusCode, Value) {
        self.post(CASTS, cast(changed)).await
    }

    async fn bodies(&self, query: &str) -> Vec<Value> {
        let page = self.json(&format!("{CASTS}?{query}")).await;
        page["casts"].as_array().unwrap().iter().map(|cast| cast["body"].clone()).collect()
    }
}

fn cast(changed: Value) -> Value {
    let mut cast = json!({"topic": "notices", "body": "moved", "to": {"all": true}});
    for (name, value) in changed.as_object().unwrap() {
        cast[name] = value.clone();
    }
    cast
}

async fn on(location: &StateLocation) -> TestMaster {
    let folder = tempfile::tempdir().unwrap();
    let options = MasterOptions { state: location.clone(), ..options(&folder, LONG) };
    TestMaster::with_options(folder, options).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cast_is_kept_listed_found_and_cancelled_and_survives_a_restart() {
    let t = TestMaster::with_casts(CastLimits::default()).await;
    let (status, first) =
        t.cast(json!({"body": {"room": 3, "text": "移到 50%"}, "to": {"nodes": ["a"]}})).await;
    assert_eq!(status, 201, "{first}");
    assert_eq!(first["body"], json!({"room": 3, "text": "移到 50%"}));
    assert_eq!((&first["status"], &first["to"]), (&json!("active"), &json!({"nodes": ["a"]})));
    assert_eq!(first["by"], json!({"address": "127.0.0.1", "how": "local"}));
    let (_, second) =
        t.cast(json!({"topic": "other", "body": "a_b \"c\"", "priority": "high"})).await;
    let t = t.restarted().await;
    let path = |cast: &Value| format!("{CASTS}/{}", cast["id"].as_str().unwrap());
    for cast in [&first, &second] {
        let mut shown = t.json(&path(cast)).await;
        let delivery = shown.as_object_mut().unwrap().shift_remove("delivery").unwrap();
        assert_eq!((&shown, &delivery["pending"]), (cast, &json!(1)));
    }
    let page = t.json(CASTS).await;
    assert_eq!(page, json!({"casts": [second, first], "next": null}));
    for (query, found) in [
        ("topic=other", vec![&second]),
        ("search=移到", vec![&first]),
        ("search=50%25", vec![&first]),
        ("search=A_B", vec![&second]),
        ("search=%25b", vec![]),
        ("search=%22c%22", vec![&second]),
        ("topic=notices&search=c", vec![]),
        ("limit=1", vec![&second]),
    ] {
        let expected: Vec<_> = found.iter().map(|cast| cast["body"].clone()).collect();
        assert_eq!(t.bodies(query).await, expected, "{query}");
    }
    let next = t.json(&format!("{CASTS}?limit=1")).await["next"].as_str().unwrap().to_owned();
    assert_eq!(t.bodies(&format!("before={next}")).await, [first["body"].clone()]);

    let cancel = async |path: &str| both(t.request(Method::DELETE, path)).await;
    let (status, cancelled) = cancel(&path(&first)).await;
    assert_eq!((status, &cancelled["status"]), (StatusCode::OK, &json!("cancelled")));
    assert!(cancelled["cancelled_at"].is_f64());
    assert_eq!(cancel(&path(&first)).await.1, cancelled, "again changes nothing");
    let (_, third) = t.cast(json!({})).await;
    assert!(third["id"].as_str().unwrap().ends_with("-3"), "{third}");
    for none in ["x", "-1", "x-1", "0123456789ab-1"] {
        let path = format!("{CASTS}/{none}");
        assert_eq!(
            (t.get(&path).await.status(), cancel(&path).await.0.as_u16()),
            (404.try_into().unwrap(), 404)
        );
    }
    for bad in ["limit=0", "limit=1001", "before=x"] {
        assert_eq!(t.get(&format!("{CASTS}?{bad}")).await.status(), 400, "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_sends_once_and_another_cast_by_it_is_refused() {
    let t = TestMaster::with_casts(CastLimits::default()).await;
    let (status, first) = t.cast(json!({"key": "k1"})).await;
    assert_eq!(status, 201);
    let t = t.restarted().await;
    assert_eq!(t.cast(json!({"key": "k1"})).await, (StatusCode::CREATED, first.clone()));
    let (status, refusal) = t.cast(json!({"key": "k1", "body": "another"})).await;
    assert_eq!(status, 409);
    assert!(refusal["detail"].as_str().unwrap().contains("“k1” is another cast's"), "{refusal}");

    let keyed = |n: usize| cast(json!({"key": format!("b{n}"), "body": n}));
    let many: Vec<_> = (0..120).map(keyed).collect();
    let (status, sent) = t.post(CASTS, json!(many)).await;
    assert_eq!(status, 201, "{sent}");
    let again: Vec<_> = (60..180).map(keyed).chain([keyed(170)]).collect();
    let (_, resent) = t.post(CASTS, json!(again)).await;
    let of = |sent: &Value, n: usize| sent["casts"][n].clone();
    assert_eq!(of(&resent, 0), json!({"id": of(&sent, 60)["id"], "repeated": true}));
    assert_eq!(of(&resent, 60)["repeated"], false);
    assert_eq!(of(&resent, 120), json!({"id": of(&resent, 110)["id"], "repeated": true}));
    assert_eq!(t.bodies("limit=1000").await.len(), 181);
    let (status, _) = t.post(CASTS, json!([keyed(500), cast(json!({"key": "b3"}))])).await;
    assert_eq!(status, 409);
    assert_eq!(t.bodies("limit=1000").await.len(), 181, "all of a list, or none");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused_in_two_languages() {
    let t = TestMaster::with_casts(CastLimits::default()).await;
    for (changed, status, told) in [
        (json!({"to": {"nodes": ["a", "b"]}}), 400, "no such node: b"),
        (json!({"to": {}}), 400, "no destination"),
        (json!({"expires_at": 1.5}), 400, "expired already"),
        (json!({"body": "x".repeat(4097)}), 400, "send what is larger as a file"),
    ] {
        let (answer, refusal) = t.cast(changed.clone()).await;
        let detail = refusal["detail"].as_str().unwrap();
        assert_eq!(answer, status, "{detail}");
        assert!(detail.contains(told) && detail.contains(" / "), "{detail}");
    }
    let send = async |body: Vec<u8>| {
        let request = t.request(Method::POST, CASTS).header("content-type", "application/json");
        both(request.body(body)).await
    };
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000)).into_bytes();
    for (body, status) in [
        (deep, 422),
        (b"{\"topic\": \"\xff\"}".to_vec(), 422),
        (b"[1]".to_vec(), 422),
        (b"3".to_vec(), 422),
        (b"{".to_vec(), 422),
        (b"[]".to_vec(), 400),
        (vec![b' '; 2 << 20], 413),
    ] {
        let (answer, refusal) = send(body).await;
        assert_eq!(answer, status, "{refusal}");
        assert!(!refusal["detail"].is_null());
    }
    let typeless = t.request(Method::POST, CASTS).body("{}");
    assert_eq!(both(typeless).await.0, 415);
    assert_eq!(t.bodies("").await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn casts_are_bounded_and_what_has_expired_makes_room() {
    let limits = CastLimits { max_casts: 10, ..CastLimits::default() };
    let t = TestMaster::with_casts(limits).await;
    let brief: Vec<_> = (0..5).map(|n| cast(json!({"body": n, "expires_in_s": 1}))).collect();
    assert_eq!(t.post(CASTS, json!(brief)).await.0, 201);
    let lasting = |count: usize| json!(vec![cast(json!({})); count]);
    assert_eq!(t.post(CASTS, lasting(5)).await.0, 201);
    let (status, refusal) = t.cast(json!({})).await;
    assert_eq!(status, 507, "{refusal}");
    assert!(refusal["detail"].as_str().unwrap().contains("10 casts"), "{refusal}");
    let begun = Instant::now();
    while t.cast(json!({"body": "new"})).await.0 != 201 {
        assert!(begun.elapsed() < Duration::from_secs(20), "nothing expires");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let kept = t.bodies("").await;
    assert_eq!(kept[0], "new");
    assert_eq!(
        kept.iter().filter(|body| **body == "moved").count(),
        5,
        "no valid one went: {kept:?}"
    );
    assert!(kept.len() <= 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_main_servers_give_numbers_without_holes() {
    let postgres = TestPostgres::start().await;
    let location = postgres.database("fleet").await;
    let [one, other] = [on(&location).await, on(&location).await];
    for t in [&one, &other] {
        t.register("a", "127.0.0.1:1").await;
        t.until_known("a").await;
    }
    let senders = (0..16).map(async |n: usize| {
        let t = if n.is_multiple_of(2) { &one } else { &other };
        for m in 0..10 {
            let key = format!("{}", (n / 2) * 10 + m);
            // Each cast is sent by both at the same time.
            assert_eq!(t.cast(json!({"body": [n / 2, m], "key": key})).await.0, 201);
        }
    });
    futures_util::future::join_all(senders).await;
    let page = one.json(&format!("{CASTS}?limit=1000")).await;
    assert_eq!(page, other.json(&format!("{CASTS}?limit=1000")).await);
    let casts = page["casts"].as_array().unwrap();
    let numbers: Vec<i64> = casts
        .iter()
        .map(|cast| cast["id"].as_str().unwrap().rsplit_once('-').unwrap().1.parse().unwrap())
        .collect();
    assert_eq!(numbers, (1..=80).rev().collect::<Vec<_>>());
    for sender in 0..8 {
        let own: Vec<_> =
            casts.iter().filter(|c| c["body"][0] == sender).map(|c| &c["body"][1]).collect();
        assert_eq!(json!(own), json!([9, 8, 7, 6, 5, 4, 3, 2, 1, 0]), "in the sender's order");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_database_casts_are_refused_and_none_that_was_acknowledged_is_lost() {
    let mut postgres = TestPostgres::start().await;
    let location = postgres.database("fleet").await;
    let t = on(&location).await;
    t.register("a", "127.0.0.1:1").await;
    t.until_known("a").await;
    let (_, kept) = t.cast(json!({})).await;
    postgres.kill();
    let (status, refusal) = t.cast(json!({"body": "lost"})).await;
    assert_eq!(status, 503, "{refusal}");
    assert!(refusal["detail"].as_str().unwrap().contains("can't be saved now"), "{refusal}");
    assert_eq!(t.get(CASTS).await.status(), 503);
    // It is stopped where it is dropped.
    let _postgres = tasks::blocking(move || {
        postgres.resume();
        postgres
    })
    .await;
    let begun = Instant::now();
    while t.cast(json!({"body": "after", "key": "k"})).await.0 != 201 {
        assert!(begun.elapsed() < Duration::from_secs(20), "it does not come back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let found = t.json(CASTS).await;
    assert_eq!(found["casts"][1], kept);
    assert_eq!(found["casts"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_accepted_nodes_send_casts_and_groups_and_subscribers_are_bounded() {
    let limits = CastLimits { max_groups: 1, max_subscribers: 1, ..CastLimits::default() };
    let t = TestMaster::with_casts(limits).await;
    let send = async |node: Option<&str>, body: Value| {
        let request = t.request(Method::POST, "/api/v1/nodes/casts").json(&body);
        let named = match node {
            Some(node) => request.header("edge-mirror-node", node),
            None => request,
        };
        both(named).await
    };
    assert_eq!(send(None, cast(json!({}))).await.0, 403);
    let (status, sent) = send(Some("a"), cast(json!({"key": "k"}))).await;
    assert_eq!(
        (status, &sent["from"], &sent["key"]),
        (StatusCode::CREATED, &json!("a"), &json!("k"))
    );
    let foreign = t.request(Method::POST, "/api/v1/nodes/casts").json(&cast(json!({})));
    let foreign = foreign.header("edge-mirror-node", "a").header("origin", "http://elsewhere");
    assert_eq!(both(foreign).await.0, 403);
    let put = async |name: &str| {
        let group = json!({"nodes": ["a"]});
        both(t.request(Method::PUT, &format!("/api/v1/groups/{name}")).json(&group)).await.0
    };
    assert_eq!((put("one").await, put("two").await), (StatusCode::OK, StatusCode::BAD_REQUEST));
    let follower = t.get("/api/v1/casts/stream").await;
    assert_eq!(t.get("/api/v1/casts/stream").await.status(), 503);
    drop(follower);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_node_sends_casts_where_the_main_server_takes_none() {
    let t = TestMaster::with_casts(CastLimits { from_nodes: false, ..CastLimits::default() }).await;
    let request = t.request(Method::POST, "/api/v1/nodes/casts").json(&cast(json!({})));
    let (status, answer) = both(request.header("edge-mirror-node", "a")).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(answer["detail"].as_str().unwrap().contains("--no-casts-from-nodes"), "{answer}");
}
