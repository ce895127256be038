//! Main servers and nodes whose part is written down.

use edge_mirror_protocol::{
    package::{Sha256, Validators},
    relay::auth::PackageVersion,
};
use serde_json::{Value, json};
use sha2::Digest;

use super::by_rank::KEY;
use crate::support::{ScriptedMain, TestNode, sibling::ScriptedSibling, until};

pub(super) const ME: &str = "node-test";

pub(super) fn digest(bytes: &[u8]) -> Sha256 {
    Sha256::new(sha2::Sha256::digest(bytes).into())
}

/// The first version that a scripted main server offers of `package`.
pub(super) fn first_version(package: &[u8]) -> PackageVersion {
    let validators = Validators {
        etag: Some("v1".into()),
        last_modified: Some("Sat, 21 Nov 2026 07:00:01 GMT".into()),
    };
    PackageVersion::from_validators(&validators, Some(package.len() as u64)).unwrap()
}

pub(super) async fn node_of(main: &ScriptedMain, id: &str) -> TestNode {
    let network = json!({"retryDelay": 0, "connectionTimeout": 1});
    let config = json!({"nodeId": id, "network": network, "relay": {"key": KEY}});
    let node = TestNode::of(&main.authority()).with(config).start().await;
    until("it is registered", async || main.knows(id)).await;
    node
}

/// The answer of our own main server to a poll; without `relay`, as it was before there
/// was any.
pub(super) fn answer(package: &[u8], relay: Option<Value>) -> String {
    let mut answer = json!({
        "id": "token-9",
        "timestamp": 1.5,
        "active_meetings": [{"id": "m", "title": "Board"}],
        "edge_mirror": {
            "version": 1,
            "packages": [{
                "id": "m",
                "package_url": "/uploads/packages/Board_m_pdfs.zip",
                "sha256": digest(package).to_string(),
                "size": package.len(),
            }],
        },
    });
    if let Some(relay) = relay {
        answer["edge_mirror"]["relay"] = relay;
    }
    answer.to_string()
}

/// Starts a meeting with this package, as our own main server does.
pub(super) fn announce(main: &ScriptedMain, package: &[u8], relay: Option<Value>) {
    let sha256 = digest(package);
    let pieces: Vec<u8> =
        package.chunks(1 << 20).flat_map(|piece| *digest(piece).as_bytes()).collect();
    main.activate_with("m", package, |play| {
        (play.ranges, play.etag) = (true, Some(format!("\"{sha256}\"")));
        play.repr_digest = Some(format!("sha-256=:{}:", sha256.base64()));
        play.pieces = Some(pieces.into());
        play.status_answer = Some(answer(package, relay));
    });
}

/// The section that names a parent and spares of the meeting's package.
pub(super) fn naming(parent: &Value, spares: &[Value]) -> Value {
    json!({"key": KEY, "packages": [{"id": "m", "parent": parent, "spares": spares}]})
}

/// A main server that names the parent and the spares, and has digests of pieces.
pub(super) fn plan(main: &ScriptedMain, package: &[u8], named: &[(&str, &ScriptedSibling)]) {
    let named: Vec<_> = named.iter().map(|(id, of)| (*id, of.address())).collect();
    plan_at(main, package, &named);
}

/// The same of nodes at these addresses, if any.
pub(super) fn plan_at(main: &ScriptedMain, package: &[u8], named: &[(&str, String)]) {
    let sibling = |(id, address): &(&str, String)| json!({"node_id": id, "address": address});
    let named: Vec<_> = named.iter().map(sibling).collect();
    let parent = named.first().cloned().unwrap_or_default();
    announce(main, package, Some(naming(&parent, named.get(1..).unwrap_or_default())));
}
