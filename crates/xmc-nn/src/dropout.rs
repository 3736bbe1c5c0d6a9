//! Which activations does training drop? A pure function of their place, so that nothing has to be stored.
//!
//! Every element has 16 random bits, computed from (key, layer, site, token, column) alone. It is dropped if they are
//! below p 2^16, else divided by the share that is kept. Chunks and threads do not enter, so backward and a second
//! forward pass with the same key see the same mask.
//!
//! A row has 64 bits from a SplitMix64 chain; a pair of columns takes 32 of its own from two rounds of multiply and
//! xor-shift with both halves of the row's. Columns c and c + 16 of a block of 32 are a pair: one vector of hashes
//! serves two vectors of activations.

use crate::tensor::Tensor;

/// What masks depend on: the same key gives the same masks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DropoutKey {
    /// Seed of the run.
    pub seed: u64,
    /// Optimiser step.
    pub step: u64,
    /// Which of the batches of a step: texts, labels, their parts.
    pub part: u64,
}

/// Where in the network.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Site {
    Embeddings,
    Attention,
    FeedForward,
    /// Behind the pooler; its rows are sequences.
    Pooler,
    /// Attention probabilities of a head.
    Probabilities {
        head: usize,
    },
    /// What goes into a low-rank adapter of one of a layer's matrices.
    Adapter {
        matrix: usize,
    },
    /// Embeddings as they leave the encoder; rows are those of the training data.
    Output,
}

/// Drops the part `rate` of the embeddings `x [b, d]` of rows `ids`, or of their gradients. A mask depends on the key
/// and on the id of its row, not on the rows that stand beside it.
pub fn drop_embeddings(key: DropoutKey, rate: f32, ids: &[u32], x: &mut Tensor) {
    let Some(dropout) = Dropout::new(Some(key), 0, Site::Output, rate) else { return };
    let cols = x.cols().max(1);
    for (&id, row) in ids.iter().zip(x.host_mut().chunks_exact_mut(cols)) {
        dropout.apply(id as usize, row, cols);
    }
}

/// Masks of one site.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dropout {
    key: u64,
    /// Dropped are bits below.
    threshold: u32,
    /// 1 / share kept.
    scale: f32,
}

const LANES: usize = 16;

impl Dropout {
    /// None if nothing is dropped.
    pub(crate) fn new(key: Option<DropoutKey>, layer: usize, site: Site, rate: f32) -> Option<Self> {
        let threshold = (rate * 65536.0).round() as u32;
        let key = key.filter(|_| threshold > 0)?;
        let site = match site {
            Site::Embeddings => 0,
            Site::Attention => 1,
            Site::FeedForward => 2,
            Site::Pooler => u64::MAX,
            Site::Output => u64::MAX - 1,
            Site::Adapter { matrix } => u64::MAX - 2 - matrix as u64,
            Site::Probabilities { head } => 3 + head as u64,
        };
        let key = [key.seed, key.step, key.part, layer as u64, site]
            .into_iter()
            .fold(0, |state, part| mix(state ^ part));
        Some(Dropout { key, threshold, scale: 65536.0 / (65536 - threshold) as f32 })
    }

    /// Drops in rows of `cols`; the first belongs to token `first` of the batch.
    pub(crate) fn apply(self, first: usize, x: &mut [f32], cols: usize) {
        drop_rows(self, first, x, cols);
    }

    /// Drops in the row of a token; for bodies of `simd!`.
    #[inline(always)]
    pub(crate) fn apply_row(self, token: usize, row: &mut [f32]) {
        let bits = mix(self.key ^ token as u64);
        let (low, high) = (bits as u32, (bits >> 32) as u32);
        let (blocks, rest) = row.as_chunks_mut::<{ 2 * LANES }>();
        let mut counter = 0;
        for block in blocks {
            for lane in 0..LANES {
                let hash = hash(low, high, counter + lane as u32);
                block[lane] = self.keep(hash & 0xffff, block[lane]);
                block[lane + LANES] = self.keep(hash >> 16, block[lane + LANES]);
            }
            counter += LANES as u32;
        }
        for (i, value) in rest.iter_mut().enumerate() {
            let hash = hash(low, high, counter + (i % LANES) as u32);
            *value = self.keep(if i < LANES { hash & 0xffff } else { hash >> 16 }, *value);
        }
    }

    #[inline(always)]
    fn keep(self, bits: u32, value: f32) -> f32 {
        if bits < self.threshold { 0.0 } else { value * self.scale }
    }
}

crate::simd! {
    fn drop_rows(dropout: Dropout, first: usize, x: &mut [f32], cols: usize) {
        for (token, row) in (first..).zip(x.chunks_exact_mut(cols)) {
            dropout.apply_row(token, row);
        }
    }
}

/// One step of SplitMix64.
#[inline(always)]
fn mix(state: u64) -> u64 {
    let mut x = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[inline(always)]
fn hash(low: u32, high: u32, counter: u32) -> u32 {
    let mut x = low.wrapping_add(counter.wrapping_mul(0x9e37_79b9));
    x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d) ^ high;
    x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: DropoutKey = DropoutKey { seed: 1, step: 2, part: 3 };

    fn masked(key: DropoutKey, layer: usize, site: Site, first: usize, rows: usize, cols: usize) -> Vec<f32> {
        let mut x = vec![1.0; rows * cols];
        Dropout::new(Some(key), layer, site, 0.1).unwrap().apply(first, &mut x, cols);
        x
    }

    #[test]
    fn a_tenth_is_dropped_and_the_mean_stays() {
        let x = masked(KEY, 0, Site::Attention, 0, 1000, 384);
        let dropped = x.iter().filter(|&&v| v == 0.0).count() as f64 / x.len() as f64;
        assert!((dropped - 0.1).abs() < 0.002, "{dropped}");
        let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / x.len() as f64;
        assert!((mean - 1.0).abs() < 0.002, "{mean}");
        for column in 0..384 {
            let dropped = (0..1000).filter(|row| x[row * 384 + column] == 0.0).count();
            assert!((50..160).contains(&dropped), "column {column}: {dropped} of 1000");
        }
    }

    #[test]
    fn masks_depend_on_every_part_of_the_place_and_on_nothing_else() {
        let one = masked(KEY, 0, Site::Attention, 0, 8, 100);
        assert_eq!(one, masked(KEY, 0, Site::Attention, 0, 8, 100));
        // Rows of a later chunk, and rows cut off in the middle.
        assert_eq!(one[300..], masked(KEY, 0, Site::Attention, 3, 5, 100));
        for other in [
            masked(DropoutKey { seed: 9, ..KEY }, 0, Site::Attention, 0, 8, 100),
            masked(DropoutKey { step: 9, ..KEY }, 0, Site::Attention, 0, 8, 100),
            masked(DropoutKey { part: 9, ..KEY }, 0, Site::Attention, 0, 8, 100),
            masked(KEY, 1, Site::Attention, 0, 8, 100),
            masked(KEY, 0, Site::FeedForward, 0, 8, 100),
            masked(KEY, 0, Site::Pooler, 0, 8, 100),
            masked(KEY, 0, Site::Probabilities { head: 0 }, 0, 8, 100),
            masked(KEY, 0, Site::Attention, 1, 8, 100),
        ] {
            let same = one.iter().zip(&other).filter(|(a, b)| a == b).count() as f64 / one.len() as f64;
            assert!((same - 0.82).abs() < 0.06, "0.9^2 + 0.1^2 agree by chance; found {same}");
        }
    }

    #[test]
    fn the_mask_of_an_embedding_goes_with_its_row() {
        let ones = |rows| Tensor::from_host(rows, 48, vec![1.0; rows * 48], crate::Device::Cpu).unwrap();
        let (mut together, mut alone) = (ones(3), ones(1));
        drop_embeddings(KEY, 0.5, &[7, 2, 9], &mut together);
        drop_embeddings(KEY, 0.5, &[2], &mut alone);
        assert_eq!(together.host()[48..96], *alone.host());
        assert_ne!(together.host()[..48], *alone.host());
        assert!(together.host().iter().all(|&v| v == 0.0 || v == 2.0));
    }

    #[test]
    fn short_rows_and_long_rows_share_their_beginning() {
        let long = masked(KEY, 0, Site::Embeddings, 0, 1, 64);
        assert_eq!(long[..48], masked(KEY, 0, Site::Embeddings, 0, 1, 48));
    }

    #[test]
    fn without_key_or_rate_nothing_is_dropped() {
        assert!(Dropout::new(None, 0, Site::Attention, 0.5).is_none());
        assert!(Dropout::new(Some(KEY), 0, Site::Attention, 0.0).is_none());
    }
}
