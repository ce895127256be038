//! What a node and a main server share as HTTP servers.

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        clippy::unwrap_used,
        reason = "tests make the mess that the code has to live with"
    )
)]

/// Who may use what is not open to everybody.
pub mod access;
/// A stored package as an HTTP answer: validators, ranges, body.
pub mod delivery;
/// The limits that protect a node and a main server.
pub mod limits;
/// Accepting connections, and closing them in order.
pub mod listen;
/// Requests answered, by route and status.
pub mod requests;
/// TLS: the certificate that is shown, and whom a client trusts.
pub mod tls;
/// HTTP details that both faces share.
pub mod wire;
