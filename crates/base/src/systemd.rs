//! Notifications to the service manager: ready, reloading, stopping, alive
//! (sd_notify(3)). The protocol is a datagram of lines to the socket that the
//! environment names, so no library is needed for it. Without that socket nothing is
//! sent, and everything else is the same.

use std::{
    env,
    ffi::OsStr,
    fs::File,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{ffi::OsStrExt, net::SocketAddr, net::UnixDatagram},
    },
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustix::{
    process::getpgrp,
    termios::tcgetpgrp,
    time::{ClockId, clock_gettime},
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::timeout,
};
use tracing::{error, info, warn};

use crate::{liveness::Liveness, tasks::ignores_hangup};

/// Longest wait for the manager to take a message, which is then dropped.
const SEND_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for what follows the downloads' grace: ending workers and logs.
const AFTER_GRACE: Duration = Duration::from_secs(20);

/// The service manager, if there is one to notify. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Notifier {
    socket: Option<Arc<UnixDatagram>>,
    /// Longest silence before the service is taken for dead.
    watchdog: Option<Duration>,
    stopping: Arc<AtomicBool>,
}

impl Notifier {
    /// Reads `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    pub fn from_env() -> Self {
        let Some(address) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        let number = |name| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        // Otherwise the variable is meant for an ancestor of this process.
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|us| ours && *us > 0);
        Self::at(&address, watchdog.map(Duration::from_micros)).unwrap_or_else(|error| {
            warn!("the service manager at {} can't be told anything: {error}", address.display());
            Self::default()
        })
    }

    fn at(address: &OsStr, watchdog: Option<Duration>) -> io::Result<Self> {
        let address = match address.as_bytes() {
            // An abstract address, not a file.
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(Path::new(address))?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(SEND_TIMEOUT))?;
        socket.connect_addr(&address)?;
        Ok(Self { socket: Some(Arc::new(socket)), watchdog, stopping: Arc::default() })
    }

    /// Reports that the service is ready.
    pub fn notify_ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// Reports that the service is about to end and may take `grace` for work under way:
    /// longer than the unit allows, if so configured.
    pub fn notify_stopping(&self, grace: Duration) {
        self.stopping.store(true, Ordering::Relaxed);
        let us = (grace + AFTER_GRACE).as_micros();
        self.tell(&format!("STOPPING=1\nSTATUS=stopping\nEXTEND_TIMEOUT_USEC={us}"));
    }

    /// Calls `reload` for each SIGHUP; it returns the state to show. Returns when the
    /// signal means that the terminal is closed that the service was started on.
    pub async fn reload_on_hangup(
        &self,
        hangups: &mut Hangups,
        mut reload: impl AsyncFnMut() -> String,
    ) {
        loop {
            hangups.next().await;
            if hangups.has_lost_terminal() {
                info!("the terminal was closed");
                return;
            }
            info!("asked to read the configuration anew");
            // The time lets the manager tell this reload from an earlier one.
            let us = monotonic_us();
            self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={us}\nSTATUS=reloading"));
            let status = reload().await;
            self.notify_ready(&status);
        }
    }

    /// Feeds the watchdog as long as the runtime, its timers and the listener's loop come
    /// round. Runs until it is dropped, as a task of its own: work that is stuck in one
    /// task must not hold up the other.
    pub async fn feed_watchdog(self, listener: Liveness) {
        let Some(watchdog) = self.watchdog else { return };
        // At least twice within the time, even if one is late.
        let every = watchdog / 3;
        let mut ticks = tokio::time::interval(every);
        loop {
            ticks.tick().await;
            // While stopping, listeners have ended and downloads go on.
            let well = self.stopping.load(Ordering::Relaxed)
                || timeout(every, listener.probe()).await.is_ok();
            match well || self.stopping.load(Ordering::Relaxed) {
                true => self.tell("WATCHDOG=1"),
                false => error!("no connections are accepted any more, for {every:?} or longer"),
            }
        }
    }

    fn tell(&self, lines: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.send(lines.as_bytes()) {
            let line = lines.lines().next().unwrap_or_default();
            warn!("the service manager was not told {line}: {error}");
        }
    }
}

/// SIGHUP: asks a service to read its configuration again, and tells a program
/// on a terminal that it was closed.
#[derive(Debug)]
pub struct Hangups {
    signal: Signal,
    /// True if the process is to end with its terminal.
    on_terminal: bool,
}

impl Hangups {
    /// Catches SIGHUP from now on.
    pub fn listen() -> io::Result<Self> {
        // A program under `nohup` is meant to stay.
        let on_terminal = is_in_foreground() && !ignores_hangup();
        Ok(Self { signal: signal(SignalKind::hangup())?, on_terminal })
    }

    async fn next(&mut self) {
        if self.signal.recv().await.is_none() {
            std::future::pending().await
        }
    }

    /// True once the terminal is closed, which happens before SIGHUP is sent.
    fn has_lost_terminal(&self) -> bool {
        self.on_terminal && !has_terminal()
    }
}

/// True if this process has a terminal (tty(4)).
fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}

/// True unless this is a background job: it outlives its terminal, and a later SIGHUP
/// means what it means to a service.
fn is_in_foreground() -> bool {
    let terminal = File::open("/dev/tty").ok();
    terminal.and_then(|terminal| tcgetpgrp(&terminal).ok()) == Some(getpgrp())
}

fn monotonic_us() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const WATCHDOG: Duration = Duration::from_millis(60);

    /// A manager at an abstract address, and the service's side of it.
    fn pair() -> (UnixDatagram, Notifier) {
        let name = format!("edge-mirror-test-{}-{}", std::process::id(), fastrand::u64(..));
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        manager.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let service = Notifier::at(OsStr::new(&format!("@{name}")), Some(WATCHDOG)).unwrap();
        (manager, service)
    }

    fn told(manager: &UnixDatagram) -> Option<String> {
        let mut bytes = [0; 256];
        manager.set_nonblocking(true).unwrap();
        let length = manager.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    #[test]
    fn an_abstract_socket_is_told_in_lines() {
        let (manager, service) = pair();
        service.notify_ready("node-1 on :8001");
        assert_eq!(told(&manager).unwrap(), "READY=1\nSTATUS=node-1 on :8001");
        service.notify_stopping(Duration::from_secs(3600));
        let last = told(&manager).unwrap();
        assert!(last.starts_with("STOPPING=1\n"), "{last}");
        assert!(last.ends_with("EXTEND_TIMEOUT_USEC=3620000000"), "{last}");
    }

    #[test]
    fn without_a_manager_nothing_is_said_and_nothing_fails() {
        Notifier::default().notify_ready("");
        Notifier::default().notify_stopping(Duration::ZERO);
        assert!(Notifier::at(OsStr::new("/nowhere/notify"), None).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_listener_that_stands_still_ends_the_reassurance() {
        let (manager, service) = pair();
        let liveness = Liveness::default();
        let mut responder = liveness.responder();
        let reassured = service.clone().feed_watchdog(liveness);
        tokio::pin!(reassured);
        // The loop comes round, for less than the ten lines that a socket holds.
        let turning = responder.serve_during(pending::<()>());
        tokio::select! {
            () = &mut reassured => {}
            () = turning => {}
            () = tokio::time::sleep(WATCHDOG * 2) => {}
        }
        let count = std::iter::from_fn(|| told(&manager)).filter(|t| t == "WATCHDOG=1").count();
        assert!(count >= 5, "{count}");
        // One notification may have been under way.
        let _ = timeout(WATCHDOG, &mut reassured).await;
        let _ = told(&manager);
        let _ = timeout(WATCHDOG * 10, &mut reassured).await;
        assert_eq!(told(&manager), None, "with nobody there to answer");
        // Then downloads drain, and the manager has to wait.
        service.notify_stopping(Duration::ZERO);
        let _ = timeout(WATCHDOG, &mut reassured).await;
        let said: Vec<_> = std::iter::from_fn(|| told(&manager)).collect();
        assert!(said.contains(&"WATCHDOG=1".to_owned()), "{said:?}");
    }
}
