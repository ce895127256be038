//! What an operator sees of a command: in which language, how quantities are
//! written, tables, and what moves while he waits. Who has something to show
//! decides what.

pub(crate) mod live;
pub(crate) mod table;
pub(crate) mod words;

pub(crate) use words::Language;
