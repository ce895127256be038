//! The node's document: every call of its router.

use std::{net::Ipv4Addr, path::Path, sync::Arc};

use axum::http::Method;
use edge_mirror_base::{log::Journal, tasks::Tasks};
use edge_mirror_http::{
    access::{
        AccessControl, Vault,
        openapi::{self as access, guarded},
    },
    wire::{
        Detail, Done,
        openapi::{self, HistorySchema, Operation, call, json, package, shared, stream, text},
    },
};
use edge_mirror_settings::{SecurityConfig, Settings, meaning, openapi as settings};
use edge_mirror_store::Store;
use schemars::JsonSchema;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    AppState, ListenOptions, config, download, error::RefusedChange, logs, meetings, notices,
    relay::RelayTraffic, status,
};
use crate::{board::StatusBoard, casts::CastSender, fetch::Fetch};

/// The bodies that old tools send.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "read by hand, so that a mistake gets the contract's sentence")]
enum Interval {
    Number(#[schemars(range(min = 10, max = 300))] u16),
    Text(#[schemars(regex(pattern = "^(1[0-9]|[2-9][0-9]|[12][0-9]{2}|300)$"))] String),
    Object { interval: InObject },
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "as above")]
enum InObject {
    Number(#[schemars(range(min = 10, max = 300))] u16),
    Text(#[schemars(regex(pattern = "^(1[0-9]|[2-9][0-9]|[12][0-9]{2}|300)$"))] String),
}

/// A cast of a program, as the main server reads it.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "read by the main server")]
struct ProgramCast {
    #[schemars(length(min = 1, max = 200))]
    topic: String,
    /// A text, or any JSON.
    body: Value,
    to: CastDestinations,
    /// `low`, `normal`, `high` or `urgent`.
    priority: Option<String>,
    /// Seconds for which nodes that are away can still get it; a day if absent.
    #[schemars(range(min = 1))]
    expires_in_s: Option<u64>,
    /// The same as a time, in seconds since 1970.
    expires_at: Option<f64>,
    #[schemars(length(min = 1, max = 200))]
    key: Option<String>,
}

/// Nodes, as at the main server.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "as above")]
struct CastDestinations {
    all: Option<bool>,
    nodes: Option<Vec<String>>,
    sites: Option<Vec<String>>,
    labels: Option<Vec<String>>,
    groups: Option<Vec<String>>,
}

/// The refusal of a change: by its content, or because it can't be parsed.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "two answers of ApiError's, which are made apart")]
enum NotChanged {
    Settings(RefusedChange),
    Body(Detail),
}

const DOWNLOADS: &str = "Downloads";
const STATUS: &str = "Status";
const CASTS: &str = "Casts";
const SETTINGS: &str = "Settings";
const SERVICE: &str = "Service";
const MEETINGS: &str = "Meetings";

fn operations() -> Vec<Operation> {
    let mut all = vec![
        delivered(call(Method::GET, download::DOWNLOAD_PATH, DOWNLOADS, "A meeting's package")),
        delivered(call(
            Method::GET,
            download::OLD_DOWNLOAD_PATH,
            DOWNLOADS,
            "The same, as front ends ask for it",
        )),
        call(Method::GET, "/api/status", STATUS, "Everything about the node, as it is now")
            .answers(200, "The node.", vec![json::<status::Status<'_>>()]),
        call(Method::GET, "/api/traffic", STATUS, "The last quarter of an hour").answers(
            200,
            "Each sample: its end in seconds since 1970, bytes served and bytes pulled in the \
             step, downloads under way.",
            vec![json::<HistorySchema>()],
        ),
        stream(
            call(Method::GET, "/api/events", STATUS, "The status as it changes"),
            "Server-sent events: `status` (the status without active_meetings), `traffic` (the \
             last quarter of an hour), and then `change` ({\"set\": {field: value}, \"lists\": \
             {field: {\"changed\": [items], \"removed\": [ids]}}}), `sample`; `moved` where the \
             node listens on another port now, `session` where the reader's rights are others \
             now: after these the stream ends. Operators are told `log`, `config` and `notices`, too.",
        ),
        guarded(stream(
            call(Method::GET, "/api/casts", CASTS, "The casts that come to this node"),
            "Server-sent events: `cast` (the cast, with its number here as `n` and as the \
             event's id), `live` (one that is kept nowhere), `dropped` ({\"count\": number}) where the \
             reader was too slow for live ones, and `lost` ({\"before\": number}) where casts after \
             the reader's place are not kept any more. The stream ends after ten minutes; a reader that connects \
             again with `Last-Event-ID` misses nothing.",
        ))
        .query(
            "after",
            json!({"type": "integer", "minimum": 0}),
            "Those after this number; without it and `Last-Event-ID`, those that come.",
        )
        .query("topic", json!({"type": "string"}), "Those of this topic.")
        .refuses(400, "A value that is not allowed."),
        guarded(call(Method::GET, "/api/casts/ws", CASTS, "The same over a WebSocket"))
            .text(
                "Each event is a JSON text with its name as `event`. A program may say \
                 {\"read\": number}: it has read that cast, and those before it of its topic. It is \
                 closed with 1001 when the node stops and after ten minutes, 1003 or 1008 after a \
                 message that makes no sense, 1009 after one that is too long.",
            )
            .query(
                "after",
                json!({"type": "integer", "minimum": 0}),
                "Those after this number; without it, those that come.",
            )
            .query("topic", json!({"type": "string"}), "Those of this topic.")
            .answers(101, "What follows is WebSocket.", vec![])
            .refuses(400, "A value that is not allowed.")
            .refuses(403, "Another site's page.")
            .refuses(426, "No upgrade to WebSocket version 13.")
            .refuses(503, "Too many programs follow casts."),
        takes(guarded(call(Method::POST, "/api/casts", CASTS, "Send messages to nodes")))
            .text(
                "If `casts.allowSend` is on. They go to the main server, and its answer is the \
                 answer; it notes which node they come from. With a key, a cast is sent once \
                 however often it is posted.",
            )
            .body(true, vec![json::<ProgramCast>()])
            .answers(201, "On the main server's disk: the cast, or of a list their ids.", vec![json::<Map<String, Value>>()])
            .refuses(400, "A value that is not allowed.")
            .refuses(403, "`casts.allowSend` is off, or the main server does not accept this node.")
            .refuses(409, "Another cast from here has this key.")
            .refuses(415, "No JSON.")
            .refuses(422, "Malformed, and how.")
            .refuses(503, "The main server can't be reached, or can't save it now.")
            .with(&["Retry-After"])
            .refuses(507, "As many casts are kept as may be."),
        guarded(call(Method::POST, "/api/casts/read", CASTS, "A cast was read"))
            .text("With those before it of its topic. The main server is told.")
            .query("n", json!({"type": "integer", "minimum": 0}), "Its number here.")
            .answers(200, "Noted.", vec![json::<Done>()])
            .refuses(400, "A value that is not allowed.")
            .refuses(404, "No such cast here."),
        guarded(call(Method::GET, "/api/notices", CASTS, "The casts that the panel shows"))
            .text("Those of the topic `casts.showOnPanel` that have not expired: at most 20.")
            .answers(200, "The newest first.", vec![json::<notices::PanelNotices>()]),
        delivered(call(
            Method::GET,
            "/api/v1/files/{task}/{file}",
            DOWNLOADS,
            "A file that an operator sent",
        ))
        .text("For operators, unless its task says that anybody may have it.")
        .in_path("task", json!({"type": "string"}), "The task's id.")
        .in_path("file", json!({"type": "string"}), "The file's name, with its folders.")
        .refuses(401, "It is for operators."),
        call(Method::GET, "/", "Pages and documents", "To the panel")
            .answers(307, "To the page.", vec![])
            .with(&["Location"]),
        call(Method::GET, "/static/", "Pages and documents", "The panel")
            .asks(&["If-None-Match"])
            .answers(200, "The page.", vec![text("text/html")])
            .with(&["ETag"])
            .answers(304, "Not modified.", vec![])
            .with(&["ETag"]),
    ];
    all.extend(settings_of_the_node());
    all.extend(of_operators());
    all.extend(shared());
    all.extend(access::operations());
    all
}

fn delivered(operation: Operation) -> Operation {
    package(operation)
        .text(
            "What is here is sent at once; what is not is pulled from the main server, and sent \
             while it is coming in. A body that is not whole ends in a broken connection.",
        )
        .refuses(404, "The main server has no such meeting.")
        .refuses(500, "The node's disk fails.")
        .refuses(502, "The main server can't provide the package.")
        .with(&["Retry-After"])
        .refuses(503, "The service is stopped, the node is busy or has no room, or more downloads are under way than serve.* allows.")
        .with(&["Retry-After"])
        .refuses(504, "The main server did not answer in time.")
        .with(&["Retry-After"])
}

/// A JSON body that is read whole.
fn takes(operation: Operation) -> Operation {
    operation
        .refuses(408, "The body came too slowly.")
        .refuses(413, "The body is larger than a megabyte.")
}

fn settings_of_the_node() -> Vec<Operation> {
    let change = |path, summary| takes(guarded(call(Method::POST, path, SETTINGS, summary)));
    let refused_change = |operation: Operation| {
        operation
            .answers(400, "What is wrong with it; nothing was changed.", vec![json::<NotChanged>()])
            .refuses(409, "The file was edited by hand meanwhile, and is faulty.")
            .refuses(500, "It could not be saved.")
    };
    vec![
        guarded(call(Method::GET, "/api/config", SETTINGS, "The configuration"))
            .text("Secrets that are set are shown as asterisks.")
            .answers(200, "All settings.", vec![json::<settings::ConfigDocument>()]),
        refused_change(change("/api/config", "Change settings"))
            .careful()
            .text("Settings that are not named keep their values. All named ones are changed, or none.")
            .body(true, vec![json::<settings::ConfigPatch>()])
            .answers(200, "Saved and in force.", vec![json::<Done>()])
            .refuses(415, "Announced as something else than JSON."),
        guarded(call(Method::GET, "/api/config/schema", SETTINGS, "What settings there are"))
            .answers(200, "Each with its meaning.", vec![json::<meaning::SettingsSchema>()]),
        change("/api/config/check", "What would be wrong with a change")
            .body(true, vec![json::<Map<String, Value>>()])
            .answers(200, "All that is wrong with it.", vec![json::<config::CheckedChange>()])
            .refuses(400, "No JSON object.")
            .refuses(415, "Not announced as JSON."),
        refused_change(change("/api/config/heartbeat", "Change the heartbeat's interval"))
            .text("In seconds. The content type does not count.")
            .body(true, vec![json::<Interval>()])
            .answers(200, "Saved and in force.", vec![json::<Done>()]),
    ]
}

fn of_operators() -> Vec<Operation> {
    let any_number = || json!({"type": "integer", "minimum": 0, "maximum": u64::MAX});
    vec![
        guarded(call(Method::POST, "/api/service/start", SERVICE, "Start the service"))
            .answers(200, "It runs.", vec![json::<Done>()]),
        guarded(call(Method::POST, "/api/service/stop", SERVICE, "Stop the service"))
            .careful()
            .text("No downloads, no pulls, off the main server's list; the process and this API go on.")
            .answers(200, "It is stopped.", vec![json::<Done>()]),
        guarded(call(Method::POST, "/api/meetings/{id}/sync", MEETINGS, "Sync a meeting now"))
            .answers(202, "How it goes is seen in the status.", vec![json::<Done>()])
            .refuses(404, "The meeting is not active.")
            .refuses(503, "The service is stopped.")
            .with(&["Retry-After"]),
        guarded(call(Method::POST, "/api/meetings/{id}/verify", MEETINGS, "Read a package again"))
            .careful()
            .query("repair", json!({"enum": ["true", "false"]}), "Whether a damaged one is removed, and pulled again if its meeting is active; true if not said.")
            .answers(200, "What was found.", vec![json::<meetings::RereadReport>()])
            .refuses(404, "The package is not here.")
            .refuses(500, "The node's disk fails."),
        guarded(call(Method::DELETE, "/api/meetings/{id}", MEETINGS, "Remove a package"))
            .careful()
            .answers(200, "It is gone.", vec![json::<Done>()])
            .refuses(404, "The package is not here.")
            .refuses(409, "Its meeting is active, is to start, or is not known to have ended.")
            .refuses(500, "The node's disk fails."),
        guarded(call(Method::GET, "/api/logs", STATUS, "The last lines of the log"))
            .query("level", json!({"enum": ["TRACE", "DEBUG", "INFO", "WARNING", "ERROR"]}), "At least as grave as this.")
            .query("after", any_number(), "After the line of this number.")
            .query("limit", any_number(), "The newest so many, 1000 at most; 200 if not said.")
            .answers(200, "The lines.", vec![json::<logs::LogLines>()])
            .refuses(400, "No such level, or no number."),
    ]
}

#[test]
fn the_document_is_what_the_types_give() {
    openapi::compare("node.json", "edge-mirror node", access::security_schemes(), operations());
}

#[tokio::test]
async fn the_document_has_every_route_of_the_node_and_no_other() {
    let folder = tempfile::tempdir().expect("there is room");
    openapi::compare_routes(app_state(folder.path()).router(), &operations()).await;
}

/// A node that nobody started.
fn app_state(folder: &Path) -> AppState {
    let file = folder.join("node_config.json");
    let settings = Arc::new(Settings::load_or_create(&file).expect("defaults are valid"));
    let (store, _) = Store::open(&folder.join("storage")).expect("the folder is writable");
    let board = Arc::new(StatusBoard::new(store, 1));
    let fetch = Fetch::new(settings.clone(), board.clone(), Arc::default(), Tasks::new());
    AppState {
        cast_sender: Arc::new(CastSender::new(settings.clone(), Arc::default())),
        access: AccessControl::new(
            "node",
            Vault::at(folder.join("access.json")),
            SecurityConfig::default,
        ),
        settings,
        board,
        fetch,
        traffic: Arc::default(),
        relay_traffic: RelayTraffic::default(),
        listening: ListenOptions { host: Ipv4Addr::LOCALHOST.into(), fixed_port: None },
        feed: Arc::default(),
        journal: Journal::default(),
        closing: CancellationToken::new(),
        casts: Arc::default(),
    }
}
