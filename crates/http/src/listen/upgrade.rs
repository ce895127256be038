//! Connections that switch to another protocol (RFC 9110, 7.8).
//!
//! The connection's own task serves the new protocol, once HTTP has ended there. So the
//! connection keeps its permit until then, shutdown waits for it, and evicting it drops it.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Json,
    body::HttpBody,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::{FutureExt, future::BoxFuture};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::ShutdownTokens;

/// The stream of a connection after the switch.
pub type UpgradedStream = TokioIo<Upgraded>;

type ProtocolHandler =
    Box<dyn FnOnce(UpgradedStream, CancellationToken) -> BoxFuture<'static, ()> + Send>;

/// Answers with 101 and has `handler` serve the connection from then on. If the client
/// does not offer `protocol`, which is a name as in the `Upgrade` field, the answer is 426.
///
/// The token tells the handler of a shutdown; when the grace period is over, the handler
/// is dropped. Before it ends it should shut the stream down, or a client with TLS can't
/// tell the end from a broken connection.
pub fn switch_protocols<F, W>(mut request: Request, protocol: &'static str, handler: F) -> Response
where
    F: FnOnce(UpgradedStream, CancellationToken) -> W + Send + 'static,
    W: Future<Output = ()> + Send + 'static,
{
    let fields = [
        (header::CONNECTION, HeaderValue::from_static("upgrade")),
        (header::UPGRADE, HeaderValue::from_static(protocol)),
    ];
    // hyper adds it for HTTP/1.1 alone.
    let on_upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let offers = |name, token| lists(request.headers(), name, token);
    let is_offered = offers(header::CONNECTION, "upgrade") && offers(header::UPGRADE, protocol);
    let Some(on_upgrade) = on_upgrade.filter(|_| is_offered) else {
        let text = format!("请求须升级为 {protocol} / the request has to upgrade to {protocol}");
        let detail = Json(json!({"detail": text}));
        return (StatusCode::UPGRADE_REQUIRED, fields, detail).into_response();
    };
    // A body that is not read would be taken for the new protocol's first bytes.
    if !request.body().is_end_stream() {
        let text = "升级请求不能有正文 / a request to upgrade can't have a body";
        return (StatusCode::BAD_REQUEST, Json(json!({"detail": text}))).into_response();
    }
    let handler: ProtocolHandler =
        Box::new(move |stream, shutdown| handler(stream, shutdown).boxed());
    let mut answer = (StatusCode::SWITCHING_PROTOCOLS, fields).into_response();
    let accepted = Arc::new(Mutex::new(Some((on_upgrade, handler))));
    answer.extensions_mut().insert(AcceptedUpgrade(accepted));
    answer
}

/// True if a field that is a list of tokens has this one.
fn lists(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(token))
}

/// The extension of a 101 with what follows it. Shared only because extensions have to be
/// clonable.
#[derive(Clone)]
pub(super) struct AcceptedUpgrade(Arc<Mutex<Option<(OnUpgrade, ProtocolHandler)>>>);

impl AcceptedUpgrade {
    /// Returns it from an answer that is a 101.
    pub(super) fn take_from<B>(answer: &mut axum::http::Response<B>) -> Option<Self> {
        match answer.status() {
            StatusCode::SWITCHING_PROTOCOLS => answer.extensions_mut().remove(),
            _ => None,
        }
    }

    /// Serves the new protocol to its end, after HTTP has ended.
    pub(super) async fn serve(self, ends: &ShutdownTokens) {
        let accepted = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((on_upgrade, handler)) = accepted else { return };
        // By now there is a stream, or the connection broke before; the budget of this
        // task may be spent.
        let upgraded = tokio::task::unconstrained(on_upgrade).now_or_never();
        let Some(Ok(stream)) = upgraded else { return };
        // A child: cancelling it must not stop the listener.
        let serving = handler(TokioIo::new(stream), ends.stop.child_token());
        if ends.abort.run_until_cancelled(serving).await.is_none() {
            debug!("an upgraded connection did not end in time and is cut off");
        }
    }
}

#[cfg(test)]
mod tests;
