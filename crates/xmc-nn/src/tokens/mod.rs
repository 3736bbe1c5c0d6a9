//! How do millions of tokenised texts live in memory and on disk?
//!
//! As one run of ids and `n + 1` offsets into it, without padding. Ids take two bytes where all are below 65,536 (every
//! English vocabulary) and four elsewhere. A file of them is mapped (`file`); texts are cut once per run.
//!
//! ```
//! use xmc_nn::Tokens;
//! let tokens = Tokens::new([vec![101, 7, 8, 102], vec![101, 102]]);
//! assert_eq!((tokens.len(), tokens.row_len(0), tokens.total()), (2, 4, 6));
//! assert_eq!(tokens.batch(&[1, 0]).ids(), [101, 102, 101, 7, 8, 102]);
//! ```

mod budget;
mod file;

pub use budget::by_budget;

use xmc_data::Buffer;

use crate::batch::Batch;

/// Rows of token ids, owned or mapped from a file.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// `[n + 1]`, rising from 0 to the number of ids.
    offsets: Buffer<u64>,
    ids: Ids,
}

/// All rows, one after the other.
#[derive(Clone, Debug)]
enum Ids {
    Narrow(Buffer<u16>),
    Wide(Buffer<u32>),
}

impl Tokens {
    /// Collects rows in order.
    pub fn new<S: AsRef<[u32]>>(rows: impl IntoIterator<Item = S>) -> Self {
        let mut builder = Builder::default();
        for row in rows {
            builder.push(row.as_ref());
        }
        builder.finish()
    }

    /// Number of rows n.
    pub fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// True if there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of tokens of row `i`; 0 if there is no such row.
    pub fn row_len(&self, i: usize) -> usize {
        self.range(i).len()
    }

    /// Number of tokens of all rows.
    pub fn total(&self) -> u64 {
        self.offsets.last().copied().unwrap_or(0)
    }

    /// Ids of row `i`.
    pub fn row(&self, i: usize) -> Vec<u32> {
        let mut batch = Batch::default();
        self.push_row(i, &mut batch);
        batch.ids().to_vec()
    }

    /// Appends row `i` to a batch; an empty sequence if there is no such row.
    pub fn push_row(&self, i: usize, batch: &mut Batch) {
        let range = self.range(i);
        match &self.ids {
            Ids::Narrow(ids) => batch.push_ids(ids[range].iter().map(|&id| u32::from(id))),
            Ids::Wide(ids) => batch.push(&ids[range]),
        }
    }

    /// The given rows in the given order.
    pub fn batch(&self, rows: &[u32]) -> Batch {
        let mut batch = Batch::default();
        for &i in rows {
            self.push_row(i as usize, &mut batch);
        }
        batch
    }

    /// Where row `i` lies; both ways in, building and opening, have checked that it lies within.
    fn range(&self, i: usize) -> std::ops::Range<usize> {
        match (self.offsets.get(i), self.offsets.get(i + 1)) {
            (Some(&start), Some(&end)) => start as usize..end as usize,
            _ => 0..0,
        }
    }
}

impl Ids {
    fn bytes(&self) -> &[u8] {
        match self {
            Ids::Narrow(ids) => bytemuck::cast_slice(ids),
            Ids::Wide(ids) => bytemuck::cast_slice(ids),
        }
    }

    /// Bytes of one id.
    fn width(&self) -> u32 {
        match self {
            Ids::Narrow(_) => 2,
            Ids::Wide(_) => 4,
        }
    }
}

impl PartialEq for Tokens {
    fn eq(&self, other: &Self) -> bool {
        let same = |i| self.row_len(i) == other.row_len(i) && self.row(i) == other.row(i);
        self.len() == other.len() && (0..self.len()).all(same)
    }
}

/// Rows that are still being collected; narrow until the first id that needs four bytes.
#[derive(Debug)]
pub(crate) struct Builder {
    offsets: Vec<u64>,
    narrow: Vec<u16>,
    /// Takes over from `narrow`.
    wide: Option<Vec<u32>>,
}

impl Default for Builder {
    fn default() -> Self {
        Builder { offsets: vec![0], narrow: Vec::new(), wide: None }
    }
}

impl Builder {
    /// Appends a row.
    pub(crate) fn push(&mut self, row: &[u32]) {
        let fits = row.iter().all(|&id| u16::try_from(id).is_ok());
        match &mut self.wide {
            None if fits => self.narrow.extend(row.iter().map(|&id| id as u16)),
            _ => self.widened().extend_from_slice(row),
        }
        self.offsets.push(self.offsets.last().copied().unwrap_or(0) + row.len() as u64);
    }

    /// Appends the rows of another.
    pub(crate) fn append(&mut self, other: &Builder) {
        let before = self.offsets.last().copied().unwrap_or(0);
        match &other.wide {
            Some(ids) => self.widened().extend_from_slice(ids),
            None if self.wide.is_some() => {
                self.widened().extend(other.narrow.iter().map(|&id| u32::from(id)));
            }
            None => self.narrow.extend_from_slice(&other.narrow),
        }
        self.offsets.extend(other.offsets.iter().skip(1).map(|&end| before + end));
    }

    /// All rows so far.
    pub(crate) fn finish(mut self) -> Tokens {
        self.offsets.shrink_to_fit();
        self.narrow.shrink_to_fit();
        let ids = match self.wide {
            Some(ids) => Ids::Wide(ids.into()),
            None => Ids::Narrow(self.narrow.into()),
        };
        Tokens { offsets: self.offsets.into(), ids }
    }

    fn widened(&mut self) -> &mut Vec<u32> {
        let narrow = std::mem::take(&mut self.narrow);
        self.wide.get_or_insert_with(|| narrow.into_iter().map(u32::from).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_large_id_widens_all_of_them() {
        let rows = [vec![1, 65_535], vec![], vec![65_536], vec![2]];
        let narrow = Tokens::new(&rows[..2]);
        let wide = Tokens::new(&rows);
        assert_eq!((narrow.ids.width(), wide.ids.width()), (2, 4));
        assert_eq!(
            (wide.row(0), wide.row(1), wide.row(2), wide.row(3)),
            (rows[0].clone(), vec![], vec![65_536], vec![2])
        );
        assert_eq!(wide.row(4), [0; 0]);
    }

    #[test]
    fn parts_of_any_width_are_joined_in_order() {
        let parts = [vec![vec![1, 2], vec![]], vec![vec![70_000]], vec![vec![3]], vec![vec![80_000, 4]]];
        let mut joined = Builder::default();
        for part in &parts {
            let mut builder = Builder::default();
            for row in part {
                builder.push(row);
            }
            joined.append(&builder);
        }
        assert_eq!(joined.finish(), Tokens::new(parts.concat()));
    }
}
