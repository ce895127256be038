//! What is spoken on a port that speaks TLS.

use std::net::SocketAddr;

use rustls::version::{TLS12, TLS13};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::Secure;
use crate::support::{ScriptedMain, certificates::connect, until};

#[tokio::test(flavor = "multi_thread")]
async fn tls_1_2_and_1_3_are_spoken_and_nothing_older() {
    let main = ScriptedMain::start().await;
    let node = Secure::of(&main.authority(), json!({})).await;
    for version in [&TLS12, &TLS13] {
        let mut stream = connect(&node.authority, node.address(), &[version]).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
        let ask = b"GET /api/health/live HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n";
        stream.write_all(ask).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
    // A fatal alert, protocol_version; and what is read as a hello otherwise.
    let old = answer_to_hello(node.address(), 2).await;
    assert_eq!((old[0], &old[5..]), (0x15, &[2, 70][..]), "TLS 1.1: {old:?}");
    let good = answer_to_hello(node.address(), 3).await;
    assert_eq!((good[0], good[5]), (0x16, 2), "TLS 1.2: {good:?}");
}

/// The beginning of what is answered to a client that knows TLS 1.`minor - 1` at
/// most (RFC 5246, 7.4.1.2).
async fn answer_to_hello(node: SocketAddr, minor: u8) -> Vec<u8> {
    let mut hello = vec![3, minor];
    hello.extend_from_slice(&[7; 32]);
    // No session, one cipher (ECDHE, ECDSA, AES 128, GCM), no compression.
    hello.extend_from_slice(&[0, 0, 2, 0xc0, 0x2b, 1, 0]);
    // Groups, point formats and signatures.
    let extensions = [0, 10, 0, 4, 0, 2, 0, 0x17, 0, 11, 0, 2, 1, 0, 0, 13, 0, 4, 0, 2, 4, 3];
    hello.extend_from_slice(&[0, extensions.len() as u8]);
    hello.extend_from_slice(&extensions);
    let mut record = vec![0x16, 3, 1, 0, hello.len() as u8 + 4, 1, 0, 0, hello.len() as u8];
    record.extend_from_slice(&hello);
    let mut stream = TcpStream::connect(node).await.unwrap();
    stream.write_all(&record).await.unwrap();
    let mut answer = vec![0; 7];
    stream.read_exact(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_or_nonsense_keeps_nobody_waiting() {
    let main = ScriptedMain::start().await;
    let node = Secure::of(&main.authority(), json!({})).await;
    let mut silent = Vec::new();
    for nth in 0..50 {
        let mut stream = TcpStream::connect(node.address()).await.unwrap();
        // Some say half a hello.
        if nth % 2 == 0 {
            stream.write_all(&[0x16, 3, 1, 2, 0, 1]).await.unwrap();
        }
        silent.push(stream);
    }
    let mut nonsense = TcpStream::connect(node.address()).await.unwrap();
    nonsense.write_all(&[0x16; 64]).await.unwrap();
    let mut answer = Vec::new();
    let _ = nonsense.read_to_end(&mut answer).await;
    assert_eq!(answer[0], 0x15, "an alert, and then the end");
    assert_eq!(node.get("/api/health/live").await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_begins_over_tls_is_never_sent_over_plain_http() {
    let main = ScriptedMain::start().await;
    let patch = json!({"security": {"trustLocal": false}});
    let node = Secure::of(&main.authority(), patch).await;
    let link = until("the link that logs in", async || {
        let log = node.node.process.errors.get();
        let line = log.lines().find(|line| line.contains("#login="))?;
        Some(line.split("https://").nth(1).expect("an https link").to_owned())
    })
    .await;
    let (page, token) = link.split_once("#login=").unwrap();
    assert!(page.ends_with("/static/index.html"), "{page}");
    let login = node.client.post(node.url("/api/login")).json(&json!({"token": token.trim()}));
    let origin = |scheme: &str| format!("{scheme}://{}", node.address());
    let foreign = login.try_clone().unwrap().header("origin", origin("http")).send().await.unwrap();
    assert_eq!(foreign.status(), 403, "a page that somebody on the way has made");
    let answer = login.header("origin", origin("https")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let cookie = answer.headers()["set-cookie"].to_str().unwrap();
    assert!(cookie.ends_with("; Secure"), "{cookie}");
}
