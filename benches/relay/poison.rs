//! A parent that sends wrong bytes: between a node and its children stands a proxy that
//! can flip one of them, once on each connection.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::Runtime,
};

use super::network::BENCH;

const CHUNK_BYTES: usize = 64 << 10;
/// The middle of a chunk of so many is no head of an answer.
const SURELY_BODY_BYTES: usize = 16 << 10;
/// What a socket holds is not counted as taken by the child, or hardly.
const SEND_BUFFER_BYTES: u32 = 64 << 10;
const BACKLOG: u32 = 128;

pub(crate) struct Poisoner {
    runtime: Runtime,
    poisons: Mutex<Vec<Arc<Poison>>>,
}

/// Of one node's bytes.
#[derive(Default)]
struct Poison {
    is_armed: AtomicBool,
    /// Connections with a flipped byte.
    poisoned: AtomicUsize,
    /// The most that went over one of them from there on, until its child left.
    bytes: AtomicU64,
}

impl Poisoner {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { runtime: Runtime::new()?, poisons: Mutex::default() })
    }

    /// Returns the address of a proxy before the next node.
    pub(crate) fn stand_before(&self, node: SocketAddr) -> Result<SocketAddr> {
        let poison = Arc::<Poison>::default();
        self.poisons.lock().expect("nobody panics with it").push(poison.clone());
        self.runtime.block_on(async {
            let socket = TcpSocket::new_v4()?;
            // Each of its connections inherits it.
            socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
            socket.bind((BENCH, 0).into())?;
            let listener = socket.listen(BACKLOG)?;
            let address = listener.local_addr()?;
            tokio::spawn(serve(listener, node, poison));
            Ok(address)
        })
    }

    /// From now on the node's bytes are not what they were.
    pub(crate) fn poison(&self, node: usize) {
        self.of(node).is_armed.store(true, Ordering::Relaxed);
    }

    /// Returns how many connections had a wrong byte, and how many more bytes went over
    /// one of them at most.
    pub(crate) fn found(&self, node: usize) -> (usize, u64) {
        let poison = self.of(node);
        (poison.poisoned.load(Ordering::Relaxed), poison.bytes.load(Ordering::Relaxed))
    }

    fn of(&self, node: usize) -> Arc<Poison> {
        self.poisons.lock().expect("nobody panics with it")[node].clone()
    }
}

async fn serve(listener: TcpListener, node: SocketAddr, poison: Arc<Poison>) {
    while let Ok((child, _)) = listener.accept().await {
        let poison = poison.clone();
        // Who is gone before the end has left, or was killed.
        tokio::spawn(async move { pass(child, node, &poison).await.ok() });
    }
}

async fn pass(child: TcpStream, node: SocketAddr, poison: &Poison) -> Result<()> {
    let node = TcpStream::connect(node).await?;
    child.set_nodelay(true)?;
    node.set_nodelay(true)?;
    let (mut from_child, mut to_child) = child.into_split();
    let (mut from_node, mut to_node) = node.into_split();
    let up = async {
        tokio::io::copy(&mut from_child, &mut to_node).await?;
        // It left, or hangs up after its request: none of ours does.
        anyhow::Ok(())
    };
    let down = async {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut after = None;
        loop {
            let read = from_node.read(&mut chunk).await?;
            if read == 0 {
                return anyhow::Ok(());
            }
            let is_poisoned = after.is_some();
            if !is_poisoned && read >= SURELY_BODY_BYTES && poison.is_armed.load(Ordering::Relaxed)
            {
                chunk[read / 2] ^= 1;
                poison.poisoned.fetch_add(1, Ordering::Relaxed);
                after = Some(0);
            }
            to_child.write_all(&chunk[..read]).await?;
            if let Some(after) = &mut after {
                *after += read as u64;
                poison.bytes.fetch_max(*after, Ordering::Relaxed);
            }
        }
    };
    tokio::select! {
        outcome = up => outcome,
        outcome = down => outcome,
    }
}
