//! How is a batch cut? Into chunks of whole sequences that one thread computes and that stay in its cache.
//!
//! Cuts depend on the batch alone, never on threads, so sums over chunks have one order.

use std::ops::Range;

use crate::batch::Batch;

/// Tokens of a chunk; only a longer sequence, then alone in its chunk, exceeds it.
pub(crate) const CHUNK_TOKENS: usize = 256;

/// Neighbouring sequences of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) sequences: Range<usize>,
    pub(crate) tokens: Range<usize>,
}

/// Cuts a batch.
pub(crate) fn chunks(batch: &Batch) -> Vec<Chunk> {
    let mut chunks: Vec<Chunk> = Vec::new();
    for (i, ends) in batch.cu_seqlens().windows(2).enumerate() {
        match chunks.last_mut() {
            Some(last) if ends[1] - last.tokens.start <= CHUNK_TOKENS => {
                last.sequences.end = i + 1;
                last.tokens.end = ends[1];
            }
            _ => chunks.push(Chunk { sequences: i..i + 1, tokens: ends[0]..ends[1] }),
        }
    }
    chunks
}

impl Chunk {
    /// Number of tokens t.
    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Rows of every sequence, counted from the chunk's first token.
    pub(crate) fn rows<'a>(&'a self, batch: &'a Batch) -> impl Iterator<Item = Range<usize>> + 'a {
        let ends = &batch.cu_seqlens()[self.sequences.start..=self.sequences.end];
        ends.windows(2).map(|ends| ends[0] - self.tokens.start..ends[1] - self.tokens.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_hold_whole_sequences_up_to_their_size() {
        let lengths = [100, 100, 56, 1, 300, 255, 1, 1];
        let batch = Batch::new(lengths.map(|n| vec![0; n]));
        let cut: Vec<_> = chunks(&batch).into_iter().map(|c| (c.sequences, c.tokens)).collect();
        assert_eq!(
            cut,
            [(0..3, 0..256), (3..4, 256..257), (4..5, 257..557), (5..7, 557..813), (7..8, 813..814)]
        );
        let first = &chunks(&batch)[3];
        assert_eq!(first.rows(&batch).collect::<Vec<_>>(), [0..255, 255..256]);
        assert!(chunks(&Batch::default()).is_empty());
    }
}
