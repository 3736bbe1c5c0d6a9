//! What could the labels of a large catalogue look like? Vectors of labels and queries with a known structure.
//!
//! Labels lie in groups of 16, these in groups of 256, these in groups of 4096; every label also belongs to a second,
//! far group. With unit vectors g of groups and o of labels, all random:
//!
//! ```text
//! v_l = unit(g_1 + g_2 + g_3 + o_l + 0.7 (g'_1 + g'_2 + g'_3) / sqrt 3)        [d]
//! x   = unit((v_p + v_q + v_r) / sqrt 3 + noise)                               p, q, r: the right labels, anywhere
//! ```
//!
//! So a label has neighbours on both sides, no partition keeps all of them together, and the best labels of a query are
//! spread over several clusters. Everything is a function of
//! (seed, place): nothing is stored, and ten million labels take no time to name. Label ids are scattered over the
//! groups, because ids of real catalogues say nothing about meaning.

use rayon::prelude::*;

/// Labels of the groups that contain one another.
const GROUPS: [usize; 3] = [16, 256, 4096];
/// What the far groups weigh, all three together.
const FAR: f32 = 0.7;
/// Length of the noise of a query, beside labels of length one.
const NOISE: f32 = 0.7;
/// Right labels of a query.
pub(crate) const POSITIVES: usize = 3;
/// Neighbours in a group get ids so far apart; no number of labels that anyone asks for is a multiple of it.
const SCATTER: u64 = 2_654_435_761;

/// All labels and queries of one seed.
#[derive(Clone, Copy)]
pub(crate) struct Planted {
    labels: usize,
    dim: usize,
    seed: u64,
    /// Inverse of `SCATTER` modulo the labels.
    gather: u64,
}

impl Planted {
    pub(crate) fn new(labels: usize, dim: usize, seed: u64) -> Self {
        Planted { labels, dim, seed, gather: inverse(SCATTER % labels as u64, labels as u64) }
    }

    pub(crate) fn labels(&self) -> usize {
        self.labels
    }

    /// Vector of label `label`, of length one, into `out [d]`.
    pub(crate) fn label(&self, label: u32, out: &mut [f32]) {
        let place = self.place(label);
        let far = (hash(self.seed, 1, place as u64) % self.labels as u64) as usize;
        out.fill(0.0);
        self.add(0, u64::from(label), 1.0, out);
        for (level, size) in GROUPS.into_iter().enumerate() {
            let level = level as u64 + 1;
            self.add(level, (place / size) as u64, 1.0, out);
            self.add(level, (far / size) as u64, FAR / 3f32.sqrt(), out);
        }
        unit(out);
    }

    /// Vectors of all labels, row after row.
    pub(crate) fn label_rows(&self, labels: std::ops::Range<usize>) -> Vec<f32> {
        let mut rows = vec![0.0; labels.len() * self.dim];
        rows.par_chunks_mut(self.dim).zip(labels).for_each(|(row, label)| self.label(label as u32, row));
        rows
    }

    /// Right labels of query `query`, by rising id.
    pub(crate) fn positives(&self, query: usize) -> [u32; POSITIVES] {
        let mut labels = [0; POSITIVES];
        for i in 0..POSITIVES {
            let place = hash(self.seed, 2, (query * POSITIVES + i) as u64) as usize;
            // None comes twice.
            let mut label = self.label_at(place % self.labels);
            while labels[..i].contains(&label) {
                label = (label + 1) % self.labels as u32;
            }
            labels[i] = label;
        }
        labels.sort_unstable();
        labels
    }

    /// Labels of training row `row`: label `row` and two that come along, so that every label has a row.
    pub(crate) fn row_labels(&self, row: usize) -> [u32; POSITIVES] {
        let own = (row % self.labels) as u32;
        let [first, others @ ..] = self.positives(row);
        if others.contains(&own) { [first, others[0], others[1]] } else { [own, others[0], others[1]] }
    }

    /// Queries of these numbers, row after row.
    pub(crate) fn queries(&self, queries: std::ops::Range<usize>) -> Vec<f32> {
        let of = |label: u32| {
            let mut vector = vec![0.0; self.dim];
            self.label(label, &mut vector);
            vector
        };
        self.near(queries, |query| self.positives(query), of)
    }

    /// Texts of these numbers with the `labels` of each, whose vectors `vector` gives; row after row.
    pub(crate) fn near<V: AsRef<[f32]>>(
        &self,
        texts: std::ops::Range<usize>,
        labels: impl Fn(usize) -> [u32; POSITIVES] + Sync,
        vector: impl Fn(u32) -> V + Sync,
    ) -> Vec<f32> {
        let mut rows = vec![0.0; texts.len() * self.dim];
        rows.par_chunks_mut(self.dim).zip(texts).for_each(|(row, text)| {
            for label in labels(text) {
                let vector = vector(label);
                row.iter_mut()
                    .zip(vector.as_ref())
                    .for_each(|(sum, v)| *sum += v / (POSITIVES as f32).sqrt());
            }
            self.add(GROUPS.len() as u64 + 1, text as u64, NOISE, row);
            unit(row);
        });
        rows
    }

    /// Adds `weight` times the random unit vector number `i` of kind `kind`.
    fn add(&self, kind: u64, i: u64, weight: f32, out: &mut [f32]) {
        let key = hash(self.seed, 16 + kind, i);
        let scale = weight / (out.len() as f32).sqrt();
        for (j, v) in out.iter_mut().enumerate() {
            *v += scale * near_normal(hash(key, 0, j as u64));
        }
    }

    /// Where a label lies among the groups.
    fn place(&self, label: u32) -> usize {
        (u64::from(label) * SCATTER % self.labels as u64) as usize
    }

    /// The label at a place: the inverse of [`Planted::place`].
    pub(crate) fn label_at(&self, place: usize) -> u32 {
        (place as u128 * u128::from(self.gather) % self.labels as u128) as u32
    }
}

/// `a`'s inverse modulo `n`, by Euclid.
fn inverse(a: u64, n: u64) -> u64 {
    let (mut r, mut next) = (i128::from(n), i128::from(a));
    let (mut t, mut next_t) = (0i128, 1i128);
    while next != 0 {
        let quotient = r / next;
        (r, next) = (next, r - quotient * next);
        (t, next_t) = (next_t, t - quotient * next_t);
    }
    assert_eq!(r, 1, "the number of labels has a divisor in common with {SCATTER}");
    t.rem_euclid(i128::from(n)) as u64
}

/// A sum of four uniform numbers, scaled to variance one.
fn near_normal(bits: u64) -> f32 {
    let sum: u64 = (0..4).map(|i| bits >> (16 * i) & 0xffff).sum();
    (sum as f32 / 65536.0 - 2.0) * 3f32.sqrt()
}

fn unit(row: &mut [f32]) {
    let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt();
    for v in row {
        *v /= norm;
    }
}

/// Splitmix64 of a seed, a purpose and a place.
pub(crate) fn hash(seed: u64, purpose: u64, place: u64) -> u64 {
    let mut z =
        seed ^ purpose.wrapping_mul(0xd134_2543_de82_ef95) ^ place.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for (shift, factor) in [(30, 0xbf58_476d_1ce4_e5b9), (27, 0x94d0_49bb_1331_11eb)] {
        z = (z ^ (z >> shift)).wrapping_mul(factor);
    }
    z ^ (z >> 31)
}
