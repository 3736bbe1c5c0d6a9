//! How are very many texts embedded? In groups of like length with a fixed budget of tokens: a group of short texts is as much
//! work as a few long ones, and activations stay small.

use super::Tower;
use crate::batch::Batch;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use crate::tokens::{Tokens, by_budget};

impl Tower {
    /// Embeddings `[rows, dim]` of the texts `rows` (rising) of `tokens`, without dropout; at most `budget` tokens pass
    /// at a time (a longer text alone). `progress` hears how many tokens of how many are done.
    pub fn embed_rows(
        &self,
        tokens: &Tokens,
        rows: &[u32],
        budget: usize,
        progress: &dyn Fn(u64, u64),
    ) -> Result<Tensor> {
        embed_rows(tokens, rows, budget, (self.dim(), self.device()), progress, &|batch| self.embed(batch))
    }
}

/// Embeddings `[rows, dim]` of the texts `rows` (rising), each group by `embed`; for all encoders of texts.
pub(crate) fn embed_rows(
    tokens: &Tokens,
    rows: &[u32],
    budget: usize,
    (dim, device): (usize, Device),
    progress: &dyn Fn(u64, u64),
    embed: &dyn Fn(&Batch) -> Result<Tensor>,
) -> Result<Tensor> {
    let n = tokens.len();
    let inside = rows.last().is_none_or(|&row| (row as usize) < n);
    if !inside || !rows.is_sorted_by(|a, b| a < b) {
        return Err(Error::Shape(format!("rows to embed must rise and lie below {n}, the number of texts")));
    }
    let mut embeddings = Tensor::zeros(rows.len(), dim, device);
    let (mut done, total) = (0, rows.iter().map(|&row| tokens.row_len(row as usize) as u64).sum());
    for group in by_budget(tokens, rows, budget) {
        let batch = tokens.batch(&group);
        let found = embed(&batch)?;
        for (row, embedding) in group.iter().zip(found.host().chunks_exact(dim)) {
            let Ok(place) = rows.binary_search(row) else { continue };
            embeddings.host_mut()[place * dim..(place + 1) * dim].copy_from_slice(embedding);
        }
        done += batch.tokens() as u64;
        progress(done, total);
    }
    Ok(embeddings)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::transformer::Config;
    use crate::{Precision, TowerConfig};

    #[test]
    fn rows_get_the_embeddings_of_their_texts_in_their_order() {
        let config = Config::bert(50, 16, 1, 2, 32);
        let tower = Tower::random(config, TowerConfig::default(), 3, Device::Cpu, Precision::F32).unwrap();
        let texts: Vec<Vec<u32>> =
            (0..9).map(|i| (0..=i * 5 % 7).map(|j| (i * 11 + j) % 50).collect()).collect();
        let tokens = Tokens::new(&texts);
        let rows = [0, 2, 3, 5, 8];
        let heard = RefCell::new(Vec::new());
        for budget in [0, 6, 1000] {
            heard.borrow_mut().clear();
            let found = tower
                .embed_rows(&tokens, &rows, budget, &|done, total| heard.borrow_mut().push((done, total)))
                .unwrap();
            for (&row, found) in rows.iter().zip(found.host().chunks_exact(16)) {
                let one = tower.embed(&Batch::new([&texts[row as usize]])).unwrap();
                let worst = found.iter().zip(one.host()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst < 1e-6, "row {row} with a budget of {budget}: off by {worst}");
            }
            let heard = heard.borrow();
            let total = rows.iter().map(|&row| texts[row as usize].len() as u64).sum();
            assert_eq!(heard.last(), Some(&(total, total)));
            assert!(heard.is_sorted() && (budget > 6 || heard.len() > 1));
        }
        assert_eq!(tower.embed_rows(&tokens, &[], 10, &|_, _| ()).unwrap().rows(), 0);
        for wrong in [&[3, 2][..], &[2, 2], &[4, 9]] {
            let message = tower.embed_rows(&tokens, wrong, 10, &|_, _| ()).unwrap_err().to_string();
            assert!(message.contains("must rise and lie below 9"), "{message}");
        }
    }
}
