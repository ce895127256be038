//! The packages that can't be pulled, as heartbeats name them. Pure.

use std::collections::{BTreeMap, HashMap};

use edge_mirror_protocol::{FailedPull, Fault, MAX_FAILED_PULLS, package::PackageId};

use crate::{board::SyncState, fetch::PullProgress};

/// Returns the packages of listed meetings with their last errors: that of the round
/// under way, else that of the last round.
pub(super) fn failed_pulls(
    sync: &SyncState,
    pulls: &HashMap<PackageId, PullProgress>,
) -> Vec<FailedPull> {
    let prestaged = sync.prestaged.iter();
    let prestaged = prestaged.filter_map(|(id, meeting)| Some((id, meeting.failing.as_ref()?)));
    let rounds = prestaged.chain(sync.failing.iter());
    let mut faults: BTreeMap<&PackageId, &Fault> =
        rounds.map(|(id, failure)| (id, &failure.error)).collect();
    let is_listed = |id: &PackageId| sync.active.contains(id) || sync.prestaged.contains_key(id);
    let in_round = pulls.iter().filter(|(id, _)| is_listed(id));
    faults.extend(in_round.filter_map(|(id, pull)| Some((id, &pull.failure.as_ref()?.0))));
    let report = |(id, fault): (&PackageId, &Fault)| {
        let Fault { cause, text } = fault.clone();
        FailedPull { id: id.clone(), cause, text }.truncated()
    };
    faults.into_iter().take(MAX_FAILED_PULLS).map(report).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use edge_mirror_base::clock::UnixMillis;
    use edge_mirror_protocol::Cause;

    use super::*;
    use crate::board::PullFailure;

    fn failure(text: &str) -> PullFailure {
        PullFailure {
            rounds: 1,
            error: Fault { cause: Cause::NoRoom, text: text.into() },
            next_try: UnixMillis::default(),
        }
    }

    #[test]
    fn failed_pulls_are_told_with_their_causes_and_no_more_than_are_read() {
        let id = |n: usize| format!("m{n:03}").parse::<PackageId>().unwrap();
        let failing = (0..MAX_FAILED_PULLS + 1).map(|n| (id(n), failure(&"会".repeat(n * 2))));
        let sync = SyncState { failing: Arc::new(failing.collect()), ..SyncState::default() };
        let told = failed_pulls(&sync, &HashMap::new());
        assert_eq!(told.len(), MAX_FAILED_PULLS);
        assert_eq!((told[0].id.as_str(), told[0].cause), ("m000", Cause::NoRoom));
        assert_eq!(told[1].text, "会会");
        assert!(told.iter().all(|failed| failed.text.len() <= 200));
        assert_eq!(failed_pulls(&SyncState::default(), &HashMap::new()), []);
    }
}
