//! Decides which of the casts that wait are saved, and under which numbers.

use std::{collections::HashMap, sync::Arc};

use super::{CastId, CastLimits, NewCast};
use crate::refusal::RequestError;

/// The casts that are kept, before any is added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CastTotals {
    /// The last number that was given.
    pub(crate) seq: i64,
    pub(crate) count: u64,
    pub(crate) bytes: u64,
}

/// A kept cast that has a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyedCast {
    pub(crate) id: CastId,
    pub(crate) fingerprint: String,
}

/// The id of a cast that is saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CastReceipt {
    pub(crate) id: CastId,
    /// It was saved before, and is not sent again.
    pub(crate) repeated: bool,
}

/// The reason that a request's casts are not saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CastRefusal {
    /// Its key is that of another cast.
    OtherContent(String),
    /// So many casts, or so many bytes, are kept already.
    Full(u64, u64),
}

impl From<CastRefusal> for RequestError {
    fn from(refusal: CastRefusal) -> Self {
        match refusal {
            CastRefusal::OtherContent(key) => Self::OtherCast(key),
            CastRefusal::Full(casts, bytes) => Self::TooManyCasts(casts, bytes),
        }
    }
}

/// Gives numbers to the casts of some requests, in their order: to all of a request or to
/// none. `keyed` has the kept casts of all keys that occur, and gets the new ones.
pub(crate) fn admit(
    stream: &Arc<str>,
    totals: &mut CastTotals,
    keyed: &mut HashMap<String, KeyedCast>,
    limits: &CastLimits,
    requests: &[&[NewCast]],
) -> Vec<Result<Vec<CastReceipt>, CastRefusal>> {
    requests.iter().map(|request| admit_one(stream, totals, keyed, limits, request)).collect()
}

fn admit_one(
    stream: &Arc<str>,
    totals: &mut CastTotals,
    keyed: &mut HashMap<String, KeyedCast>,
    limits: &CastLimits,
    casts: &[NewCast],
) -> Result<Vec<CastReceipt>, CastRefusal> {
    let (mut after, mut new_keys) = (*totals, HashMap::new());
    let mut receipts = Vec::with_capacity(casts.len());
    for cast in casts {
        let known = keyed.get(&cast.key).or_else(|| new_keys.get(&cast.key));
        if let Some(known) = known.filter(|_| !cast.key.is_empty()) {
            if known.fingerprint != cast.details.fingerprint {
                return Err(CastRefusal::OtherContent(cast.key.clone()));
            }
            receipts.push(CastReceipt { id: known.id.clone(), repeated: true });
            continue;
        }
        after.seq += 1;
        after.count += 1;
        after.bytes += cast.bytes() as u64;
        if after.count > limits.max_casts || after.bytes > limits.max_bytes {
            return Err(CastRefusal::Full(limits.max_casts, limits.max_bytes));
        }
        let id = CastId { stream: stream.clone(), seq: after.seq };
        if !cast.key.is_empty() {
            let fingerprint = cast.details.fingerprint.clone();
            new_keys.insert(cast.key.clone(), KeyedCast { id: id.clone(), fingerprint });
        }
        receipts.push(CastReceipt { id, repeated: false });
    }
    *totals = after;
    keyed.extend(new_keys);
    Ok(receipts)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use edge_mirror_base::clock::UnixMillis;

    use super::*;
    use crate::state::{
        audit::{AuditedLogin, AuditedOperator},
        casts::{CastDetails, CastPriority},
        destinations::{Audience, Destinations},
    };

    fn cast(key: &str, fingerprint: &str) -> NewCast {
        let by = AuditedOperator { address: [127, 0, 0, 1].into(), how: AuditedLogin::Local };
        let details = CastDetails {
            to: Destinations::default(),
            priority: CastPriority::Normal,
            by,
            from: None,
            fingerprint: fingerprint.to_owned(),
        };
        NewCast {
            topic: "t".to_owned(),
            body: "\"x\"".to_owned(),
            at: UnixMillis::from_secs(1),
            expires_at: UnixMillis::from_secs(2),
            key: key.to_owned(),
            audience: Arc::new(Audience::All),
            audience_name: "all".into(),
            details,
        }
    }

    /// The numbers, negative where a cast is a repetition; or the refusal.
    fn numbers(outcome: &Result<Vec<CastReceipt>, CastRefusal>) -> Result<Vec<i64>, CastRefusal> {
        let signed = |receipt: &CastReceipt| match receipt.repeated {
            true => -receipt.id.seq,
            false => receipt.id.seq,
        };
        outcome.clone().map(|receipts| receipts.iter().map(signed).collect())
    }

    #[test]
    fn numbers_have_no_holes_and_a_request_is_admitted_whole_or_not_at_all() {
        let limits = CastLimits { max_casts: 6, ..CastLimits::default() };
        let mut totals = CastTotals { seq: 10, count: 1, bytes: 0 };
        let id = CastId { stream: "before".into(), seq: 7 };
        let mut keyed =
            HashMap::from([("old".to_owned(), KeyedCast { id, fingerprint: "o".to_owned() })]);
        let requests = [
            vec![cast("", ""), cast("a", "1")],
            vec![cast("b", "2"), cast("old", "other")],
            vec![cast("a", "1"), cast("old", "o"), cast("b", "2"), cast("b", "2")],
            vec![cast("", ""), cast("", ""), cast("", "")],
            vec![cast("", ""), cast("", "")],
            vec![cast("c", "3")],
            vec![cast("b", "2")],
        ];
        let requests: Vec<_> = requests.iter().map(Vec::as_slice).collect();
        let admitted = admit(&"now".into(), &mut totals, &mut keyed, &limits, &requests);
        let receipts = admitted[2].as_ref().unwrap();
        let streams: Vec<_> = receipts.iter().map(|receipt| &*receipt.id.stream).collect();
        assert_eq!(streams, ["now", "before", "now", "now"], "a repeated one keeps its id");
        let admitted: Vec<_> = admitted.iter().map(numbers).collect();
        let full = Err(CastRefusal::Full(6, limits.max_bytes));
        let expected = [
            Ok(vec![11, 12]),
            Err(CastRefusal::OtherContent("old".to_owned())),
            Ok(vec![-12, -7, 13, -13]),
            full.clone(),
            Ok(vec![14, 15]),
            full,
            Ok(vec![-13]),
        ];
        assert_eq!(admitted, expected);
        assert_eq!((totals.seq, totals.count), (15, 6));
        assert!(!keyed.contains_key("c"));
    }

    #[test]
    fn bytes_are_bounded_too() {
        let one = cast("", "");
        let limits = CastLimits { max_bytes: 2 * one.bytes() as u64, ..CastLimits::default() };
        let mut totals = CastTotals::default();
        let requests = [vec![one.clone(); 2], vec![one.clone()]];
        let requests: Vec<_> = requests.iter().map(Vec::as_slice).collect();
        let admitted = admit(&"s".into(), &mut totals, &mut HashMap::new(), &limits, &requests);
        assert_eq!(numbers(&admitted[0]), Ok(vec![1, 2]));
        assert!(matches!(admitted[1], Err(CastRefusal::Full(..))));
        assert_eq!(totals.bytes, limits.max_bytes);
    }
}
