//! Builders and what tests wait with.

pub(crate) mod certificates;
pub(crate) mod machine;
pub(crate) mod main_server;
pub(crate) mod master;
pub(crate) mod metrics;
pub(crate) mod node;
pub(crate) mod old_node;
pub(crate) mod plain;
#[allow(dead_code, reason = "the main server's own tests need other parts of it")]
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod proxy;
#[allow(dead_code, reason = "the main server's own tests need other parts of it")]
pub(crate) mod s3;
pub(crate) mod sibling;
pub(crate) mod websocket;
pub(crate) mod zips;

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;

pub(crate) use main_server::{Fault, ScriptedMain};
pub(crate) use master::TestMaster;
pub(crate) use node::TestNode;
pub(crate) use websocket::SocketClient;
pub(crate) use zips::zip_of;

/// Far more than anything here takes, even on a busy machine; a test that
/// gets here has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `condition` gives something, looking again and again.
pub(crate) async fn until<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = condition().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, looking).await {
        Ok(found) => found,
        Err(_) => panic!("waited {PATIENCE:?} in vain for: {what}"),
    }
}

/// A status page's entry of a meeting, null where there is none.
pub(crate) fn meeting_in(status: &Value, id: &str) -> Value {
    let meetings = status["meetings"].as_array().cloned().unwrap_or_default();
    meetings.into_iter().find(|meeting| meeting["id"] == id).unwrap_or_default()
}

/// Waits until `look` shows the meeting as synced.
pub(crate) async fn until_synced(id: &str, mut look: impl AsyncFnMut() -> Value) -> Value {
    until(&format!("meeting {id} synced"), async || {
        Some(look().await).filter(|meeting| meeting["state"] == "synced")
    })
    .await
}

/// A client as plain as a tablet's: no pool, no redirects, no proxy.
pub(crate) fn client() -> reqwest::Client {
    edge_mirror_http::tls::http(edge_mirror_http::tls::client())
        .pool_max_idle_per_host(0)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap()
}

/// What the node logs is shown when its test fails.
pub(crate) fn log_to_the_tests_output() {
    // Set already by another node of the same test.
    let _ = LogCopy::try_begin();
}

/// What the nodes of a test log, for one that looks for a line.
#[derive(Clone, Default)]
pub(crate) struct LogCopy(Arc<Mutex<Vec<u8>>>);

impl LogCopy {
    /// Before the first node.
    pub(crate) fn begin() -> Self {
        Self::try_begin().expect("each test has a process of its own")
    }

    fn try_begin() -> Option<Self> {
        use tracing_subscriber::{
            filter::Targets, fmt::layer, layer::SubscriberExt, util::SubscriberInitExt,
        };
        let ours = Targets::new().with_target("edge_mirror", tracing::Level::DEBUG);
        let (copy, lines) = (Self::default(), layer().with_test_writer().with_ansi(false));
        let writer = copy.clone();
        let copied = layer().with_writer(move || writer.clone()).with_ansi(false);
        let begun = tracing_subscriber::registry().with(ours).with(lines).with(copied).try_init();
        begun.ok().map(|()| copy)
    }

    /// The lines that have all of these parts.
    pub(crate) fn lines_with(&self, parts: &[&str]) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned();
        let fits = |line: &&str| parts.iter().all(|part| line.contains(part));
        text.lines().filter(fits).map(ToOwned::to_owned).collect()
    }
}

impl io::Write for LogCopy {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
