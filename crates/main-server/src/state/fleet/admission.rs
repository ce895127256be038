//! Decides whose registrations and heartbeats count.

use std::{net::IpAddr, str::FromStr};

use edge_mirror_base::clock::UnixMillis;
use serde::Serialize;
use thiserror::Error;

use super::known_nodes::KnownNodes;

/// New nodes, and known ones that call from another address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum NodePolicy {
    /// They wait for an operator, unless they prove themselves.
    #[default]
    Approve,
    /// They are accepted, whoever they are.
    Open,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("需要 approve 或 open / approve or open is needed")]
pub struct UnknownPolicy;

impl FromStr for NodePolicy {
    type Err = UnknownPolicy;

    fn from_str(text: &str) -> Result<Self, UnknownPolicy> {
        match text {
            "approve" => Ok(Self::Approve),
            "open" => Ok(Self::Open),
            _ => Err(UnknownPolicy),
        }
    }
}

/// The sender of a registration, heartbeat or poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeCaller {
    pub(crate) client: IpAddr,
    /// It sent the nodes' key, or is on this machine.
    pub(crate) is_proven: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Accepted,
    /// Waits for an operator.
    Pending,
    Refused,
}

/// `registered` is the client of the node that is there with this id, if there is one: it
/// may have been accepted a moment ago, and not be saved yet.
pub(crate) fn admit(
    known: &KnownNodes,
    policy: NodePolicy,
    id: &str,
    registered: Option<IpAddr>,
    caller: NodeCaller,
    now: UnixMillis,
) -> Admission {
    if known.is_refused(id, caller.client) {
        return Admission::Refused;
    }
    if caller.is_proven || policy == NodePolicy::Open {
        return Admission::Accepted;
    }
    match registered.or_else(|| known.get(id).map(|node| node.client)) {
        Some(owner) if owner == caller.client => Admission::Accepted,
        Some(_) => Admission::Pending,
        None if known.open_until(now).is_some() => Admission::Accepted,
        None => Admission::Pending,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::fleet::{FleetRecord, KnownNode, LearnedNode, RefusedNode};

    fn client(n: u8) -> IpAddr {
        [10, 0, 0, n].into()
    }

    fn at(seconds: u64) -> UnixMillis {
        UnixMillis::from_secs(seconds)
    }

    /// `a` is known from client 1, and refused from client 6; nodes are accepted until
    /// second 10.
    fn known() -> KnownNodes {
        let a = LearnedNode::new("a".into(), "10.0.0.1:8001".into(), client(1), at(1));
        let refused = RefusedNode {
            id: "a".into(),
            address: "10.0.0.6:8001".into(),
            client: client(6),
            at: at(1),
        };
        let record = FleetRecord { open_until: Some(at(10)), ..FleetRecord::default() };
        KnownNodes::new([KnownNode::from(a)], [refused], record)
    }

    #[test]
    fn who_is_accepted_at_once_and_who_waits() {
        use Admission::{Accepted, Pending, Refused};
        use NodePolicy::{Approve, Open};
        let known = known();
        let stranger = |n| NodeCaller { client: client(n), is_proven: false };
        let proven = |n| NodeCaller { client: client(n), is_proven: true };
        for (policy, id, registered, caller, second, expected) in [
            (Approve, "a", None, stranger(1), 20, Accepted),
            (Approve, "b", None, stranger(1), 20, Pending),
            (Approve, "b", None, proven(1), 20, Accepted),
            (Open, "b", None, stranger(1), 20, Accepted),
            // Another takes a known id.
            (Approve, "a", None, stranger(2), 20, Pending),
            (Approve, "a", Some(client(1)), stranger(2), 20, Pending),
            // It proved itself a moment ago, and that is not saved yet.
            (Approve, "a", Some(client(2)), stranger(2), 20, Accepted),
            (Approve, "a", Some(client(2)), stranger(1), 20, Pending),
            (Approve, "a", None, proven(2), 20, Accepted),
            (Open, "a", None, stranger(2), 20, Accepted),
            // Accepted, and not saved yet.
            (Approve, "b", Some(client(2)), stranger(2), 20, Accepted),
            (Approve, "b", Some(client(2)), stranger(3), 20, Pending),
            // After an upgrade.
            (Approve, "b", None, stranger(1), 9, Accepted),
            (Approve, "a", None, stranger(2), 9, Pending),
            (Approve, "b", Some(client(2)), stranger(3), 9, Pending),
            (Approve, "b", None, stranger(1), 10, Pending),
            // A refusal is of a client and an id.
            (Approve, "a", None, stranger(6), 9, Refused),
            (Open, "a", None, stranger(6), 20, Refused),
            (Approve, "a", None, proven(6), 20, Refused),
            (Approve, "b", None, stranger(6), 20, Pending),
        ] {
            let got = admit(&known, policy, id, registered, caller, at(second));
            assert_eq!(got, expected, "{policy:?} {id} {registered:?} {caller:?} at {second}");
        }
    }
}
