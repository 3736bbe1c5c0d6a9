//! Which token of a pass stands where, and what does it see?
//!
//! The rows of a pass are the rows of a prompt, if it has one, then the tokens of all texts, without padding. A text sees
//! the prompt and itself, so its positions go on behind the prompt; texts do not see each other.

use std::ops::Range;

use crate::batch::Batch;
use crate::transformer::chunks::{Chunk, chunks};

/// Texts of a pass and their places.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    /// Of all texts; the prompt, if any, is its first sequence, with ids that mean nothing.
    batch: Batch,
    /// Rows of the prompt that are computed in this pass.
    prompt: usize,
    /// Positions in front of the first row: those of a prefix that was computed before.
    before: usize,
    /// Position of each text's reader, if it has one: a last token that does not see itself.
    readers: Option<Readers>,
}

/// Last tokens that see their text, stand at one common position and do not see themselves.
#[derive(Clone, Debug)]
struct Readers {
    position: usize,
    has: Vec<bool>,
}

/// One sequence of a pass.
#[derive(Clone, Debug)]
pub(crate) struct Sequence {
    /// Its rows.
    pub(crate) rows: Range<usize>,
    /// Whether it stands behind the prompt and sees it.
    pub(crate) behind: bool,
    /// Whether its last row does not see itself.
    pub(crate) reader: bool,
}

impl Packed {
    /// Texts behind `prompt` rows that are computed with them, behind `before` positions that were computed before.
    pub(crate) fn new(texts: &Batch, prompt: usize, before: usize) -> Self {
        let batch = Self::pack(texts, prompt, |_, _| ());
        Packed { batch, prompt, before, readers: None }
    }

    /// The same, and every text that is shorter than the longest gets the token `pad` as a reader, where the last
    /// position of a batch padded to one length would be.
    pub(crate) fn with_readers(texts: &Batch, prompt: usize, before: usize, pad: u32) -> Self {
        let lengths = || texts.cu_seqlens().windows(2).map(|ends| ends[1] - ends[0]);
        let longest = lengths().max().unwrap_or(0);
        let mut has = vec![false; usize::from(prompt > 0)];
        has.extend(lengths().map(|len| len < longest));
        let first = usize::from(prompt > 0);
        let batch = Self::pack(texts, prompt, |i, ids| {
            if has[first + i] {
                ids.push(pad);
            }
        });
        let position = before + prompt + longest.saturating_sub(1);
        Packed { batch, prompt, before, readers: Some(Readers { position, has }) }
    }

    fn pack(texts: &Batch, prompt: usize, more: impl Fn(usize, &mut Vec<u32>)) -> Batch {
        let mut batch = Batch::default();
        if prompt > 0 {
            batch.push(&vec![0; prompt]);
        }
        let mut ids = Vec::new();
        for (i, ends) in texts.cu_seqlens().windows(2).enumerate() {
            ids.clear();
            ids.extend_from_slice(&texts.ids()[ends[0]..ends[1]]);
            more(i, &mut ids);
            batch.push(&ids);
        }
        batch
    }

    /// Rows of the prompt and of all texts.
    pub(crate) fn rows(&self) -> usize {
        self.batch.tokens()
    }

    /// Rows of the prompt.
    pub(crate) fn prompt(&self) -> usize {
        self.prompt
    }

    /// Token ids of all texts, readers included.
    pub(crate) fn text_ids(&self) -> &[u32] {
        &self.batch.ids()[self.prompt..]
    }

    /// Rows of every text, readers included, counted behind the prompt.
    pub(crate) fn texts(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let ends = &self.batch.cu_seqlens()[usize::from(self.prompt > 0)..];
        ends.windows(2).map(|ends| ends[0] - self.prompt..ends[1] - self.prompt)
    }

    /// Groups of neighbouring sequences, cut by their lengths alone.
    pub(crate) fn groups(&self) -> Vec<Chunk> {
        chunks(&self.batch)
    }

    pub(crate) fn sequence(&self, i: usize) -> Sequence {
        Sequence {
            rows: self.batch.cu_seqlens()[i]..self.batch.cu_seqlens()[i + 1],
            behind: self.prompt == 0 || i > 0,
            reader: self.readers.as_ref().is_some_and(|readers| readers.has[i]),
        }
    }

    /// The position of every row.
    pub(crate) fn positions(&self) -> Vec<usize> {
        let mut positions = Vec::with_capacity(self.rows());
        for i in 0..self.batch.len() {
            let Sequence { rows, reader, .. } = self.sequence(i);
            let first = self.before + if self.prompt > 0 && i > 0 { self.prompt } else { 0 };
            positions.extend(first..first + rows.len());
            if let (true, Some(last), Some(readers)) = (reader, positions.last_mut(), &self.readers) {
                *last = readers.position;
            }
        }
        positions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_go_on_behind_the_prompt() {
        let texts = Batch::new([vec![7, 8, 9], vec![5]]);
        let packed = Packed::new(&texts, 2, 0);
        assert_eq!((packed.rows(), packed.text_ids()), (6, &[7, 8, 9, 5][..]));
        assert_eq!(packed.positions(), [0, 1, 2, 3, 4, 2]);
        assert_eq!(packed.texts().collect::<Vec<_>>(), [0..3, 3..4]);
        assert!(!packed.sequence(0).behind && packed.sequence(1).behind);
        let alone = Packed::new(&texts, 0, 4);
        assert_eq!(alone.positions(), [4, 5, 6, 4]);
        assert!(alone.sequence(0).behind);
    }

    #[test]
    fn readers_stand_where_padding_would_end() {
        let texts = Batch::new([vec![7, 8, 9], vec![5]]);
        for (prompt, before) in [(2, 0), (0, 2)] {
            let packed = Packed::with_readers(&texts, prompt, before, 1);
            assert_eq!(packed.text_ids(), [7, 8, 9, 5, 1]);
            assert_eq!(packed.positions()[prompt..], [2, 3, 4, 2, 4]);
            let first = usize::from(prompt > 0);
            assert!(!packed.sequence(first).reader && packed.sequence(first + 1).reader);
        }
    }
}
