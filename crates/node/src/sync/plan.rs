//! Decides what to do for each active meeting. Pure: facts in, steps out.

use edge_mirror_protocol::package::{PackageId, Sha256};
use tokio::time::Instant;

use crate::fetch::PullReason;

/// The facts of one active meeting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeetingFacts<'a> {
    pub id: &'a PackageId,
    /// The digest of the stored package, if there is one.
    pub held: Option<Sha256>,
    /// The digest that the main server announces, if it is ours.
    pub announced: Option<Sha256>,
    /// True if the main server offers a `package_url`, which makes version checks cheap.
    pub offered: bool,
    /// Only a pull can tell if the package changed.
    pub(crate) incomparable: bool,
    /// Known to be outdated.
    pub(crate) stale: bool,
    /// Being pulled already.
    pub under_way: Option<PullReason>,
    /// That pull waits between two attempts and delays no other.
    pub(crate) pausing: bool,
    /// Its version has not been checked in this sweep.
    pub(crate) unchecked: bool,
    /// Failed recently: no retry before then.
    pub not_before: Option<Instant>,
    /// The token under which it was last known to be current.
    pub confirmed: Option<&'a str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanStep {
    Pull(PackageId, PullReason),
    /// Check the version.
    Check(PackageId),
    /// These bytes are current; no check needed.
    Confirm(PackageId, Sha256),
}

/// The steps for all active meetings under this token, in their order.
pub fn plan<'a>(
    meetings: impl IntoIterator<Item = MeetingFacts<'a>>,
    token: &str,
    now: Instant,
) -> Vec<PlanStep> {
    let (mut steps, mut busy) = (Vec::new(), false);
    for facts in meetings {
        busy |= facts.under_way.is_some() && !facts.pausing;
        steps.extend(step(&facts, token, now));
    }
    // A comparison pulls what is probably stored already: one at a time, and never
    // while somebody waits for a missing package.
    let mut quiet = !busy
        && !steps.iter().any(
            |step| matches!(step, PlanStep::Pull(_, reason) if *reason != PullReason::Compare),
        );
    steps.retain(|step| match step {
        PlanStep::Pull(_, PullReason::Compare) => std::mem::take(&mut quiet),
        _ => true,
    });
    steps
}

fn step(facts: &MeetingFacts<'_>, token: &str, now: Instant) -> Option<PlanStep> {
    if facts.under_way.is_some() || facts.not_before.is_some_and(|at| now < at) {
        return None;
    }
    let pull = |reason| Some(PlanStep::Pull(facts.id.clone(), reason));
    let Some(held) = facts.held else { return pull(PullReason::Missing) };
    let same_token = facts.confirmed == Some(token);
    match facts.announced {
        Some(announced) if announced != held => return pull(PullReason::Changed),
        Some(_) => return (!same_token).then(|| PlanStep::Confirm(facts.id.clone(), held)),
        None if facts.stale => return pull(PullReason::Changed),
        None => {}
    }
    if facts.offered && !facts.incomparable {
        return facts.unchecked.then(|| PlanStep::Check(facts.id.clone()));
    }
    if same_token { None } else { pull(PullReason::Compare) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const HELD: Sha256 = Sha256::new([1; 32]);
    const OTHER: Sha256 = Sha256::new([2; 32]);

    fn id(name: &str) -> PackageId {
        name.parse().unwrap()
    }

    fn facts(id: &PackageId) -> MeetingFacts<'_> {
        MeetingFacts {
            id,
            held: Some(HELD),
            announced: None,
            offered: true,
            incomparable: false,
            stale: false,
            under_way: None,
            pausing: false,
            unchecked: true,
            not_before: None,
            confirmed: None,
        }
    }

    fn only(facts: MeetingFacts<'_>, now: Instant) -> Option<PlanStep> {
        let steps = plan([facts], "t", now);
        assert!(steps.len() <= 1);
        steps.into_iter().next()
    }

    #[test]
    fn one_meeting_at_a_time() {
        let now = Instant::now();
        let name = id("m");
        let pull = |reason| Some(PlanStep::Pull(name.clone(), reason));
        let check = Some(PlanStep::Check(name.clone()));
        let confirm = Some(PlanStep::Confirm(name.clone(), HELD));
        let m = || facts(&name);
        let second = Duration::from_secs(1);
        for (what, facts, expected) in [
            ("not here", MeetingFacts { held: None, ..m() }, pull(PullReason::Missing)),
            (
                "being pulled",
                MeetingFacts { held: None, under_way: Some(PullReason::Missing), ..m() },
                None,
            ),
            (
                "failed lately",
                MeetingFacts { held: None, not_before: Some(now + second), ..m() },
                None,
            ),
            (
                "failed long ago",
                MeetingFacts { held: None, not_before: Some(now), ..m() },
                pull(PullReason::Missing),
            ),
            ("never checked", m(), check.clone()),
            ("not told in this sweep", MeetingFacts { unchecked: false, ..m() }, None),
            (
                "checked in this sweep",
                MeetingFacts { unchecked: false, confirmed: Some("t"), ..m() },
                None,
            ),
            ("checked in the one before", MeetingFacts { confirmed: Some("t"), ..m() }, check),
            (
                "outdated",
                MeetingFacts { stale: true, confirmed: Some("t"), ..m() },
                pull(PullReason::Changed),
            ),
            ("announced the same", MeetingFacts { announced: Some(HELD), ..m() }, confirm),
            (
                "announced and confirmed",
                MeetingFacts { announced: Some(HELD), confirmed: Some("t"), ..m() },
                None,
            ),
            (
                "announced another",
                MeetingFacts { announced: Some(OTHER), confirmed: Some("t"), ..m() },
                pull(PullReason::Changed),
            ),
            (
                "direct only, new token",
                MeetingFacts { offered: false, ..m() },
                pull(PullReason::Compare),
            ),
            (
                "direct only, same token",
                MeetingFacts { offered: false, confirmed: Some("t"), ..m() },
                None,
            ),
            ("adopted", MeetingFacts { incomparable: true, ..m() }, pull(PullReason::Compare)),
        ] {
            assert_eq!(only(facts, now), expected, "{what}");
        }
    }

    #[test]
    fn comparing_is_done_one_at_a_time_and_after_everything_else() {
        let now = Instant::now();
        let (a, b, c) = (id("a"), id("b"), id("c"));
        let direct = |id| MeetingFacts { offered: false, ..facts(id) };
        let compare = |id: &PackageId| PlanStep::Pull(id.clone(), PullReason::Compare);
        assert_eq!(plan([direct(&a), direct(&b)], "t", now), [compare(&a)]);
        let missing = MeetingFacts { held: None, ..facts(&c) };
        assert_eq!(
            plan([direct(&a), missing], "t", now),
            [PlanStep::Pull(c.clone(), PullReason::Missing)]
        );
        let busy = MeetingFacts { under_way: Some(PullReason::Compare), ..direct(&a) };
        assert_eq!(plan([busy.clone(), direct(&b)], "t", now), []);
        let pausing = MeetingFacts { pausing: true, ..busy };
        assert_eq!(plan([pausing, direct(&b)], "t", now), [compare(&b)]);
    }

    proptest! {
        #[test]
        fn whatever_is_missing_and_not_held_back_is_pulled(
            meetings in prop::collection::vec((any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()), 0..20),
        ) {
            let now = Instant::now();
            let ids: Vec<_> = (0..meetings.len()).map(|n| id(&format!("m{n}"))).collect();
            let all: Vec<_> = meetings.iter().zip(&ids).map(|((held, offered, busy, held_back), id)| MeetingFacts {
                held: held.then_some(HELD),
                offered: *offered,
                under_way: busy.then_some(PullReason::Missing),
                not_before: held_back.then(|| now + Duration::from_secs(1)),
                ..facts(id)
            }).collect();
            let steps = plan(all.clone(), "t", now);
            for facts in &all {
                let pulled = steps.contains(&PlanStep::Pull(facts.id.clone(), PullReason::Missing));
                prop_assert_eq!(pulled, facts.held.is_none() && facts.under_way.is_none() && facts.not_before.is_none());
            }
            let compares = steps.iter().filter(|s| matches!(s, PlanStep::Pull(_, PullReason::Compare))).count();
            prop_assert!(compares <= 1);
        }
    }
}
