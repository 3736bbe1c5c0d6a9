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

/// As many of the names as fit `width` columns, and an ellipsis if there are more of them in `all`. A name that alone
/// is too long is cut.
pub(crate) fn listed(names: &[String], all: usize, width: usize) -> String {
    let mut text = String::new();
    let mut shown = 0;
    for name in names {
        let comma = if shown == 0 { "" } else { ", " };
        if text.width() + comma.len() + name.width() + ", …".width() > width && shown > 0 {
            break;
        }
        text.push_str(comma);
        text.push_str(name);
        shown += 1;
    }
    if text.width() > width {
        while text.width() + 1 > width {
            text.pop();
        }
        text.push('…');
    }
    if shown < all {
        text.push_str(if shown == 0 { "…" } else { ", …" });
    }
    text
}

/// `1 label`, `2 labels`.
pub(crate) fn counted(n: usize, thing: &str) -> String {
    format!("{n} {thing}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_names_ends_where_the_column_ends() {
        let names = ["whale", "coral", "tide"].map(str::to_owned);
        assert_eq!(listed(&names, 3, 40), "whale, coral, tide");
        assert_eq!(listed(&names, 9, 40), "whale, coral, tide, …");
        assert_eq!(listed(&names, 3, 16), "whale, coral, …");
        assert_eq!(listed(&names[..1], 1, 4), "wha…");
        assert_eq!(listed(&[], 3, 4), "…");
    }

    #[test]
    fn columns_line_up_whatever_the_script() {
        let mut table = Table::new(&[("label", Align::Left), ("score", Align::Right)]);
        table.row(["海", "0.9"]);
        table.row(["Gebirge", "12.5"]);
        assert_eq!(table.render(), "label    score\n───────  ─────\n海         0.9\nGebirge   12.5\n");
    }
}
