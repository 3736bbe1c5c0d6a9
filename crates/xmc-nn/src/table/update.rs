//! What does a step do? It goes through the touched labels in their order, makes the gradient of each in the innermost
//! cache and moves the label at once, while the next one comes from memory.

use rayon::prelude::*;

use super::columns::{Columns, Stretch};
use super::kernels::{Key, Moved};
use super::pairs::{Pairs, add_up, prefetch};
use super::{LabelTable, Moments, Record, Stored};
use crate::error::Result;
use crate::ops::reduce::scale;
use crate::optim::{Lazy, Step, Waiting};

/// Labels between a wish for weights and their use.
const AHEAD: usize = 2;

/// Seeds of the chances of settling: weights, m.
const SETTLE: [u64; 2] = [0x5e77_1e00, 0x5e77_1e01];

/// What all tasks of a step know.
struct Moving<'a> {
    x: &'a [f32],
    step: Step,
    /// What the decay of this step leaves of a weight.
    left: f32,
    waiting: Waiting<'a>,
    /// The number of this step.
    t: u32,
    seed: u64,
}

/// How a label moves: factors, weights, gradient (zero afterwards), m, v, record, chance.
type Rule<E, M> = fn(Step, &mut [E], &mut [f32], &mut [M], &mut [f32], &mut Record, Key);

/// A stretch of labels: everything of them that changes.
struct Part<'a, E, M> {
    first: usize,
    dim: usize,
    weights: &'a mut [E],
    m: &'a mut [M],
    /// Empty with one v for each label.
    v: &'a mut [f32],
    biases: &'a mut [f32],
    records: &'a mut [Record],
}

impl LabelTable {
    /// Moves all labels that have pairs by the gradients of texts `x [B, d]` of the whole step, with the `slopes [pairs]`
    /// of [`LabelTable::pass`]. A step without pairs counts as a step.
    pub fn step(&mut self, x: &[f32], pairs: &Pairs<'_>, slopes: &[f32], lr: f32, seed: u64) -> Result<()> {
        self.check(x, pairs, slopes)?;
        let columns = Columns::new(pairs, slopes, self.labels);
        let left = self.lazy.advance(lr)?;
        let t = self.lazy.steps();
        let step = Step::new(&self.config.adam, t, lr, 1.0);
        let lazy = std::mem::replace(&mut self.lazy, Lazy::new(self.config.adam));
        let moving = Moving { x, step, left, waiting: lazy.waiting(t - 1), t, seed };
        match (self.config.stored, self.config.moments) {
            (Stored::F32, Moments::Element) => self.moved(&columns, &moving, by_element::<f32>),
            (Stored::Bf16, Moments::Element) => self.moved(&columns, &moving, by_element::<u16>),
            (Stored::F32, Moments::Row) => self.moved(&columns, &moving, by_row::<f32>),
            (Stored::Bf16, Moments::Row) => self.moved(&columns, &moving, by_row::<u16>),
        }
        self.lazy = lazy;
        Ok(())
    }

    fn moved<E: Moved, M: Moved>(&mut self, columns: &Columns, moving: &Moving<'_>, rule: Rule<E, M>) {
        self.parts().into_par_iter().enumerate().for_each(|(i, part): (_, Part<'_, E, M>)| {
            part.moved(&columns.stretch(i), moving, rule);
        });
    }

    /// Applies the decay that waits to all labels.
    pub fn settle(&mut self) {
        let t = self.lazy.steps();
        let lazy = std::mem::replace(&mut self.lazy, Lazy::new(self.config.adam));
        let waiting = lazy.waiting(t);
        match (self.config.stored, self.config.moments) {
            (Stored::F32, _) => self.settled::<f32, f32>(&waiting, t),
            (Stored::Bf16, Moments::Element) => self.settled::<u16, f32>(&waiting, t),
            (Stored::Bf16, Moments::Row) => self.settled::<u16, u16>(&waiting, t),
        }
        self.lazy = lazy;
    }

    fn settled<E: Moved, M: Moved>(&mut self, waiting: &Waiting<'_>, t: u32) {
        let parts: Vec<Part<'_, E, M>> = self.parts();
        parts.into_par_iter().for_each(|part| part.settled(waiting, t));
    }

    /// Everything that changes, by the stretches of [`Columns`].
    fn parts<E: Moved, M: Moved>(&mut self) -> Vec<Part<'_, E, M>> {
        let (dim, width) = (self.dim, Columns::width(self.labels));
        let mut v: &mut [f32] = self.v.get_mut();
        let rows =
            self.weights.get_mut().chunks_mut(width * dim).zip(self.m.get_mut().chunks_mut(width * dim));
        let scalars = self.biases.get_mut().chunks_mut(width).zip(self.records.get_mut().chunks_mut(width));
        let mut parts = Vec::with_capacity(self.labels.div_ceil(width));
        for (i, ((weights, m), (biases, records))) in rows.zip(scalars).enumerate() {
            let part;
            (part, v) = v.split_at_mut(weights.len().min(v.len()));
            parts.push(Part { first: i * width, dim, weights, m, v: part, biases, records });
        }
        parts
    }
}

fn by_element<E: Moved>(
    step: Step,
    p: &mut [E],
    g: &mut [f32],
    m: &mut [f32],
    v: &mut [f32],
    _record: &mut Record,
    key: Key,
) {
    E::elements(step, p, g, m, v, key);
}

fn by_row<E: Moved>(
    step: Step,
    p: &mut [E],
    g: &mut [f32],
    m: &mut [E],
    _v: &mut [f32],
    record: &mut Record,
    key: Key,
) {
    E::row(step, p, g, m, &mut record.square, key);
}

impl<E: Moved, M: Moved> Part<'_, E, M> {
    fn moved(self, stretch: &Stretch, moving: &Moving<'_>, rule: Rule<E, M>) {
        let Moving { x, left, waiting, t, seed, .. } = moving;
        let dim = self.dim;
        let mut grad = vec![0.0; dim];
        for (i, (label, texts, slopes)) in stretch.labels().enumerate() {
            if let Some(&next) = stretch.touched.get(i + AHEAD) {
                self.prefetch(next as usize - self.first);
            }
            let bias = add_up(x, texts, slopes, &mut grad);
            let at = label as usize - self.first;
            let (record, row) = (&mut self.records[at], at * dim..(at + 1) * dim);
            let [keep, keep_m, keep_v] = waiting.left(record.settled);
            let mut step = moving.step;
            step.keep = [1.0, keep_m, keep_v];
            self.biases[at] = step.moved(self.biases[at], bias, &mut record.m, &mut record.v);
            step.keep[0] = keep * left;
            let (weights, m) = (&mut self.weights[row.clone()], &mut self.m[row.clone()]);
            let v = self.v.get_mut(row).unwrap_or_default();
            rule(step, weights, &mut grad, m, v, record, Key { seed: *seed, step: *t, label });
            record.settled = *t;
        }
    }

    fn prefetch(&self, at: usize) {
        let row = at * self.dim..(at + 1) * self.dim;
        prefetch(&self.records[at..=at]);
        prefetch(&self.weights[row.clone()]);
        prefetch(&self.m[row.clone()]);
        prefetch(self.v.get(row).unwrap_or_default());
    }

    fn settled(self, waiting: &Waiting<'_>, t: u32) {
        for (at, record) in self.records.iter_mut().enumerate().filter(|(_, record)| record.settled < t) {
            let ([keep, keep_m, keep_v], row) =
                (waiting.left(record.settled), at * self.dim..(at + 1) * self.dim);
            let label = (self.first + at) as u32;
            let [weights, m] = SETTLE.map(|seed| Key { seed, step: t, label });
            E::scale(&mut self.weights[row.clone()], keep, weights);
            M::scale(&mut self.m[row.clone()], keep_m, m);
            scale(self.v.get_mut(row).unwrap_or_default(), keep_v);
            record.m *= keep_m;
            record.v *= keep_v;
            record.square *= keep_v;
            record.settled = t;
        }
    }
}
