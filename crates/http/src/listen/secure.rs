//! Connections to a listener with TLS. Clients that speak plain HTTP are redirected to
//! HTTPS: a main server that does not know better gives tablets a plain address.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::ServerConfig;
use tokio::{
    io::{self as tokio_io, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::debug;

use super::{FIRST_REQUEST, Handlers, HttpsRedirect, ShutdownTokens, Transport, redirect};

/// A longer handshake is not going to finish, and holds a place.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time and bytes for a client to read the alert that a failed handshake ends with.
const LINGER_TIME: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 64 << 10;
/// The first byte of a TLS connection: the type of the record with the ClientHello (RFC
/// 8446, 5.1). No method of HTTP begins with it.
const HELLO: u8 = 0x16;

enum AcceptedStream {
    Tls(Box<TlsStream<TcpStream>>),
    Plain(TcpStream),
}

pub(super) async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    shown: Arc<ServerConfig>,
    answers: Handlers,
    ends: ShutdownTokens,
) {
    let begun = timeout(HANDSHAKE_TIMEOUT, begin(stream, shown));
    let begun = tokio::select! {
        begun = begun => begun,
        () = ends.abort.cancelled() => return,
        () = grace_elapsed(&ends) => return,
    };
    match begun {
        Ok(Ok(AcceptedStream::Tls(stream))) => {
            super::serve_connection(stream, peer, Transport::Tls, answers, ends).await;
        }
        Ok(Ok(AcceptedStream::Plain(stream))) => {
            let router = redirect(HttpsRedirect::SamePort);
            let answers = Handlers { fast_path: None, router, ..answers };
            super::serve_plain(stream, peer, answers, ends).await;
        }
        Ok(Err(error)) => debug!("no TLS with {peer}: {error}"),
        Err(_) => debug!("no TLS with {peer}: it took too long"),
    }
}

async fn begin(stream: TcpStream, shown: Arc<ServerConfig>) -> io::Result<AcceptedStream> {
    if is_plain(&stream).await? {
        return Ok(AcceptedStream::Plain(stream));
    }
    match TlsAcceptor::from(shown).accept(stream).into_fallible().await {
        Ok(tls) => Ok(AcceptedStream::Tls(Box::new(tls))),
        Err((error, stream)) => {
            linger(stream).await;
            Err(error)
        }
    }
}

/// Reads what a client sends before it has read the alert: with TLS 1.3, a request goes out
/// before the server has seen the client's certificate. Closed with bytes unread, the
/// connection would be reset, and the alert lost with its reason.
async fn linger(mut stream: TcpStream) {
    let _ = timeout(LINGER_TIME, async {
        stream.shutdown().await?;
        tokio_io::copy(&mut stream.take(LINGER_BYTES), &mut tokio_io::sink()).await
    })
    .await;
}

/// Waits for the first byte; true if it is not TLS.
pub(super) async fn is_plain(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    Ok(stream.peek(&mut first).await? == 1 && first[0] != HELLO)
}

/// Ends when a new connection's time for a request is over.
async fn grace_elapsed(ends: &ShutdownTokens) {
    ends.stop.cancelled().await;
    tokio::time::sleep(FIRST_REQUEST).await;
}

#[cfg(test)]
pub(super) mod tests {
    use axum::Router;
    use edge_mirror_base::tasks::Tasks;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::Instant,
    };
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::listen::Listener;

    /// A configuration without certificates, for a hello that never ends.
    pub(crate) fn nobody() -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = ServerConfig::builder_with_provider(provider);
        let versions = versions.with_safe_default_protocol_versions().unwrap();
        let nothing = rustls::server::ResolvesServerCertUsingSni::new();
        versions.with_no_client_auth().with_cert_resolver(Arc::new(nothing))
    }

    /// The paused clock advances when all tasks only wait.
    #[tokio::test(start_paused = true)]
    async fn who_never_says_hello_is_let_go() {
        let listener = Listener::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let (address, tasks) = (listener.address(), Tasks::new());
        let answers = Handlers::from(Router::new());
        answers.shown.set(Some(Arc::new(nobody())));
        tasks.spawn("accept", listener.serve(answers, tasks.clone(), tasks.token().clone()));
        for said in [&[][..], &[HELLO, 3, 1, 2, 0]] {
            let began = Instant::now();
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(said).await.unwrap();
            let mut answer = Vec::new();
            // A reset is an end, too.
            let _ = client.read_to_end(&mut answer).await;
            let waited = began.elapsed();
            assert!(waited >= HANDSHAKE_TIMEOUT && waited < 2 * HANDSHAKE_TIMEOUT, "{waited:?}");
        }
        assert!(tasks.shut_down(Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn who_sends_more_before_reading_gets_the_reason_of_a_refusal_all_the_same() {
        /// The type of a record with an alert.
        const ALERT: u8 = 0x15;
        let listener = Listener::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let (address, tasks) = (listener.address(), Tasks::new());
        let answers = Handlers::from(Router::new());
        answers.shown.set(Some(Arc::new(nobody())));
        tasks.spawn("accept", listener.serve(answers, tasks.clone(), tasks.token().clone()));
        let mut client = TcpStream::connect(address).await.unwrap();
        // A hello that is none, and more than the server reads at once.
        let mut said = vec![HELLO, 3, 1, 0, 4, 1, 0, 0, 0];
        said.resize(LINGER_BYTES as usize, 0);
        client.write_all(&said).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer.first(), Some(&ALERT));
        assert!(tasks.shut_down(Duration::from_secs(5)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_still_saying_hello_does_not_hold_up_the_end() {
        let listener = Listener::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let (address, tasks) = (listener.address(), Tasks::new());
        let (answers, stop) = (Handlers::from(Router::new()), CancellationToken::new());
        answers.shown.set(Some(Arc::new(nobody())));
        tasks.spawn("accept", listener.serve(answers, tasks.clone(), stop.clone()));
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(&[HELLO, 3, 1, 2, 0]).await.unwrap();
        let began = Instant::now();
        stop.cancel();
        let _ = client.read_to_end(&mut Vec::new()).await;
        assert!(began.elapsed() < HANDSHAKE_TIMEOUT / 2, "{:?}", began.elapsed());
        assert!(tasks.shut_down(Duration::from_secs(5)).await);
    }
}
