//! How are parameters averaged over time (stochastic weight averaging, Izmailov et al. 2018)?

use rayon::prelude::*;

use super::BLOCK;
use crate::error::{Error, Result};

/// The plain mean of all parameters that were shown: average += (params - average) / updates.
#[derive(Clone, Debug)]
pub struct Swa {
    average: Vec<f32>,
    /// How many were shown; an array, to be viewed as floats.
    updates: [u32; 1],
}

impl Swa {
    /// An average of nothing yet, for `len` parameters.
    pub fn new(len: usize) -> Self {
        Swa { average: vec![0.0; len], updates: [0] }
    }

    /// Takes another set of parameters into the mean; the first one becomes it.
    pub fn update(&mut self, params: &[f32]) -> Result<()> {
        if params.len() != self.average.len() {
            let (found, n) = (params.len(), self.average.len());
            return Err(Error::Shape(format!("{found} parameters for an average of {n}")));
        }
        let part = self.next_part();
        let blocks = self.average.par_chunks_mut(BLOCK).zip(params.par_chunks(BLOCK));
        blocks.for_each(|(average, params)| take_in(average, params, part));
        Ok(())
    }

    /// The same for parameters that do not lie in one run of f32: `read(i, row)` writes row `i`, of `cols` numbers.
    pub fn update_rows(&mut self, cols: usize, read: impl Fn(usize, &mut [f32]) + Sync) -> Result<()> {
        if cols == 0 || !self.average.len().is_multiple_of(cols) {
            let n = self.average.len();
            return Err(Error::Shape(format!("rows of {cols} parameters for an average of {n}")));
        }
        let part = self.next_part();
        let per_task = (BLOCK / cols).max(1);
        self.average.par_chunks_mut(per_task * cols).enumerate().for_each(|(task, average)| {
            let mut row = vec![0.0; cols];
            for (i, average) in (task * per_task..).zip(average.chunks_exact_mut(cols)) {
                read(i, &mut row);
                take_in(average, &row, part);
            }
        });
        Ok(())
    }

    /// Counts one more set of parameters; returns the part that it has in the mean.
    fn next_part(&mut self) -> f32 {
        self.updates[0] += 1;
        1.0 / self.updates[0] as f32
    }

    /// The mean.
    pub fn average(&self) -> &[f32] {
        &self.average
    }

    /// How many sets of parameters are in it.
    pub fn updates(&self) -> u32 {
        self.updates[0]
    }

    /// Everything that it remembers, by name.
    pub fn state(&self) -> Vec<(&'static str, &[f32])> {
        vec![("average", &self.average), ("updates", bytemuck::cast_slice(&self.updates))]
    }

    /// Puts back what [`Swa::state`] gave: `take` hands out the runs by name.
    pub fn restore(&mut self, mut take: impl FnMut(&str) -> Option<Vec<f32>>) -> Result<()> {
        let average = super::stored(&mut take, "average", self.average.len())?;
        let updates = super::stored(&mut take, "updates", 1)?;
        (self.average, self.updates) = (average, [updates[0].to_bits()]);
        Ok(())
    }
}

/// average += (params - average) * part; the first set becomes the mean.
fn take_in(average: &mut [f32], params: &[f32], part: f32) {
    if part == 1.0 { average.copy_from_slice(params) } else { mix(average, params, part) }
}

crate::simd! {
    /// average += (params - average) * part.
    fn mix(average: &mut [f32], params: &[f32], part: f32) {
        for (a, p) in average.iter_mut().zip(params) {
            *a += (p - *a) * part;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_mean_is_that_of_the_golden_file_and_survives_storing() {
        #[derive(serde::Deserialize)]
        struct Golden {
            snapshots: Vec<Vec<f32>>,
            running: Vec<Vec<f32>>,
        }
        let golden: Golden = serde_json::from_str(include_str!("../../tests/golden/elias_swa.json")).unwrap();
        let mut swa = Swa::new(3);
        for (params, want) in golden.snapshots.iter().zip(&golden.running) {
            let mut restored = Swa::new(3);
            restored
                .restore(|name| swa.state().iter().find(|(n, _)| *n == name).map(|(_, v)| v.to_vec()))
                .unwrap();
            swa = restored;
            let mut by_rows = swa.clone();
            by_rows.update_rows(1, |i, row| row[0] = params[i]).unwrap();
            swa.update(params).unwrap();
            assert_eq!((by_rows.average(), by_rows.updates()), (swa.average(), swa.updates()));
            for (a, want) in swa.average().iter().zip(want) {
                assert!((a - want).abs() < 1e-6, "{a} {want}");
            }
        }
        assert_eq!(swa.updates(), 5);
        assert!(swa.update(&[1.0]).is_err() && swa.update_rows(2, |_, _| ()).is_err());
    }
}
