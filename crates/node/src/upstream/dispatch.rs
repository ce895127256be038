//! A main server's calls for files that operators send. Only our own has them.

use std::time::Duration;

use edge_mirror_protocol::{
    UnreadableAnswer,
    dispatch::{DispatchReport, MAX_LIST_BYTES, NodeFiles, PATH, TaskId, TaskList},
    package::Sha256,
    relay::NODE_HEADER,
};
use reqwest::{Method, RequestBuilder, header};
use serde::de::DeserializeOwned;

use super::{
    KEY, OriginAnswer, PackageRequest, Upstream, UpstreamError, package::answered, piece_digests,
    read_up_to,
};

impl Upstream {
    /// The tasks that concern this node.
    pub(crate) async fn task_list(
        &self,
        node_id: &str,
        limit: Duration,
    ) -> Result<TaskList, UpstreamError> {
        self.dispatch_json(PATH, node_id, limit).await
    }

    pub(crate) async fn task_files(
        &self,
        node_id: &str,
        task: &TaskId,
        limit: Duration,
    ) -> Result<NodeFiles, UpstreamError> {
        self.dispatch_json(&format!("{PATH}/{task}"), node_id, limit).await
    }

    /// Begins to get a file of a task.
    pub(crate) async fn task_file(
        &self,
        node_id: &str,
        (task, number): (&TaskId, usize),
        wanted: PackageRequest<'_>,
    ) -> Result<OriginAnswer, UpstreamError> {
        self.dispatch_bytes(&format!("{PATH}/{task}/files/{number}"), node_id, wanted).await
    }

    /// The digests of a file's pieces.
    pub(crate) async fn task_file_pieces(
        &self,
        node_id: &str,
        (task, number): (&TaskId, usize),
        limit: Duration,
    ) -> Result<Vec<Sha256>, UpstreamError> {
        let path = format!("{PATH}/{task}/files/{number}/pieces");
        let (asked, body) = self.dispatch_answer(&path, node_id, limit).await?;
        piece_digests(&body).ok_or_else(|| UpstreamError::Unreadable {
            asked,
            cause: UnreadableAnswer("a digest is cut off".to_owned()),
        })
    }

    /// Begins to get small files that follow each other.
    pub(crate) async fn task_bundle(
        &self,
        node_id: &str,
        task: &TaskId,
        (first, count): (usize, usize),
    ) -> Result<OriginAnswer, UpstreamError> {
        let path = format!("{PATH}/{task}/bundle?first={first}&count={count}");
        self.dispatch_bytes(&path, node_id, PackageRequest::Whole).await
    }

    /// Says how far this node is. Outcomes are on the main server's disk when it has answered.
    pub(crate) async fn report_tasks(
        &self,
        node_id: &str,
        report: &DispatchReport,
        limit: Duration,
    ) -> Result<(), UpstreamError> {
        let asked = format!("POST {}{PATH}", self.base_url);
        let request = self.named(self.request(Method::POST, PATH, limit), node_id).json(report);
        self.send(&asked, request, limit).await.map(drop)
    }

    async fn dispatch_json<T: DeserializeOwned>(
        &self,
        path: &str,
        node_id: &str,
        limit: Duration,
    ) -> Result<T, UpstreamError> {
        let (asked, body) = self.dispatch_answer(path, node_id, limit).await?;
        serde_json::from_slice(&body).map_err(|error| UpstreamError::Unreadable {
            asked,
            cause: UnreadableAnswer(error.to_string()),
        })
    }

    /// Also returns what was asked for.
    async fn dispatch_answer(
        &self,
        path: &str,
        node_id: &str,
        limit: Duration,
    ) -> Result<(String, Vec<u8>), UpstreamError> {
        let asked = format!("GET {}{path}", self.base_url);
        let request = self.named(self.request(Method::GET, path, limit), node_id);
        let response = self.send(&asked, request, limit).await?;
        let body = read_up_to(&asked, response, limit, MAX_LIST_BYTES).await?;
        Ok((asked, body))
    }

    async fn dispatch_bytes(
        &self,
        path: &str,
        node_id: &str,
        wanted: PackageRequest<'_>,
    ) -> Result<OriginAnswer, UpstreamError> {
        let asked = format!("GET {}{path}", self.base_url);
        // Its body has limits of its own.
        let request = self.client.get(format!("{}{path}", self.base_url));
        let request = self.named(request, node_id).header(header::ACCEPT_ENCODING, "identity");
        let sent = self.send(&asked, wanted.shape(request), self.timeout);
        let late = UpstreamError::TimedOut { asked: asked.clone(), after: self.timeout };
        let response = tokio::time::timeout(self.timeout, sent).await.map_err(|_| late)??;
        Ok(answered(response, wanted))
    }

    fn named(&self, mut request: RequestBuilder, node_id: &str) -> RequestBuilder {
        request = request.header(NODE_HEADER, node_id);
        match &self.key {
            Some(key) => request.header(KEY, key.reveal()),
            None => request,
        }
    }
}
