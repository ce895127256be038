//! The data port: lets callers in and serves them, within bounds.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use edge_mirror_base::{metrics::labels, pacer::Pacer, tasks::Tasks};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, SemaphorePermit},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    handshake::{GofdCredentials, Handshake, answer_handshake},
    seeding::{PieceSource, serve_pieces},
};

/// Connections at a time, in all and of one address.
const MAX_CONNECTIONS: usize = 512;
const MAX_PER_ADDRESS: usize = 64;
/// Passwords that are stretched at a time: each takes a core for some milliseconds.
static STRETCHING: Semaphore = Semaphore::const_new(2);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A caller that is not let in is left without an answer for this time: an agent of GoFD
/// that is hung up on calls again at once, for ever.
const REFUSAL_PAUSE: Duration = Duration::from_secs(5);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

labels! {
    /// A connection to a data port that was refused, or ended for a fault of the caller.
    DataPortEvent {
        Handshake => "handshake",
        Password => "password",
        UnknownTask => "unknown_task",
        Frame => "frame",
        Connections => "connections",
    }
}

/// A task that a data port serves.
pub struct OfferedSeed<S> {
    pub source: Arc<S>,
    /// Bytes per second of a connection; 0: no limit.
    pub speed: u64,
    /// Ends its connections.
    pub end: CancellationToken,
}

/// The tasks of a data port.
pub trait SeedDirectory: Send + Sync + 'static {
    type Source: PieceSource;

    fn credentials(&self) -> GofdCredentials;

    fn find(&self, task: &str) -> Option<OfferedSeed<Self::Source>>;

    /// Counts what went wrong.
    fn count(&self, event: DataPortEvent);
}

#[derive(Debug)]
pub struct DataPort {
    listener: TcpListener,
    address: SocketAddr,
    places: Arc<Semaphore>,
    callers: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// The place of a connection among those of its address.
struct CallerPlace {
    callers: Arc<Mutex<HashMap<IpAddr, usize>>>,
    address: IpAddr,
}

impl Drop for CallerPlace {
    fn drop(&mut self) {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = callers.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                callers.remove(&self.address);
            }
        }
    }
}

impl DataPort {
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        Ok(Self { listener, address, places, callers: Arc::default() })
    }

    /// The address, with a port chosen by the system.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`; `tasks` has the connections.
    pub async fn serve<D: SeedDirectory>(
        self,
        directory: Arc<D>,
        tasks: Tasks,
        stop: CancellationToken,
    ) {
        let accepting = async {
            loop {
                match self.listener.accept().await {
                    Ok((stream, peer)) => self.begin(stream, peer, &directory, &tasks, &stop),
                    Err(error) => {
                        debug!("a data port can't accept for the moment: {error}");
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        stop.run_until_cancelled(accepting).await;
    }

    fn begin<D: SeedDirectory>(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        directory: &Arc<D>,
        tasks: &Tasks,
        stop: &CancellationToken,
    ) {
        let address = peer.ip().to_canonical();
        let place = self.places.clone().try_acquire_owned().ok().zip(self.place_of(address));
        let Some(place) = place else {
            directory.count(DataPortEvent::Connections);
            debug!("{address} has too many connections to the data port, or all have");
            return;
        };
        let (directory, tasks_end, stop) = (directory.clone(), tasks.token().clone(), stop.clone());
        tasks.spawn_for_peer("data connection", async move {
            let _place = place;
            tokio::select! {
                () = serve_caller(stream, address, &*directory) => {}
                () = stop.cancelled() => {}
                () = tasks_end.cancelled() => {}
            }
        });
    }

    fn place_of(&self, address: IpAddr) -> Option<CallerPlace> {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        let count = callers.entry(address).or_default();
        if *count >= MAX_PER_ADDRESS {
            return None;
        }
        *count += 1;
        Some(CallerPlace { callers: self.callers.clone(), address })
    }
}

async fn serve_caller<D: SeedDirectory>(mut stream: TcpStream, peer: IpAddr, directory: &D) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!("data connection of {peer}: {error}");
    }
    let Some(seed) = let_in(&mut stream, peer, directory).await else { return };
    let OfferedSeed { source, speed, end } = seed;
    let pacer = Pacer::default();
    pacer.set_rate(speed);
    let serving = serve_pieces(stream.split(), &*source, peer, &pacer);
    if let Some(Err(error)) = end.run_until_cancelled(serving).await {
        directory.count(DataPortEvent::Frame);
        warn!("the data connection of {peer} is closed: {error}");
    }
}

/// The task that a caller asks for, if it may have it.
async fn let_in<D: SeedDirectory>(
    stream: &mut TcpStream,
    peer: IpAddr,
    directory: &D,
) -> Option<OfferedSeed<D::Source>> {
    let refused = match timeout(HANDSHAKE_TIMEOUT, Handshake::read(stream)).await {
        Ok(Ok(handshake)) => match admitted(&handshake, directory).await {
            Ok(seed) => {
                let answered = timeout(HANDSHAKE_TIMEOUT, answer_handshake(stream)).await;
                return matches!(answered, Ok(Ok(()))).then_some(seed);
            }
            Err(event) => {
                let task: String = handshake.task.chars().take(64).collect();
                warn!("{peer} gets no pieces of task {task:?}: {}", reason(event));
                event
            }
        },
        // Somebody who looks whether the port is open.
        Ok(Err(crate::HandshakeError::Io(_))) => return None,
        Ok(Err(error)) => {
            warn!("{peer} gets no pieces: {error}");
            DataPortEvent::Handshake
        }
        Err(_) => DataPortEvent::Handshake,
    };
    directory.count(refused);
    sleep(REFUSAL_PAUSE).await;
    None
}

fn reason(event: DataPortEvent) -> &'static str {
    match event {
        DataPortEvent::UnknownTask => "it is not served here",
        _ => "the user or the password is wrong",
    }
}

async fn admitted<D: SeedDirectory>(
    handshake: &Handshake,
    directory: &D,
) -> Result<OfferedSeed<D::Source>, DataPortEvent> {
    let credentials = directory.credentials();
    // Before the work of stretching a password.
    if !handshake.is_of_user(&credentials) {
        return Err(DataPortEvent::Password);
    }
    // Never closed.
    let _permit: Option<SemaphorePermit<'_>> = STRETCHING.acquire().await.ok();
    if !handshake.is_from(&credentials).await {
        return Err(DataPortEvent::Password);
    }
    directory.find(&handshake.task).ok_or(DataPortEvent::UnknownTask)
}
