//! The protocol of GoFD, a file dispatcher that others have in use: our main server can
//! stand in for its server, and our node for one of its agents.
//!
//! A GoFD server hashes files in pieces, tells agents of a task over HTTP, and has each
//! agent pull the pieces from the one before it in a chain that begins at the server. Here
//! is what both sides say: JSON documents, frames of the data port, passwords, the
//! configuration. What is done about it is the main server's and the node's.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "tests make the mess that the code has to live with")
)]

mod bitfield;
mod body;
mod config;
mod frame;
mod handshake;
mod message;
mod password;
mod pieces;
mod port;
mod seeding;
mod status;
mod yaml;

pub use bitfield::{Bitfield, UnusableBitfield};
pub use body::{GoBody, UnreadableBody};
pub use config::{ConfigReading, GofdConfig, UnusableConfig};
pub use frame::{BlockRequest, Frame, FrameError, FrameReader, write_frame};
pub use handshake::{GofdCredentials, Handshake, HandshakeError, answer_handshake, shake_hands};
pub use message::{
    AgentStart, AgentTask, AgentTaskFile, LinkChain, MetaInfo, StatusReport, UnusableMeta,
};
pub use password::{EncryptedPassword, UnreadablePassword};
pub use pieces::{BLOCK_BYTES, PIECE_BYTES, PieceDigest, PieceHasher, PieceLayout, piece_digest};
pub use port::{DataPort, DataPortEvent, OfferedSeed, SeedDirectory};
pub use seeding::{PieceSource, serve_pieces};
pub use status::{FileStatus, GofdStatus, IpStatus, TaskStatus, go_time};

/// The most bytes of a task's id for a user of this name: with the rest, the handshake of
/// the data port has to fit into 200 bytes.
pub const fn max_task_id(user: &str) -> usize {
    (handshake::MAX_BYTES - handshake::DIGEST_CHARS - handshake::SALT_CHARS - 4)
        .saturating_sub(user.len())
}
