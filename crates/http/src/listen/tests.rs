use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use axum::{
    Extension,
    routing::{MethodRouter, get},
};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    sync::Semaphore,
};

use super::{activity::FIRST_REQUEST_GRACE, *};
use crate::limits::Limit;

const ASK: &[u8] = b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n";

fn here() -> Listener {
    Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap()
}

/// Handlers with so many places in all and for one client.
fn answers(places: usize, per_client: u64, page: MethodRouter) -> Handlers {
    let connections = Connections::with_places(places, Arc::default());
    connections.apply(per_client);
    Handlers { connections: Arc::new(connections), ..Router::new().route("/", page).into() }
}

/// A page that answers one request for each permit, and the number of requests.
fn holding() -> (MethodRouter, Arc<Semaphore>, Arc<AtomicUsize>) {
    let (inside, served) = (Arc::new(Semaphore::new(0)), Arc::<AtomicUsize>::default());
    let (gate, count) = (inside.clone(), served.clone());
    let hold = async move || {
        count.fetch_add(1, Ordering::Relaxed);
        gate.acquire().await.unwrap().forget();
        "here"
    };
    (get(hold), inside, served)
}

async fn asking(to: (IpAddr, u16)) -> TcpStream {
    let mut client = TcpStream::connect(to).await.unwrap();
    client.write_all(ASK).await.unwrap();
    client
}

async fn answered(mut client: TcpStream) -> String {
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn both_kinds_of_clients_come_in_and_each_is_seen_as_what_it_is() {
    let listener = Listener::bind(SocketAddr::new(host(None), 0)).unwrap();
    let (port, tasks, stop) = (listener.address().port(), Tasks::new(), CancellationToken::new());
    let router = Router::new()
        .route("/", get(async |Extension(peer): Extension<PeerAddress>| peer.0.to_string()));
    tasks.spawn("listener", listener.serve(router, tasks.clone(), stop.clone()));
    let mut hosts = vec![IpAddr::from(Ipv4Addr::LOCALHOST)];
    // Not every machine that tests run on has it.
    hosts.extend(host(None).is_ipv6().then_some(IpAddr::from(Ipv6Addr::LOCALHOST)));
    for host in hosts {
        let client = asking((host, port)).await;
        let own = client.local_addr().unwrap().to_string();
        let answer = answered(client).await;
        assert!(answer.ends_with(&format!("\r\n\r\n{own}")), "{own} seen as {answer}");
    }
    stop.cancel();
    tasks.shut_down(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_who_had_knocked_before_a_stop_are_answered() {
    let listener = here();
    let (tasks, stop) = (Tasks::new(), CancellationToken::new());
    let mut crowd = Vec::new();
    for _ in 0..200 {
        let mut client = TcpStream::connect(listener.address()).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n").await.unwrap();
        crowd.push(client);
    }
    stop.cancel();
    let router = Router::new().route("/", get(async || "here"));
    listener.serve(router, tasks.clone(), stop).await;
    for (nth, mut client) in crowd.into_iter().enumerate() {
        let mut answer = String::new();
        let read = client.read_to_string(&mut answer).await;
        assert!(answer.ends_with("here"), "client {nth}: {read:?} {answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_does_not_finish_asking_is_dropped_in_time() {
    let router = Router::new().route("/", get(async || "here"));
    let (peer, end) = (SocketAddr::from(([127, 0, 0, 1], 9)), CancellationToken::new());
    let (mut client, server) = duplex(1024);
    let serving = serve_connection(
        server,
        peer,
        Transport::default(),
        router.into(),
        ShutdownTokens {
            stop: end.clone(),
            abort: end,
            activity: Arc::new(ConnectionActivity::new(Instant::now())),
        },
    );
    let client = async move {
        let began = tokio::time::Instant::now();
        client.write_all(b"GET / HTTP/1.1\r\nhost: he").await.unwrap();
        let mut answer = Vec::new();
        // Any kind of end will do; what counts is that nobody waits for the rest.
        let _ = client.read_to_end(&mut answer).await;
        began.elapsed()
    };
    // The paused clock advances when all tasks only wait.
    let both = tokio::time::timeout(10 * HEADER_TIMEOUT, async { tokio::join!(serving, client) });
    let ((), waited) = both.await.expect("an end of it");
    assert_eq!(waited.as_secs(), HEADER_TIMEOUT.as_secs());
}

#[tokio::test]
async fn who_finds_no_place_waits_until_one_is_free_and_that_is_noted() {
    let (page, inside, served) = holding();
    let answers = answers(2, 9, page);
    let (listener, tasks, stop) = (here(), Tasks::new(), CancellationToken::new());
    let (address, liveness) = (listener.address(), answers.liveness.clone());
    let connections = answers.connections.clone();
    tasks.spawn("listener", listener.serve(answers, tasks.clone(), stop.clone()));
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(asking((address.ip(), address.port())).await);
    }
    for let_in in [2, 3, 4, 5] {
        while served.load(Ordering::Relaxed) < let_in {
            tokio::task::yield_now().await;
        }
        // The loop has run many times, with all the others pending.
        for _ in 0..200 {
            liveness.probe().await;
            tokio::task::yield_now().await;
        }
        assert_eq!(served.load(Ordering::Relaxed), let_in);
        if let_in == 2 {
            let began = Instant::now();
            while connections.recent_limits() != [Limit::Connections] {
                assert!(
                    began.elapsed() < Duration::from_secs(10),
                    "{:?}",
                    connections.recent_limits()
                );
                tokio::task::yield_now().await;
            }
        }
        inside.add_permits(1);
    }
    inside.add_permits(1);
    for client in clients {
        assert!(answered(client).await.ends_with("here"));
    }
    stop.cancel();
    tasks.shut_down(Duration::from_secs(5)).await;
}

/// Connects as another client, from another loopback address.
async fn client_at(last: u8, listener: SocketAddr) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, last], 0).into()).unwrap();
    socket.connect(listener).await.unwrap()
}

/// Sends a request and reads the first bytes of the answer.
async fn ask(client: &mut TcpStream) -> String {
    client.write_all(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n").await.unwrap();
    let mut answer = vec![0; 1024];
    let read = client.read(&mut answer).await.unwrap();
    answer.truncate(read);
    String::from_utf8(answer).unwrap()
}

async fn is_closed(client: &mut TcpStream) -> bool {
    matches!(client.read(&mut [0; 64]).await, Ok(0) | Err(_))
}

#[tokio::test]
async fn one_address_has_so_many_connections_and_no_more_and_others_come_in() {
    let (page, inside, served) = holding();
    let (listener, tasks) = (here(), Tasks::new());
    let (address, answers) = (listener.address(), answers(8, 3, page));
    let (connections, liveness) = (answers.connections.clone(), answers.liveness.clone());
    tasks.spawn("listener", listener.serve(answers, tasks.clone(), tasks.token().clone()));
    let mut within = Vec::new();
    for let_in in [1, 2, 3] {
        let mut client = client_at(1, address).await;
        client.write_all(ASK).await.unwrap();
        while served.load(Ordering::Relaxed) < let_in {
            tokio::task::yield_now().await;
        }
        within.push(client);
    }
    assert_eq!(connections.recent_limits(), []);
    for _ in 0..3 {
        let mut client = client_at(1, address).await;
        client.write_all(ASK).await.unwrap();
        let refused = answered(client).await;
        assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("retry-after"));
        assert_eq!(connections.recent_limits(), [Limit::ConnectionsPerClient]);
    }
    // A client that asks later, and in two pieces, reads it only then.
    let mut late = client_at(1, address).await;
    for _ in 0..50 {
        liveness.probe().await;
        tokio::task::yield_now().await;
    }
    assert!(late.try_read(&mut [0; 9]).is_err(), "it has not asked");
    for piece in [&ASK[..9], &ASK[9..]] {
        late.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert!(answered(late).await.starts_with("HTTP/1.1 503 "));
    let mut other = client_at(2, address).await;
    other.write_all(ASK).await.unwrap();
    inside.add_permits(8);
    assert!(answered(other).await.ends_with("here"));
    for client in within {
        assert!(answered(client).await.ends_with("here"));
    }
    // Their places are free again.
    let mut again = client_at(1, address).await;
    assert!(ask(&mut again).await.ends_with("here"));
    tasks.shut_down(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn where_all_places_are_taken_idle_connections_give_way() {
    let (listener, tasks) = (here(), Tasks::new());
    let (address, answers) = (listener.address(), answers(4, 4, get(async || "here")));
    let limits = answers.connections.clone();
    tasks.spawn("listener", listener.serve(answers, tasks.clone(), tasks.token().clone()));
    let mut lone = client_at(2, address).await;
    assert!(ask(&mut lone).await.ends_with("here"));
    // One that has asked, one that has sent nothing, one that is about to ask.
    let mut greedy = Vec::new();
    for _ in 0..3 {
        greedy.push(client_at(1, address).await);
    }
    greedy[2].write_all(b"GET / HTTP/1.1\r\nhost: he").await.unwrap();
    assert!(ask(&mut greedy[0]).await.ends_with("here"));
    assert_eq!(limits.recent_limits(), []);
    // No connection is idle before that.
    tokio::time::sleep(FIRST_REQUEST_GRACE).await;
    let mut newcomers = Vec::new();
    for (from, closed) in [(3, 1), (4, 2)] {
        let mut newcomer = client_at(from, address).await;
        assert!(ask(&mut newcomer).await.ends_with("here"));
        newcomers.push(newcomer);
        assert_eq!(limits.recent_limits(), [Limit::IdleConnections]);
        assert!(is_closed(&mut greedy[closed]).await, "{closed}");
    }
    assert!(ask(&mut greedy[0]).await.ends_with("here"), "it was used last");
    assert!(ask(&mut lone).await.ends_with("here"), "it has fewer");
    tasks.shut_down(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn where_an_address_has_all_it_may_its_own_idle_ones_give_way() {
    let (listener, tasks) = (here(), Tasks::new());
    let (address, answers) = (listener.address(), answers(9, 2, get(async || "here")));
    tasks.spawn("listener", listener.serve(answers, tasks.clone(), tasks.token().clone()));
    let mut lone = client_at(2, address).await;
    assert!(ask(&mut lone).await.ends_with("here"));
    let mut before: Option<TcpStream> = None;
    let mut newest = client_at(1, address).await;
    for _ in 0..5 {
        assert!(ask(&mut newest).await.ends_with("here"));
        let mut next = client_at(1, address).await;
        assert!(ask(&mut next).await.ends_with("here"));
        if let Some(mut before) = before {
            assert!(is_closed(&mut before).await);
        }
        before = Some(std::mem::replace(&mut newest, next));
    }
    assert!(ask(&mut lone).await.ends_with("here"));
    tasks.shut_down(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn each_connection_has_what_was_set_of_the_listening_socket() {
    let listener = here();
    let client = TcpStream::connect(listener.address()).await.unwrap();
    let (stream, _) = listener.socket.accept().await.unwrap();
    let [client, stream] = [&client, &stream].map(SockRef::from);
    let untouched = client.send_buffer_size().unwrap();
    // The size that this kernel really sets.
    client.set_send_buffer_size(SEND_BUFFER_BYTES).unwrap();
    let bound = client.send_buffer_size().unwrap();
    assert_ne!(bound, untouched, "or else nothing is seen here");
    assert_eq!(stream.send_buffer_size().unwrap(), bound);
    assert!(stream.tcp_nodelay().unwrap());
    assert_eq!(stream.tcp_user_timeout().unwrap(), Some(READ_TIMEOUT));
}
