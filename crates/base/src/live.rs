//! A value that is read for every request and rarely changes: readers take no lock,
//! subscribers wait for the next value.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

#[derive(Debug)]
pub struct LiveValue<T> {
    now: ArcSwap<T>,
    followed: watch::Sender<Arc<T>>,
}

impl<T> LiveValue<T> {
    pub fn new(value: T) -> Self {
        let value = Arc::new(value);
        Self { now: ArcSwap::new(value.clone()), followed: watch::Sender::new(value) }
    }

    pub fn get(&self) -> Arc<T> {
        self.now.load_full()
    }

    /// Borrows the value, for a short time.
    pub fn peek(&self) -> Guard<Arc<T>> {
        self.now.load()
    }

    pub fn set(&self, value: T) {
        let value = Arc::new(value);
        // Under the channel's lock, so that concurrent calls agree on the last.
        self.followed.send_modify(|followed| {
            followed.clone_from(&value);
            self.now.store(value);
        });
    }

    /// Like [`set`](Self::set), but notifies nobody if the value is the same.
    pub fn set_if_changed(&self, value: T) -> bool
    where
        T: PartialEq,
    {
        self.followed.send_if_modified(|followed| {
            let changed = **followed != value;
            if changed {
                *followed = Arc::new(value);
                self.now.store(followed.clone());
            }
            changed
        })
    }

    pub fn subscribe(&self) -> watch::Receiver<Arc<T>> {
        self.followed.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::LiveValue;

    #[test]
    fn what_was_set_is_what_is_read_and_followed() {
        let live = LiveValue::new(1);
        let mut follower = live.subscribe();
        live.set(2);
        assert_eq!((*live.get(), **live.peek()), (2, 2));
        assert!(follower.has_changed().unwrap());
        assert_eq!(**follower.borrow_and_update(), 2);
        assert!(!live.set_if_changed(2) && !follower.has_changed().unwrap());
        assert!(live.set_if_changed(3) && follower.has_changed().unwrap());
    }
}
