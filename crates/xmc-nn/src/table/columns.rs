//! Which texts does a label meet? Pairs in the order of labels.
//!
//! Labels are cut into stretches of one width. Pairs go into the list of their stretch, in the order of texts; then
//! every stretch, a task of its own, counts and sorts its pairs in tables that fit the innermost cache. So nothing of
//! the size of all labels is touched where few of them have pairs.

use super::pairs::Pairs;

/// A pair of a label with a text.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    label: u32,
    text: u32,
    slope: f32,
}

/// Pairs by stretches of labels.
pub(crate) struct Columns {
    width: usize,
    /// Entries of stretch i are `starts[i]..starts[i + 1]`.
    starts: Vec<usize>,
    entries: Vec<Entry>,
}

/// Texts and slopes of the labels of a stretch.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Stretch {
    /// Labels that have pairs, rising.
    pub(crate) touched: Vec<u32>,
    /// Pairs of the touched label i are `indptr[i]..indptr[i + 1]` of the others.
    pub(crate) indptr: Vec<usize>,
    /// Rising within a label.
    pub(crate) texts: Vec<u32>,
    pub(crate) slopes: Vec<f32>,
}

impl Columns {
    /// Labels of a stretch, of `l` in all: enough stretches for all threads, none above 16 KB of counters.
    pub(crate) fn width(l: usize) -> usize {
        (l / 128).next_power_of_two().clamp(32, 4096)
    }

    /// Pairs of the texts with some of `l` labels.
    pub(crate) fn new(pairs: &Pairs<'_>, slopes: &[f32], l: usize) -> Self {
        let width = Columns::width(l);
        let shift = width.trailing_zeros();
        let mut starts = vec![0; l.div_ceil(width) + 1];
        for &id in pairs.ids {
            starts[(id >> shift) as usize + 1] += 1;
        }
        for i in 1..starts.len() {
            starts[i] += starts[i - 1];
        }
        let mut next = starts.clone();
        let mut entries = vec![Entry::default(); pairs.ids.len()];
        for (text, ends) in (0..).zip(pairs.indptr.windows(2)) {
            for (&label, &slope) in pairs.ids[ends[0]..ends[1]].iter().zip(&slopes[ends[0]..ends[1]]) {
                let at = &mut next[(label >> shift) as usize];
                entries[*at] = Entry { label, text, slope };
                *at += 1;
            }
        }
        Columns { width, starts, entries }
    }

    /// Number of stretches.
    pub(crate) fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Stretch i in the order of labels.
    pub(crate) fn stretch(&self, i: usize) -> Stretch {
        let entries = &self.entries[self.starts[i]..self.starts[i + 1]];
        if entries.is_empty() {
            return Stretch { indptr: vec![0], ..Stretch::default() };
        }
        let first = (i * self.width) as u32;
        let mut places = vec![0u32; self.width];
        for entry in entries {
            places[(entry.label - first) as usize] += 1;
        }
        let (mut touched, mut indptr) = (Vec::new(), vec![0]);
        let mut sum = 0;
        for (label, place) in (first..).zip(&mut places).filter(|(_, count)| **count > 0) {
            let count = *place;
            *place = sum;
            sum += count;
            touched.push(label);
            indptr.push(sum as usize);
        }
        let (mut texts, mut slopes) = (vec![0; entries.len()], vec![0.0; entries.len()]);
        for entry in entries {
            let at = &mut places[(entry.label - first) as usize];
            (texts[*at as usize], slopes[*at as usize]) = (entry.text, entry.slope);
            *at += 1;
        }
        Stretch { touched, indptr, texts, slopes }
    }
}

impl Stretch {
    /// Texts and slopes of each touched label.
    pub(crate) fn labels(&self) -> impl Iterator<Item = (u32, &[u32], &[f32])> {
        let ends = self.indptr.windows(2);
        self.touched
            .iter()
            .zip(ends)
            .map(|(&label, ends)| (label, &self.texts[ends[0]..ends[1]], &self.slopes[ends[0]..ends[1]]))
    }
}
