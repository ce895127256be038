//! Remote tasks at a node: what may run there, and how it runs.
//!
//! A node runs nothing but task types that its own operator has declared
//! ([`declaration`], [`folder`]). A caller names one and fills in typed parameters, which
//! [`arguments`] turns into a command line: there is no shell, and no text of a caller's
//! becomes an option. [`runner`] carries it out in a process of its own, within limits, and
//! leaves nothing behind; [`launch`] is the node's side of that.

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        clippy::unwrap_used,
        reason = "tests make the mess that the code has to live with"
    )
)]

pub mod arguments;
pub mod declaration;
pub mod folder;
pub mod launch;
pub mod runner;
mod wording;

pub use wording::BilingualText;
