//! Markers of a bench's tables in a document.

use anyhow::{Result, bail};

/// Replaces the text between the markers in a document; without markers, they are added
/// at the end.
pub(crate) fn replaced(old: &str, name: &str, text: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- {name}:begin -->"), format!("<!-- {name}:end -->"));
    let text = text.trim_end();
    match (old.find(&begin), old.find(&end)) {
        (Some(from), Some(to)) if from < to => {
            Ok(format!("{}\n\n{text}\n\n{}", &old[..from + begin.len()], &old[to..]))
        }
        (None, None) => {
            let before =
                if old.is_empty() { String::new() } else { format!("{}\n\n", old.trim_end()) };
            Ok(format!("{before}{begin}\n\n{text}\n\n{end}\n"))
        }
        _ => bail!("the markers {begin} and {end} are not a pair in that order"),
    }
}
