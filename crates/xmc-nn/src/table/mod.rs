//! How do the classifiers of a million labels learn where a step touches few of them?
//!
//! Text i is compared with a list of labels of its own, a few thousand of all of them:
//!
//! ```text
//! z_il = w_l · x_i + bias_l                          for each pair (i, l) of the lists
//! dx_i += sum_l slope_il w_l                         slope_il = d loss / d z_il
//! dw_l  = sum_i slope_il x_i,  dbias_l = sum_i slope_il
//! ```
//!
//! [`LabelTable::pass`] makes margins, slopes and dx in one walk over the pairs, while weights are in the cache: no copy
//! [b, K, d] of weights. [`LabelTable::step`] makes dw of a label and moves the label at once: no gradient [L, d], and
//! every array is read once and written once. Nothing of the size L d is touched where there are no pairs.
//!
//! Labels move by AdamW with lazy decay, as rows of [`RowAdamW`](crate::optim::RowAdamW) do (its page says what differs
//! from dense AdamW, and when weights show the decay that waits); biases do not decay. [`Moments::Row`] keeps one v
//! for each label, of the mean square of its gradient, as Adam-mini does for blocks of parameters (Zhang et al.,
//! "Adam-mini: Use Fewer Learning Rates To Gain More", ICLR 2025). With [`Stored::Bf16`], weights (and m of rows) take two
//! bytes and are rounded by chance, a function of seed, step, label and column.
//!
//! Bytes of a label with d weights, 20 more for bias, moments of the bias, v and the step up to which it is settled:
//!
//! | | `Moments::Element` | `Moments::Row` |
//! |---|---|---|
//! | `Stored::F32` | 12 d | 8 d |
//! | `Stored::Bf16` | 10 d | 4 d |
//!
//! A step moves each touched label's bytes twice, in and out; a pass reads the weights of a label once for every few texts.
//!
//! ```
//! use xmc_nn::table::{LabelTable, Pairs, Place, TableConfig};
//! let mut table = LabelTable::new(1000, 2, TableConfig::default(), Place::Memory)?;
//! table.fill(|label, row| row[0] = label as f32);
//! let (x, pairs) = ([0.5, 1.0], Pairs { indptr: &[0, 2], ids: &[4, 700] });
//! let mut z = [0.0; 2];
//! table.margins(&x, &pairs, &mut z)?;
//! assert_eq!(z, [2.0, 350.0]);
//! table.step(&x, &pairs, &[1.0, -1.0], 0.25, 0)?;
//! // The first step is the learning rate against the sign of the gradient.
//! let mut row = [0.0; 2];
//! table.row(700, &mut row);
//! assert_eq!((row[1], table.bias(4)), (0.25, -0.25));
//! # Ok::<(), xmc_nn::Error>(())
//! ```

mod columns;
mod kernels;
mod pairs;
mod storage;
mod update;

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

pub(crate) use columns::{Columns, Stretch};
pub use pairs::Pairs;
pub(crate) use pairs::{Rows, add_up};
pub use storage::Place;

use crate::error::{Error, Result};
use crate::ops::half::Element;
use crate::optim::{AdamWConfig, Lazy, stored};
use storage::{Array, Arrays, Removed};

/// How many bytes a weight takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stored {
    /// Four.
    #[default]
    F32,
    /// Two, rounded by chance.
    Bf16,
}

/// What AdamW remembers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Moments {
    /// m and v of every weight, in f32.
    #[default]
    Element,
    /// m of every weight, stored as the weights are, and one v for each label.
    Row,
}

/// Settings of a [`LabelTable`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TableConfig {
    /// How weights are stored.
    pub stored: Stored,
    /// What is remembered of gradients.
    pub moments: Moments,
    /// Everything else about the steps.
    pub adam: AdamWConfig,
}

/// What is kept for a label beside weights and bias; one read for all.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
struct Record {
    /// Of the bias.
    m: f32,
    v: f32,
    /// v of the weights with [`Moments::Row`].
    square: f32,
    /// The step up to which the label is settled.
    settled: u32,
}

/// Weights `[L, d]` and biases `[L]` of labels, with what their optimiser remembers.
#[derive(Debug)]
pub struct LabelTable {
    config: TableConfig,
    labels: usize,
    dim: usize,
    /// f32 or u16.
    weights: Array,
    /// f32 or, with one v for each label, as the weights.
    m: Array,
    /// Empty with one v for each label.
    v: Array,
    biases: Array,
    records: Array,
    lazy: Lazy,
    /// Last, so that the working file goes after its maps.
    _file: Option<Removed>,
}

impl LabelTable {
    /// `labels` classifiers of `dim` weights, all zero.
    pub fn new(labels: usize, dim: usize, config: TableConfig, place: Place<'_>) -> Result<Self> {
        if dim == 0 || labels > u32::MAX as usize || labels.checked_mul(dim).is_none() {
            return Err(Error::Shape(format!("a table of {labels} labels with {dim} weights each")));
        }
        let mut arrays = Arrays::new(place)?;
        let all = labels * dim;
        let weights = match config.stored {
            Stored::F32 => arrays.array::<f32>(all)?,
            Stored::Bf16 => arrays.array::<u16>(all)?,
        };
        let (m, v) = match (config.moments, config.stored) {
            (Moments::Element, _) => (arrays.array::<f32>(all)?, arrays.array::<f32>(all)?),
            (Moments::Row, Stored::F32) => (arrays.array::<f32>(all)?, arrays.array::<f32>(0)?),
            (Moments::Row, Stored::Bf16) => (arrays.array::<u16>(all)?, arrays.array::<f32>(0)?),
        };
        let (biases, records) = (arrays.array::<f32>(labels)?, arrays.array::<Record>(labels)?);
        let (lazy, file) = (Lazy::new(config.adam), arrays.removed());
        Ok(LabelTable { config, labels, dim, weights, m, v, biases, records, lazy, _file: file })
    }

    /// Sets all weights: `f(label, row [d])` gets what there is and leaves what there shall be.
    pub fn fill(&mut self, f: impl Fn(u32, &mut [f32]) + Sync) {
        fn rows<E: Element>(weights: &mut [E], dim: usize, f: impl Fn(u32, &mut [f32]) + Sync) {
            let width = Columns::width(weights.len() / dim);
            weights.par_chunks_mut(width * dim).enumerate().for_each(|(task, weights)| {
                let mut row = vec![0.0; dim];
                for (label, weights) in ((task * width) as u32..).zip(weights.chunks_exact_mut(dim)) {
                    widen(weights, &mut row);
                    f(label, &mut row);
                    // Half of the last place that is kept: to the nearest.
                    weights.iter_mut().zip(&row).for_each(|(weight, &v)| *weight = E::narrow(v, 0x8000));
                }
            });
        }
        match self.config.stored {
            Stored::F32 => rows::<f32>(self.weights.get_mut(), self.dim, f),
            Stored::Bf16 => rows::<u16>(self.weights.get_mut(), self.dim, f),
        }
    }

    /// Sets the bias of every label.
    pub fn set_biases(&mut self, biases: &[f32]) -> Result<()> {
        if biases.len() != self.labels {
            return Err(Error::Shape(format!("{} biases for {} labels", biases.len(), self.labels)));
        }
        self.biases.get_mut::<f32>().copy_from_slice(biases);
        Ok(())
    }

    /// L.
    pub fn labels(&self) -> usize {
        self.labels
    }

    /// d.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Writes the weights of a label to `row [d]`; nothing for a label that does not exist.
    pub fn row(&self, label: u32, row: &mut [f32]) {
        let range = label as usize * self.dim..(label as usize + 1) * self.dim;
        match self.config.stored {
            Stored::F32 => widen(self.weights.get::<f32>().get(range).unwrap_or_default(), row),
            Stored::Bf16 => widen(self.weights.get::<u16>().get(range).unwrap_or_default(), row),
        }
    }

    /// The bias of a label; 0 for a label that does not exist.
    pub fn bias(&self, label: u32) -> f32 {
        self.biases.get().get(label as usize).copied().unwrap_or(0.0)
    }

    /// Margins, slopes and `dx` of texts `x [b, d]`, in one walk over the pairs.
    ///
    /// For each few pairs of one text, `slope(first pair, z)` gets their margins and leaves their slopes, which are in
    /// `z [pairs]` afterwards. To `dx [b, d]` the sum of slope w is added. Pairs of one text come in their order,
    /// those of several texts at once.
    pub fn pass(
        &self,
        x: &[f32],
        pairs: &Pairs<'_>,
        z: &mut [f32],
        dx: &mut [f32],
        slope: &(dyn Fn(usize, &mut [f32]) + Sync),
    ) -> Result<()> {
        if dx.len() != x.len() {
            return Err(Error::Shape(format!("{} gradients of {} numbers of texts", dx.len(), x.len())));
        }
        self.walk(x, pairs, z, dx, slope)
    }

    /// The margins alone.
    pub fn margins(&self, x: &[f32], pairs: &Pairs<'_>, z: &mut [f32]) -> Result<()> {
        self.walk(x, pairs, z, &mut [], &|_, _| {})
    }

    fn walk(
        &self,
        x: &[f32],
        pairs: &Pairs<'_>,
        z: &mut [f32],
        dx: &mut [f32],
        slope: &(dyn Fn(usize, &mut [f32]) + Sync),
    ) -> Result<()> {
        self.check(x, pairs, z)?;
        let slope = |_, first, z: &mut [f32]| {
            slope(first, z);
            0.0
        };
        match self.config.stored {
            Stored::F32 => self.rows::<f32>().walk(x, pairs, z, dx, slope),
            Stored::Bf16 => self.rows::<u16>().walk(x, pairs, z, dx, slope),
        };
        Ok(())
    }

    fn rows<E: Element>(&self) -> Rows<'_, E> {
        let (weights, biases) = (self.weights.get(), self.biases.get());
        Rows { weights, stride: self.dim, dim: self.dim, biases, bias_stride: 1 }
    }

    fn check(&self, x: &[f32], pairs: &Pairs<'_>, z: &[f32]) -> Result<()> {
        let (b, d, n) = (pairs.indptr.len().saturating_sub(1), self.dim, pairs.ids.len());
        if x.len() != b * d || z.len() != n {
            let (x, z) = (x.len(), z.len());
            return Err(Error::Shape(format!(
                "{x} numbers of texts and {z} of pairs; expected [{b}, {d}] and {n}"
            )));
        }
        pairs.check(b, self.labels)
    }

    /// Number of steps taken.
    pub fn steps(&self) -> u32 {
        self.lazy.steps()
    }

    /// Weights and everything that is remembered, by name; numbers of other kinds are the floats with the same bits.
    pub fn state(&self) -> Vec<(&'static str, &[f32])> {
        vec![
            ("weights", self.weights.bits()),
            ("biases", self.biases.bits()),
            ("m", self.m.bits()),
            ("v", self.v.bits()),
            ("records", self.records.bits()),
            ("log_decay", self.lazy.state()),
        ]
    }

    /// Puts back what [`LabelTable::state`] of a table of this shape and these settings gave: `take` hands out the runs by
    /// name. After an error, the table must not be used.
    pub fn restore(&mut self, mut take: impl FnMut(&str) -> Option<Vec<f32>>) -> Result<()> {
        let arrays = [
            ("weights", &mut self.weights),
            ("biases", &mut self.biases),
            ("m", &mut self.m),
            ("v", &mut self.v),
            ("records", &mut self.records),
        ];
        for (name, array) in arrays {
            let bits = stored(&mut take, name, array.bits().len())?;
            array.set_bits(&bits);
        }
        let halves = stored(&mut take, "log_decay", None)?;
        let settled = self.records.get::<Record>().iter().map(|record| record.settled);
        self.lazy = self.lazy.restored(&halves, settled)?;
        Ok(())
    }
}

fn widen<E: Element>(weights: &[E], row: &mut [f32]) {
    row.iter_mut().zip(weights).for_each(|(v, weight)| *v = weight.widen());
}
