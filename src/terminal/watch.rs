//! A text that is shown again and again until Ctrl-C: a terminal is redrawn in place,
//! elsewhere each change is printed below the one before.

use std::io::{self, IsTerminal, Write};

use super::table::clipped;

/// Where it is shown.
#[derive(Debug)]
pub(crate) struct WatchOutput {
    redraws: bool,
    before: String,
}

impl WatchOutput {
    /// `plain` asks for lines also on a terminal.
    pub(crate) fn to_stdout(plain: bool) -> Self {
        Self { redraws: io::stdout().is_terminal() && !plain, before: String::new() }
    }

    /// Lines that fit, if it is redrawn in place; the terminal's last one is the cursor's.
    pub(crate) fn rows(&self) -> Option<usize> {
        self.redraws.then(|| size().0.saturating_sub(1))
    }

    /// Shows it, unless what matters of it was printed just before. False once the output
    /// is closed.
    pub(crate) fn show(&mut self, text: &str, essence: &str) -> bool {
        if self.redraws {
            let (rows, columns) = size();
            return print(&fitted(text, rows, columns));
        }
        if self.before == essence {
            return true;
        }
        essence.clone_into(&mut self.before);
        print(text)
    }
}

/// False once the output is closed.
pub(crate) fn print(text: &str) -> bool {
    let mut output = io::stdout();
    output.write_all(text.as_bytes()).and_then(|()| output.flush()).is_ok()
}

/// Returns lines and columns of the terminal.
fn size() -> (usize, usize) {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
    let (rows, columns) = size.map_or((0, 0), |size| (size.ws_row, size.ws_col));
    // Some terminals don't know their size.
    let known = |n: u16, usual: usize| if n > 0 { usize::from(n) } else { usual };
    (known(rows, 24), known(columns, 80))
}

/// Replaces the terminal's content: from its upper left corner, each line cleared, as
/// much as fits.
fn fitted(text: &str, rows: usize, columns: usize) -> String {
    let lines = text.lines().take(rows.saturating_sub(1));
    let lines = lines.map(|line| format!("{}\x1b[K\n", clipped(line, columns)));
    format!("\x1b[H{}\x1b[J", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_again_fits_on_the_terminal() {
        let drawn = fitted("a long line\n会议会议\nthird\n", 3, 6);
        assert_eq!(drawn, "\x1b[Ha lon…\x1b[K\n会议…\x1b[K\n\x1b[J");
    }
}
