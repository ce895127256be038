//! A WebSocket client, by hand: what a server sends has to be right to the letter.

use std::time::Duration;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct SocketClient(TcpStream);

impl SocketClient {
    /// Connects, or returns the head of the answer that was no switch.
    pub(crate) async fn connect(authority: &str, path: &str, fields: &str) -> Result<Self, String> {
        let mut stream = TcpStream::connect(authority).await.unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {authority}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{fields}\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        match head.starts_with("http/1.1 101 ") {
            true => {
                let proof = "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n";
                assert!(head.contains(proof), "{head}");
                Ok(Self(stream))
            }
            false => Err(head),
        }
    }

    /// Sends a short frame: 0x81 is a text, 0x82 binary.
    pub(crate) async fn send(&mut self, first: u8, payload: &[u8]) {
        let mut frame = vec![first, 0x80 | u8::try_from(payload.len()).unwrap(), 1, 2, 3, 4];
        frame.extend(
            payload.iter().zip([1, 2, 3, 4].iter().cycle()).map(|(byte, mask)| byte ^ mask),
        );
        self.0.write_all(&frame).await.unwrap();
    }

    /// The first byte of the next frame, and its payload.
    async fn frame(&mut self) -> (u8, Vec<u8>) {
        let reading = async {
            let first = self.0.read_u8().await.unwrap();
            let length = match self.0.read_u8().await.unwrap() {
                126 => u64::from(self.0.read_u16().await.unwrap()),
                127 => self.0.read_u64().await.unwrap(),
                short => u64::from(short),
            };
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            self.0.read_exact(&mut payload).await.unwrap();
            (first, payload)
        };
        timeout(PATIENCE, reading).await.expect("no frame")
    }

    /// The next text.
    pub(crate) async fn text(&mut self) -> String {
        loop {
            match self.frame().await {
                (0x81, payload) => return String::from_utf8(payload).unwrap(),
                (0x89, _) => {}
                other => panic!("{other:?} is no text"),
            }
        }
    }

    pub(crate) async fn json(&mut self) -> Value {
        serde_json::from_str(&self.text().await).unwrap()
    }

    /// The code and the reason with which the server closes; what comes before is passed by.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        loop {
            let (first, payload) = self.frame().await;
            if first == 0x88 {
                let text = String::from_utf8(payload[2..].to_vec()).unwrap();
                return (u16::from_be_bytes([payload[0], payload[1]]), text);
            }
        }
    }
}
