use std::sync::Arc;

use axum::{
    Router,
    extract::Request,
    routing::{any, get},
};
use edge_mirror_base::{metrics::Exposition, tasks::Tasks};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{PrivateKeyDer, ServerName},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, duplex},
    net::TcpStream,
    time::{Duration, Instant, timeout},
};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::{
    super::{
        ConnectionActivity, HEADER_TIMEOUT, Handlers, Listener, ShutdownTokens, Transport,
        connections::Connections, serve_connection,
    },
    UpgradedStream, switch_protocols,
};

const SWITCH: &[u8] =
    b"GET /echo HTTP/1.1\r\nhost: here\r\nconnection: keep-alive, Upgrade\r\nupgrade: other, Echo\r\n\r\n";
const PLAIN: &[u8] = b"GET / HTTP/1.1\r\nhost: here\r\n\r\n";
const MOMENT: Duration = Duration::from_secs(20);

/// Sends back what it gets; takes its leave when it ends, and waits for the client to go.
async fn serve_echo(mut stream: UpgradedStream, shutdown: CancellationToken) {
    let mut buffer = vec![0; 4096];
    loop {
        let read = shutdown.run_until_cancelled(stream.read(&mut buffer)).await;
        let Some(Ok(read @ 1..)) = read else { break };
        stream.write_all(&buffer[..read]).await.unwrap();
        // Over TLS, what was written may still wait in the stream.
        stream.flush().await.unwrap();
    }
    stream.write_all(b"bye").await.unwrap();
    stream.shutdown().await.unwrap();
    while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
}

fn router() -> Router {
    let echo = async |request: Request| switch_protocols(request, "echo", serve_echo);
    let deaf = async |stream: UpgradedStream, _| {
        std::future::pending::<()>().await;
        drop(stream);
    };
    let deaf = async move |request: Request| switch_protocols(request, "echo", deaf);
    Router::new()
        .route("/", get(async || "here"))
        .route("/echo", any(echo))
        .route("/deaf", any(deaf))
}

struct TestListener {
    address: std::net::SocketAddr,
    connections: Arc<Connections>,
    tasks: Tasks,
    stop: CancellationToken,
}

impl TestListener {
    fn start(places: usize, per_client: u64, tls: Option<ServerConfig>) -> Self {
        let listener = Listener::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let connections = Arc::new(Connections::with_places(places, Arc::default()));
        connections.apply(per_client);
        let handlers = Handlers { connections: connections.clone(), ..router().into() };
        handlers.shown.set(tls.map(Arc::new));
        let this = Self {
            address: listener.address(),
            connections,
            tasks: Tasks::new(),
            stop: CancellationToken::new(),
        };
        this.tasks.spawn("accept", listener.serve(handlers, this.tasks.clone(), this.stop.clone()));
        this
    }

    fn roomy() -> Self {
        Self::start(64, 64, None)
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A client whose connection was upgraded.
    async fn upgrade(&self) -> TcpStream {
        let mut client = self.connect().await;
        assert!(ask(&mut client, SWITCH).await.starts_with("HTTP/1.1 101 "));
        client
    }

    /// Connections by protocol, as the metrics have them.
    fn counted(&self) -> [u64; 2] {
        let mut page = Exposition::default();
        self.connections.encode(&mut page);
        ["http", "upgraded"].map(|protocol| {
            let sample = format!("edge_mirror_connections{{protocol=\"{protocol}\"}} ");
            let value = page.text().lines().find_map(|line| line.strip_prefix(&sample));
            value.unwrap().parse().unwrap()
        })
    }

    async fn until_counted(&self, expected: [u64; 2]) {
        let counted = async {
            while self.counted() != expected {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(MOMENT, counted).await.unwrap_or_else(|_| panic!("{:?}", self.counted()));
    }

    async fn end(self) {
        self.stop.cancel();
        assert!(self.tasks.shut_down(MOMENT).await);
    }
}

/// Sends a request and reads the answer's head, and no byte more.
async fn ask<S: AsyncRead + AsyncWrite + Unpin>(client: &mut S, request: &[u8]) -> String {
    client.write_all(request).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn rest<S: AsyncRead + Unpin>(client: &mut S) -> String {
    let mut rest = String::new();
    timeout(MOMENT, client.read_to_string(&mut rest)).await.expect("an end").unwrap();
    rest
}

fn certificate() -> (ServerConfig, TlsConnector) {
    let made = rcgen::generate_simple_self_signed([String::from("localhost")]).unwrap();
    let (chain, key) = (made.cert.der().clone(), made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider.clone());
    let server = server.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let key = PrivateKeyDer::Pkcs8(key.into());
    let server = server.with_single_cert(vec![chain.clone()], key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(chain).unwrap();
    let client = ClientConfig::builder_with_provider(provider);
    let client = client.with_safe_default_protocol_versions().unwrap();
    let client = client.with_root_certificates(roots).with_no_client_auth();
    (server, Arc::new(client).into())
}

/// Much more than buffers hold, with the first bytes right behind the request, on a
/// connection that has served a page before.
async fn goes_both_ways(mut client: impl AsyncRead + AsyncWrite + Unpin) {
    assert!(ask(&mut client, PLAIN).await.starts_with("HTTP/1.1 200 "));
    let mut page = [0; 4];
    client.read_exact(&mut page).await.unwrap();
    assert_eq!(&page, b"here");
    let head = ask(&mut client, &[SWITCH, b"early"].concat()).await;
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    assert!(head.contains("connection: upgrade\r\nupgrade: echo\r\n"), "{head}");
    let said: Vec<u8> = (0..3 << 20).map(|at: u32| (at / 7) as u8).collect();
    let (mut reads, mut writes) = tokio::io::split(client);
    let mut heard = vec![0; said.len() + 5];
    let hear = timeout(MOMENT, reads.read_exact(&mut heard));
    let say = async {
        writes.write_all(&said).await.unwrap();
        writes.flush().await.unwrap();
    };
    let (heard_all, ()) = tokio::join!(hear, say);
    heard_all.expect("an end of it").unwrap();
    assert!(heard.starts_with(b"early") && heard[5..] == said);
    writes.shutdown().await.unwrap();
    assert_eq!(rest(&mut reads).await, "bye");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_after_the_switch_goes_both_ways() {
    let listener = TestListener::roomy();
    goes_both_ways(listener.connect().await).await;
    listener.until_counted([0, 0]).await;
    listener.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_holds_over_tls() {
    let (server, connector) = certificate();
    let listener = TestListener::start(64, 64, Some(server));
    let name = ServerName::try_from("localhost").unwrap();
    // A stream without its close_notify would end in an error.
    goes_both_ways(connector.connect(name, listener.connect().await).await.unwrap()).await;
    listener.until_counted([0, 0]).await;
    listener.end().await;
}

#[tokio::test]
async fn only_what_can_be_upgraded_is_and_other_answers_leave_the_connection_as_it_is() {
    let listener = TestListener::roomy();
    let mut client = listener.connect().await;
    for (status, request) in [
        (426, "GET /echo HTTP/1.1\r\n"),
        (426, "GET /echo HTTP/1.1\r\nupgrade: echo\r\n"),
        (426, "GET /echo HTTP/1.1\r\nconnection: upgrade\r\nupgrade: echo/2, echoes\r\n"),
        // Not every route switches.
        (200, "HEAD / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: echo\r\n"),
    ] {
        let head = ask(&mut client, format!("{request}host: here\r\n\r\n").as_bytes()).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{request} {head}");
        assert_eq!(head.contains("upgrade: echo\r\n"), status == 426, "{head}");
        let length = head
            .split("content-length: ")
            .nth(1)
            .map_or(0, |length| length.split("\r\n").next().unwrap().parse::<usize>().unwrap());
        let length = if request.starts_with("HEAD") { 0 } else { length };
        client.read_exact(&mut vec![0; length]).await.unwrap();
    }
    assert!(ask(&mut client, SWITCH).await.starts_with("HTTP/1.1 101 "));
    for (status, request) in [
        (426, "GET /echo HTTP/1.0\r\nconnection: upgrade\r\nupgrade: echo\r\n"),
        (
            400,
            "POST /echo HTTP/1.1\r\ncontent-length: 9\r\nconnection: upgrade\r\nupgrade: echo\r\n",
        ),
    ] {
        let request = format!("{request}host: here\r\n\r\n");
        let head = ask(&mut listener.connect().await, request.as_bytes()).await;
        assert!(head[8..].starts_with(&format!(" {status} ")), "{request} {head}");
    }
    listener.end().await;
}

#[tokio::test]
async fn at_a_shutdown_it_is_told_and_waited_for() {
    let listener = TestListener::roomy();
    let mut client = listener.upgrade().await;
    listener.stop.cancel();
    assert_eq!(rest(&mut client).await, "bye");
    let draining = listener.tasks.drain(MOMENT);
    tokio::pin!(draining);
    let early = timeout(Duration::from_millis(50), &mut draining).await;
    assert!(early.is_err(), "it waits for the client to go");
    drop(client);
    assert!(draining.await);
}

#[tokio::test]
async fn one_that_does_not_end_is_cut_off_after_the_grace_period() {
    let listener = TestListener::roomy();
    let mut client = listener.connect().await;
    let head = ask(&mut client, &[b"GET /deaf", &SWITCH[9..]].concat()).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    listener.stop.cancel();
    assert!(!listener.tasks.drain(Duration::from_millis(300)).await);
    assert_eq!(listener.counted(), [0, 1]);
    assert!(listener.tasks.shut_down(MOMENT).await);
    assert_eq!(rest(&mut client).await, "");
    assert_eq!(listener.counted(), [0, 0]);
}

#[tokio::test]
async fn it_keeps_its_permit_and_gives_way_to_nobody() {
    let listener = TestListener::start(2, 9, None);
    let upgraded = listener.upgrade().await;
    let mut idle = listener.connect().await;
    assert!(ask(&mut idle, PLAIN).await.starts_with("HTTP/1.1 200 "));
    listener.until_counted([1, 1]).await;
    let second = listener.upgrade().await;
    assert_eq!(rest(&mut idle).await, "here", "the idle one was closed");
    listener.until_counted([0, 2]).await;
    let mut waiting = listener.connect().await;
    waiting.write_all(PLAIN).await.unwrap();
    let waited = timeout(Duration::from_millis(700), waiting.read_u8()).await;
    assert!(waited.is_err(), "all places are taken");
    drop(second);
    assert!(ask(&mut waiting, b"").await.starts_with("HTTP/1.1 200 "));
    drop((upgraded, waiting));
    listener.until_counted([0, 0]).await;
    listener.end().await;
}

#[tokio::test]
async fn it_counts_as_one_of_its_clients_connections() {
    let listener = TestListener::start(9, 1, None);
    let upgraded = listener.upgrade().await;
    assert!(ask(&mut listener.connect().await, PLAIN).await.starts_with("HTTP/1.1 503 "));
    drop(upgraded);
    listener.until_counted([0, 0]).await;
    assert!(ask(&mut listener.connect().await, PLAIN).await.starts_with("HTTP/1.1 200 "));
    listener.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_is_never_finished_ends_in_time() {
    let (end, (mut client, server)) = (CancellationToken::new(), duplex(1024));
    let activity = Arc::new(ConnectionActivity::new(std::time::Instant::now()));
    let ends = ShutdownTokens { stop: end.clone(), abort: end, activity: activity.clone() };
    let peer = ([127, 0, 0, 1], 9).into();
    let serving = serve_connection(server, peer, Transport::default(), router().into(), ends);
    let client = async move {
        let began = Instant::now();
        client.write_all(&SWITCH[..SWITCH.len() - 2]).await.unwrap();
        let _ = client.read_to_end(&mut Vec::new()).await;
        began.elapsed()
    };
    let both = timeout(10 * HEADER_TIMEOUT, async { tokio::join!(serving, client) });
    let ((), waited) = both.await.expect("an end of it");
    assert_eq!(waited.as_secs(), HEADER_TIMEOUT.as_secs());
    assert!(!activity.is_upgraded());
}
