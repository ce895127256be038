//! Sends casts of programs here to the main server, which keeps them and says what became
//! of them.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use edge_mirror_settings::Settings;
use reqwest::StatusCode;
use thiserror::Error;
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use crate::upstream::{Connector, UpstreamError};

/// Requests under way, each with a body of up to a megabyte; the main server saves those that
/// come together in one transaction.
const MAX_SENDING: usize = 32;

/// The reasons that the main server's answer is not known, or is none.
#[derive(Debug, Error)]
pub(crate) enum UnsentCast {
    #[error(
        "正在发送的消息过多，请稍后再试 / too many casts are being sent, try again in a moment"
    )]
    Busy,
    #[error("此主控服务器不接受节点发送的消息 / this main server takes no casts from nodes")]
    NotTaken,
    #[error(
        "主控服务器没有应答，不知道消息是否已保存，带 key 的可以重复发送 / the main server did not answer, and the cast may be kept or not; with a key it can be sent again: {0}"
    )]
    Unreachable(UpstreamError),
}

/// The answer of the main server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CastReceiptAnswer {
    pub(crate) status: StatusCode,
    /// JSON.
    pub(crate) body: Vec<u8>,
}

/// The way of programs' casts to the main server in use.
#[derive(Debug)]
pub struct CastSender {
    settings: Arc<Settings>,
    connector: Arc<Connector>,
    sending: Semaphore,
}

impl CastSender {
    pub fn new(settings: Arc<Settings>, connector: Arc<Connector>) -> Self {
        Self { settings, connector, sending: Semaphore::new(MAX_SENDING) }
    }

    /// Sends a cast, or a list of them, as a program wrote it.
    pub(crate) async fn send(&self, casts: Bytes) -> Result<CastReceiptAnswer, UnsentCast> {
        let _permit = self.sending.try_acquire().map_err(|_| UnsentCast::Busy)?;
        let config = self.settings.current();
        let limit = Duration::from_secs(config.network.connection_timeout);
        let upstream = self.connector.upstream(&config);
        match upstream.send_casts(&config.node_id, casts, limit).await {
            Ok((StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED, _)) => {
                Err(UnsentCast::NotTaken)
            }
            Ok((status, body)) => {
                debug!("the main server answered {status} to casts from here");
                Ok(CastReceiptAnswer { status, body })
            }
            Err(error) => {
                warn!("casts from here were not sent: {error}");
                Err(UnsentCast::Unreachable(error))
            }
        }
    }
}
