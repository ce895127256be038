//! Text in columns. A Chinese character takes two places on a terminal.

/// Between two columns.
const GAP: &str = "  ";

/// Returns the columns a text takes.
pub(crate) fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

/// East Asian scripts and pictures are wide (Unicode, annex 11, roughly); combining
/// characters take no column.
fn columns(c: char) -> usize {
    match u32::from(c) {
        0x0300..=0x036f | 0x200b..=0x200f | 0x20d0..=0x20ff | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe4f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// Pads with spaces up to so many columns.
pub(crate) fn padded(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// Cuts a text to so many columns; an ellipsis stands for the rest.
pub(crate) fn clipped(text: &str, most: usize) -> String {
    if width(text) <= most {
        return text.to_owned();
    }
    let (mut kept, mut taken) = (String::new(), 1);
    for c in text.chars() {
        taken += columns(c);
        if taken > most {
            break;
        }
        kept.push(c);
    }
    kept + "…"
}

/// Rows below their headings, each column as wide as its widest cell.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self { rows: vec![headings.map(str::to_owned).to_vec()] }
    }

    pub(crate) fn add<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.to_vec());
    }

    /// Each line ends where its text does: for pipes, and for narrow terminals.
    pub(crate) fn text(&self) -> String {
        let mut widths: Vec<usize> = Vec::new();
        for row in &self.rows {
            widths.resize(widths.len().max(row.len()), 0);
            widths
                .iter_mut()
                .zip(row)
                .for_each(|(widest, cell)| *widest = width(cell).max(*widest));
        }
        let mut text = String::new();
        for row in &self.rows {
            let cells: Vec<_> =
                row.iter().zip(&widths).map(|(cell, width)| padded(cell, *width)).collect();
            text += cells.join(GAP).trim_end();
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_begin_below_each_other_whatever_the_script() {
        let mut table = Table::new(["ID", "TITLE", "STATE"]);
        table.add(["m1".into(), "董事会".into(), "synced".into()]);
        table.add(["meeting-2".into(), "Board".into(), "pulling".into()]);
        let text = table.text();
        let columns = |line: &str, word: &str| width(&line[..line.find(word).unwrap()]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(columns(lines[0], "STATE"), columns(lines[1], "synced"));
        assert_eq!(columns(lines[0], "STATE"), columns(lines[2], "pulling"));
        assert!(lines.iter().all(|line| line.trim_end() == *line));
    }

    #[test]
    fn wide_and_combining_characters_are_counted_as_they_are_shown() {
        for (text, columns) in [("abc", 3), ("会议", 4), ("e\u{301}", 1), ("（一）", 6), ("😀", 2)]
        {
            assert_eq!(width(text), columns, "{text}");
        }
        assert_eq!(width(&padded("会", 5)), 5);
    }

    #[test]
    fn what_is_too_long_says_so() {
        assert_eq!(clipped("Board", 5), "Board");
        assert_eq!(clipped("Boards", 5), "Boar…");
        assert_eq!(clipped("董事会会议", 6), "董事…");
    }
}
