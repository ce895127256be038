//! Tablets that ask for the package as soon as the meeting has started, one at each node.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};

use super::fleet::MEETING;

const PATIENCE: Duration = Duration::from_secs(60);

/// Connected, by their nodes' numbers.
pub(crate) struct Tablets(Vec<TcpStream>);

/// Those that have asked; each waits for the first byte of the package.
pub(crate) struct WaitingTablets(Vec<JoinHandle<Result<Instant>>>);

impl Tablets {
    pub(crate) fn connect(nodes: impl Iterator<Item = SocketAddr>) -> Result<Self> {
        let streams = nodes.map(|node| {
            let stream = TcpStream::connect(node)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok(stream)
        });
        Ok(Self(streams.collect::<Result<_>>()?))
    }

    pub(crate) fn ask(self) -> Result<WaitingTablets> {
        let waiting = self.0.into_iter().map(|mut stream| {
            let path = format!("/api/v1/meetings/{MEETING}/download-package");
            write!(stream, "GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")?;
            Ok(std::thread::spawn(move || first_byte(stream)))
        });
        Ok(WaitingTablets(waiting.collect::<Result<_>>()?))
    }
}

impl WaitingTablets {
    /// Returns when each had its first byte.
    pub(crate) fn first_bytes(self) -> Result<Vec<Instant>> {
        let joined = self.0.into_iter().map(|waiting| {
            waiting.join().map_err(|_| anyhow!("a tablet panicked"))?.context("a tablet")
        });
        joined.collect()
    }
}

/// Reads no more than that: what matters is when, and the nodes have enough to do.
fn first_byte(stream: TcpStream) -> Result<Instant> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    if !line.starts_with("HTTP/1.1 200 ") {
        bail!("it was answered {line:?}");
    }
    while !line.trim_end().is_empty() {
        line.clear();
        reader.read_line(&mut line)?;
    }
    reader.read_exact(&mut [0])?;
    Ok(Instant::now())
}
