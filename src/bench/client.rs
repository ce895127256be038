//! One client: connects, follows the main server's redirect as a tablet does, reads the
//! package at its pace and checks that all of it came.
//!
//! Thousands of them run in one process, so each has one connection at a time and one
//! small buffer, and discards what it reads.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use edge_mirror_protocol::package;
use hyper::{Response, StatusCode, body::Incoming, header};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsConnector;

use super::{
    failure::ClientFailure,
    link::{self, BenchConnection, drive_during},
    target::BenchTarget,
};

/// The main server redirects to a node, and a proxy may redirect once.
const MAX_REDIRECTS: usize = 4;

/// The task of every client.
pub(super) struct ClientPlan {
    pub target: BenchTarget,
    /// Longest time without any bytes.
    pub patience: Duration,
    /// Bytes per second.
    pub rate: Option<u64>,
    pub verify: bool,
    pub tls: TlsConnector,
    /// The package's size, set by the first client that learns it.
    pub size: OnceLock<u64>,
}

/// A complete download.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FinishedDownload {
    pub from: String,
    /// Since the client's arrival.
    pub first_byte: Duration,
    pub took: Duration,
}

enum ExchangeResult {
    Done(FinishedDownload),
    There(BenchTarget),
}

impl ClientPlan {
    /// Requests one byte as the clients will. Faults of a server that this redirects to
    /// are left for the clients to find.
    pub(super) async fn look(&self) -> Result<(), ClientFailure> {
        let (mut link, connection) =
            BenchConnection::open(&self.target, self.patience, self.rate, &self.tls).await?;
        let looked = async {
            let response = link.ask(&self.target, Some("bytes=0-0")).await?;
            if response.status().is_redirection() || response.status().is_success() {
                self.learn_size(&response);
                return Ok(());
            }
            Err(link.refused(response).await)
        };
        drive_during(connection, looked).await
    }

    /// Downloads the package; `received` counts the bytes of all clients.
    pub(super) async fn download(
        &self,
        received: &AtomicU64,
    ) -> Result<FinishedDownload, ClientFailure> {
        let arrived = Instant::now();
        let mut target = self.target.clone();
        for _ in 0..=MAX_REDIRECTS {
            let (mut link, connection) =
                BenchConnection::open(&target, self.patience, self.rate, &self.tls).await?;
            let exchange = self.exchange(&mut link, &target, arrived, received);
            match drive_during(connection, exchange).await? {
                ExchangeResult::Done(got) => return Ok(got),
                ExchangeResult::There(next) => target = next,
            }
        }
        Err(ClientFailure::Astray { from: self.target.authority(), location: target.authority() })
    }

    async fn exchange(
        &self,
        link: &mut BenchConnection,
        target: &BenchTarget,
        arrived: Instant,
        received: &AtomicU64,
    ) -> Result<ExchangeResult, ClientFailure> {
        let response = link.ask(target, None).await?;
        if response.status().is_redirection() {
            let location = field(&response, header::LOCATION.as_str()).unwrap_or_default();
            let shown = || link::plain(location);
            let astray = || ClientFailure::Astray { from: link.from.clone(), location: shown() };
            return target.redirected(location).map(ExchangeResult::There).ok_or_else(astray);
        }
        if response.status() != StatusCode::OK {
            return Err(link.refused(response).await);
        }
        self.read(link, response, arrived, received).await.map(ExchangeResult::Done)
    }

    async fn read(
        &self,
        link: &BenchConnection,
        response: Response<Incoming>,
        arrived: Instant,
        received: &AtomicU64,
    ) -> Result<FinishedDownload, ClientFailure> {
        self.learn_size(&response);
        let from = link.from.clone();
        let digest = field(&response, "repr-digest").and_then(package::sha256_of_field);
        if self.verify && digest.is_none() {
            return Err(ClientFailure::NoDigest { from });
        }
        let (mut body, begun) = (response.into_body(), Instant::now());
        let (mut hasher, mut got, mut first_byte) = (Sha256::new(), 0, None);
        while let Some(data) = link.piece(&mut body).await? {
            first_byte.get_or_insert_with(|| arrived.elapsed());
            got += data.len() as u64;
            received.fetch_add(data.len() as u64, Ordering::Relaxed);
            if self.verify {
                hasher.update(&data);
            }
            // Kept during the pause, it would make hyper take a second buffer.
            drop(data);
            if let Some(rate) = self.rate {
                sleep_until(begun + Duration::from_secs_f64(got as f64 / rate as f64)).await;
            }
        }
        let took = arrived.elapsed();
        if let Some(expected) = self.size.get().copied().filter(|size| *size != got) {
            return Err(ClientFailure::OtherLength { from, got, expected });
        }
        let hashed = || package::Sha256::new(hasher.finalize().into());
        if self.verify && digest != Some(hashed()) {
            return Err(ClientFailure::Damaged { from });
        }
        Ok(FinishedDownload { from, first_byte: first_byte.unwrap_or(took), took })
    }

    /// Learns the whole size, even from a part.
    fn learn_size(&self, response: &Response<Incoming>) {
        let length = match response.status() {
            StatusCode::OK => field(response, header::CONTENT_LENGTH.as_str()),
            StatusCode::PARTIAL_CONTENT => field(response, header::CONTENT_RANGE.as_str())
                .and_then(|range| Some(range.rsplit_once('/')?.1)),
            _ => None,
        };
        if let Some(length) = length.and_then(|length| length.parse().ok()) {
            self.size.get_or_init(|| length);
        }
    }
}

fn field<'a>(response: &'a Response<Incoming>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}
