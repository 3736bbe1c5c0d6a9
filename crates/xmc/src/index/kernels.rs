//! The loops over values, compiled for several instruction sets; all give the same bits, as multiplication and addition
//! are never fused.

use xmc_linear::prefetch::prefetch;

use super::quantize::from_bf16;

/// Running sums of a dot product.
const LANES: usize = 32;

/// Chosen rows that are asked for before they are needed: they lie far apart.
const AHEAD: usize = 8;

/// Bytes that memory gives at a time.
const CACHE_LINE: usize = 64;

/// Rows multiplied at once: enough independent sums to keep the adders busy.
const ROWS: usize = 4;

/// Scores compared at once.
const GROUP: usize = 64;

/// Scores looked at one by one if one of them survives.
const PART: usize = 16;

xmc_nn::simd! {
    /// `scores[j] = <query, row j>` for rows of as many values as the query has. This is the exact score.
    pub(super) fn dots(query: &[f32], rows: &[f32], scores: &mut [f32]) {
        all(query, rows, scores, |v| v);
    }

    /// The same for rows in bf16.
    pub(super) fn dots_bf16(query: &[f32], rows: &[u16], scores: &mut [f32]) {
        all(query, rows, scores, from_bf16);
    }

    /// Sums of products of codes, exact as long as |query| * 127 summed fits i32.
    pub(super) fn dots_codes(query: &[i16], rows: &[i8], sums: &mut [i32]) {
        for (row, sum) in rows.chunks_exact(query.len()).zip(sums) {
            *sum = query.iter().zip(row).map(|(&q, &c)| i32::from(q) * i32::from(c)).sum();
        }
    }

    /// The same for chosen rows.
    pub(super) fn dots_at(query: &[f32], rows: &[f32], chosen: &[u32], scores: &mut [f32]) {
        picked(query, rows, chosen, scores, |v| v);
    }

    /// The same for chosen rows in bf16.
    pub(super) fn dots_bf16_at(query: &[f32], rows: &[u16], chosen: &[u32], scores: &mut [f32]) {
        picked(query, rows, chosen, scores, from_bf16);
    }

    /// Sums of products of codes for chosen rows.
    pub(super) fn dots_codes_at(query: &[i16], rows: &[i8], chosen: &[u32], sums: &mut [i32]) {
        let d = query.len();
        for (n, (&label, sum)) in chosen.iter().zip(sums).enumerate() {
            if let Some(&later) = chosen.get(n + AHEAD) {
                fetch(rows, later as usize * d, d);
            }
            let row = &rows[label as usize * d..][..d];
            *sum = query.iter().zip(row).map(|(&q, &c)| i32::from(q) * i32::from(c)).sum();
        }
    }

    /// `scores = sums * scale * scales`
    pub(super) fn scaled(sums: &[i32], scales: &[f32], scale: f32, scores: &mut [f32]) {
        for ((score, &sum), &of_row) in scores.iter_mut().zip(sums).zip(scales) {
            *score = sum as f32 * (scale * of_row);
        }
    }

    /// Appends the positions of all scores that are at least `floor`.
    pub(super) fn at_least(scores: &[f32], floor: f32, found: &mut Vec<u32>) {
        for (n, group) in scores.chunks(GROUP).enumerate() {
            // Survivors are rare: one test for the whole group first, then for its parts.
            if !any(group, floor) {
                continue;
            }
            for (m, part) in group.chunks(PART).enumerate().filter(|(_, part)| any(part, floor)) {
                let (mut survivors, mut count) = ([0; PART], 0);
                for (i, &score) in part.iter().enumerate() {
                    survivors[count % PART] = (n * GROUP + m * PART + i) as u32;
                    count += usize::from(score >= floor);
                }
                found.extend_from_slice(&survivors[..count]);
            }
        }
    }

    /// bf16 to f32.
    pub(super) fn widen(values: &[u16], out: &mut [f32]) {
        for (out, &v) in out.iter_mut().zip(values) {
            *out = from_bf16(v);
        }
    }
}

/// Products with rows that follow each other.
#[inline(always)]
fn all<T: Copy + Default>(query: &[f32], rows: &[T], scores: &mut [f32], value: impl Fn(T) -> f32 + Copy) {
    let d = query.len();
    let (fours, rest) = scores.as_chunks_mut::<ROWS>();
    let (rows, rest_rows) = rows.split_at(fours.len() * ROWS * d);
    for (rows, scores) in rows.chunks_exact(ROWS * d).zip(fours) {
        *scores = dot(query, std::array::from_fn(|r| &rows[r * d..(r + 1) * d]), value);
    }
    for (row, score) in rest_rows.chunks_exact(d).zip(rest) {
        [*score] = dot(query, [row], value);
    }
}

/// Products with chosen rows.
#[inline(always)]
fn picked<T: Copy + Default>(
    query: &[f32],
    rows: &[T],
    chosen: &[u32],
    scores: &mut [f32],
    value: impl Fn(T) -> f32 + Copy,
) {
    let d = query.len();
    let row = |label: u32| &rows[label as usize * d..][..d];
    let (fours, rest) = scores.as_chunks_mut::<ROWS>();
    let (four_rows, rest_rows) = chosen.as_chunks::<ROWS>();
    for (n, (labels, scores)) in four_rows.iter().zip(fours).enumerate() {
        let later = (n + AHEAD / ROWS) * ROWS;
        for &label in chosen.get(later..later + ROWS).unwrap_or_default() {
            fetch(rows, label as usize * d, d);
        }
        *scores = dot(query, labels.map(row), value);
    }
    for (&label, score) in rest_rows.iter().zip(rest) {
        [*score] = dot(query, [row(label)], value);
    }
}

/// Asks for `len` values from `start` before they are needed.
#[inline(always)]
fn fetch<T>(values: &[T], start: usize, len: usize) {
    for at in (start..start + len).step_by(CACHE_LINE / size_of::<T>()) {
        prefetch(values, at);
    }
}

#[inline(always)]
fn any(scores: &[f32], floor: f32) -> bool {
    scores.iter().fold(false, |any, &s| any | (s >= floor))
}

/// For each row 32 running sums, product and sum rounded one by one, then halves added to halves.
#[inline(always)]
fn dot<T: Copy + Default, const R: usize>(
    query: &[f32],
    rows: [&[T]; R],
    value: impl Fn(T) -> f32 + Copy,
) -> [f32; R] {
    let mut sums = [[0f32; LANES]; R];
    let (whole, rest) = query.as_chunks::<LANES>();
    let parts = rows.map(|row| &row.as_chunks::<LANES>().0[..whole.len()]);
    for (i, query) in whole.iter().enumerate() {
        for r in 0..R {
            add_products(&mut sums[r], query, &parts[r][i], value);
        }
    }
    if !rest.is_empty() {
        let query = padded(rest);
        for r in 0..R {
            add_products(&mut sums[r], &query, &padded(&rows[r][whole.len() * LANES..]), value);
        }
    }
    sums.map(|sums| total(&sums))
}

#[inline(always)]
fn add_products<T: Copy>(
    sums: &mut [f32; LANES],
    x: &[f32; LANES],
    y: &[T; LANES],
    value: impl Fn(T) -> f32,
) {
    for lane in 0..LANES {
        sums[lane] += x[lane] * value(y[lane]);
    }
}

/// Zeros behind the values: they change no sum.
#[inline(always)]
fn padded<T: Copy + Default>(values: &[T]) -> [T; LANES] {
    let mut padded = [T::default(); LANES];
    padded[..values.len()].copy_from_slice(values);
    padded
}

#[inline(always)]
fn total(sums: &[f32; LANES]) -> f32 {
    let sums: [f32; 16] = std::array::from_fn(|i| sums[i] + sums[i + 16]);
    let sums: [f32; 8] = std::array::from_fn(|i| sums[i] + sums[i + 8]);
    let sums: [f32; 4] = std::array::from_fn(|i| sums[i] + sums[i + 4]);
    (sums[0] + sums[2]) + (sums[1] + sums[3])
}
