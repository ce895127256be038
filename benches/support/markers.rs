//! Where a bench's tables stand in a document.

use anyhow::{Result, bail};

/// The document with what lies between the markers replaced; they are put at
/// the end where there are none.
pub fn replaced(old: &str, name: &str, text: &str) -> Result<String> {
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
