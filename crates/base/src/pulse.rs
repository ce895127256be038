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
    pub async fn felt(&self) {
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
    pub fn questions(&self) -> Responder {
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
    pub async fn answered_beside<T>(&mut self, work: impl Future<Output = T>) -> T {
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
        let pulse = Liveness::default();
        let mut idle = pulse.questions();
        tokio::select! {
            () = pulse.felt() => {}
            () = idle.answered_beside(pending()) => {}
        }
        let mut busy = pulse.questions();
        let never_waits = async {
            loop {
                busy.answered_beside(ready(())).await;
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = pulse.felt() => {}
            () = never_waits => {}
        }
    }

    #[tokio::test]
    async fn a_loop_that_stands_still_does_not_answer_and_an_old_answer_is_none() {
        let pulse = Liveness::default();
        let mut questions = pulse.questions();
        let _ = questions.answered_beside(pending::<()>()).now_or_never();
        assert!(pulse.felt().now_or_never().is_none());
        let _ = questions.answered_beside(pending::<()>()).now_or_never();
        assert!(pulse.felt().now_or_never().is_none());
    }

    #[tokio::test]
    async fn who_asks_before_the_loop_begins_is_answered_once_it_does() {
        let pulse = Liveness::default();
        let early = pulse.felt();
        tokio::pin!(early);
        assert!(early.as_mut().now_or_never().is_none());
        let mut questions = pulse.questions();
        let _ = questions.answered_beside(pending::<()>()).now_or_never();
        assert!(early.now_or_never().is_some());
    }
}
