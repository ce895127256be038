//! A TCP proxy in front of a server: hands on what comes, and breaks off or
//! falls silent where it is told to. It remembers what clients sent.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

const PIECE_BYTES: usize = 16 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// A connection ends after so many bytes of the server's.
    Cut(usize),
    /// As that, with a reset instead of an end in good order.
    Reset(usize),
    /// Of a connection nothing more comes after so many bytes.
    Hold(usize),
    /// Each piece of the server's takes so long.
    Delay(Duration),
    /// Each connection is closed at once.
    Closed,
    /// Of each connection, the server's byte at this place is another one.
    Flip(usize),
}

pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    to: SocketAddr,
    way: Mutex<Way>,
    /// What clients sent.
    asked: Mutex<String>,
    passed: AtomicUsize,
    over: AtomicBool,
}

impl Proxy {
    pub(crate) fn before(to: SocketAddr, way: Way) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            to,
            way: Mutex::new(way),
            asked: Mutex::default(),
            passed: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        });
        let at_work = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if at_work.over.load(Ordering::Relaxed) {
                    return;
                }
                let shared = at_work.clone();
                std::thread::spawn(move || shared.carry(client));
            }
        });
        Self { address, shared }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// From now on, and for what is under way.
    pub(crate) fn set(&self, way: Way) {
        *self.shared.way.lock().unwrap() = way;
    }

    /// All that clients sent so far, in small letters.
    pub(crate) fn asked(&self) -> String {
        self.shared.asked.lock().unwrap().to_lowercase()
    }

    /// Bytes of the server's that were handed on so far.
    pub(crate) fn passed(&self) -> usize {
        self.shared.passed.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn carry(self: Arc<Self>, client: TcpStream) {
        if *self.way.lock().unwrap() == Way::Closed {
            return;
        }
        let Ok(server) = TcpStream::connect(self.to) else { return };
        let (from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let shared = self.clone();
        std::thread::spawn(move || {
            let _ = read_all(from, |bytes| {
                shared.asked.lock().unwrap().push_str(&String::from_utf8_lossy(bytes));
                to.write_all(bytes)
            });
            let _ = to.shutdown(Shutdown::Write);
        });
        let (mut back, mut passed) = (client.try_clone().unwrap(), 0);
        let _ = read_all(server.try_clone().unwrap(), |mut bytes| {
            while !bytes.is_empty() {
                let room = self.room(passed)?.min(bytes.len());
                let (now, later) = bytes.split_at(room);
                back.write_all(&self.passed_on(passed, now))?;
                passed += room;
                self.passed.fetch_add(room, Ordering::Relaxed);
                bytes = later;
                if room == 0 {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            Ok(())
        });
        if matches!(*self.way.lock().unwrap(), Way::Reset(_)) {
            // With the last of its handles, which the other thread has, too.
            let _ = socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO));
            let _ = client.shutdown(Shutdown::Read);
            return;
        }
        for stream in [client, server] {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// The bytes that follow `passed` others, as they go on.
    fn passed_on(&self, passed: usize, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        if let Way::Flip(at) = *self.way.lock().unwrap()
            && let Some(byte) = at.checked_sub(passed).and_then(|at| bytes.get_mut(at))
        {
            *byte ^= 1;
        }
        bytes
    }

    /// How much more may pass of a connection; an error at its end.
    fn room(&self, passed: usize) -> std::io::Result<usize> {
        if self.over.load(Ordering::Relaxed) {
            return Err(std::io::ErrorKind::BrokenPipe.into());
        }
        let way = *self.way.lock().unwrap();
        match way {
            Way::Hold(most) => Ok(most.saturating_sub(passed)),
            Way::Flip(_) => Ok(PIECE_BYTES),
            Way::Delay(time) => {
                std::thread::sleep(time);
                Ok(PIECE_BYTES)
            }
            Way::Cut(most) | Way::Reset(most) if passed < most => Ok(most - passed),
            Way::Cut(_) | Way::Reset(_) | Way::Closed => Err(std::io::ErrorKind::BrokenPipe.into()),
        }
    }
}

fn read_all(
    mut from: TcpStream,
    mut with: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match from.read(&mut piece)? {
            0 => return Ok(()),
            n => with(&piece[..n])?,
        }
    }
}
