//! How many labels are like this one? (RACE: Coleman and Shrivastava 2020, "Sub-linear RACE sketches for approximate
//! kernel density estimation on streaming data".)
//!
//! In each of 64 tables, with hashes of 10 bits of their own, count the labels of every cell. The sum of the counts that
//! a label meets estimates how dense its neighbourhood is; its weight is one over that. Labels are taken in the order of
//! -ln(u) / weight, which draws without replacement (Efraimidis and Spirakis 2006).

use super::features::LabelFeatures;
use super::simhash::{WORD, signatures};

/// Tables.
const TABLES: usize = 64;

/// Bits of a hash.
const BITS: usize = 10;

/// One over the weight of every label: how many labels its cells hold, over all tables.
pub(super) fn densities(features: &LabelFeatures, mean: &[f64], seed: u64) -> Vec<u64> {
    const PER_WORD: usize = WORD / BITS;
    let mut densities = vec![0u64; features.rows()];
    for word in 0..TABLES.div_ceil(PER_WORD) {
        let signatures = signatures(features, mean, seed, word);
        for table in 0..PER_WORD.min(TABLES - word * PER_WORD) {
            let cell = |signature: u32| (signature >> (table * BITS)) as usize & ((1 << BITS) - 1);
            let mut counts = vec![0u64; 1 << BITS];
            for &signature in &signatures {
                counts[cell(signature)] += 1;
            }
            for (density, &signature) in densities.iter_mut().zip(&signatures) {
                *density += counts[cell(signature)];
            }
        }
    }
    densities
}
