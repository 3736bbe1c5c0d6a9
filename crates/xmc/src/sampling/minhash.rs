//! Which labels have names that share words?
//!
//! A hash function orders all words; its value for a label is the least of its words. Two labels agree in it with the
//! probability |A ∩ B| / |A ∪ B| (Broder 1997). A band is `words` such values side by side; labels that agree in any of
//! four bands share a bucket, and so do those that a chain of such labels connects. More words make finer buckets, each a
//! part of a coarser one. Words are single words and pairs of neighbours.

use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::features::LabelFeatures;
use crate::random::{Draws, Purpose};

/// Bands; more of them find labels that are less alike, and connect longer chains.
const BANDS: usize = 4;

/// Values of a band at most.
pub(super) const MOST_WORDS: u32 = 8;

/// Values of a label, band after band.
pub(super) type Values = [u64; BANDS * MOST_WORDS as usize];

/// Values of every label. A label without words is like all others without words.
pub(super) fn values(words: &LabelFeatures, seed: u64) -> Vec<Values> {
    let mut draws = Draws::new(seed, Purpose::Words, 0);
    let functions: Values = std::array::from_fn(|_| draws.next());
    let of_label = |l: usize| {
        let mut least = [u64::MAX; BANDS * MOST_WORDS as usize];
        words.each(l, |c, _| {
            // One good hash of the word, then a cheap one for every function.
            let word = xxh3_64_with_seed(&(c as u64).to_le_bytes(), seed);
            for (least, &function) in least.iter_mut().zip(&functions) {
                let mixed = (word ^ function).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                *least = (*least).min((mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93));
            }
        });
        least
    };
    (0..words.rows()).into_par_iter().with_min_len(256).map(of_label).collect()
}

/// The bucket of each of `labels`: the position of the first label in it.
pub(super) fn buckets(values: &[Values], labels: &[u32], words: u32) -> Vec<u32> {
    let mut first: Vec<u32> = (0..labels.len() as u32).collect();
    for band in 0..BANDS {
        let start = band * MOST_WORDS as usize;
        let key = |at: u32| &values[labels[at as usize] as usize][start..start + words as usize];
        let mut sorted: Vec<u32> = (0..labels.len() as u32).collect();
        sorted.par_sort_unstable_by(|&a, &b| key(a).cmp(key(b)).then(a.cmp(&b)));
        for pair in sorted.windows(2).filter(|pair| key(pair[0]) == key(pair[1])) {
            let (a, b) = (root(&mut first, pair[0]), root(&mut first, pair[1]));
            first[a.max(b) as usize] = a.min(b);
        }
    }
    (0..labels.len() as u32).map(|at| root(&mut first, at)).collect()
}

/// The first label that `at` is connected with; halves the way there.
fn root(first: &mut [u32], mut at: u32) -> u32 {
    while first[at as usize] != at {
        first[at as usize] = first[first[at as usize] as usize];
        at = first[at as usize];
    }
    at
}
