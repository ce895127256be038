//! The workers that keep the storage in order.

pub(crate) mod cleaning;
pub(crate) mod scrub;
pub(crate) mod storage;
