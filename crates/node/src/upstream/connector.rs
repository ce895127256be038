//! Makes clients of the main server in use.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use edge_mirror_http::tls::{self, TrustFiles};
use edge_mirror_settings::Config;
use reqwest::{Client, redirect};
use tokio::sync::watch;
use tracing::info;

use super::{FailoverRound, MainServerInUse, NextTry, Upstream, UpstreamError, failover::Failover};

/// The main server closes connections that were idle for 5 s; one that is reused at
/// that very moment gets a reset. So ours close well before.
pub(super) const IDLE_CONNECTION: Duration = Duration::from_secs(3);

/// Makes clients; connections are shared as long as the settings that shape them
/// stay the same.
#[derive(Debug, Default)]
pub struct Connector {
    made: Mutex<Option<CachedClient>>,
    failover: Failover,
}

#[derive(Clone, Debug)]
struct CachedClient {
    timeout: Duration,
    files: TrustFiles,
    /// The files may have changed.
    stale: bool,
    client: Client,
    /// The error of the files, if they can't be used.
    tls_error: Option<String>,
}

impl Connector {
    /// Reads the files of certificates if they may have changed: they are few and small.
    pub fn upstream(&self, config: &Config) -> Upstream {
        let timeout = Duration::from_secs(config.network.connection_timeout);
        let files = TrustFiles::of(config);
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let good = |made: &&CachedClient| !made.stale && made.tls_error.is_none();
        let same = |made: &&CachedClient| made.timeout == timeout && made.files == files;
        let now = match made.as_ref().filter(same).filter(good) {
            Some(now) => now.clone(),
            None => {
                let new = CachedClient::of(timeout, files, made.as_ref());
                made.insert(new).clone()
            }
        };
        let key = config.security.main_server_key.clone();
        let CachedClient { client, tls_error: trouble, .. } = now;
        let fleet = config.fleet().clone();
        let (base_url, turn) = self.failover.follow(&fleet);
        Upstream { fleet, base_url, turn, client, timeout, key, tls_error: trouble }
    }

    /// Follows which main server is in use.
    pub(crate) fn in_use(&self) -> watch::Receiver<MainServerInUse> {
        self.failover.subscribe()
    }

    /// Changes of the main server in use because one did not answer.
    pub(crate) fn failovers(&self) -> u64 {
        self.failover.changes().get()
    }

    /// Notes that a main server has answered.
    pub(crate) fn note_answer(&self, round: &mut FailoverRound, upstream: &Upstream) {
        round.answered();
        self.failover.note_answer(upstream);
    }

    /// Notes that a main server answers again that is not in use.
    pub(super) fn note_return(&self, upstream: &Upstream) {
        info!("the main server {} answers again", upstream.base_url());
        self.failover.note_answer(upstream);
    }

    /// Notes that a request failed: if the main server is away, the next one is in use from
    /// now on. Returns when the caller is to try again.
    pub(crate) fn after_failure(
        &self,
        round: &mut FailoverRound,
        upstream: &Upstream,
        error: &UpstreamError,
    ) -> NextTry {
        self.failover.after_failure(round, upstream, error)
    }

    /// The same, of a request for a package: a slow answer to that says nothing of others.
    pub(crate) fn after_failed_pull(&self, upstream: &Upstream, error: &UpstreamError) {
        if error.is_disconnected() {
            self.failover.note_failure(upstream, error.fault());
        }
    }

    /// Rereads the files of certificates, for requests from now on.
    pub(crate) fn invalidate(&self) {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = &mut *made {
            made.stale = true;
        }
    }
}

impl CachedClient {
    fn of(timeout: Duration, files: TrustFiles, before: Option<&Self>) -> Self {
        let stale = false;
        match (files.client(), before) {
            (Ok(tls), _) => {
                let client = client(timeout, tls);
                Self { timeout, files, stale, client, tls_error: None }
            }
            // The working client stays in use.
            (Err(_), Some(before)) if before.files == files && before.tls_error.is_none() => {
                Self { stale, ..before.clone() }
            }
            (Err(error), _) => {
                let (client, trouble) = (client(timeout, tls::client()), Some(error.to_string()));
                Self { timeout, files, stale, client, tls_error: trouble }
            }
        }
    }
}

fn client(timeout: Duration, tls: rustls::ClientConfig) -> Client {
    // Only on the same server: an answer of another one is no package.
    let same_server = redirect::Policy::custom(|attempt| {
        let first = attempt.previous().first();
        let same = first.is_some_and(|first| first.origin() == attempt.url().origin());
        if same && attempt.previous().len() <= 3 { attempt.follow() } else { attempt.stop() }
    });
    tls::http(tls)
        .connect_timeout(timeout)
        .pool_idle_timeout(IDLE_CONNECTION)
        .redirect(same_server)
        .user_agent(concat!("edge-mirror/", env!("CARGO_PKG_VERSION")))
        .build()
        .expect("a client that is given its TLS has nothing to load that could fail")
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// The key that goes with each request must reach nobody else, nor the same
    /// host in the clear.
    #[tokio::test]
    async fn only_the_same_server_by_the_same_scheme_is_followed_to() {
        let here = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let address = here.local_addr().unwrap();
        let client = client(Duration::from_secs(5), tls::client());
        for (to, status) in [
            (format!("http://{closed}/there"), 307),
            (format!("https://{address}/there"), 307),
            (format!("http://localhost:{}/there", address.port()), 307),
            (format!("http://{address}/there"), 200),
        ] {
            let answering = async {
                loop {
                    let (mut stream, _) = here.accept().await.unwrap();
                    let mut asked = [0; 4096];
                    let length = stream.read(&mut asked).await.unwrap();
                    let answer = match asked[..length].starts_with(b"GET /there ") {
                        true => "200 OK".to_owned(),
                        false => format!("307 Temporary Redirect\r\nlocation: {to}"),
                    };
                    let end = "content-length: 0\r\nconnection: close\r\n\r\n";
                    let answer = format!("HTTP/1.1 {answer}\r\n{end}");
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            };
            let answer = tokio::select! {
                answer = client.get(format!("http://{address}/")).send() => answer.unwrap(),
                () = answering => unreachable!("it answers for ever"),
            };
            assert_eq!(answer.status(), status, "{to}");
        }
    }
}
