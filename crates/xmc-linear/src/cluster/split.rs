//! Halving one group by 2-means.
//!
//! A group of m rows, in rising order of labels, goes to two sides: the floor(m / 2) rows with the lowest score go left,
//! the others right, ties by label.
//! * first: score_i = <z_r - z_l, z_i> for two rows drawn at random;
//! * then, until no row changes sides or `max_iterations` is reached: score_i = <c_R, z_i> - <c_L, z_i> with the
//!   centroids of the two sides, scaled to length one if `spherical`, else the means.
//!
//! One pass over the entries per round. With R the sum of the right side and T that of the group,
//! `c_R = a R`, `c_L = b (T - R)` and `score_i = a p_i - b (t_i - p_i)` for `p_i = <R, z_i>`, `t_i = <T, z_i>`; t_i
//! is computed once, and the squared lengths of the centroids are sums of p_i over the right side and of t_i - p_i
//! over the left. R changes only by the rows that changed sides.

use super::config::ClusterConfig;
use super::random::Draws;
use super::rows::Rows;
use super::sums::{Sums, Units};

/// One half of a group.
pub(super) struct Half {
    /// Positions of its rows in the group.
    pub(super) positions: Vec<u32>,
    /// Sum of its sparse rows in units, by feature of the group.
    pub(super) total: Vec<i64>,
}

/// Halves a group of at least two rows whose sum is `total`: what goes left, and what goes right.
pub(super) fn split(
    rows: &Rows<'_>,
    total: Vec<i64>,
    seed: u32,
    units: Units,
    config: &ClusterConfig,
) -> (Half, Half) {
    let m = rows.len();
    let mut sums = Sums::of_all(rows, &total, units);
    let mut summed = vec![true; m];
    let mut to_total = vec![0.0; m];
    rows.products(sums.sparse(), sums.dense(), &mut to_total);
    to_total.iter_mut().enumerate().for_each(|(p, t)| *t += rows.own(p));

    let mut scores = vec![0.0; m];
    first_scores(rows, seed, &mut scores);
    let mut right: Vec<bool> = (0..m).map(|p| p >= m / 2).collect();
    let mut keys = Vec::with_capacity(m);
    for round in 1..=config.max_iterations {
        let new = upper_half(&scores, &mut keys);
        let changed = new != right;
        right = new;
        sums.apply(rows, &moves(&mut summed, &right));
        if !changed || round == config.max_iterations {
            break;
        }
        rows.products(sums.sparse(), sums.dense(), &mut scores);
        finish_scores(rows, &to_total, &right, config.spherical, &mut scores);
    }
    let right_total = sums.into_exact();
    let mut left_total = total;
    left_total.iter_mut().zip(&right_total).for_each(|(left, right)| *left -= right);
    let (left, right) = (0..m as u32).partition(|&p| !right[p as usize]);
    (Half { positions: left, total: left_total }, Half { positions: right, total: right_total })
}

/// Scores against the difference of two rows drawn at random.
fn first_scores(rows: &Rows<'_>, seed: u32, scores: &mut [f32]) {
    let m = rows.len() as u32;
    let mut draws = Draws::new(seed);
    let r = draws.below(m) as usize;
    let l = (r + 1 + draws.below(m - 1) as usize) % m as usize;
    let mut sparse = vec![0f32; rows.num_features()];
    let mut dense = rows.dense_row(r).to_vec();
    for (f, v) in rows.row(r).iter() {
        sparse[f as usize] += v;
    }
    for (f, v) in rows.row(l).iter() {
        sparse[f as usize] -= v;
    }
    for (d, v) in dense.iter_mut().zip(rows.dense_row(l)) {
        *d -= v;
    }
    rows.products(&sparse, &dense, scores);
    scores[r] += rows.own(r);
    scores[l] -= rows.own(l);
}

/// Turns `p_i` (without own features) into scores.
fn finish_scores(rows: &Rows<'_>, total: &[f32], right: &[bool], spherical: bool, scores: &mut [f32]) {
    let (mut right_norm, mut left_norm) = (0f64, 0f64);
    for (p, ((score, &t), &right)) in scores.iter_mut().zip(total).zip(right).enumerate() {
        // The sides are in no order that a processor could predict, so there is no branch on them.
        let on_right = f32::from(u8::from(right));
        *score += on_right * rows.own(p);
        right_norm += f64::from(on_right * *score);
        left_norm += f64::from((1.0 - on_right) * (t - *score));
    }
    let inverse_length = |square: f64| if square > 0.0 { 1.0 / square.sqrt() } else { 0.0 };
    let (a, b) = if spherical {
        (inverse_length(right_norm), inverse_length(left_norm))
    } else {
        let left = scores.len() / 2;
        (1.0 / (scores.len() - left) as f64, 1.0 / left as f64)
    };
    for (score, &t) in scores.iter_mut().zip(total) {
        *score = (a * f64::from(*score) - b * f64::from(t - *score)) as f32;
    }
}

/// Rows whose side differs from what is summed, with the sign of their entry; `summed` becomes `right`.
fn moves(summed: &mut [bool], right: &[bool]) -> Vec<(u32, i64)> {
    let mut moves = Vec::new();
    for (p, (old, &new)) in summed.iter_mut().zip(right).enumerate() {
        if *old != new {
            moves.push((p as u32, if new { 1 } else { -1 }));
            *old = new;
        }
    }
    moves
}

/// True for all but the floor(m / 2) lowest scores; of equal scores the earlier are lower.
fn upper_half(scores: &[f32], keys: &mut Vec<u32>) -> Vec<bool> {
    let left = scores.len() / 2;
    keys.clear();
    keys.extend(scores.iter().map(|&s| ordered(s)));
    let (lower, &mut limit, _) = keys.select_nth_unstable(left - 1);
    // How many of the rows at the limit go left.
    let mut ties = 1 + lower.iter().filter(|&&key| key == limit).count();
    let mut right: Vec<bool> = scores.iter().map(|&s| ordered(s) >= limit).collect();
    for (p, &s) in scores.iter().enumerate() {
        if ordered(s) == limit {
            right[p] = false;
            ties -= 1;
            if ties == 0 {
                break;
            }
        }
    }
    right
}

/// An integer that orders like the number; both zeros are equal.
fn ordered(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits();
    if bits >> 31 == 0 { bits | 1 << 31 } else { !bits }
}
