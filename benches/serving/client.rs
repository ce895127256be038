//! A client that costs so little that the server is the bottleneck: one
//! thread, one epoll, requests that were written beforehand, one buffer that
//! all is read into. It reads every byte, and checks status and length of
//! every answer: a server that is quick because it is wrong fails the bench.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, connect, socket_with},
};

use crate::support::packages::Package;

const BUFFER_BYTES: usize = 256 << 10;
const MAX_HEAD_BYTES: usize = 16 << 10;
const EVENTS: usize = 256;
/// A server that gives nothing for so long has hung.
const SILENCE: Duration = Duration::from_secs(60);

/// A request, and what has to come.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    bytes: Vec<u8>,
    status: u16,
    length: u64,
}

impl Ask {
    pub(crate) fn whole(path: &str, package: &Package) -> Self {
        Self { bytes: request(path, ""), status: 200, length: package.size }
    }

    pub(crate) fn part(path: &str, from: u64, length: u64) -> Self {
        let range = format!("Range: bytes={from}-{}\r\n", from + length - 1);
        Self { bytes: request(path, &range), status: 206, length }
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    pub(crate) fn send(&self, stream: &mut TcpStream) -> Result<()> {
        // A fresh socket's buffer takes some hundred bytes at once.
        let sent = stream.write(&self.bytes).context("cannot send a request")?;
        ensure!(sent == self.bytes.len(), "only {sent} bytes of a request were taken");
        Ok(())
    }

    /// How long the head is, once it is all there.
    pub(crate) fn check(&self, bytes: &[u8]) -> Result<Option<usize>> {
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            ensure!(bytes.len() < MAX_HEAD_BYTES, "no end of a head in {} bytes", bytes.len());
            return Ok(None);
        };
        let head = &bytes[..end];
        let digits = head.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
        let status = digits.and_then(|digits| digits.parse::<u16>().ok());
        let length = head.split(|byte| *byte == b'\n').find_map(content_length);
        if (status, length) != (Some(self.status), Some(self.length)) {
            let (asked, head) =
                (String::from_utf8_lossy(&self.bytes), String::from_utf8_lossy(head));
            bail!(
                "{}\nhad to be answered {} with {} bytes, not:\n{head}",
                asked.trim(),
                self.status,
                self.length
            );
        }
        Ok(Some(end + 4))
    }
}

fn request(path: &str, more: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: bench\r\n{more}\r\n").into_bytes()
}

fn content_length(line: &[u8]) -> Option<u64> {
    const NAME: &[u8] = b"content-length:";
    let (name, value) = line.split_at_checked(NAME.len())?;
    if !name.eq_ignore_ascii_case(NAME) {
        return None;
    }
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}

struct Connection {
    stream: TcpStream,
    ask: usize,
    state: State,
    /// Of a head that came in pieces.
    head: Vec<u8>,
    begun: Instant,
    first: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Connecting,
    Head,
    /// Bytes that are still to come.
    Body(u64),
}

/// A whole answer.
pub(crate) struct Done {
    pub connection: usize,
    /// When the connection, or on one that was open the request, was begun.
    pub begun: Instant,
    /// When the head was here.
    pub first: Instant,
    pub done: Instant,
}

pub(crate) struct Client<'a> {
    address: SocketAddr,
    asks: &'a [Ask],
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    connections: Vec<Option<Connection>>,
    buffer: Vec<u8>,
    reads: usize,
    news: Instant,
    /// Bytes of bodies so far.
    pub received: u64,
    /// Whole answers so far.
    pub answered: u64,
}

impl<'a> Client<'a> {
    pub(crate) fn new(address: SocketAddr, asks: &'a [Ask]) -> Result<Self> {
        Ok(Self {
            address,
            asks,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(EVENTS),
            connections: Vec::new(),
            buffer: vec![0; BUFFER_BYTES],
            reads: 8,
            news: Instant::now(),
            received: 0,
            answered: 0,
        })
    }

    /// Looks at the other connections after each read, for the sake of exact times.
    pub(crate) fn attentive(mut self) -> Self {
        self.reads = 1;
        self
    }

    /// Opens a connection that will ask for this.
    pub(crate) fn connect(&mut self, ask: usize) -> Result<usize> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        match connect(&socket, &self.address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => bail!("cannot connect to {}: {error}", self.address),
        }
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        let at = self.connections.len();
        epoll::add(&self.epoll, &stream, data(at), epoll::EventFlags::OUT)?;
        let now = Instant::now();
        let (state, head) = (State::Connecting, Vec::new());
        let connection = Connection { stream, ask, state, head, begun: now, first: now };
        self.connections.push(Some(connection));
        Ok(at)
    }

    /// Waits, `patience` at most, for something to happen and deals with it.
    /// `next` says what a connection asks for then; none closes it.
    pub(crate) fn turn(
        &mut self,
        patience: Duration,
        mut next: impl FnMut(&Done) -> Option<usize>,
    ) -> Result<()> {
        let patience = Timespec::try_from(patience).context("a time to wait")?;
        let mut events = std::mem::take(&mut self.events);
        match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&patience)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => bail!("epoll: {error}"),
        }
        if !events.is_empty() {
            self.news = Instant::now();
        } else if self.news.elapsed() > SILENCE {
            bail!("nothing came for {SILENCE:?}");
        }
        for event in events.drain(..) {
            let at = event.data.u64() as usize;
            self.advance(at, &mut next).with_context(|| format!("connection {at}"))?;
        }
        self.events = events;
        Ok(())
    }

    fn advance(&mut self, at: usize, next: &mut impl FnMut(&Done) -> Option<usize>) -> Result<()> {
        let Some(connection) = &mut self.connections[at] else { return Ok(()) };
        if connection.state == State::Connecting {
            if let Some(error) = connection.stream.take_error()? {
                bail!("cannot connect to {}: {error}", self.address);
            }
            self.asks[connection.ask].send(&mut connection.stream)?;
            connection.state = State::Head;
            epoll::modify(&self.epoll, &connection.stream, data(at), epoll::EventFlags::IN)?;
            return Ok(());
        }
        for _ in 0..self.reads {
            let n = match connection.stream.read(&mut self.buffer) {
                Ok(0) => bail!("it was closed in the middle of an answer"),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => bail!("it broke: {error}"),
            };
            let (body, whole) = connection.take(&self.asks[connection.ask], &self.buffer[..n])?;
            self.received += body;
            if whole {
                self.answered += 1;
                let done = Done {
                    connection: at,
                    begun: connection.begun,
                    first: connection.first,
                    done: Instant::now(),
                };
                let Some(ask) = next(&done) else {
                    self.connections[at] = None;
                    return Ok(());
                };
                connection.ask = ask;
                connection.state = State::Head;
                connection.begun = Instant::now();
                self.asks[ask].send(&mut connection.stream)?;
                break;
            }
            // Less than there was room for: that was all.
            if n < self.buffer.len() {
                break;
            }
        }
        Ok(())
    }
}

impl Connection {
    /// How many bytes of the body these were, and whether it is whole now.
    fn take(&mut self, ask: &Ask, bytes: &[u8]) -> Result<(u64, bool)> {
        let (left, body) = match self.state {
            State::Body(left) => (left, bytes.len() as u64),
            State::Connecting | State::Head => {
                // Nearly always it comes in one piece, and is not copied.
                let pieces = !self.head.is_empty();
                if pieces {
                    self.head.extend_from_slice(bytes);
                }
                let so_far = if pieces { &self.head } else { bytes };
                let Some(end) = ask.check(so_far)? else {
                    if !pieces {
                        self.head.extend_from_slice(bytes);
                    }
                    return Ok((0, false));
                };
                let body = (so_far.len() - end) as u64;
                self.head.clear();
                self.first = Instant::now();
                (ask.length, body)
            }
        };
        ensure!(body <= left, "{} bytes more came than were announced", body - left);
        self.state = State::Body(left - body);
        Ok((body, body == left))
    }
}

fn data(at: usize) -> epoll::EventData {
    epoll::EventData::new_u64(at as u64)
}
