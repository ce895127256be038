//! Supervised background tasks and shutdown. Nothing else in the crate spawns.
//!
//! A worker that panics must not die silently while the rest of the process
//! looks healthy, so its panic is reported through `Tasks::failed` and the
//! process stops with a clear log line.

use std::{any::Any, future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    signal::unix::{Signal, SignalKind, signal},
    sync::{Semaphore, watch},
    task::AbortHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, error, error_span};

/// A group of tasks that end together.
#[derive(Clone)]
pub struct Tasks {
    token: CancellationToken,
    tracker: TaskTracker,
    failure: Arc<watch::Sender<Option<String>>>,
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

impl Tasks {
    pub fn new() -> Self {
        Self {
            token: CancellationToken::new(),
            tracker: TaskTracker::new(),
            failure: Arc::new(watch::Sender::new(None)),
        }
    }

    /// Creates a group that ends with this one or earlier; its failures are this
    /// group's, too.
    pub fn child(&self) -> Self {
        Self {
            token: self.token.child_token(),
            tracker: TaskTracker::new(),
            failure: self.failure.clone(),
        }
    }

    /// Token that is cancelled when the group has to end.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Runs a worker; if it panics, the process stops.
    pub fn spawn<F>(&self, name: &'static str, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let failure = self.failure.clone();
        self.launch(work.instrument(error_span!("task", name)), move |panic| {
            error!("worker '{name}' failed and the process has to stop: {panic}");
            failure.send_if_modified(|slot| {
                let first = slot.is_none();
                slot.get_or_insert_with(|| format!("worker '{name}' failed: {panic}"));
                first
            });
        });
    }

    /// Runs work for one peer (a connection, say); a panic is logged and ends only this
    /// task. Without a span: entering and leaving one at each step of a connection was
    /// measured to cost more than it tells. The handle aborts the task.
    pub fn spawn_for_peer<F>(&self, name: &'static str, work: F) -> AbortHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.launch(work, move |panic| error!("{name} failed: {panic}"))
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
    fn launch<F>(&self, work: F, on_panic: impl FnOnce(String) + Send + 'static) -> AbortHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let guarded = AssertUnwindSafe(work).catch_unwind().map(move |outcome| {
            if let Err(panic) = outcome {
                on_panic(panic_text(&*panic));
            }
        });
        tokio::spawn(self.tracker.track_future(guarded)).abort_handle()
    }

    /// Waits until a worker has panicked, and describes that.
    pub async fn wait_for_failure(&self) -> String {
        let mut failure = self.failure.subscribe();
        match failure.wait_for(Option::is_some).await {
            Ok(found) => found.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Cancels all tasks and waits for them, at most `grace`. False if some were still
    /// running then.
    pub async fn shut_down(&self, grace: Duration) -> bool {
        self.token.cancel();
        self.tracker.close();
        tokio::time::timeout(grace, self.tracker.wait()).await.is_ok()
    }

    /// Waits, at most `grace`, for tasks that end by themselves.
    pub async fn drain(&self, grace: Duration) -> bool {
        self.tracker.close();
        tokio::time::timeout(grace, self.tracker.wait()).await.is_ok()
    }
}

/// SIGTERM and SIGINT (Ctrl-C), caught from the moment of [`listen`](Self::listen).
#[derive(Debug)]
pub struct Interrupt {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
}

impl Interrupt {
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: None,
        })
    }

    /// Catches SIGHUP, too, unless the process runs under `nohup`.
    pub fn listen_to_hangup() -> std::io::Result<Self> {
        let hangup = match ignores_hangup() {
            true => None,
            false => Some(signal(SignalKind::hangup())?),
        };
        Ok(Self { hangup, ..Self::listen()? })
    }

    /// Waits for the next of these signals.
    pub async fn recv(&mut self) {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = hangup => {}
        }
    }
}

/// True if SIGHUP was ignored when the process began; valid only before it is caught.
pub(crate) fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // SIGHUP is signal 1, the lowest bit.
    ignored.is_some_and(|mask| mask & 1 == 1)
}

/// Runs blocking work off the runtime's workers.
#[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
pub async fn blocking<T, F>(work: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        // The runtime only cancels blocking work that never started, while it
        // shuts down; then nobody is left to read the answer.
        Err(stopped) if stopped.is_cancelled() => std::future::pending().await,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

/// Threads, of the runtime's 512 for blocking work, that may wait for a hanging disk
/// because clients ask for packages. Metrics, logins and other reads still find one.
const MAX_LIMITED: usize = 256;
static LIMITED_PERMITS: Semaphore = Semaphore::const_new(MAX_LIMITED);

/// Like [`blocking`], for work that any number of clients may cause.
pub async fn blocking_limited<T, F>(work: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let permit = LIMITED_PERMITS.acquire().await;
    // The work goes on when a client leaves, and keeps its permit.
    let held = move || {
        let done = work();
        drop(permit);
        done
    };
    blocking(held).await
}

/// Runs blocking work on the current thread; if that is one of the runtime's, its other
/// tasks move away meanwhile. For work that ends in a `Drop`.
#[expect(clippy::disallowed_methods, reason = "the one place that blocks a thread of the runtime")]
pub fn block_in_place<T>(work: impl FnOnce() -> T) -> T {
    let runtime = Handle::try_current().map(|handle| handle.runtime_flavor());
    match runtime {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// Runs work that both waits and blocks, to its end, on the current thread, whose other
/// tasks move away meanwhile: for a few at a time. It can't be cancelled from outside:
/// the work has to check by itself.
#[expect(clippy::disallowed_methods, reason = "the one place that blocks a thread of the runtime")]
pub fn block_on_in_place<F: Future>(work: F) -> F::Output {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(work))
}

/// Spawns a thread for long blocking work. The caller ends and joins it: the runtime
/// does not know of it.
#[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
pub fn thread<T, F>(name: &'static str, work: F) -> std::io::Result<std::thread::JoinHandle<T>>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    std::thread::Builder::new().name(name.to_owned()).spawn(work)
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a message".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    };

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn a_worker_that_panics_is_reported_by_name() {
        let tasks = Tasks::new();
        tasks.child().spawn("sync", async { panic!("boom") });
        let report = tasks.wait_for_failure().await;
        assert!(report.contains("sync") && report.contains("boom"), "{report}");
    }

    #[tokio::test]
    async fn a_connection_that_panics_takes_nobody_with_it() {
        let tasks = Tasks::new();
        tasks.spawn_for_peer("connection", async { panic!("boom") });
        assert!(tasks.shut_down(Duration::from_secs(5)).await);
        assert!(tasks.wait_for_failure().now_or_never().is_none());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn so_many_threads_wait_for_clients_and_others_find_one() {
        let (open, gate) = std::sync::mpsc::channel::<()>();
        let (gate, began) = (Arc::new(Mutex::new(gate)), Arc::<AtomicUsize>::default());
        let works = (0..=MAX_LIMITED).map(|_| {
            let (gate, began) = (gate.clone(), began.clone());
            blocking_limited(move || {
                began.fetch_add(1, Ordering::Relaxed);
                let _ = gate.lock().unwrap().recv();
            })
        });
        let mut all = Box::pin(join_all(works));
        for most in [MAX_LIMITED, MAX_LIMITED + 1] {
            while began.load(Ordering::Relaxed) < most {
                assert!(all.as_mut().now_or_never().is_none());
                tokio::task::yield_now().await;
            }
            assert!(all.as_mut().now_or_never().is_none());
            blocking(|| ()).await;
            assert_eq!(began.load(Ordering::Relaxed), most);
            open.send(()).unwrap();
        }
        drop(open);
        all.await;
    }

    #[tokio::test]
    async fn shut_down_says_whether_everything_ended() {
        let tasks = Tasks::new();
        tasks.spawn("stubborn", std::future::pending());
        assert!(!tasks.shut_down(Duration::from_millis(10)).await);

        let tasks = Tasks::new();
        let token = tasks.token().clone();
        tasks.spawn("obedient", async move { token.cancelled().await });
        assert!(tasks.shut_down(Duration::from_secs(5)).await);
    }
}
