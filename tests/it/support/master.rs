//! The embedded main server, with what its operator and its clients do.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use edge_mirror_http::{access::Vault, listen::Listener};
use edge_mirror_main_server::{
    CastRayOptions, DispatchOptions, GofdOptions, Master, MasterOptions,
};
use edge_mirror_protocol::package::percent_encoded;
use reqwest::{RequestBuilder, Response, StatusCode, Url, header};
use serde_json::{Value, json};

use super::{client, until};

pub(crate) struct TestMaster {
    master: Option<Master>,
    address: SocketAddr,
    folder: Arc<tempfile::TempDir>,
}

/// A main server that is not running: another one may start in its place.
pub(crate) struct Builder {
    listen: SocketAddr,
    announce_timeout: Duration,
    demand_webhook: Option<Url>,
    castray: Option<CastRayOptions>,
    gofd: Option<GofdOptions>,
    folder: Arc<tempfile::TempDir>,
}

impl Builder {
    /// With a listener for CastRay's clients.
    pub(crate) fn castray(self) -> Self {
        Self { castray: Some(CastRayOptions::default()), ..self }
    }

    /// How long clients wait for nodes to have a started meeting's package.
    pub(crate) fn announce_timeout(self, announce_timeout: Duration) -> Self {
        Self { announce_timeout, ..self }
    }

    /// Where changes of the wanted number of nodes are told.
    pub(crate) fn demand_webhook(self, url: &str) -> Self {
        Self { demand_webhook: Some(url.parse().unwrap()), ..self }
    }

    /// The gateway for clients and agents of GoFD.
    pub(crate) fn gofd(self, options: GofdOptions) -> Self {
        Self { gofd: Some(options), ..self }
    }

    pub(crate) async fn start(self) -> TestMaster {
        super::log_to_the_tests_output();
        // The old connections may hold the port for a moment.
        until("the port", async || Listener::bind(self.listen).ok().map(drop)).await;
        let options = MasterOptions {
            data: self.folder.path().to_owned(),
            listen: self.listen,
            announce_timeout: self.announce_timeout,
            demand_webhook: self.demand_webhook,
            castray: self.castray,
            gofd: self.gofd,
            dispatch: DispatchOptions {
                root: Some(self.folder.path().join("root")),
                ..DispatchOptions::default()
            },
            ..MasterOptions::default()
        };
        let master = Master::start(options).await.unwrap();
        TestMaster { address: master.address(), master: Some(master), folder: self.folder }
    }
}

impl TestMaster {
    pub(crate) fn build() -> Builder {
        Builder {
            listen: ([127, 0, 0, 1], 0).into(),
            announce_timeout: Duration::from_secs(600),
            demand_webhook: None,
            castray: None,
            gofd: None,
            folder: Arc::new(tempfile::tempdir().unwrap()),
        }
    }

    /// Ends; what it gives starts at the same address with the same data.
    pub(crate) async fn stop(mut self) -> Builder {
        self.master.take().unwrap().shut_down(Duration::from_secs(5)).await;
        Builder { listen: self.address, folder: self.folder.clone(), ..Self::build() }
    }

    /// The management port and the data port for GoFD.
    pub(crate) fn gofd_ports(&self) -> (u16, u16) {
        self.master.as_ref().and_then(Master::gofd_ports).unwrap()
    }

    /// As `edge-mirror token --new` makes it.
    pub(crate) fn new_token(&self) -> String {
        Vault::at(self.folder.path().join("access.json")).replace_token().unwrap().token
    }

    /// The folder that everything is in.
    pub(crate) fn data(&self) -> &Path {
        self.folder.path()
    }

    /// The address of the listener for CastRay's clients.
    pub(crate) fn castray_address(&self) -> SocketAddr {
        self.master.as_ref().and_then(Master::castray_address).unwrap()
    }

    pub(crate) fn authority(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn meeting_url(&self, id: &str, what: &str) -> String {
        self.url(&format!("/api/v1/meetings/{}{what}", percent_encoded(id)))
    }

    pub(crate) async fn json(&self, path: &str) -> Value {
        accepted(client().get(self.url(path))).await
    }

    pub(crate) async fn create(&self, id: &str, title: &str) {
        let body = json!({"id": id, "title": title});
        accepted(client().post(self.url("/api/v1/meetings")).json(&body)).await;
    }

    pub(crate) async fn put(&self, id: &str, package: &[u8]) {
        let url = self.meeting_url(id, "/package");
        accepted(client().put(url).body(package.to_vec())).await;
    }

    pub(crate) async fn begin(&self, id: &str) {
        accepted(client().post(self.meeting_url(id, "/start"))).await;
    }

    /// Has nodes get the package before the meeting starts.
    pub(crate) async fn distribute(&self, id: &str) {
        accepted(client().post(self.meeting_url(id, "/distribute"))).await;
    }

    pub(crate) async fn end_distribution(&self, id: &str) {
        accepted(client().delete(self.meeting_url(id, "/distribute"))).await;
    }

    pub(crate) async fn delete(&self, id: &str) {
        accepted(client().delete(self.meeting_url(id, ""))).await;
    }

    pub(crate) async fn end(&self, id: &str) {
        accepted(client().post(self.meeting_url(id, "/end"))).await;
    }

    /// A running meeting with this package.
    pub(crate) async fn begin_with(&self, id: &str, package: &[u8]) {
        self.create(id, "Board").await;
        self.put(id, package).await;
        self.begin(id).await;
    }

    /// What clients compare.
    pub(crate) async fn token(&self) -> Value {
        self.json("/api/v1/meetings/status/token").await["id"].clone()
    }

    /// The list's entry of a node, null where there is none.
    pub(crate) async fn node(&self, node_id: &str) -> Value {
        let list = self.json("/api/v1/nodes/list").await;
        let mut nodes = list.as_array().unwrap().iter();
        nodes.find(|node| node["node_id"] == node_id).cloned().unwrap_or_default()
    }

    pub(crate) async fn available(&self) -> Value {
        self.json("/api/v1/nodes/available").await["nodes"].clone()
    }

    /// Waits until exactly these nodes have the meeting's package and clients
    /// can be sent to them.
    pub(crate) async fn until_held_by(&self, id: &str, node_ids: &[&str]) {
        until(&format!("meeting {id} at {node_ids:?}"), async || {
            let meeting = accepted(client().get(self.meeting_url(id, ""))).await;
            (meeting["nodes"] == json!(node_ids)).then_some(())
        })
        .await;
        for node_id in node_ids {
            self.until_reached(node_id).await;
        }
    }

    pub(crate) async fn until_reached(&self, node_id: &str) {
        until(&format!("{node_id} reached"), async || {
            (self.node(node_id).await["reachable"] == true).then_some(())
        })
        .await;
    }

    /// What a client is answered that does not follow redirects.
    pub(crate) async fn ask_for(&self, id: &str) -> Response {
        client().get(self.meeting_url(id, "/download-package")).send().await.unwrap()
    }

    /// Where clients are sent, none while the main server serves by itself.
    pub(crate) async fn redirect(&self, id: &str) -> Option<String> {
        let answer = self.ask_for(id).await;
        match answer.status() {
            StatusCode::FOUND => {
                Some(answer.headers()[header::LOCATION].to_str().unwrap().to_owned())
            }
            status => {
                assert_eq!(status, StatusCode::OK);
                None
            }
        }
    }
}

/// The answer to a request that must succeed.
async fn accepted(request: RequestBuilder) -> Value {
    let answer = request.send().await.unwrap();
    let (url, status) = (answer.url().clone(), answer.status());
    let body: Value = answer.json().await.unwrap();
    assert!(status.is_success(), "{url}: {status} {body}");
    body
}
