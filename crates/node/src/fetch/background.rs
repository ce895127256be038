//! Pulls in the background give way to others: those before a meeting's start to all that
//! are more urgent, at once and with the bytes that they have, and so do those of files; all
//! these and comparisons give way to `network.schedule`. A pull that somebody else needs meanwhile is none of them any more.

use std::time::Duration;

use edge_mirror_settings::ScheduledLimit;
use edge_mirror_store::{StoreError, evict};
use tokio::time::{Instant, sleep};

use super::{FetchInner, Flight, PullError, PullPhase, PullReason};

/// Schedules are by the minute, the clock may be set, and another pull may pause.
const TURN_PAUSE: Duration = Duration::from_secs(5);

impl FetchInner {
    /// Waits until nothing stands in the way of the pull.
    pub(super) async fn wait_for_turn(&self, flight: &Flight) {
        let (mut turns, mut changes) = (self.turns.subscribe(), self.settings.subscribe());
        while !self.has_turn(flight) {
            flight.set_phase(PullPhase::Deferred);
            tokio::select! {
                _ = turns.changed() => {}
                _ = changes.changed() => {}
                () = sleep(TURN_PAUSE) => {}
            }
        }
    }

    /// Waits until the pull has to give way; forever, if it never has to.
    pub(super) async fn wait_to_give_way(&self, flight: &Flight) {
        let (mut turns, mut changes) = (self.turns.subscribe(), self.settings.subscribe());
        loop {
            if !flight.urgency_now().is_background() {
                return std::future::pending().await;
            }
            if !self.has_turn(flight) {
                return;
            }
            tokio::select! {
                _ = turns.changed() => {}
                _ = changes.changed() => {}
                () = sleep(TURN_PAUSE) => {}
            }
        }
    }

    pub(super) fn has_turn(&self, flight: &Flight) -> bool {
        match flight.urgency_now() {
            PullReason::Prestage => self.has_spare_turn(),
            urgency => !urgency.is_background() || self.is_scheduled(),
        }
    }

    /// True if nothing more urgent than prestaging is under way, and the schedule allows
    /// something.
    fn has_spare_turn(&self) -> bool {
        // One that waits between two attempts needs nothing.
        let is_urgent = |other: &Flight| {
            other.urgency_now() < PullReason::Prestage && other.phase() != PullPhase::Pausing
        };
        self.is_scheduled() && !self.state().flights.values().any(|other| is_urgent(other))
    }

    fn is_scheduled(&self) -> bool {
        self.settings.current().network.schedule.limit_now() != ScheduledLimit::Off
    }

    /// Waits until pulls of files may go on, or have to give way.
    pub(super) async fn wait_for_spare_turn(&self, wanted: bool) {
        let (mut turns, mut changes) = (self.turns.subscribe(), self.settings.subscribe());
        while self.has_spare_turn() != wanted {
            tokio::select! {
                _ = turns.changed() => {}
                _ = changes.changed() => {}
                () = sleep(TURN_PAUSE) => {}
            }
        }
    }

    /// Another pull has begun, ended or become more urgent.
    pub(super) fn note_turn(&self) {
        self.turns.send_replace(());
    }

    /// Waits until bytes that have arrived are paid for by the schedule, which no longer
    /// counts once somebody needs the package.
    pub(super) async fn throttle_background(&self, flight: &Flight, bytes: usize) -> Duration {
        self.throttle_while(bytes, || flight.urgency_now().is_background()).await
    }

    pub(super) async fn throttle_while(
        &self,
        bytes: usize,
        is_background: impl Fn() -> bool,
    ) -> Duration {
        let (began, mut left) = (Instant::now(), bytes as u64);
        while left > 0 && is_background() {
            let config = self.settings.current();
            let ScheduledLimit::BytesPerSecond(rate) = config.network.schedule.limit_now() else {
                break;
            };
            self.background_pacer.set_rate(rate);
            left -= self.background_pacer.take(left).await;
        }
        match left < bytes as u64 {
            true => began.elapsed(),
            false => Duration::ZERO,
        }
    }

    /// Fails where a package of a meeting that has not been started would make others go
    /// that are needed, or be the next to go itself.
    pub(super) fn check_spare_room(&self, flight: &Flight) -> Result<(), PullError> {
        let Some(bytes) = self.board.prestaged_bytes(flight.id()) else { return Ok(()) };
        let (config, store) = (self.settings.current(), self.board.store());
        let storage = &config.storage;
        let own = Some(flight.id());
        let others = store.list();
        let others = others.iter().filter(|stored| stored.manifest.key.package() != own);
        let mut kept_bytes = bytes;
        for stored in others {
            let candidate = super::room::candidate(&self.board, stored);
            let goes = !candidate.retained && !candidate.is_prestaged && storage.auto_cleanup;
            if !goes {
                kept_bytes = kept_bytes.saturating_add(candidate.size_bytes);
            }
        }
        let threshold = if storage.auto_cleanup { storage.cleanup_threshold } else { 1.0 };
        if evict::excess(kept_bytes, storage.max_size, threshold) > 0 {
            return Err(StoreError::NoRoom(format!(
                "the package of a meeting that has not been started ({bytes} bytes) does not fit beside what must be kept; raise storage.maxSize"
            ))
            .into());
        }
        Ok(())
    }
}
