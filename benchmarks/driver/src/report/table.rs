//! A table, as Markdown and as plain text. The first column is text, the others are figures.

/// What stands where there is no figure.
pub(super) const NOTHING: &str = "–";

#[derive(Debug, Clone)]
pub(super) struct Table {
    heads: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new<S: Into<String>>(heads: impl IntoIterator<Item = S>) -> Self {
        Self { heads: heads.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Adds a row. One without any figure is left out.
    pub(super) fn row(&mut self, name: &str, cells: impl IntoIterator<Item = Option<String>>) {
        let cells: Vec<Option<String>> = cells.into_iter().collect();
        if cells.iter().any(Option::is_some) {
            let cells = cells.into_iter().map(|cell| cell.unwrap_or(NOTHING.into()));
            self.rows.push([name.to_owned()].into_iter().chain(cells).collect());
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule = "|---|".to_owned() + &"---:|".repeat(self.heads.len().saturating_sub(1)) + "\n";
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        line(&self.heads) + &rule + &rows
    }

    pub(super) fn plain(&self) -> String {
        let lines: Vec<&Vec<String>> = [&self.heads].into_iter().chain(&self.rows).collect();
        let width = |column: usize| {
            lines
                .iter()
                .filter_map(|line| line.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.heads.len()).map(width).collect();
        let mut text = String::new();
        for line in lines {
            let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
                if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            text += cells.collect::<Vec<_>>().join("  ").trim_end();
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_markdown_and_text() {
        let mut table = Table::new(["system", "a", "b"]);
        table.row("x", [Some("1.5".into()), None]);
        table.row("left out", [None, None]);
        assert_eq!(table.markdown(), "| system | a | b |\n|---|---:|---:|\n| x | 1.5 | – |\n");
        assert_eq!(table.plain(), "system    a  b\nx       1.5  –\n");
    }
}
