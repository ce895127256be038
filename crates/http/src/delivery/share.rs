//! One download's share of `serve.bandwidth`, for bodies that are polled.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio_util::sync::ReusableBoxFuture;

use super::Traffic;

#[derive(Default)]
pub(super) struct BandwidthShare {
    /// Granted and not sent yet.
    granted_bytes: u64,
    /// Created on first use, and reused: it costs an allocation.
    turn: Option<ReusableBoxFuture<'static, u64>>,
    waiting: bool,
    /// Already counted as one that had to wait.
    noted: bool,
}

impl BandwidthShare {
    /// Waits until some `wanted` bytes may be sent; returns how many.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        traffic: &Arc<Traffic>,
        wanted: u64,
    ) -> Poll<u64> {
        if self.granted_bytes == 0 && !self.waiting {
            if traffic.pacer.is_unlimited() {
                return Poll::Ready(wanted);
            }
            match traffic.pacer.try_take(wanted) {
                Some(granted) => self.granted_bytes = granted,
                None => self.wait(traffic, wanted),
            }
        }
        if let Some(turn) = self.turn.as_mut().filter(|_| self.waiting) {
            self.granted_bytes = ready!(turn.poll(cx));
            self.waiting = false;
        }
        Poll::Ready(self.granted_bytes.min(wanted))
    }

    pub(super) fn sent(&mut self, bytes: u64) {
        self.granted_bytes = self.granted_bytes.saturating_sub(bytes);
    }

    fn wait(&mut self, traffic: &Arc<Traffic>, wanted: u64) {
        if !std::mem::replace(&mut self.noted, true) {
            traffic.count_paced();
        }
        let traffic = traffic.clone();
        let turn = async move { traffic.pacer.take(wanted).await };
        match &mut self.turn {
            Some(made) => made.set(turn),
            None => self.turn = Some(ReusableBoxFuture::new(turn)),
        }
        self.waiting = true;
    }
}
