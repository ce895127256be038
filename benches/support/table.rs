//! Markdown tables.

#[derive(Clone, Debug)]
pub(crate) struct Table {
    columns: usize,
    text: String,
}

impl Table {
    /// The first column is text, the others are figures.
    pub(crate) fn new(head: &[&str]) -> Self {
        let mut table = Self { columns: head.len(), text: String::new() };
        table.row(head.iter().map(ToString::to_string));
        let line: Vec<_> = (0..head.len()).map(|at| if at == 0 { "---" } else { "---:" }).collect();
        table.row(line.iter().map(ToString::to_string));
        table
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<_> = cells.into_iter().collect();
        assert_eq!(cells.len(), self.columns, "{cells:?}");
        self.text += &format!("| {} |\n", cells.join(" | "));
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}
