//! A main server's call for remote tasks. Only our own has it.

use std::time::Duration;

use edge_mirror_protocol::{
    UnreadableAnswer,
    relay::NODE_HEADER,
    remote_tasks::{MAX_EXCHANGE_BYTES, PATH, RunExchange, RunOrders},
};
use reqwest::Method;

use super::{KEY, Upstream, UpstreamError, read_up_to};

impl Upstream {
    /// Says what runs here, and learns what should. The answer may be held.
    pub(crate) async fn exchange_runs(
        &self,
        node_id: &str,
        exchange: &RunExchange,
        limit: Duration,
    ) -> Result<RunOrders, UpstreamError> {
        let asked = format!("POST {}{PATH}", self.base_url);
        let mut request = self.request(Method::POST, PATH, limit).json(exchange);
        request = request.header(NODE_HEADER, node_id);
        if let Some(key) = &self.key {
            request = request.header(KEY, key.reveal());
        }
        let response = self.send(&asked, request, limit).await?;
        let body = read_up_to(&asked, response, limit, MAX_EXCHANGE_BYTES).await?;
        serde_json::from_slice(&body).map_err(|error| UpstreamError::Unreadable {
            asked,
            cause: UnreadableAnswer(error.to_string()),
        })
    }
}
