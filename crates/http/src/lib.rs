//! HTTP server code shared by node and main server.

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        clippy::unwrap_used,
        reason = "tests make the mess that the code has to live with"
    )
)]

/// Authorization of operators.
pub mod access;
/// A stored package as an HTTP answer: validators, ranges, body.
pub mod delivery;
/// The limits that protect a node and a main server.
pub mod limits;
/// Accepting connections, and closing them gracefully.
pub mod listen;
/// Counters of requests by route and status.
pub mod requests;
/// TLS: the certificate that is served, and the servers trusted.
pub mod tls;
/// HTTP details shared by both APIs.
pub mod wire;
