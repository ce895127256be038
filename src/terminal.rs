//! What an operator sees of a command: in which language, how quantities are
//! written, tables, and what moves while he waits. Who has something to show
//! decides what.

pub(crate) mod live;
pub(crate) mod table;
pub(crate) mod words;

use std::io::{self, Write};

pub(crate) use words::say;
pub use words::{Language, half};

/// What was asked for, to stdout. Who reads no further (`| head`) has what he
/// wants; a disk that takes no more is a failure.
pub(crate) fn print(text: impl AsRef<[u8]>) -> io::Result<()> {
    let mut output = io::stdout();
    match output.write_all(text.as_ref()).and_then(|()| output.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(io::Error::new(error.kind(), format!("cannot print it: {error}"))),
        Ok(()) => Ok(()),
    }
}
