//! Which labels must a query not find?
//!
//! Excluded labels take no part in the search, so that k others remain. `Filter::pairs` is for filter files (a document
//! that is a label itself), `Filter::and_rows` for the known labels of training rows when negatives are mined.

use xmc_data::Csr;

/// Labels excluded for each row; borrowed, free to make.
#[derive(Clone, Copy, Debug)]
pub struct Filter<'a> {
    pairs: &'a [(u32, u32)],
    rows: Option<&'a Csr>,
    /// Row of the lists that belongs to query 0.
    first: usize,
}

impl<'a> Filter<'a> {
    /// Excludes nothing.
    pub fn none() -> Self {
        Filter { pairs: &[], rows: None, first: 0 }
    }

    /// Excludes pairs `(row, label)`, sorted as [`xmc_data::filter::read`] returns them.
    pub fn pairs(pairs: &'a [(u32, u32)]) -> Self {
        Filter { pairs, ..Filter::none() }
    }

    /// Excludes the columns stored in each row too.
    pub fn and_rows(self, rows: &'a Csr) -> Self {
        Filter { rows: Some(rows), ..self }
    }

    /// The same lists for queries that begin at row `first` of them.
    pub fn from_row(self, first: usize) -> Self {
        Filter { first, ..self }
    }

    /// Whether `query` must not find `label`. Queries below the last listed row exclude nothing.
    pub fn excludes(&self, query: usize, label: u32) -> bool {
        let row = self.first + query;
        let paired = || u32::try_from(row).is_ok_and(|row| self.pairs.binary_search(&(row, label)).is_ok());
        let listed = |rows: &Csr| row < rows.rows() && rows.row(row).indices.binary_search(&label).is_ok();
        (!self.pairs.is_empty() && paired()) || self.rows.is_some_and(listed)
    }
}
