//! The downloads of other nodes under way, which a changed setting ends.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::body::{Body, BodyDataStream, Bytes};
use futures_util::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

/// Cloning shares it.
#[derive(Clone, Debug, Default)]
pub(super) struct ChildDownloads(Arc<Mutex<ChildList>>);

#[derive(Debug, Default)]
struct ChildList {
    begun: u64,
    /// With their numbers, the oldest first. As many as there are permits.
    under_way: Vec<(u64, CancellationToken)>,
}

/// Leaves the list when dropped.
struct ListedChild {
    children: ChildDownloads,
    number: u64,
}

/// The bytes for another node, which break off if they are ended.
struct ChildBody {
    bytes: BodyDataStream,
    token: CancellationToken,
    _listed: ListedChild,
}

impl ChildDownloads {
    /// Lists a download until its body is dropped.
    pub(super) fn begin(&self, bytes: Body) -> Body {
        let token = CancellationToken::new();
        let number = {
            let mut list = self.list();
            list.begun += 1;
            let number = list.begun;
            list.under_way.push((number, token.clone()));
            number
        };
        let _listed = ListedChild { children: self.clone(), number };
        let body = ChildBody { bytes: bytes.into_data_stream(), token, _listed };
        Body::from_stream(stream::try_unfold(body, ChildBody::next))
    }

    /// Ends all but the oldest ones; returns how many have to go.
    pub(super) fn keep_oldest(&self, most: usize) -> usize {
        let under_way = &mut self.list().under_way;
        let surplus = under_way.split_off(most.min(under_way.len()));
        surplus.iter().for_each(|(_, token)| token.cancel());
        surplus.len()
    }

    fn list(&self) -> MutexGuard<'_, ChildList> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ListedChild {
    fn drop(&mut self) {
        self.children.list().under_way.retain(|(number, _)| *number != self.number);
    }
}

impl ChildBody {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, axum::Error> {
        tokio::select! {
            biased;
            () = self.token.cancelled() => {
                let cause = io::Error::other("this node relays less than before");
                Err(axum::Error::new(cause))
            }
            next = self.bytes.next() => Ok(next.transpose()?.map(|bytes| (bytes, self))),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn endless() -> Body {
        Body::from_stream(stream::repeat_with(|| Ok::<_, io::Error>("bytes")))
    }

    #[test]
    fn the_youngest_are_ended_and_who_is_done_is_forgotten() {
        let children = ChildDownloads::default();
        let mut bodies: Vec<_> =
            (0..4).map(|_| children.begin(endless()).into_data_stream()).collect();
        let goes_on = |bodies: &mut Vec<BodyDataStream>| {
            let next = |body: &mut BodyDataStream| body.next().now_or_never();
            let is_ok = |next: Option<Option<Result<Bytes, axum::Error>>>| {
                matches!(next, Some(Some(Ok(_))))
            };
            bodies.iter_mut().map(|body| is_ok(next(body))).collect::<Vec<_>>()
        };
        assert_eq!(children.keep_oldest(4), 0);
        assert_eq!(children.keep_oldest(3), 1);
        assert_eq!(goes_on(&mut bodies), [true, true, true, false]);
        assert_eq!(children.keep_oldest(3), 0);
        drop(bodies.remove(0));
        assert_eq!(children.list().under_way.len(), 2);
        assert_eq!(children.keep_oldest(0), 2);
        assert_eq!(goes_on(&mut bodies), [false, false, false]);
        drop(bodies);
        assert!(children.list().under_way.is_empty());
    }
}
