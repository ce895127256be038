//! `relay.schedule`: what other nodes get of operators' files, and of packages whose meetings
//! have not been started. It is looked at all the time, as the meeting may start while they get it.

use std::{future::poll_fn, io, pin::Pin, time::Duration};

use axum::body::{Body, Bytes, HttpBody};
use edge_mirror_protocol::object::ObjectKey;
use edge_mirror_settings::{Config, ScheduledLimit};
use futures_util::stream;
use tokio::time::timeout;

use super::super::AppState;
use crate::fetch::Fetch;

/// The limit falls away within this time once the meeting starts.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// True of all but packages of meetings that run.
pub(super) fn is_deferrable(fetch: &Fetch, key: &ObjectKey) -> bool {
    key.package().is_none_or(|id| fetch.is_withheld(id))
}

pub(super) fn limit(fetch: &Fetch, config: &Config, key: &ObjectKey) -> ScheduledLimit {
    match is_deferrable(fetch, key) {
        true => config.relay.schedule.limit_now(),
        false => ScheduledLimit::Unlimited,
    }
}

/// The body at the pace that the schedule allows; it breaks off when that allows nothing
/// any more.
pub(super) fn limited(state: &AppState, key: ObjectKey, body: Body) -> Body {
    if body.is_end_stream() {
        return body;
    }
    let paced = (state.clone(), key, body, Bytes::new());
    Body::from_stream(stream::try_unfold(paced, |(state, key, mut body, mut ready)| async move {
        while ready.is_empty() {
            let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
            let Some(frame) = frame else { return Ok(None) };
            ready = frame.map_err(io::Error::other)?.into_data().unwrap_or_default();
        }
        let portion = take(&state, &key, ready.len()).await?;
        let sent = ready.split_to(portion);
        Ok::<_, io::Error>(Some((sent, (state, key, body, ready))))
    }))
}

/// Waits until some of so many bytes may be sent; returns how many.
async fn take(state: &AppState, key: &ObjectKey, wanted: usize) -> io::Result<usize> {
    let pacer = &state.relay_traffic.prestage_pacer;
    loop {
        let rate = match limit(&state.fetch, &state.settings.current(), key) {
            ScheduledLimit::Unlimited => return Ok(wanted),
            ScheduledLimit::Off => {
                return Err(io::Error::other("relay.schedule allows nothing now"));
            }
            ScheduledLimit::BytesPerSecond(rate) => rate,
        };
        pacer.set_rate(rate);
        if let Ok(portion) = timeout(LONGEST_WAIT, pacer.take(wanted as u64)).await {
            return Ok(usize::try_from(portion).unwrap_or(wanted));
        }
    }
}
