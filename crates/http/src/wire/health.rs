//! `GET /api/health/live` and `/api/health/ready`, for whatever starts, restarts or hides
//! a process: systemd, containers, load balancers. They ask each second, without a login.
//!
//! Live says only that the runtime answers. Ready means that packages can be served and
//! pulled: the process is up and not stopping, and the storage is writable. That is
//! tested only while a probe asks, not more often than every few seconds, and on another
//! thread; a probe never waits for a disk that hangs.

use std::time::Duration;

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use edge_mirror_base::tasks;
use edge_mirror_store::{Store, StoreError};
use serde::Serialize;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};

pub const LIVE: &str = "/api/health/live";
pub const READY: &str = "/api/health/ready";

/// Pause between two tests.
const MIN_INTERVAL: Duration = Duration::from_secs(3);
/// Time for which a result is valid.
const RESULT_TTL: Duration = Duration::from_secs(10);
/// Wait for the first test, and the first after a while. Probes give up after a second by
/// default.
const PATIENCE: Duration = Duration::from_millis(500);

/// The result of the last test.
#[derive(Clone, Debug)]
struct StorageProbe {
    at: Instant,
    fault: Option<String>,
}

/// Tests whether the storage is writable.
#[derive(Debug, Default)]
pub struct StorageHealth {
    asked: Notify,
    storage: watch::Sender<Option<StorageProbe>>,
}

/// A reason for not being ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Unready {
    pub code: &'static str,
    pub text: String,
}

impl Unready {
    pub fn stopping() -> Self {
        Self { code: "stopping", text: "正在关闭 / it is shutting down".to_owned() }
    }

    pub fn stopped() -> Self {
        Self { code: "stopped", text: "服务未运行 / the service is stopped".to_owned() }
    }
}

impl StorageHealth {
    /// Tests the storage when a probe asks; runs until dropped.
    pub async fn run(&self, store: impl Fn() -> Store) {
        loop {
            self.asked.notified().await;
            let store = store();
            let tried = tasks::blocking(move || store.try_writing()).await;
            let fault = tried.err().as_ref().map(StoreError::to_string);
            self.storage.send_replace(Some(StorageProbe { at: Instant::now(), fault }));
            tokio::time::sleep(MIN_INTERVAL).await;
        }
    }

    /// Returns all that is not ready; `serving` is the server's own reason.
    pub async fn check(&self, serving: Option<Unready>) -> Vec<Unready> {
        // Nothing is tested during shutdown.
        if serving.as_ref().is_some_and(|why| why.code == Unready::stopping().code) {
            return serving.into_iter().collect();
        }
        self.asked.notify_one();
        let mut tries = self.storage.subscribe();
        let recent = |tried: &Option<StorageProbe>| {
            tried.as_ref().is_some_and(|tried| tried.at.elapsed() < RESULT_TTL)
        };
        let tried = timeout(PATIENCE, tries.wait_for(recent)).await;
        let storage = match tried {
            Ok(Ok(tried)) => tried.as_ref().and_then(|tried| tried.fault.clone()).map(|fault| {
                let text = format!("存储无法写入 / the storage can't be written to: {fault}");
                Unready { code: "storage_not_writable", text }
            }),
            Ok(Err(_)) | Err(_) => Some(Unready {
                code: "storage_hangs",
                text: "存储没有响应 / the storage does not answer".to_owned(),
            }),
        };
        serving.into_iter().chain(storage).collect()
    }
}

#[derive(Clone, Copy, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Live {
    status: HealthState,
}

#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Ready {
    status: HealthState,
    /// All that is not ready.
    problems: Vec<Unready>,
    /// The same in one text, if there is any.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
enum HealthState {
    Live,
    Ready,
    NotReady,
}

/// Answers `GET /api/health/live`.
pub async fn live() -> Response {
    answer(StatusCode::OK, Live { status: HealthState::Live })
}

/// Answers `GET /api/health/ready`, with all that is not ready.
pub fn ready(unready: &[Unready]) -> Response {
    if unready.is_empty() {
        let ready = Ready { status: HealthState::Ready, problems: Vec::new(), detail: None };
        return answer(StatusCode::OK, ready);
    }
    let detail: Vec<_> = unready.iter().map(|why| why.text.as_str()).collect();
    let detail = Some(detail.join("; "));
    let body = Ready { status: HealthState::NotReady, problems: unready.to_vec(), detail };
    answer(StatusCode::SERVICE_UNAVAILABLE, body)
}

/// Answers `GET /api/health/ready` where everything is served, but something else fails.
pub fn ready_in_part(failing: &[Unready]) -> Response {
    let detail: Vec<_> = failing.iter().map(|why| why.text.as_str()).collect();
    let detail = Some(detail.join("; "));
    answer(StatusCode::OK, Ready { status: HealthState::Ready, problems: failing.to_vec(), detail })
}

fn answer(status: StatusCode, body: impl Serialize) -> Response {
    (status, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use edge_mirror_base::tasks::Tasks;

    use super::*;

    fn codes(unready: &[Unready]) -> Vec<&'static str> {
        unready.iter().map(|why| why.code).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_storage_that_says_nothing_keeps_nobody_waiting() {
        let health = StorageHealth::default();
        let began = Instant::now();
        assert_eq!(codes(&health.check(None).await), ["storage_hangs"]);
        let write_all = health.check(Some(Unready::stopped())).await;
        assert_eq!(codes(&write_all), ["stopped", "storage_hangs"]);
        assert!(began.elapsed() < 3 * PATIENCE);
        // An old result says nothing about now.
        health.storage.send_replace(Some(StorageProbe { at: began, fault: None }));
        assert_eq!(codes(&health.check(None).await), [""; 0]);
        tokio::time::advance(RESULT_TTL).await;
        assert_eq!(codes(&health.check(None).await), ["storage_hangs"]);
        assert_eq!(codes(&health.check(Some(Unready::stopping())).await), ["stopping"]);
    }

    #[tokio::test]
    async fn it_is_tried_once_however_many_ask() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path()).unwrap();
        let (health, tasks) = (Arc::<StorageHealth>::default(), Tasks::new());
        let (tries, worker) =
            (Arc::new(edge_mirror_base::metrics::Counter::default()), health.clone());
        let (counted, end) = (tries.clone(), tasks.token().clone());
        tasks.spawn("health", async move {
            let store = || {
                counted.inc();
                store.clone()
            };
            end.run_until_cancelled(worker.run(store)).await;
        });
        for _ in 0..100 {
            assert_eq!(health.check(None).await, []);
        }
        assert_eq!(tries.get(), 1);
        assert!(tasks.shut_down(Duration::from_secs(5)).await);
        let left = std::fs::read_dir(folder.path().join(".scratch")).unwrap().count();
        assert_eq!(left, 0, "nothing is left of it");
    }
}
