//! Calls of servers, and the errors if they fail.

use std::{fmt, time::Duration};

use edge_mirror_http::tls::{self, FileError, TrustPolicy};
use edge_mirror_node::upstream::root_cause;
use edge_mirror_settings::{SettingProblem, check};
use reqwest::{
    Client, ClientBuilder, Method, RequestBuilder, Response, StatusCode, header, redirect,
};
use serde_json::Value;
use url::Url;

use crate::{
    cli::{LoginArgs, ServerUrl},
    terminal::{self, Language, localized, words},
};

/// Any server on a usable network answers sooner.
const CONNECT: Duration = Duration::from_secs(10);
/// More than any machine takes to answer itself.
const LOOK: Duration = Duration::from_secs(2);
/// For answers from memory.
const ANSWER: Duration = Duration::from_secs(20);
/// Ten thousand meetings take a tenth of it.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// The first words of an error page are enough.
const SHOWN_ANSWER_CHARS: usize = 300;

pub(super) fn http(trust: &TrustPolicy) -> Result<ClientBuilder, FileError> {
    let builder = tls::http(trust.client()?)
        .connect_timeout(CONNECT)
        .user_agent(concat!("edge-mirror/", env!("CARGO_PKG_VERSION")));
    Ok(builder)
}

/// Returns the port to which a server sends plain HTTP on for HTTPS; None if it speaks plain
/// HTTP itself, or nothing.
pub async fn https_port(server: &ServerUrl) -> Option<u16> {
    let builder = http(&TrustPolicy::System).ok()?;
    let http = builder.redirect(redirect::Policy::none()).timeout(LOOK).build().ok()?;
    let answer = http.get(server.at("/")).send().await.ok()?;
    if answer.status() != StatusCode::PERMANENT_REDIRECT {
        return None;
    }
    let location = answer.headers().get(header::LOCATION)?.to_str().ok()?;
    let location: Url = location.parse().ok()?;
    location.port_or_known_default().filter(|_| location.scheme() == "https")
}

/// Returns the reason why nothing was answered.
pub(super) fn why(error: &reqwest::Error) -> String {
    of_tls(error).unwrap_or_else(|| root_cause(error))
}

fn of_tls(error: &reqwest::Error) -> Option<String> {
    let shown = terminal::say("它对客户端证书的要求", "what it asks of its clients");
    let (chinese, english) = tls::explain(error, "--cacert", &shown)?;
    Some(terminal::say(chinese, english))
}

/// Returns `host:port`, a server's name in messages.
pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Reads a body, unless it is too long for its purpose.
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

/// Returns the reason given by a refusal.
pub(super) async fn detail(answer: Response) -> String {
    let body = limited(answer).await.unwrap_or_default();
    said(serde_json::from_slice(&body).ok().as_ref(), &body)
}

/// The reason why a call failed.
#[derive(Debug)]
pub(super) enum CallError {
    Unreachable {
        server: ServerUrl,
        cause: String,
    },
    Untrusted {
        server: ServerUrl,
        cause: String,
    },
    Silent {
        server: ServerUrl,
    },
    NoLogin {
        server: ServerUrl,
    },
    WrongToken {
        server: ServerUrl,
        said: String,
    },
    NotAllowed {
        server: ServerUrl,
        said: String,
    },
    Refused {
        server: ServerUrl,
        asked: String,
        status: StatusCode,
        said: String,
    },
    /// Its answer is not that of this kind of server.
    Stranger {
        server: ServerUrl,
        kind: ServerKind,
        asked: String,
    },
    /// It is the other kind.
    OtherKind {
        server: ServerUrl,
        kind: ServerKind,
    },
}

impl std::error::Error for CallError {}

/// Includes advice.
impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (chinese, english) = match self {
            Self::Unreachable { server, cause } => (
                format!(
                    "连接不上 {server}：{}；请确认它正在运行，且地址和端口正确",
                    translate_os_error(cause)
                ),
                format!("cannot reach {server}: {cause}; is it running, and is the address right?"),
            ),
            Self::Untrusted { server, cause } => (
                format!("与 {server} 的 TLS 连接失败：{cause}"),
                format!("no TLS with {server}: {cause}"),
            ),
            Self::Silent { server } => (
                format!("{server} 没有响应；请查看它的日志和所在机器的状况"),
                format!("{server} does not answer; see its log and the state of its machine"),
            ),
            Self::NoLogin { server } => (
                format!(
                    "{server} 要求登录：请在它所在的机器上执行，或用 EDGE_MIRROR_TOKEN 或 --token \
                     提供管理令牌（在那里执行 edge-mirror token --new 可以生成）"
                ),
                format!(
                    "{server} asks for a login: run this on its own machine, or give its admin \
                     token by EDGE_MIRROR_TOKEN or --token (`edge-mirror token --new` there \
                     creates one)"
                ),
            ),
            Self::WrongToken { server, said } => (
                format!(
                    "{server} 不接受这个令牌（{said}）；在那里执行 edge-mirror token --new 可以生成新的"
                ),
                format!(
                    "{server} does not accept the token ({said}); `edge-mirror token --new` there \
                     creates a new one"
                ),
            ),
            Self::NotAllowed { server, said } => (
                format!("{server} 不允许从本机管理：{said}"),
                format!("{server} does not let this machine make changes: {said}"),
            ),
            Self::Refused { server, asked, status, said, .. } => {
                let status = status.as_u16();
                (
                    format!("{server} 对 {asked} 返回 {status}：{said}"),
                    format!("{server} answered {status} to {asked}: {said}"),
                )
            }
            Self::Stranger { server, kind, asked } => (
                format!("{server} 不是{}：它对 {asked} 的响应无法识别", kind.chinese()),
                format!("{server} is no {}: its answer to {asked} is another one", kind.english()),
            ),
            Self::OtherKind { server, kind: ServerKind::Node } => (
                format!("{server} 是主控服务器；请试 edge-mirror nodes --master {server}"),
                format!("{server} is a main server; try `edge-mirror nodes --master {server}`"),
            ),
            Self::OtherKind { server, kind: ServerKind::MainServer } => (
                format!("{server} 是节点；请试 edge-mirror status --node {server}"),
                format!("{server} is a node; try `edge-mirror status --node {server}`"),
            ),
        };
        f.write_str(&terminal::say(chinese, english))
    }
}

/// Translates the system's usual causes to Chinese.
pub(super) fn translate_os_error(cause: &str) -> &str {
    let known = [
        ("Connection refused", "对方拒绝连接"),
        ("No route to host", "网络不通"),
        ("Network is unreachable", "网络不通"),
        ("failed to lookup address", "地址无法解析"),
        ("deadline has elapsed", "对方没有及时响应"),
        ("timed out", "对方没有及时响应"),
    ];
    known.iter().find(|(said, _)| cause.contains(said)).map_or(cause, |(_, chinese)| chinese)
}

impl CallError {
    /// True if the answer may be from another kind of server.
    fn is_not_understood(&self) -> bool {
        let unknown = [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED];
        matches!(self, Self::Stranger { .. })
            || matches!(self, Self::Refused { status, .. } if unknown.contains(status))
    }

    /// True if the same call may succeed soon, without anybody's help: a server that restarts
    /// comes back.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Silent { .. } => true,
            Self::Refused { status, .. } => status.is_server_error(),
            Self::Untrusted { .. }
            | Self::NoLogin { .. }
            | Self::WrongToken { .. }
            | Self::NotAllowed { .. }
            | Self::Stranger { .. }
            | Self::OtherKind { .. } => false,
        }
    }

    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::NOT_FOUND, .. })
    }
}

/// The kind of server that a command expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServerKind {
    Node,
    MainServer,
}

impl ServerKind {
    fn chinese(self) -> &'static str {
        match self {
            Self::Node => " edge-mirror 节点",
            Self::MainServer => "主控服务器",
        }
    }

    fn english(self) -> &'static str {
        match self {
            Self::Node => "edge-mirror node",
            Self::MainServer => "main server",
        }
    }
}

/// A client for a node or a main server.
#[derive(Debug)]
pub(super) struct ApiClient {
    http: Client,
    pub server: ServerUrl,
    kind: ServerKind,
    token: Option<String>,
}

/// The environment variable with the token, if no argument has it.
const TOKEN_VARIABLE: &str = "EDGE_MIRROR_TOKEN";

/// Returns the admin token to send, if any.
pub(super) fn token(login: &LoginArgs) -> Option<String> {
    let token = login.token.clone().or_else(|| std::env::var(TOKEN_VARIABLE).ok());
    token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty())
}

/// A path that every node has, and every main server.
const OF_NODES: &str = "/api/status";
pub(super) const OF_MAIN_SERVERS: &str = "/api/v1/meetings/status/token";
/// The nodes that are online.
pub(super) const NODES: &str = "/api/v1/nodes/list";

impl ApiClient {
    pub(super) fn new(
        server: ServerUrl,
        trust: &TrustPolicy,
        kind: ServerKind,
        token: Option<String>,
    ) -> anyhow::Result<Self> {
        // What is sent with a token must not go elsewhere.
        let http = http(trust)?.redirect(redirect::Policy::none()).build()?;
        Ok(Self { http, server, kind, token })
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, CallError> {
        self.call(Method::GET, path, None).await
    }

    /// Returns the JSON answer.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, CallError> {
        self.call_with(method, path, |request| match body {
            Some(body) => request.timeout(ANSWER).json(body),
            None => request.timeout(ANSWER),
        })
        .await
    }

    /// Does the same as [`call`](Self::call); `shape` sets body and timeout.
    pub(super) async fn call_with(
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
        let answer = request.send().await.map_err(|error| self.request_failed(&error))?;
        match self.read(asked, answer).await {
            Err(error) if error.is_not_understood() && self.is_other_kind().await => {
                Err(CallError::OtherKind { server: self.server.clone(), kind: self.kind })
            }
            read => read,
        }
    }

    /// True for a main server taken for a node, or a node for a main server.
    async fn is_other_kind(&self) -> bool {
        let ask = async |path| {
            let answer = self.http.get(self.server.at(path)).timeout(ANSWER).send().await.ok()?;
            let body = limited(answer.error_for_status().ok()?).await.ok()?;
            serde_json::from_slice::<Value>(&body).ok()
        };
        let is_node = ask(OF_NODES).await.is_some_and(|status| status["node_id"].is_string());
        match self.kind {
            ServerKind::MainServer => is_node,
            ServerKind::Node if is_node => false,
            ServerKind::Node => {
                ask(OF_MAIN_SERVERS).await.is_some_and(|list| list["meetings"].is_array())
            }
        }
    }

    async fn read(&self, asked: String, answer: Response) -> Result<Value, CallError> {
        let (status, server) = (answer.status(), self.server.clone());
        let body = limited(answer).await.map_err(|error| self.request_failed(&error))?;
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
            _ => CallError::Refused { server, asked, status, said },
        })
    }

    fn request_failed(&self, error: &reqwest::Error) -> CallError {
        let server = self.server.clone();
        match of_tls(error) {
            Some(cause) => CallError::Untrusted { server, cause },
            None if error.is_timeout() && !error.is_connect() => CallError::Silent { server },
            None => CallError::Unreachable { server, cause: root_cause(error) },
        }
    }

    /// Returns the error for JSON that this kind of server does not send.
    pub(super) fn unexpected_answer(&self, asked: &str) -> CallError {
        CallError::Stranger {
            server: self.server.clone(),
            kind: self.kind,
            asked: asked.to_owned(),
        }
    }
}

/// Returns the problems of settings in a node's answer.
pub(super) fn problems(answer: &Value) -> Option<Vec<SettingProblem>> {
    let text = |problem: &Value, key: &str| Some(problem[key].as_str()?.to_owned());
    let read = |problem: &Value| {
        Some(SettingProblem {
            key: text(problem, "key")?,
            value: text(problem, "value"),
            zh: text(problem, "zh")?,
            en: text(problem, "en")?,
        })
    };
    answer["problems"].as_array()?.iter().map(read).collect()
}

fn said(read: Option<&Value>, body: &[u8]) -> String {
    let language = Language::from_env();
    if let Some(problems) = read.and_then(problems).filter(|problems| !problems.is_empty()) {
        return words::plain(&check::list_in(&problems, language == Language::Chinese));
    }
    let text = match read.map(|answer| &answer["detail"]) {
        Some(Value::String(detail)) => detail.clone(),
        Some(detail) if !detail.is_null() => detail.to_string(),
        _ => String::from_utf8_lossy(body).into_owned(),
    };
    words::plain(&localized(&text, language)).chars().take(SHOWN_ANSWER_CHARS).collect()
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

    #[test]
    fn only_what_passes_by_itself_is_waited_for() {
        let server: ServerUrl = "127.0.0.1:8000".parse().unwrap();
        let refused = |status| CallError::Refused {
            server: server.clone(),
            asked: "GET /".into(),
            status,
            said: String::new(),
        };
        for (error, passes) in [
            (CallError::Silent { server: server.clone() }, true),
            (refused(StatusCode::SERVICE_UNAVAILABLE), true),
            (refused(StatusCode::BAD_GATEWAY), true),
            (refused(StatusCode::NOT_FOUND), false),
            (refused(StatusCode::PERMANENT_REDIRECT), false),
            (CallError::NoLogin { server: server.clone() }, false),
        ] {
            assert_eq!(error.is_passing(), passes, "{error:?}");
        }
    }
}
