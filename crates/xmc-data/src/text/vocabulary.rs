//! Which column does a term have? A table that is used as it lies in the file.
//!
//! Columns are numbered by falling document frequency, equal ones by rising bytes, so the terms that most texts need
//! lie together at the front of every array. The table has 1.5 slots a term, each the number of a term and 32 bits of
//! its hash; whoever passes that test is compared byte by byte. Every access is checked: a damaged file can give wrong
//! answers, never a panic.

use super::intern::{key_within, spread};
use crate::buffer::Buffer;

/// Terms and their columns, owned or mapped.
#[derive(Clone, Debug)]
pub(super) struct Vocabulary {
    /// `hash << 32 | column + 1`, 0 where free; searched from `spread * slots / 2^64` on, around the end.
    pub(super) slots: Buffer<u64>,
    /// `[terms + 1]` where each term starts in `bytes`.
    pub(super) offsets: Buffer<u32>,
    /// All terms, one after another.
    pub(super) bytes: Buffer<u8>,
}

impl Vocabulary {
    /// The table over distinct terms in column order; `None` if together they are longer than 4 GiB.
    pub(super) fn new<'a>(terms: impl ExactSizeIterator<Item = &'a [u8]>) -> Option<Self> {
        let count = terms.len();
        let mut slots = vec![0u64; count + count / 2 + 1];
        let mut offsets = Vec::with_capacity(count + 1);
        offsets.push(0);
        let mut bytes = Vec::new();
        for (column, term) in terms.enumerate() {
            let start = bytes.len();
            bytes.extend_from_slice(term);
            offsets.push(u32::try_from(bytes.len()).ok()?);
            let spread = spread(key_within(&bytes, start, bytes.len()));
            let mut at = first_slot(spread, slots.len());
            while slots[at] != 0 {
                at = (at + 1) % slots.len();
            }
            slots[at] = spread << 32 | (column as u64 + 1);
        }
        Some(Vocabulary { slots: slots.into(), offsets: offsets.into(), bytes: bytes.into() })
    }

    /// Number of terms.
    pub(super) fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// The term of a column.
    pub(super) fn term(&self, column: u32) -> Option<&[u8]> {
        let start = *self.offsets.get(column as usize)?;
        let end = *self.offsets.get(column as usize + 1)?;
        self.bytes.get(start as usize..end as usize)
    }

    /// The column of the term `text[start..end]`.
    #[inline]
    pub(super) fn find(&self, text: &[u8], start: usize, end: usize) -> Option<u32> {
        let spread = spread(key_within(text, start, end));
        let slots: &[u64] = &self.slots;
        let first = first_slot(spread, slots.len());
        for &slot in slots.get(first..)?.iter().chain(&slots[..first]) {
            if slot == 0 {
                return None;
            }
            if slot >> 32 == spread & 0xffff_ffff {
                let column = (slot as u32).wrapping_sub(1);
                if self.term(column) == Some(&text[start..end]) {
                    return Some(column);
                }
            }
        }
        None
    }
}

/// Scales 64 bits to a table of any length.
fn first_slot(spread: u64, slots: usize) -> usize {
    ((u128::from(spread) * slots as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_term_is_found_at_its_column_and_nothing_else_is(
            terms in proptest::collection::btree_set("[a-c]{0,10}", 0..300),
            others in proptest::collection::vec("[a-c]{0,10}", 0..100),
        ) {
            let vocabulary = Vocabulary::new(terms.iter().map(String::as_bytes).collect::<Vec<_>>().into_iter()).unwrap();
            for (column, term) in terms.iter().enumerate() {
                prop_assert_eq!(vocabulary.find(term.as_bytes(), 0, term.len()), Some(column as u32));
                prop_assert_eq!(vocabulary.term(column as u32), Some(term.as_bytes()));
            }
            for other in others.iter().filter(|o| !terms.contains(*o)) {
                prop_assert_eq!(vocabulary.find(other.as_bytes(), 0, other.len()), None);
            }
        }
    }
}
