//! Requests by route and status, and how long their answers took to begin. Requests that
//! hyper rejects as not being HTTP have no route and are not counted.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::StatusCode,
    middleware::Next,
    response::Response,
};
use edge_mirror_base::metrics::{Counter, Exposition, Histogram, histogram::ANSWERS};

/// The label for paths without a route.
const UNMATCHED: &str = "unmatched";

/// Statuses of our servers; any other is counted as `other`.
const CODES: [u16; 32] = [
    101, 200, 201, 202, 204, 206, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 406, 408,
    409, 411, 412, 413, 415, 416, 422, 429, 500, 502, 503, 504, 507,
];

/// The index of each status in [`CODES`], or its length.
const INDEXES: [u8; 600] = {
    let mut indexes = [CODES.len() as u8; 600];
    let mut index = 0;
    while index < CODES.len() {
        indexes[CODES[index] as usize] = index as u8;
        index += 1;
    }
    indexes
};

/// Counters of one path of a router.
#[derive(Debug)]
pub struct RouteMetrics {
    codes: [Counter; CODES.len() + 1],
    duration: Histogram,
}

impl Default for RouteMetrics {
    fn default() -> Self {
        Self {
            codes: std::array::from_fn(|_| Counter::default()),
            duration: Histogram::of(ANSWERS),
        }
    }
}

impl RouteMetrics {
    /// Counts an answer and the time it took.
    pub fn record(&self, status: StatusCode, took: Duration) {
        self.code(status).inc();
        self.duration.observe(took);
    }

    /// Counts an answer of the fast path, without measuring a time.
    pub fn record_immediate(&self, status: StatusCode) {
        self.code(status).inc();
        self.duration.observe_zero();
    }

    fn code(&self, status: StatusCode) -> &Counter {
        let index = INDEXES.get(usize::from(status.as_u16())).copied();
        &self.codes[index.map_or(CODES.len(), usize::from)]
    }
}

/// All routes requested so far: no more than the router has.
#[derive(Debug, Default)]
pub struct RequestMetrics {
    routes: RwLock<BTreeMap<String, Arc<RouteMetrics>>>,
}

impl RequestMetrics {
    /// Returns a route's counters, to be kept by frequent callers.
    pub fn route(&self, path: &str) -> Arc<RouteMetrics> {
        let known = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(route) = known.get(path) {
            return route.clone();
        }
        drop(known);
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        routes.entry(path.to_owned()).or_default().clone()
    }

    pub fn encode(&self, page: &mut Exposition) {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut family = page.counter(
            "edge_mirror_http_requests_total",
            "Requests answered, by the route that matched and the status.",
        );
        for (path, route) in &routes {
            for (index, counter) in route.codes.iter().enumerate() {
                let code = CODES.get(index).map_or("other".to_owned(), ToString::to_string);
                if counter.get() > 0 {
                    family.put(&[("route", path), ("code", &code)], counter.get());
                }
            }
        }
        let mut family = page.histogram(
            "edge_mirror_http_request_duration_seconds",
            "Time until the answer could begin. Packages at hand are answered at once, which counts as nothing.",
        );
        for (path, route) in &routes {
            family.put_histogram(&[("route", path)], &route.duration);
        }
    }
}

/// Middleware that counts requests.
pub async fn count_requests(
    State(requests): State<Arc<RequestMetrics>>,
    request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let path = request.extensions().get::<MatchedPath>();
    let route = requests.route(path.map_or(UNMATCHED, MatchedPath::as_str));
    let answer = next.run(request).await;
    route.record(answer.status(), began.elapsed());
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_a_place() {
        let requests = RequestMetrics::default();
        let route = requests.route("/a");
        for code in (100..1000).filter_map(|code| StatusCode::from_u16(code).ok()) {
            route.record_immediate(code);
        }
        assert!(CODES.iter().all(|code| INDEXES[usize::from(*code)] < CODES.len() as u8));
        assert!(route.codes[..CODES.len()].iter().all(|counter| counter.get() == 1));
        assert_eq!(route.codes[CODES.len()].get(), 900 - CODES.len() as u64);
        assert!(Arc::ptr_eq(&route, &requests.route("/a")));
    }
}
