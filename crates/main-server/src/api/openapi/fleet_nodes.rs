//! The calls for the fleet's nodes, and for the rules by which they are chosen.

use axum::http::Method;
use edge_mirror_http::{
    access::openapi::guarded,
    wire::{
        Done,
        openapi::{Operation, call, json},
    },
};
use schemars::JsonSchema;
use serde_json::json;

use super::{FLEET, UNSAVED, takes};
use crate::{api::fleet, server::FleetDemand, state::routing::RoutingRules};

#[derive(JsonSchema)]
#[expect(dead_code, reason = "read field by field, to tell what is wrong as the real one does")]
struct NodeEdit {
    #[schemars(length(max = 200))]
    name: Option<String>,
    #[schemars(length(max = 200))]
    location: Option<String>,
    #[schemars(length(max = 200))]
    site: Option<String>,
    #[schemars(length(max = 16))]
    labels: Option<Vec<String>>,
    #[schemars(range(min = 1, max = 100))]
    weight: Option<u32>,
    #[schemars(range(min = 0, max = 100))]
    priority: Option<u32>,
    drained: Option<bool>,
}

pub(super) fn operations() -> Vec<Operation> {
    let one = |method, path, summary| {
        guarded(call(method, path, FLEET, summary))
            .in_path("node", json!({"type": "string", "minLength": 1}), "The node's id.")
            .refuses(400, "A value that is not allowed, or no node id.")
            .refuses(404, "No such node.")
            .refuses(503, "Changes can't be saved now, or there are too many nodes.")
            .refuses(507, "No room on the disk.")
    };
    let decide = |path, summary| {
        one(Method::POST, path, summary)
            .query(
                "client",
                json!({"type": "string"}),
                "The client that was shown: nothing is decided of another.",
            )
            .refuses(409, "Another client claims this id now.")
    };
    vec![
        guarded(call(Method::GET, "/api/v1/fleet/rules", FLEET, "The rules for the choice of nodes"))
            .answers(200, "All of them.", vec![json::<RoutingRules>()]),
        takes(guarded(call(
            Method::PUT,
            "/api/v1/fleet/rules",
            FLEET,
            "Set the rules for the choice of nodes",
        )))
        .careful()
        .text("They replace those that there are, and apply at once. A rule sends the clients of some subnets to the nodes with these ids, sites or labels first, or, with `only`, to no others.")
        .body(true, vec![json::<RoutingRules>()])
        .answers(200, "The rules, with subnets in their usual form.", vec![json::<RoutingRules>()])
        .refuses(415, "Not announced as JSON.")
        .refuses(503, UNSAVED)
        .refuses(507, "No room on the disk."),
        guarded(call(Method::GET, "/api/v1/fleet/demand", FLEET, "How many nodes the load wants"))
            .text("For whoever starts and stops nodes: it rises within seconds, falls after minutes, and stays while the load wanders by a tenth.")
            .answers(200, "The number, and what it is made of.", vec![json::<FleetDemand>()]),
        guarded(call(Method::GET, "/api/v1/fleet/nodes", FLEET, "All nodes"))
            .text("Known ones, whether they are there or not, those that wait for an operator, and those that were refused.")
            .answers(200, "In the order of their ids.", vec![json::<fleet::Fleet<'_>>()]),
        takes(one(Method::PATCH, "/api/v1/fleet/nodes/{node}", "Edit a node"))
            .text("Fields that are not sent stay as they are. A drained node gets no new clients; it keeps pulling and serving.")
            .body(true, vec![json::<NodeEdit>()])
            .answers(200, "The node.", vec![json::<fleet::FleetNode<'_>>()])
            .refuses(415, "Not announced as JSON."),
        decide("/api/v1/fleet/nodes/{node}/approve", "Accept a node")
            .text("One that waits, or else the one with this id that was refused last.")
            .answers(200, "The node.", vec![json::<fleet::FleetNode<'_>>()]),
        decide("/api/v1/fleet/nodes/{node}/refuse", "Refuse a node")
            .careful()
            .text("One that waits; the known one only with `client`. It stays refused until it is accepted or removed.")
            .answers(200, "It is refused.", vec![json::<Done>()]),
        one(Method::DELETE, "/api/v1/fleet/nodes/{node}", "Remove a node")
            .careful()
            .text("Also forgets refusals of its id. If it calls again, it is a new one.")
            .answers(200, "It is gone.", vec![json::<Done>()]),
    ]
}
