//! Liveness of a loop: somebody asks, and the loop answers the next time that it
//! waits for something. A counter that the loop raised by itself would need a
//! timer, and would stand still while the loop has nothing to do.

use std::{future::Future, sync::Arc};

use tokio::sync::watch;

/// The asking side. Clones share it. One answering loop of several is enough.
#[derive(Clone, Debug, Default)]
pub struct Liveness {
    asked: Arc<watch::Sender<u64>>,
    answered: Arc<watch::Sender<u64>>,
}

impl Liveness {
    /// Waits until a loop has come round since this call; for ever if none does.
    pub async fn probe(&self) {
        let mut answers = self.answered.subscribe();
        let mut question = 0;
        self.asked.send_modify(|asked| {
            *asked += 1;
            question = *asked;
        });
        // Its sender is right here: it can't have gone.
        let _ = answers.wait_for(|answered| *answered >= question).await;
    }

    /// Returns the side of the loop that answers.
    pub fn responder(&self) -> Responder {
        let mut asked = self.asked.subscribe();
        // Questions asked before the loop began are answered, too.
        asked.mark_changed();
        Responder { asked, answered: self.answered.clone() }
    }
}

/// The loop's side of a [`Liveness`].
#[derive(Debug)]
pub struct Responder {
    asked: watch::Receiver<u64>,
    answered: Arc<watch::Sender<u64>>,
}

impl Responder {
    /// Waits for `work`, answering questions meanwhile.
    pub async fn serve_during<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            // Not `biased`: a loop that never has to wait answers, too.
            tokio::select! {
                done = &mut work => return done,
                () = self.answer() => {}
            }
        }
    }

    async fn answer(&mut self) {
        if self.asked.changed().await.is_err() {
            // No `Liveness` is left to ask.
            return std::future::pending().await;
        }
        let question = *self.asked.borrow_and_update();
        self.answered.send_modify(|answered| *answered = question.max(*answered));
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_loop_answers_while_it_waits_and_while_it_never_has_to() {
        let liveness = Liveness::default();
        let mut idle = liveness.responder();
        tokio::select! {
            () = liveness.probe() => {}
            () = idle.serve_during(pending()) => {}
        }
        let mut busy = liveness.responder();
        let never_waits = async {
            loop {
                busy.serve_during(ready(())).await;
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = liveness.probe() => {}
            () = never_waits => {}
        }
    }

    #[tokio::test]
    async fn a_loop_that_stands_still_does_not_answer_and_an_old_answer_is_none() {
        let liveness = Liveness::default();
        let mut responder = liveness.responder();
        let _ = responder.serve_during(pending::<()>()).now_or_never();
        assert!(liveness.probe().now_or_never().is_none());
        let _ = responder.serve_during(pending::<()>()).now_or_never();
        assert!(liveness.probe().now_or_never().is_none());
    }

    #[tokio::test]
    async fn who_asks_before_the_loop_begins_is_answered_once_it_does() {
        let liveness = Liveness::default();
        let early = liveness.probe();
        tokio::pin!(early);
        assert!(early.as_mut().now_or_never().is_none());
        let mut responder = liveness.responder();
        let _ = responder.serve_during(pending::<()>()).now_or_never();
        assert!(early.now_or_never().is_some());
    }
}
