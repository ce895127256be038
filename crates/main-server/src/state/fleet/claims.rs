//! Nodes that wait for an operator: new ones, and known ones that call from another
//! address. In memory only, and bounded, so that nobody fills it or hides the others.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_http::listen::rate_limit_key;

use super::presence::SILENCE;
use crate::{refusal::RequestError, state::newcomers::NewcomerLimiter};

/// A page that lists more helps nobody; more than a venue brings at a time.
pub(crate) const MAX_CLAIMS: usize = 1024;
/// The same from one client, IPv6 by network: a venue behind one address.
pub(crate) const MAX_CLAIMS_OF_CLIENT: usize = MAX_CLAIMS / 4;
/// A node that is silent for this long does not wait any more.
const PATIENCE: Duration = Duration::from_secs(3600);

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NodeClaim {
    pub address: String,
    pub client: IpAddr,
    pub status: String,
    /// None for one of the old kind, and before the first heartbeat.
    pub version: Option<String>,
    pub(crate) first_seen: UnixMillis,
    pub(crate) heard_at: UnixMillis,
}

/// By the id that is claimed, one for each.
#[derive(Debug, Default)]
pub(crate) struct NodeClaims {
    claims: BTreeMap<String, NodeClaim>,
    newcomers: NewcomerLimiter,
}

impl NodeClaims {
    /// Notes a call; true if the claim is new. While a client is heard, another one's
    /// claim of the same id does not replace its own: it would be approved unseen.
    pub(crate) fn note(&mut self, id: &str, claim: NodeClaim) -> Result<bool, RequestError> {
        let now = claim.heard_at;
        if let Some(known) = self.claims.get_mut(id) {
            if known.client == claim.client {
                let version = claim.version.or(known.version.take());
                *known = NodeClaim { first_seen: known.first_seen, version, ..claim };
                return Ok(false);
            }
            if is_heard(known, now) {
                return Ok(false);
            }
        }
        self.forget_silent(now);
        self.check_room(id, claim.client)?;
        self.newcomers.admit(claim.client, now)?;
        self.claims.insert(id.to_owned(), claim);
        Ok(true)
    }

    /// The claim that another one of the same id replaces counts for neither limit.
    fn check_room(&self, id: &str, client: IpAddr) -> Result<(), RequestError> {
        let client = rate_limit_key(client);
        let others = || self.claims.iter().filter(|(other, _)| *other != id);
        let of_client = others().filter(|(_, claim)| rate_limit_key(claim.client) == client);
        match of_client.count() < MAX_CLAIMS_OF_CLIENT && others().count() < MAX_CLAIMS {
            true => Ok(()),
            false => Err(RequestError::TooManyPending(MAX_CLAIMS_OF_CLIENT)),
        }
    }

    /// Those that are silent go after an hour, and at once where all places are taken.
    fn forget_silent(&mut self, now: UnixMillis) {
        let is_full = self.claims.len() >= MAX_CLAIMS;
        let patience = if is_full { SILENCE } else { PATIENCE };
        self.claims.retain(|_, claim| now.saturating_since(claim.heard_at) < patience);
    }

    pub(crate) fn get(&self, id: &str) -> Option<&NodeClaim> {
        self.claims.get(id)
    }

    /// In the order of their ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &NodeClaim)> {
        self.claims.iter().map(|(id, claim)| (&**id, claim))
    }

    pub(crate) fn len(&self) -> usize {
        self.claims.len()
    }

    pub(crate) fn remove(&mut self, id: &str) -> Option<NodeClaim> {
        self.claims.remove(id)
    }

    /// Removes the claim of `client` alone; true if there was one.
    pub(crate) fn withdraw(&mut self, id: &str, client: IpAddr) -> bool {
        let is_theirs = self.claims.get(id).is_some_and(|claim| claim.client == client);
        is_theirs && self.claims.remove(id).is_some()
    }

    /// Forgets those that gave up.
    pub(crate) fn expire(&mut self, now: UnixMillis) {
        self.claims.retain(|_, claim| now.saturating_since(claim.heard_at) < PATIENCE);
    }

    /// Takes out those that `is_settled` names.
    pub(crate) fn take(
        &mut self,
        is_settled: impl Fn(&str, &NodeClaim) -> bool,
    ) -> Vec<(String, NodeClaim)> {
        self.claims.extract_if(.., |id, claim| is_settled(id, claim)).collect()
    }
}

fn is_heard(claim: &NodeClaim, now: UnixMillis) -> bool {
    now.saturating_since(claim.heard_at) < SILENCE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(of: u8, seconds: u64) -> NodeClaim {
        let now = UnixMillis::from_secs(seconds);
        NodeClaim {
            address: format!("10.0.0.{of}:8001"),
            client: [10, 0, 0, of].into(),
            status: "online".into(),
            version: None,
            first_seen: now,
            heard_at: now,
        }
    }

    #[test]
    fn one_that_waits_is_not_displaced_while_it_is_heard() {
        let mut claims = NodeClaims::default();
        assert!(claims.note("a", claim(1, 0)).unwrap());
        assert!(!claims.note("a", claim(1, 20)).unwrap(), "again");
        assert!(!claims.note("a", claim(2, 49)).unwrap());
        let kept = claims.get("a").unwrap();
        assert_eq!((kept.client, kept.first_seen.as_secs()), (claim(1, 0).client, 0));
        assert!(claims.note("a", claim(2, 50)).unwrap(), "the first one is silent");
        assert_eq!(claims.get("a").unwrap().client, claim(2, 0).client);
        assert!(!claims.withdraw("a", claim(1, 0).client), "it is another's");
        assert!(claims.withdraw("a", claim(2, 0).client) && claims.len() == 0);
    }

    #[test]
    fn a_claim_that_is_refused_costs_nobody_theirs() {
        let mut claims = NodeClaims::default();
        claims.note("a", claim(1, 0)).unwrap();
        for n in 0..MAX_CLAIMS_OF_CLIENT {
            claims.note(&format!("n{n}"), claim(2, 20)).unwrap();
        }
        assert!(claims.note("a", claim(2, 40)).is_err(), "the first one is silent");
        assert_eq!(claims.get("a").unwrap().client, claim(1, 0).client);
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_client_and_each_address_claims_for_itself() {
        let mut claims = NodeClaims::default();
        let from = |n: usize| {
            let client = format!("2001:db8::{n:x}").parse().unwrap();
            NodeClaim { client, ..claim(1, 0) }
        };
        claims.note("a", from(1)).unwrap();
        assert!(!claims.withdraw("a", from(2).client), "it is another's");
        for n in 1..MAX_CLAIMS_OF_CLIENT {
            claims.note(&format!("n{n}"), from(n)).unwrap();
        }
        let beyond = claims.note("beyond", from(MAX_CLAIMS_OF_CLIENT));
        assert!(matches!(beyond, Err(RequestError::TooManyPending(_))), "{beyond:?}");
        assert!(claims.note("beyond", claim(1, 0)).unwrap(), "others are not concerned");
    }

    #[test]
    fn they_are_bounded_in_all_and_for_each_client_and_the_silent_make_room() {
        let mut claims = NodeClaims::default();
        for n in 0..MAX_CLAIMS {
            let (of, nth) = (n / MAX_CLAIMS_OF_CLIENT, n % MAX_CLAIMS_OF_CLIENT);
            if nth == 0 && of > 0 {
                let beyond = claims.note("beyond", claim(of as u8 - 1, 0));
                assert!(matches!(beyond, Err(RequestError::TooManyPending(_))), "{beyond:?}");
            }
            assert!(claims.note(&n.to_string(), claim(of as u8, 0)).unwrap());
        }
        assert!(claims.note("beyond", claim(99, 29)).is_err());
        assert!(!claims.note("7", claim(0, 29)).unwrap(), "known ones stay");
        assert!(claims.note("beyond", claim(99, 30)).unwrap());
        assert_eq!(claims.len(), 2);
        claims.expire(UnixMillis::from_secs(3629));
        assert_eq!(claims.iter().map(|(id, _)| id).collect::<Vec<_>>(), ["beyond"]);
    }
}
