//! Files from URLs: those that lie below the addresses that the main server was started
//! with. Redirects lead nowhere else, so that no request gets to an address that nobody
//! allowed.

use std::{sync::Arc, time::Duration};

use edge_mirror_base::tasks;
use edge_mirror_http::tls;
use edge_mirror_protocol::package::Sha256;
use edge_mirror_store::PendingPackage;
use reqwest::{Client, Response, StatusCode, Url, Version, header, redirect};
use thiserror::Error;
use tokio::time::timeout;

use super::blobs::blob_key;
use crate::{refusal::RequestError, server::Server};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A server that sends nothing for this long is given up.
const STALLED: Duration = Duration::from_secs(60);
const MAX_REDIRECTS: usize = 5;
/// Bytes gathered for one write.
const BATCH_BYTES: usize = 256 << 10;

/// The reason that the file of a URL can't be had.
#[derive(Debug, Error)]
enum UrlError {
    #[error("{0} 不是 http 或 https 网址 / {0} is no http or https URL")]
    Malformed(String),
    #[error(
        "{0} 不在 --dispatch-urls 允许的网址之下 / {0} is not below a URL that --dispatch-urls allows"
    )]
    NotAllowed(Url),
    #[error("{0} 重定向次数过多 / {0} redirects too often")]
    Redirects(Url),
    #[error(
        "{0} 的回答没有长度，无法确认是否完整，请填写 sha256 / the answer of {0} has no length, so that nobody can tell whether it is whole: name its sha256"
    )]
    OpenEnd(Url),
    #[error("{url} 返回 {status} / {url} answers {status}")]
    Status { url: Url, status: u16 },
    #[error("{url} 无法读取 / {url} can't be read: {cause}")]
    Read { url: Url, cause: String },
    #[error(
        "{url} 的 SHA-256 是 {got}，不是 {expected} / the SHA-256 of {url} is {got}, not {expected}"
    )]
    Digest { url: Url, expected: Sha256, got: Sha256 },
}

impl From<UrlError> for RequestError {
    fn from(error: UrlError) -> Self {
        Self::Invalid(error.to_string())
    }
}

/// True if a URL lies below one that is allowed: of the same scheme, host and port, and with
/// the same path or one below it.
fn is_allowed(allowed: &[Url], url: &Url) -> bool {
    allowed.iter().any(|prefix| {
        let path = prefix.path().trim_end_matches('/');
        let rest = url.path().strip_prefix(path);
        prefix.origin() == url.origin()
            && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            && !has_encoded_separator(url.path())
            && url.username().is_empty()
            && url.password().is_none()
    })
}

/// True of a path that a server may take for another one, above the prefix.
fn has_encoded_separator(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    path.contains("%2f") || path.contains("%5c")
}

/// True if the end of the body is the end of the connection, and so a cut looks like an end.
fn has_open_end(response: &Response) -> bool {
    response.version() < Version::HTTP_2
        && response.content_length().is_none()
        && !response.headers().contains_key(header::TRANSFER_ENCODING)
}

fn read_error(url: &Url, error: reqwest::Error) -> UrlError {
    UrlError::Read { url: url.clone(), cause: error.without_url().to_string() }
}

impl Server {
    /// Receives the file of a URL, and keeps it by its digest, which is returned.
    pub(super) async fn fetch_url(
        self: &Arc<Self>,
        url: &str,
        expected: Option<Sha256>,
    ) -> Result<Sha256, RequestError> {
        let parsed = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = parsed.ok_or_else(|| UrlError::Malformed(url.chars().take(200).collect()))?;
        let response = open(&self.dispatch.options.urls, url.clone()).await?;
        if expected.is_none() && has_open_end(&response) {
            return Err(UrlError::OpenEnd(url).into());
        }
        let pending = self.receive_url(&url, response).await?;
        let verified = tasks::blocking(move || pending.verify_as(blob_key)).await?;
        let got = verified.sha256();
        if let Some(expected) = expected.filter(|expected| *expected != got) {
            return Err(UrlError::Digest { url, expected, got }.into());
        }
        self.keep_upload(verified).await?;
        Ok(got)
    }

    async fn receive_url(
        &self,
        url: &Url,
        mut response: Response,
    ) -> Result<PendingPackage, RequestError> {
        let (store, length) = (self.store.clone(), response.content_length());
        let key = blob_key(Sha256::new([0; 32]));
        let mut pending = tasks::blocking(move || store.begin(key, length, u64::MAX)).await?;
        pending.sync_while_receiving();
        let mut batch = Vec::with_capacity(BATCH_BYTES);
        loop {
            let next = timeout(STALLED, response.chunk()).await;
            let next = next.map_err(|_| RequestError::Stalled)?;
            let chunk = next.map_err(|error| read_error(url, error))?;
            let is_end = chunk.is_none();
            batch.extend_from_slice(&chunk.unwrap_or_default());
            if is_end || batch.len() >= BATCH_BYTES {
                (pending, batch) = tasks::blocking(move || {
                    pending.write(&batch)?;
                    batch.clear();
                    Ok::<_, RequestError>((pending, batch))
                })
                .await?;
            }
            if is_end {
                return Ok(pending);
            }
        }
    }
}

/// Asks for a URL, and follows redirects to others that are allowed.
async fn open(allowed: &[Url], mut url: Url) -> Result<Response, UrlError> {
    let client: Client = tls::http(tls::client())
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(redirect::Policy::none())
        .build()
        .expect("a client that is given its TLS has nothing to load that could fail");
    for _ in 0..=MAX_REDIRECTS {
        if !is_allowed(allowed, &url) {
            return Err(UrlError::NotAllowed(url));
        }
        let asked = client.get(url.clone()).header(header::ACCEPT_ENCODING, "identity").send();
        let late = || UrlError::Read { url: url.clone(), cause: "no answer".to_owned() };
        let answered = timeout(STALLED, asked).await.map_err(|_| late())?;
        let response = answered.map_err(|error| read_error(&url, error))?;
        let status = response.status();
        let location = response.headers().get(header::LOCATION);
        let next = location.and_then(|to| url.join(to.to_str().ok()?).ok());
        match (status == StatusCode::OK, status.is_redirection(), next) {
            (true, ..) => return Ok(response),
            (_, true, Some(next)) => url = next,
            _ => return Err(UrlError::Status { url, status: status.as_u16() }),
        }
    }
    Err(UrlError::Redirects(url))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_below_an_allowed_url_is_allowed() {
        let url = |text: &str| Url::parse(text).unwrap();
        let allowed = [url("https://files.example/fw/"), url("http://10.0.0.1:8080")];
        for good in [
            "https://files.example/fw/1.bin",
            "https://files.example:443/fw/a/b?x=1",
            "https://files.example/fw",
            "http://10.0.0.1:8080/any",
        ] {
            assert!(is_allowed(&allowed, &url(good)), "{good}");
        }
        for bad in [
            "http://files.example/fw/1.bin",
            "https://files.example/fwx",
            "https://files.example/fw/../secret",
            "https://files.example/fw/%2e%2e/secret",
            "https://files.example/fw/..%2fsecret",
            "https://files.example/fw/..%5Csecret",
            "https://files.example\\@evil.example/fw/",
            "https://user@files.example/fw/1",
            "https://files.example.evil.example/fw/1",
            "https://files.example:444/fw/1",
            "http://10.0.0.1/any",
            "http://127.0.0.1:8080/any",
        ] {
            assert!(!is_allowed(&allowed, &url(bad)), "{bad}");
        }
    }
}
