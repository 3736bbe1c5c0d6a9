//! How does one label move? In one pass over its weights and moments, rounded by chance where they are stored in bf16.

use crate::ops::half::{Chance, Element};
use crate::ops::reduce::scale;
use crate::ops::simd::{LANES, total};
use crate::optim::{Step, apply};

/// Where the chance of a row comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub(super) seed: u64,
    pub(super) step: u32,
    pub(super) label: u32,
}

/// Weights that can be moved. Gradients are zero afterwards.
pub(super) trait Moved: Element {
    /// With an m and a v of its own for every weight.
    fn elements(step: Step, p: &mut [Self], g: &mut [f32], m: &mut [f32], v: &mut [f32], key: Key);

    /// With one v for all of them, the running mean of the mean square of their gradients.
    fn row(step: Step, p: &mut [Self], g: &mut [f32], m: &mut [Self], v: &mut f32, key: Key);

    /// Multiplies all by `factor`.
    fn scale(p: &mut [Self], factor: f32, key: Key);
}

impl Moved for f32 {
    fn elements(step: Step, p: &mut [f32], g: &mut [f32], m: &mut [f32], v: &mut [f32], _key: Key) {
        apply(step, p, g, m, v);
    }

    fn row(step: Step, p: &mut [f32], g: &mut [f32], m: &mut [f32], v: &mut f32, key: Key) {
        row_f32(step, p, g, m, v, key);
    }

    fn scale(p: &mut [f32], factor: f32, _key: Key) {
        scale(p, factor);
    }
}

impl Moved for u16 {
    fn elements(step: Step, p: &mut [u16], g: &mut [f32], m: &mut [f32], v: &mut [f32], key: Key) {
        elements_bf16(step, p, g, m, v, key);
    }

    fn row(step: Step, p: &mut [u16], g: &mut [f32], m: &mut [u16], v: &mut f32, key: Key) {
        row_bf16(step, p, g, m, v, key);
    }

    fn scale(p: &mut [u16], factor: f32, key: Key) {
        scale_bf16(p, factor, key);
    }
}

// As in `Step`, multiplication and addition are never fused, so that every processor computes the same bits.
crate::simd! {
    fn elements_bf16(step: Step, p: &mut [u16], g: &mut [f32], m: &mut [f32], v: &mut [f32], key: Key) {
        let mut chance = Chance::new(key.seed, key.step, key.label);
        for (((p, g), m), v) in
            p.chunks_mut(LANES).zip(g.chunks_mut(LANES)).zip(m.chunks_mut(LANES)).zip(v.chunks_mut(LANES))
        {
            let chance = chance.next();
            for ((((p, g), m), v), chance) in p.iter_mut().zip(g).zip(m).zip(v).zip(chance) {
                *p = u16::narrow(step.moved(p.widen(), *g, m, v), chance);
                *g = 0.0;
            }
        }
    }

    fn row_f32(step: Step, p: &mut [f32], g: &mut [f32], m: &mut [f32], v: &mut f32, key: Key) {
        row::<FUSED, f32>(step, p, g, m, v, key);
    }

    fn row_bf16(step: Step, p: &mut [u16], g: &mut [f32], m: &mut [u16], v: &mut f32, key: Key) {
        row::<FUSED, u16>(step, p, g, m, v, key);
    }

    fn scale_bf16(p: &mut [u16], factor: f32, key: Key) {
        let mut chance = Chance::new(key.seed, key.step, key.label);
        for p in p.chunks_mut(LANES) {
            for (p, chance) in p.iter_mut().zip(chance.next()) {
                *p = u16::narrow(p.widen() * factor, chance);
            }
        }
    }
}

#[inline(always)]
fn row<const FUSED: bool, E: Element>(
    step: Step,
    p: &mut [E],
    g: &mut [f32],
    m: &mut [E],
    v: &mut f32,
    key: Key,
) {
    let size = row_size::<FUSED>(&step, g, v);
    let mut chance = Chance::new(key.seed, key.step, key.label);
    let (p, p_rest) = p.as_chunks_mut::<LANES>();
    let (g, g_rest) = g.as_chunks_mut::<LANES>();
    let (m, m_rest) = m.as_chunks_mut::<LANES>();
    for ((p, g), m) in p.iter_mut().zip(g).zip(m) {
        let chance = chance.next();
        for lane in 0..LANES {
            (p[lane], m[lane]) = move_one(&step, size, p[lane], g[lane], m[lane], chance[lane]);
            g[lane] = 0.0;
        }
    }
    for (((p, g), m), chance) in p_rest.iter_mut().zip(g_rest).zip(m_rest).zip(chance.next()) {
        (*p, *m) = move_one(&step, size, *p, *g, *m, chance);
        *g = 0.0;
    }
}

/// The next v of a row, and how far its weights go by their m.
#[inline(always)]
fn row_size<const FUSED: bool>(step: &Step, g: &[f32], v: &mut f32) -> f32 {
    let mut sums = [0f32; LANES];
    let (chunks, rest) = g.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            sums[lane] += chunk[lane] * chunk[lane];
        }
    }
    let rest: f32 = rest.iter().map(|g| g * g).sum();
    *v = step.square((total::<FUSED>(&sums) + rest) / g.len().max(1) as f32, *v);
    step.size() / step.denominator(*v)
}

/// The next weight and m: the lower half of the chance is the weight's, the upper half m's.
#[inline(always)]
fn move_one<E: Element>(step: &Step, size: f32, p: E, g: f32, m: E, chance: u32) -> (E, E) {
    let mean = step.mean(g, m.widen());
    let p = p.widen() * step.keep[0] - size * mean;
    (E::narrow(p, chance), E::narrow(mean, chance >> 16))
}
