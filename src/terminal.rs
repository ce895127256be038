//! Output of commands: its language, how quantities are written, tables, and progress.
//! The content is decided by the commands.

pub(crate) mod live;
pub(crate) mod table;
pub(crate) mod watch;
pub(crate) mod words;

use std::io::{self, Write};

pub(crate) use words::say;
pub use words::{Language, localized};

/// Prints a line. The work goes on even if nobody reads about it.
pub fn print_line(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// Prints results to stdout. A reader that stops early (`| head`) has what it needs; a
/// full disk is a failure.
pub(crate) fn print(text: impl AsRef<[u8]>) -> io::Result<()> {
    let mut output = io::stdout();
    match output.write_all(text.as_ref()).and_then(|()| output.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(io::Error::new(error.kind(), format!("cannot print it: {error}"))),
        Ok(()) => Ok(()),
    }
}
