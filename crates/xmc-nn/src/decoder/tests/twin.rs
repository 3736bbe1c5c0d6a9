//! LLaMA in f64, written down once more and as plainly as can be.

use super::*;

fn rows(w: &QuantMatrix) -> Vec<Vec<f64>> {
    let mut row = vec![0.0; w.cols()];
    (0..w.rows())
        .map(|i| {
            w.row(i, &mut row);
            row.iter().map(|&v| f64::from(v)).collect()
        })
        .collect()
}

fn norm(x: &[f64], weight: &[f32], eps: f32) -> Vec<f64> {
    let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
    x.iter().zip(weight).map(|(v, &w)| v / (mean + f64::from(eps)).sqrt() * f64::from(w)).collect()
}

fn turned(config: &Config, position: usize, x: &[f64]) -> Vec<f64> {
    let d = config.head_dim;
    let mut y = x.to_vec();
    for head in 0..x.len() / d {
        for i in 0..d / 2 {
            let angle = position as f64 * f64::from(config.rope_theta).powf(-2.0 * i as f64 / d as f64);
            let [a, b] = match config.rope {
                RopeLayout::Halves => [head * d + i, head * d + i + d / 2],
                RopeLayout::Pairs => [head * d + 2 * i, head * d + 2 * i + 1],
            };
            y[a] = x[a] * angle.cos() - x[b] * angle.sin();
            y[b] = x[b] * angle.cos() + x[a] * angle.sin();
        }
    }
    y
}

/// Hidden states of a sequence of input vectors, behind the last norm. `hidden` are pairs (row, key) that do not see
/// each other beyond what causality forbids; `positions` those of the rows.
pub(super) fn twin(
    decoder: &Decoder,
    inputs: &[Vec<f64>],
    positions: &[usize],
    sees: impl Fn(usize, usize) -> bool,
) -> Vec<Vec<f64>> {
    let config = decoder.config();
    let d = config.head_dim;
    let mut x = inputs.to_vec();
    for layer in &decoder.weights().layers {
        let matrices = Site::ALL.map(|site| rows(&layer.linear(site).weight));
        let apply = |site: Site, x: &[f64]| -> Vec<f64> {
            let bias = &layer.linear(site).bias;
            let row = |(i, w): (usize, &Vec<f64>)| {
                let sum: f64 = w.iter().zip(x).map(|(a, b)| a * b).sum();
                sum + bias.get(i).map_or(0.0, |&b| f64::from(b))
            };
            matrices[site as usize].iter().enumerate().map(row).collect()
        };
        let normed: Vec<_> = x.iter().map(|x| norm(x, &layer.attention_norm, config.norm_eps)).collect();
        let at = |site: Site| normed.iter().map(|n| apply(site, n)).collect::<Vec<_>>();
        let turn = |x: Vec<Vec<f64>>| -> Vec<_> {
            x.iter().zip(positions).map(|(x, &position)| turned(config, position, x)).collect()
        };
        let (q, k, v) = (turn(at(Site::Query)), turn(at(Site::Key)), at(Site::Value));
        for i in 0..x.len() {
            let mut out = vec![0.0; config.heads * d];
            for head in 0..config.heads {
                let kv = head / (config.heads / config.kv_heads);
                let keys: Vec<usize> = (0..=i).filter(|&j| sees(i, j)).collect();
                let score = |&j: &usize| {
                    let product: f64 = (0..d).map(|c| q[i][head * d + c] * k[j][kv * d + c]).sum();
                    (product / (d as f64).sqrt()).exp()
                };
                let powers: Vec<f64> = keys.iter().map(score).collect();
                let sum: f64 = powers.iter().sum();
                for (&j, p) in keys.iter().zip(&powers) {
                    (0..d).for_each(|c| out[head * d + c] += p / sum * v[j][kv * d + c]);
                }
            }
            let more = apply(Site::Output, &out);
            x[i].iter_mut().zip(more).for_each(|(x, y)| *x += y);
            let normed = norm(&x[i], &layer.feed_norm, config.norm_eps);
            let gated: Vec<f64> = apply(Site::Gate, &normed)
                .iter()
                .zip(apply(Site::Up, &normed))
                .map(|(g, u)| g / (1.0 + (-g).exp()) * u)
                .collect();
            let more = apply(Site::Down, &gated);
            x[i].iter_mut().zip(more).for_each(|(x, y)| *x += y);
        }
    }
    x.iter().map(|x| norm(x, &decoder.weights().norm, config.norm_eps)).collect()
}

/// Input vectors of tokens.
pub(super) fn inputs(decoder: &Decoder, ids: &[u32]) -> Vec<Vec<f64>> {
    let h = decoder.config().hidden;
    let mut x = vec![0.0; ids.len() * h];
    decoder.embed(ids, &mut x);
    x.chunks(h).map(|row| row.iter().map(|&v| f64::from(v)).collect()).collect()
}

/// Of a text alone.
pub(super) fn hidden(decoder: &Decoder, ids: &[u32]) -> Vec<f32> {
    let positions: Vec<usize> = (0..ids.len()).collect();
    let x = twin(decoder, &inputs(decoder, ids), &positions, |_, _| true);
    x.concat().iter().map(|&v| v as f32).collect()
}
