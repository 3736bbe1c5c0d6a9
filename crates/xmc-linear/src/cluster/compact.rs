//! A copy of some sparse rows over the features that at least two of them share.

use xmc_data::Row;

use super::dot::{LANES, gather_lanes};

/// A dropped feature.
const DROPPED: u32 = u32::MAX;

/// Rows of renumbered features, filled up with zeros at feature 0 to whole [`LANES`].
pub(super) struct Compact {
    /// Row offsets, `[m + 1]`.
    ends: Vec<usize>,
    /// Feature ids, all below `num_features`; not sorted.
    indices: Vec<u32>,
    values: Vec<f32>,
    /// Sum of squares of the dropped features of each row.
    own: Vec<f32>,
    num_features: usize,
}

impl Compact {
    /// Copies `row(p)` for every p of `positions`, and says which old features the new ones are. `own` is what had been
    /// dropped before; `by_frequency` numbers the most frequent features first, else they keep their order.
    pub(super) fn new<'a>(
        positions: &[u32],
        row: impl Fn(u32) -> Row<'a>,
        own: impl Fn(u32) -> f32,
        old_features: usize,
        by_frequency: bool,
    ) -> (Compact, Vec<u32>) {
        let mut counts = vec![0u32; old_features];
        for &p in positions {
            for &f in row(p).indices {
                counts[f as usize] += 1;
            }
        }
        let mut kept: Vec<u32> = (0..old_features as u32).filter(|&f| counts[f as usize] > 1).collect();
        if by_frequency {
            kept.sort_unstable_by_key(|&f| (std::cmp::Reverse(counts[f as usize]), f));
        }
        let entries: usize = kept.iter().map(|&f| counts[f as usize] as usize).sum();
        let mut number = counts;
        number.fill(DROPPED);
        for (new, &f) in kept.iter().enumerate() {
            number[f as usize] = new as u32;
        }
        let mut compact = Compact {
            ends: Vec::with_capacity(positions.len() + 1),
            indices: vec![0; entries + LANES * positions.len()],
            values: vec![0.0; entries + LANES * positions.len()],
            own: Vec::with_capacity(positions.len()),
            num_features: kept.len(),
        };
        compact.ends.push(0);
        let mut end = 0;
        for &p in positions {
            end = compact.push(end, row(p), own(p), &number);
        }
        compact.indices.truncate(end);
        compact.values.truncate(end);
        (compact, kept)
    }

    /// Writes a row from `start` on and returns its end.
    fn push(&mut self, start: usize, row: Row<'_>, mut own: f32, number: &[u32]) -> usize {
        let mut at = start;
        for (f, v) in row.iter() {
            // A dropped entry is written too, and overwritten by the next: no branch to mispredict.
            let new = if v == 0.0 { DROPPED } else { number[f as usize] };
            self.indices[at] = new;
            self.values[at] = v;
            at += usize::from(new != DROPPED);
            own += if new == DROPPED { v * v } else { 0.0 };
        }
        let end = at.next_multiple_of(LANES);
        self.indices[at..end].fill(0);
        self.values[at..end].fill(0.0);
        self.ends.push(end);
        self.own.push(own);
        end
    }

    pub(super) fn num_features(&self) -> usize {
        self.num_features
    }

    /// Number of entries of all rows.
    pub(super) fn entries(&self) -> usize {
        self.indices.len()
    }

    /// Row at position `p`; ids are neither sorted nor, at value 0, unique.
    pub(super) fn row(&self, p: usize) -> Row<'_> {
        let range = self.ends[p]..self.ends[p + 1];
        Row { indices: &self.indices[range.clone()], values: &self.values[range] }
    }

    /// Sum of squares of the dropped features of the row at position `p`.
    pub(super) fn own(&self, p: usize) -> f32 {
        self.own[p]
    }

    /// Products of `centroid [num_features]` and the rows from position `start` on, one for each element of `out`.
    pub(super) fn products(&self, start: usize, centroid: &[f32], out: &mut [f32]) {
        assert_eq!(centroid.len(), self.num_features);
        for (ends, slot) in self.ends[start..].array_windows().zip(out) {
            let [from, to] = *ends;
            // SAFETY: `new` gave every entry an id below `num_features`, the length of `centroid`.
            *slot = unsafe { gather_lanes(&self.indices[from..to], &self.values[from..to], centroid) };
        }
    }
}
