//! Counters, and their text for Prometheus.
//!
//! Counters are relaxed atomics. Those of every request are looked up beforehand,
//! so counting takes neither a lock nor memory. Label values come from lists that are
//! known at build time (`Label`) or from the router's own paths (see `requests`), so
//! their number is bounded whatever clients send. The format is a few lines (`page`); a
//! library for it would keep its own figures, behind locks, beside those of the status page.

pub mod histogram;
pub mod page;
mod process;

use std::sync::atomic::{AtomicU64, Ordering};

pub use histogram::Histogram;
pub use page::Exposition;

/// Monotonic counter.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn inc(&self) {
        self.add(1);
    }

    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The values that a label can have.
pub trait Label: Copy + 'static {
    /// All values, in the order of `index`.
    const ALL: &'static [Self];
    fn text(self) -> &'static str;
    fn index(self) -> usize;
}

/// An enum whose variants are a label's values.
#[macro_export]
#[doc(hidden)]
macro_rules! labels {
    ($(#[$of_all:meta])* $name:ident { $($(#[$of_one:meta])* $variant:ident => $text:literal),+ $(,)? }) => {
        $(#[$of_all])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$of_one])* $variant),+ }

        impl $crate::metrics::Label for $name {
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn text(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}
pub use labels;

/// One counter for each value of a label.
#[derive(Debug)]
pub struct CounterFamily<L> {
    counters: Box<[Counter]>,
    label: std::marker::PhantomData<L>,
}

impl<L: Label> Default for CounterFamily<L> {
    fn default() -> Self {
        let counters = L::ALL.iter().map(|_| Counter::default()).collect();
        Self { counters, label: std::marker::PhantomData }
    }
}

impl<L: Label> CounterFamily<L> {
    pub fn inc(&self, value: L) {
        self.counter(value).inc();
    }

    pub fn counter(&self, value: L) -> &Counter {
        &self.counters[value.index()]
    }
}

/// Writes the metrics of the process itself.
pub fn encode_process(page: &mut Exposition, role: &'static str) {
    let about = [("role", role), ("version", env!("CARGO_PKG_VERSION"))];
    page.gauge("edge_mirror_build_info", "Which program this is; always 1.").put(&about, 1);
    process::encode(page);
}

#[cfg(test)]
#[expect(unreachable_pub, reason = "enums of the macro are public")]
mod tests {
    use super::*;

    labels! {
        /// For the test.
        Outcome { Good => "good", Bad => "bad" }
    }

    #[test]
    fn each_value_of_a_label_counts_for_itself() {
        let family = CounterFamily::<Outcome>::default();
        family.inc(Outcome::Bad);
        family.counter(Outcome::Bad).add(2);
        assert_eq!(
            (family.counter(Outcome::Good).get(), family.counter(Outcome::Bad).get()),
            (0, 3)
        );
    }
}
