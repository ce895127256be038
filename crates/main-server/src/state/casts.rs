//! Casts: messages from operators to nodes, kept until they are delivered or expire. Pure;
//! `repository/casts` numbers and keeps them.
//!
//! All casts have one sequence of numbers. It is the order in which they were saved, and so
//! also the order within each topic; how far a node is in it is one number.

mod admission;
mod cursors;
mod request;
mod streams;
mod tail;
mod waiters;

use std::{sync::Arc, time::Duration};

use edge_mirror_base::clock::UnixMillis;
use serde::{Deserialize, Serialize};

pub(crate) use admission::{CastReceipt, CastRefusal, CastTotals, KeyedCast, admit};
pub(crate) use cursors::{CastCursors, CastGap, CastReadMark, DeliveryState, NodeCursor, delivery};
#[cfg(test)]
pub(crate) use request::{CastRequest, LiveCastRequest};
pub(crate) use request::{MAX_TOPIC, NewCast, read_casts, read_live_casts, shown_key};
pub(crate) use streams::CastStreams;
pub(crate) use tail::{
    ANSWER_BYTES, CastSelection, CastTail, DeliverableCast, TailSearch, delivered_text,
};
pub(crate) use waiters::{CastWaiters, WaiterSlot};

use crate::state::{audit::AuditedOperator, destinations::Destinations};

/// Consumers know the messages of CastRay clients by it.
pub(crate) const CASTRAY_TOPIC: &str = "castray";

/// The bounds of casts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CastLimits {
    /// Casts that are kept, delivered and expired ones among them.
    pub max_casts: u64,
    /// Bytes of them.
    pub max_bytes: u64,
    /// The time for which they are kept once they have expired.
    pub kept_for: Duration,
    /// Bytes of a body.
    pub max_body: u64,
    /// Longest time until a cast expires.
    pub max_lifetime: Duration,
    /// Casts in one request.
    pub max_batch: u64,
    /// The time within which a node that waited a moment ago still gets a live cast.
    pub live_for: Duration,
    /// Programs that follow casts at the main server at a time.
    pub max_subscribers: u64,
    /// Casts that one may be behind.
    pub max_behind: u64,
    /// Groups of nodes.
    pub max_groups: u64,
    /// Virtual nodes.
    pub max_virtual_nodes: u64,
    /// Nodes may send casts, too, where their operators allow it.
    pub from_nodes: bool,
}

impl Default for CastLimits {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self {
            max_casts: 200_000,
            max_bytes: 256_000_000,
            kept_for: 7 * DAY,
            max_body: 4096,
            max_lifetime: 30 * DAY,
            max_batch: 1000,
            live_for: Duration::from_secs(10),
            max_subscribers: 1000,
            max_behind: 1024,
            max_groups: 500,
            max_virtual_nodes: 10_000,
            from_nodes: true,
        }
    }
}

/// Importance, for whoever shows it: it changes no order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(crate) enum CastPriority {
    Low,
    #[default]
    Normal,
    High,
    Urgent,
}

impl CastPriority {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
            Self::Urgent => "urgent",
        }
    }
}

/// The part of a cast that is kept as it is and never searched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CastDetails {
    pub(crate) to: Destinations,
    pub(crate) priority: CastPriority,
    pub(crate) by: AuditedOperator,
    /// The node that it comes from; None if an operator sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
    /// The digest of what its sender said, to know a repetition by.
    pub(crate) fingerprint: String,
}

/// The sender of casts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CastOrigin {
    pub(crate) by: AuditedOperator,
    /// The node whose program it is; None of an operator's.
    pub(crate) from: Option<String>,
}

impl From<AuditedOperator> for CastOrigin {
    fn from(by: AuditedOperator) -> Self {
        Self { by, from: None }
    }
}

/// A cast as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct KeptCast {
    pub(crate) seq: i64,
    /// The sequence that the number belongs to.
    pub(crate) stream: Arc<str>,
    pub(crate) topic: String,
    pub(crate) at: UnixMillis,
    pub(crate) expires_at: UnixMillis,
    pub(crate) cancelled_at: Option<UnixMillis>,
    pub(crate) bytes: u64,
    /// The name of its audience.
    pub(crate) audience: Arc<str>,
    /// Empty: there is none.
    pub(crate) key: String,
    pub(crate) details: CastDetails,
    /// JSON.
    pub(crate) body: String,
}

/// A cast's place in a sequence of numbers, as text: `STREAM-NUMBER`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CastId {
    pub(crate) stream: Arc<str>,
    pub(crate) seq: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(crate) enum CastStatus {
    /// Delivered to nodes that do not have it yet.
    Active,
    Expired,
    Cancelled,
}

impl KeptCast {
    pub(crate) fn id(&self) -> CastId {
        CastId { stream: self.stream.clone(), seq: self.seq }
    }

    pub(crate) fn status(&self, now: UnixMillis) -> CastStatus {
        match self.cancelled_at {
            Some(_) => CastStatus::Cancelled,
            None if self.expires_at <= now => CastStatus::Expired,
            None => CastStatus::Active,
        }
    }
}

/// The longest name of a sequence.
const MAX_STREAM: usize = 64;

impl CastId {
    /// None if nothing can have this id.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (stream, seq) = text.rsplit_once('-')?;
        let is_name = (1..=MAX_STREAM).contains(&stream.len())
            && stream.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let seq = seq.parse().ok().filter(|seq| *seq > 0 && is_name)?;
        Some(Self { stream: stream.into(), seq })
    }
}

impl std::fmt::Display for CastId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.stream, self.seq)
    }
}
