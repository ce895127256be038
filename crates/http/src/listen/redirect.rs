//! Redirects plain HTTP to HTTPS.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, Uri, header, uri::Authority},
    response::{IntoResponse, Response},
};
use serde_json::json;

/// The port that serves HTTPS.
#[derive(Clone)]
pub enum HttpsRedirect {
    /// The request's own port, which the client can reach.
    SamePort,
    /// A port by the request's host.
    To(Arc<dyn Fn(&str) -> u16 + Send + Sync>),
}

/// The ports that a URL need not name.
const HTTP: u16 = 80;
const HTTPS: u16 = 443;

/// Redirects every request to HTTPS, with its method and its body.
pub fn redirect(https_redirect: HttpsRedirect) -> Router {
    Router::new().fallback(answer).with_state(https_redirect)
}

async fn answer(State(https_redirect): State<HttpsRedirect>, request: Request) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    // `GET http://node/ HTTP/1.1` names the host itself.
    let host = request.uri().authority().map(Authority::as_str).or(host);
    let target = host.and_then(|host| target(host, request.uri(), &https_redirect));
    let told = target.and_then(|target| Some((HeaderValue::try_from(&target).ok()?, target)));
    match told {
        Some((target, shown)) => {
            let text = format!("此端口使用 HTTPS，请访问 / HTTPS is spoken here, ask {shown}");
            let fields = [
                (header::LOCATION, target),
                (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
                // The request's body is not read.
                (header::CONNECTION, HeaderValue::from_static("close")),
            ];
            (StatusCode::PERMANENT_REDIRECT, fields, Json(json!({"detail": text}))).into_response()
        }
        None => {
            let text = "此端口使用 HTTPS，请求没有有效的 Host / HTTPS is spoken here, and the \
                        request has no good Host to be sent on to";
            (StatusCode::BAD_REQUEST, Json(json!({"detail": text}))).into_response()
        }
    }
}

/// Returns the same URL with HTTPS; None if the host is invalid.
fn target(host: &str, asked: &Uri, https_redirect: &HttpsRedirect) -> Option<String> {
    let host: Authority = host.parse().ok()?;
    let plain = host.port_u16().is_some() || host.as_str() == host.host();
    if host.host().is_empty() || !plain || host.as_str().contains('@') {
        return None;
    }
    let port = match https_redirect {
        HttpsRedirect::SamePort => host.port_u16().unwrap_or(HTTP),
        HttpsRedirect::To(port) => port(host.host()),
    };
    let port = if port == HTTPS { String::new() } else { format!(":{port}") };
    let path = asked.path_and_query().map_or("/", |path| path.as_str());
    // `OPTIONS *` has no path.
    let path = if path.starts_with('/') { path } else { "/" };
    Some(format!("https://{}{port}{path}", host.host()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_stays_and_the_port_is_https() {
        let to = |port: u16| HttpsRedirect::To(Arc::new(move |_| port));
        for (host, https_redirect, expected) in [
            ("node:80", to(8001), "https://node:8001/a?b=%20"),
            ("node", to(443), "https://node/a?b=%20"),
            ("[fd00::1]:8080", to(8001), "https://[fd00::1]:8001/a?b=%20"),
            ("[fd00::1]", to(443), "https://[fd00::1]/a?b=%20"),
            ("10.0.0.1:8001", HttpsRedirect::SamePort, "https://10.0.0.1:8001/a?b=%20"),
            ("node", HttpsRedirect::SamePort, "https://node:80/a?b=%20"),
        ] {
            let asked = Uri::from_static("/a?b=%20");
            assert_eq!(target(host, &asked, &https_redirect).as_deref(), Some(expected), "{host}");
        }
        let absolute = Uri::from_static("http://node/x");
        assert_eq!(target("node", &absolute, &to(1)).unwrap(), "https://node:1/x");
        assert_eq!(target("node", &Uri::from_static("*"), &to(1)).unwrap(), "https://node:1/");
        for bad in ["", ":80", "a@b", "a@b:80", "a b", "a/b", "a:99999x"] {
            assert_eq!(target(bad, &absolute, &to(1)), None, "{bad}");
        }
    }
}
