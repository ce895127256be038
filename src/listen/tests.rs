use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::atomic::AtomicUsize,
};

use axum::{Extension, routing::get};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;

const ASK: &[u8] = b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n";

fn here() -> Listener {
    Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap()
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
    let router =
        Router::new().route("/", get(async |Extension(peer): Extension<Peer>| peer.0.to_string()));
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
    let serving = connection(
        server,
        peer,
        Line::Plain,
        router.into(),
        Ends { stop: end.clone(), abort: end },
    );
    let client = async move {
        let began = tokio::time::Instant::now();
        client.write_all(b"GET / HTTP/1.1\r\nhost: he").await.unwrap();
        let mut answer = Vec::new();
        // However it is told; what counts is that nobody waits for the rest.
        let _ = client.read_to_end(&mut answer).await;
        began.elapsed()
    };
    // The clock goes on when nobody has anything else to do.
    let both = tokio::time::timeout(10 * HEADER_TIMEOUT, async { tokio::join!(serving, client) });
    let ((), waited) = both.await.expect("an end of it");
    assert_eq!(waited.as_secs(), HEADER_TIMEOUT.as_secs());
}

#[tokio::test]
async fn who_finds_no_place_waits_until_one_is_free() {
    let (inside, served) = (Arc::new(Semaphore::new(0)), Arc::<AtomicUsize>::default());
    let (gate, count) = (inside.clone(), served.clone());
    let hold = async move || {
        count.fetch_add(1, Ordering::Relaxed);
        gate.acquire().await.unwrap().forget();
        "here"
    };
    let answers = Answers::from(Router::new().route("/", get(hold)));
    let (listener, tasks, stop) = (here(), Tasks::new(), CancellationToken::new());
    let (address, pulse) = (listener.address(), answers.pulse.clone());
    tasks.spawn("listener", listener.serve_so_many(2, answers, tasks.clone(), stop.clone()));
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(asking((address.ip(), address.port())).await);
    }
    for let_in in [2, 3, 4, 5] {
        while served.load(Ordering::Relaxed) < let_in {
            tokio::task::yield_now().await;
        }
        // The loop has come round many a time, with all the others at the door.
        for _ in 0..200 {
            pulse.felt().await;
            tokio::task::yield_now().await;
        }
        assert_eq!(served.load(Ordering::Relaxed), let_in);
        inside.add_permits(1);
    }
    inside.add_permits(1);
    for client in clients {
        assert!(answered(client).await.ends_with("here"));
    }
    stop.cancel();
    tasks.shut_down(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn the_kernel_holds_no_more_for_a_slow_reader_than_it_is_told() {
    let listener = here();
    let client = TcpStream::connect(listener.address()).await.unwrap();
    let (stream, _) = listener.socket.accept().await.unwrap();
    let untouched = SockRef::from(&client).send_buffer_size().unwrap();
    // What this kernel makes of such a wish.
    SockRef::from(&client).set_send_buffer_size(256 << 10).unwrap();
    let bound = SockRef::from(&client).send_buffer_size().unwrap();
    assert_ne!(bound, untouched, "or else nothing is seen here");
    tune(&stream).unwrap();
    assert_eq!(SockRef::from(&stream).send_buffer_size().unwrap(), bound);
}
