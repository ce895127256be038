//! Finds a parent that is there. Nodes that are ranked were found in a list some time ago:
//! of a node that is cut off from all others, none answers, and it must not lose much time
//! with them, one after the other.

use std::{collections::VecDeque, time::Duration};

use edge_mirror_protocol::relay::Sibling;
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, timeout_at};

use super::{super::FetchInner, super::context::AttemptContext, RelayRound, RelayedPackage};
use crate::{
    siblings::ParentCandidates,
    upstream::{SiblingError, SiblingSession},
};

/// One that has not answered for so long has company (RFC 8305, "happy eyeballs"). A node
/// may be short of processor time.
const STAGGER: Duration = Duration::from_millis(500);
/// Time for all of them together.
const LONGEST_SEARCH: Duration = Duration::from_secs(4);

/// The end of a search.
#[derive(Default)]
pub(super) struct ParentSearch {
    /// With the one to ask.
    pub found: Option<SiblingSession>,
    /// Those that can't be asked.
    pub lost: Vec<(Sibling, SiblingError)>,
}

impl FetchInner {
    /// Takes the first candidate that our main server names: it knows who is there. Of
    /// ranked ones, the first that answers, with the next one asked as well if the one
    /// before does not answer soon.
    pub(super) async fn find_parent(
        &self,
        task: &AttemptContext<'_>,
        relay: &RelayRound,
        package: &RelayedPackage,
        candidates: &ParentCandidates,
    ) -> ParentSearch {
        let (now, mut search) = (Instant::now(), ParentSearch::default());
        if candidates.is_planned {
            if let Some(parent) = relay.choose(candidates, now).cloned() {
                match self.session(task, package, &parent) {
                    Ok(session) => search.found = Some(session),
                    Err(error) => search.lost.push((parent, error)),
                }
            }
            return search;
        }
        let mut next: VecDeque<_> = relay.not_left(candidates, now).cloned().collect();
        let (until, mut asked) = (now + LONGEST_SEARCH, FuturesUnordered::new());
        let mut unanswered: Vec<Sibling> = Vec::new();
        loop {
            if let Some(parent) = next.pop_front() {
                match self.session(task, package, &parent) {
                    Ok(mut session) => {
                        unanswered.push(parent);
                        asked.push(async move {
                            let answered = session.connect().await;
                            (session, answered)
                        });
                    }
                    Err(error) => search.lost.push((parent, error)),
                }
            }
            let wake_at = match next.is_empty() {
                true => until,
                false => until.min(Instant::now() + STAGGER),
            };
            match timeout_at(wake_at, asked.next()).await {
                Ok(Some((session, Ok(())))) => {
                    search.found = Some(session);
                    return search;
                }
                Ok(Some((session, Err(error)))) => {
                    unanswered.retain(|sibling| *sibling != session.sibling);
                    search.lost.push((session.sibling, error));
                }
                Ok(None) if next.is_empty() => return search,
                Err(_) if Instant::now() >= until => {
                    let silent = unanswered.into_iter().chain(next);
                    let error = || SiblingError::TimedOut(LONGEST_SEARCH);
                    search.lost.extend(silent.map(|sibling| (sibling, error())));
                    return search;
                }
                Ok(None) | Err(_) => {}
            }
        }
    }
}
