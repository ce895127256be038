//! A plain request for pages not measured: status pages.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, bail};

/// Returns the body of a 200.
pub(crate) fn get(address: SocketAddr, path: &str) -> Result<String> {
    send(address, "GET", path, ("text/plain", b""))
}

/// Returns the body of a 2xx.
pub(crate) fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    (kind, body): (&str, &[u8]),
) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no whole answer")?;
    if !head.split_whitespace().nth(1).is_some_and(|status| status.starts_with('2')) {
        bail!("{method} {path} was answered: {head}\n{body}");
    }
    Ok(body.to_owned())
}
