use tokio::io::{DuplexStream, duplex};

use super::{frame::tests::masked, *};

const MOST: usize = 1000;

fn limits() -> SocketLimits {
    let (ping_every, idle_timeout) = (Duration::from_secs(3), Duration::from_secs(10));
    SocketLimits { ping_every, idle_timeout, max_message: MOST }
}

/// A client, and the server that sends back what it says until it is stopped.
struct EchoTest {
    client: DuplexStream,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<SocketEnd>,
}

impl EchoTest {
    fn start() -> Self {
        let (client, stream) = duplex(256);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let serving = tokio::spawn(async move {
            let mut socket = WebSocket::new(stream, limits());
            let end = loop {
                let said = tokio::select! {
                    said = socket.receive() => said,
                    () = stopped.cancelled() => break CloseReason::going_away("stop").into(),
                };
                let sent = match said {
                    Ok(ClientMessage::Text(text)) => socket.send(&text).await,
                    Ok(ClientMessage::Binary) => break CloseReason::unsupported("text").into(),
                    Err(end) => Err(end),
                };
                if let Err(end) = sent {
                    break end;
                }
            };
            socket.end(end.clone()).await;
            end
        });
        Self { client, stop, serving }
    }

    async fn write(&mut self, first: u8, payload: &[u8]) {
        self.client.write_all(&masked(first, payload)).await.unwrap();
    }

    /// The first byte of the next short frame, and its payload.
    async fn read(&mut self) -> (u8, Vec<u8>) {
        let first = self.client.read_u8().await.unwrap();
        let length = self.client.read_u8().await.unwrap();
        let mut payload = vec![0; usize::from(length)];
        self.client.read_exact(&mut payload).await.unwrap();
        (first, payload)
    }

    /// The code with which the server closes, its reason, and what is counted.
    async fn closed(mut self) -> (u16, String, Option<SocketRefusal>) {
        let (first, payload) = self.read().await;
        assert_eq!(first, 0x88);
        let text = String::from_utf8(payload[2..].to_vec()).unwrap();
        drop(self.client);
        let end = self.serving.await.unwrap();
        (u16::from_be_bytes([payload[0], payload[1]]), text, end.refusal())
    }
}

#[test]
fn the_proof_is_that_of_the_standard() {
    assert_eq!(accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

#[tokio::test]
async fn texts_come_whole_in_frames_and_pings_between_them_are_answered() {
    let mut test = EchoTest::start();
    test.write(0x01, "会".as_bytes()).await;
    test.write(0x89, b"there?").await;
    test.write(0x80, b" 10:30").await;
    assert_eq!(test.read().await, (0x8a, b"there?".to_vec()));
    assert_eq!(test.read().await, (0x81, "会 10:30".as_bytes().to_vec()));
    test.write(0x88, &1000_u16.to_be_bytes()).await;
    let (code, _, refusal) = test.closed().await;
    assert_eq!((code, refusal), (1000, None));
}

#[tokio::test]
async fn who_breaks_the_rules_is_told_which() {
    use SocketRefusal::{Encoding, Frame, Kind, Size};

    for (frames, code, refusal) in [
        (masked(0x82, b"x"), 1003, Kind),
        (masked(0x81, &[0xff]), 1007, Encoding),
        (masked(0x80, b"x"), 1002, Frame),
        ([masked(0x01, b"x"), masked(0x81, b"y")].concat(), 1002, Frame),
        (vec![0x81, 0x01, b'x'], 1002, Frame),
        (masked(0x81, &[b'x'; MOST + 1])[..8].to_vec(), 1009, Size),
        ([masked(0x01, &[b'x'; MOST]), masked(0x80, b"y")].concat(), 1009, Size),
    ] {
        let mut test = EchoTest::start();
        test.client.write_all(&frames).await.unwrap();
        let (closed, _, counted) = test.closed().await;
        assert_eq!((closed, counted), (code, Some(refusal)));
    }
}

#[tokio::test]
async fn a_shutdown_is_told() {
    let test = EchoTest::start();
    test.stop.cancel();
    assert_eq!(test.closed().await, (1001, "stop".to_owned(), None));
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_asked_whether_it_is_there_and_left_if_it_is_not() {
    let mut test = EchoTest::start();
    let begun = Instant::now();
    assert_eq!(test.read().await, (0x89, vec![]));
    test.write(0x8a, b"").await;
    for _ in 0..3 {
        assert_eq!(test.read().await, (0x89, vec![]));
    }
    assert!(test.client.read_u8().await.is_err(), "the stream ended");
    let waited = begun.elapsed();
    let SocketLimits { ping_every, idle_timeout, .. } = limits();
    assert!(ping_every + idle_timeout <= waited && waited < ping_every + 2 * idle_timeout);
    assert_eq!(test.serving.await.unwrap().refusal(), Some(SocketRefusal::Silence));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_reads_costs_one_frame_and_is_left() {
    let mut test = EchoTest::start();
    // The answers fill the pipe, then the server takes no more.
    let sending = async {
        loop {
            let frame = masked(0x81, &[b'x'; 100]);
            if test.client.write_all(&frame).await.is_err() {
                break;
            }
        }
    };
    timeout(2 * limits().idle_timeout, sending).await.expect("it is left");
    assert_eq!(test.serving.await.unwrap().refusal(), Some(SocketRefusal::Slowness));
}

#[test]
fn a_client_is_asked_before_it_is_taken_for_gone() {
    let every = |seconds| SocketLimits { ping_every: Duration::from_secs(seconds), ..limits() };
    assert_eq!(every(2).ping_every(), Duration::from_secs(2));
    assert_eq!(every(60).ping_every(), Duration::from_secs(5));
}
