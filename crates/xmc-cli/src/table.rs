//! Tables of words and numbers, aligned in columns.

use unicode_width::UnicodeWidthStr;

/// Which edge the cells of a column share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows of cells under a header.
pub(crate) struct Table {
    aligns: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub(crate) fn new(columns: &[(&str, Align)]) -> Self {
        let header = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        Table { aligns: columns.iter().map(|&(_, align)| align).collect(), rows: vec![header] }
    }

    /// Appends a row; missing cells stay empty.
    pub(crate) fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// The table as text, with a rule under the header and a newline at the end.
    pub(crate) fn render(&self) -> String {
        let width = |c: usize| self.rows.iter().filter_map(|row| row.get(c)).map(|cell| cell.width()).max();
        let widths: Vec<usize> = (0..self.aligns.len()).map(|c| width(c).unwrap_or(0)).collect();
        let mut text = String::new();
        for (i, row) in self.rows.iter().enumerate() {
            push_line(&mut text, row, &widths, &self.aligns);
            if i == 0 {
                let rules: Vec<String> = widths.iter().map(|&w| "─".repeat(w)).collect();
                push_line(&mut text, &rules, &widths, &self.aligns);
            }
        }
        text
    }
}

fn push_line(text: &mut String, row: &[String], widths: &[usize], aligns: &[Align]) {
    let mut line = String::new();
    for ((cell, &width), align) in row.iter().zip(widths).zip(aligns) {
        let gap = " ".repeat(width.saturating_sub(cell.width()));
        let (before, after) = if *align == Align::Left { ("", gap.as_str()) } else { (gap.as_str(), "") };
        line.extend([before, cell, after, "  "]);
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_the_script() {
        let mut table = Table::new(&[("label", Align::Left), ("score", Align::Right)]);
        table.row(["海", "0.9"]);
        table.row(["Gebirge", "12.5"]);
        assert_eq!(table.render(), "label    score\n───────  ─────\n海         0.9\nGebirge   12.5\n");
    }
}
