//! How commands call servers, and what they say when that fails.

use std::time::Duration;

use edge_mirror_http::tls::{self, FileError, Trust};
use edge_mirror_node::upstream::root_cause;
use reqwest::{Client, ClientBuilder, Method, RequestBuilder, Response, StatusCode, redirect};
use serde_json::Value;
use thiserror::Error;
use url::Url;

use crate::{
    cli::{Login, Server},
    terminal::words,
};

/// A server on any network that is used this way answers sooner.
const CONNECT: Duration = Duration::from_secs(10);
/// For answers that come from memory.
const ANSWER: Duration = Duration::from_secs(20);
/// Ten thousand meetings take a tenth of it.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// The first words of an error page are enough.
const SHOWN_ANSWER_CHARS: usize = 300;

pub(super) fn http(trust: &Trust) -> Result<ClientBuilder, FileError> {
    let builder = tls::http(trust.client()?)
        .connect_timeout(CONNECT)
        .user_agent(concat!("edge-mirror/", env!("CARGO_PKG_VERSION")));
    Ok(builder)
}

/// Why nothing was answered.
pub(super) fn why(error: &reqwest::Error) -> String {
    of_tls(error).unwrap_or_else(|| root_cause(error))
}

fn of_tls(error: &reqwest::Error) -> Option<String> {
    tls::explain(error, "--cacert", "what it asks of its clients")
}

/// `host:port`, by which a server is called in messages.
pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// A body, if it is not too long for what it should be.
pub(super) async fn limited(mut answer: Response) -> reqwest::Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        let room = MAX_ANSWER_BYTES - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            break;
        }
    }
    Ok(body)
}

/// What a refusal says of its reason.
pub(super) async fn detail(answer: Response) -> String {
    let body = limited(answer).await.unwrap_or_default();
    said(serde_json::from_slice(&body).ok().as_ref(), &body)
}

/// Why a call came to nothing, with what to do about it.
#[derive(Debug, Error)]
pub(super) enum CallError {
    #[error("cannot reach {server}: {cause}; is it running, and is the address right?")]
    Unreachable { server: Server, cause: String },
    #[error("no TLS with {server}: {cause}")]
    Untrusted { server: Server, cause: String },
    #[error("{server} does not answer; see its log, and whether its machine is well")]
    Silent { server: Server },
    #[error(
        "{server} asks for a login: run this on its own machine, or give its admin token by \
         EDGE_MIRROR_TOKEN or --token (`edge-mirror token --new` there makes one)"
    )]
    NoLogin { server: Server },
    #[error(
        "{server} does not take the token ({said}); `edge-mirror token --new` there makes a new one"
    )]
    WrongToken { server: Server, said: String },
    #[error("{server} does not let this machine manage: {said}")]
    NotAllowed { server: Server, said: String },
    #[error("{server} answered {} to {asked}: {said}", status.as_u16())]
    Refused { server: Server, asked: String, status: StatusCode, said: String, answer: Value },
    #[error("{server} is no {kind}: its answer to {asked} is another one")]
    Stranger { server: Server, kind: &'static str, asked: String },
}

impl CallError {
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::NOT_FOUND, .. })
    }
}

/// A node or a main server, and who calls it.
#[derive(Debug)]
pub(super) struct Api {
    http: Client,
    pub server: Server,
    /// In words: `edge-mirror node`, say.
    kind: &'static str,
    token: Option<String>,
}

/// Where the token is looked for that no argument names.
const TOKEN_VARIABLE: &str = "EDGE_MIRROR_TOKEN";

/// The admin token that is to be sent, if any.
pub(super) fn token(login: &Login) -> Option<String> {
    let token = login.token.clone().or_else(|| std::env::var(TOKEN_VARIABLE).ok());
    token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty())
}

pub(super) const NODE: &str = "edge-mirror node";
pub(super) const MAIN_SERVER: &str = "main server";

impl Api {
    pub fn new(
        server: Server,
        trust: &Trust,
        kind: &'static str,
        token: Option<String>,
    ) -> anyhow::Result<Self> {
        // Nothing that was sent with a token is sent elsewhere.
        let http = http(trust)?.redirect(redirect::Policy::none()).build()?;
        Ok(Self { http, server, kind, token })
    }

    pub async fn get(&self, path: &str) -> Result<Value, CallError> {
        self.call(Method::GET, path, None).await
    }

    /// The JSON that is answered.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, CallError> {
        self.shaped(method, path, |request| match body {
            Some(body) => request.timeout(ANSWER).json(body),
            None => request.timeout(ANSWER),
        })
        .await
    }

    /// As [`call`](Self::call), but for what is sent and how long it may take.
    pub async fn shaped(
        &self,
        method: Method,
        path: &str,
        shape: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Value, CallError> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut url = self.server.at(path);
        url.set_query(Some(query).filter(|query| !query.is_empty()));
        let asked = format!("{method} {path}");
        let mut request = shape(self.http.request(method, url));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.map_err(|error| self.unanswered(&error))?;
        self.read(asked, answer).await
    }

    async fn read(&self, asked: String, answer: Response) -> Result<Value, CallError> {
        let (status, server) = (answer.status(), self.server.clone());
        let body = limited(answer).await.map_err(|error| self.unanswered(&error))?;
        let read: Option<Value> = serde_json::from_slice(&body).ok();
        if status.is_success() {
            let stranger = || CallError::Stranger { server, kind: self.kind, asked };
            return read.ok_or_else(stranger);
        }
        let said = said(read.as_ref(), &body);
        Err(match status {
            StatusCode::UNAUTHORIZED if self.token.is_none() => CallError::NoLogin { server },
            StatusCode::UNAUTHORIZED => CallError::WrongToken { server, said },
            StatusCode::FORBIDDEN => CallError::NotAllowed { server, said },
            _ => {
                let answer = read.unwrap_or_default();
                CallError::Refused { server, asked, status, said, answer }
            }
        })
    }

    fn unanswered(&self, error: &reqwest::Error) -> CallError {
        let server = self.server.clone();
        match of_tls(error) {
            Some(cause) => CallError::Untrusted { server, cause },
            None if error.is_timeout() && !error.is_connect() => CallError::Silent { server },
            None => CallError::Unreachable { server, cause: root_cause(error) },
        }
    }

    /// For an answer that is JSON, but not what this kind of server says.
    pub fn stranger(&self, asked: &str) -> CallError {
        CallError::Stranger {
            server: self.server.clone(),
            kind: self.kind,
            asked: asked.to_owned(),
        }
    }
}

fn said(read: Option<&Value>, body: &[u8]) -> String {
    let text = match read.map(|answer| &answer["detail"]) {
        Some(Value::String(detail)) => detail.clone(),
        Some(detail) if !detail.is_null() => detail.to_string(),
        _ => String::from_utf8_lossy(body).into_owned(),
    };
    words::plain(&text).chars().take(SHOWN_ANSWER_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_without_an_end_is_not_read_to_it() {
        let endless =
            futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b'x'; 3 << 20]));
        let answer = axum::http::Response::new(reqwest::Body::wrap_stream(endless));
        assert_eq!(limited(answer.into()).await.unwrap().len(), MAX_ANSWER_BYTES);
    }
}
