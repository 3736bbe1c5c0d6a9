//! Which K labels do a few sorted lists lead to best?
//!
//! Each list holds (label, value) by falling value. A heap holds the head of every list; the best head is taken, and the
//! next entry of its list takes its place. A label that was taken before is passed over, so it keeps its best value.
//! Equal values go to the list that comes first, and within a list to the entry that comes first. O((K + duplicates)
//! log lists), whatever the lengths of the lists; memory is reused from one merge to the next.

/// Where an entry leads nowhere: it is passed over.
pub const PAD: u32 = u32::MAX;

/// A list of (label, value) by falling value.
pub(crate) trait Sorted {
    /// Number of entries.
    fn len(&self) -> usize;
    /// The entry at `at`, which is less than `len()`.
    fn get(&self, at: usize) -> (u32, f32);
}

/// A label among the best, and where it was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Found {
    /// The label.
    pub(crate) label: u32,
    /// Its best value.
    pub(crate) value: f32,
    /// The list that has it.
    pub(crate) list: u32,
    /// Its place in this list.
    pub(crate) at: u32,
}

/// What merging needs besides the lists.
#[derive(Clone, Debug, Default)]
pub(crate) struct Merge {
    heap: Vec<Found>,
    taken: Taken,
}

/// Labels that were taken: open addressing, at most half full.
#[derive(Clone, Debug, Default)]
struct Taken {
    slots: Vec<u32>,
    /// What is left of 32 bits for the number of a slot.
    shift: u32,
}

impl Merge {
    /// Puts the best `k` labels of `lists` into `found`, best first.
    pub(crate) fn best<S: Sorted>(&mut self, lists: &[S], k: usize, found: &mut Vec<Found>) {
        self.start(lists, k, found);
        self.more(lists, k, found);
    }

    /// Begins to merge `lists`, of which at most `most` labels will be asked for. Nothing is in `found` yet.
    pub(crate) fn start<S: Sorted>(&mut self, lists: &[S], most: usize, found: &mut Vec<Found>) {
        found.clear();
        let entries: usize = lists.iter().map(Sorted::len).sum();
        self.taken.clear(most.min(entries));
        self.heap.clear();
        for (i, list) in (0..).zip(lists).filter(|(_, list)| list.len() > 0) {
            let (label, value) = list.get(0);
            self.heap.push(Found { label, value, list: i, at: 0 });
        }
        for i in (0..self.heap.len() / 2).rev() {
            self.sift_down(i);
        }
    }

    /// Goes on until `k` labels are in `found`, or the lists of [`start`](Self::start) have no more.
    pub(crate) fn more<S: Sorted>(&mut self, lists: &[S], k: usize, found: &mut Vec<Found>) {
        while found.len() < k
            && let Some(&head) = self.heap.first()
        {
            if head.label != PAD && self.taken.insert(head.label) {
                found.push(head);
            }
            let list = &lists[head.list as usize];
            let next = head.at as usize + 1;
            if next < list.len() {
                let (label, value) = list.get(next);
                self.heap[0] = Found { label, value, list: head.list, at: next as u32 };
            } else {
                self.heap.swap_remove(0);
            }
            self.sift_down(0);
        }
    }

    /// Whether the last merge found `label`.
    pub(crate) fn has(&self, label: u32) -> bool {
        self.taken.has(label)
    }

    fn sift_down(&mut self, mut i: usize) {
        let heap = self.heap.as_mut_slice();
        loop {
            let (left, right) = (2 * i + 1, 2 * i + 2);
            if left >= heap.len() {
                return;
            }
            let child = if right < heap.len() && heap[right].before(&heap[left]) { right } else { left };
            if !heap[child].before(&heap[i]) {
                return;
            }
            heap.swap(i, child);
            i = child;
        }
    }
}

impl Found {
    fn before(&self, other: &Found) -> bool {
        self.value > other.value || (self.value == other.value && self.list < other.list)
    }
}

impl Taken {
    /// Room for `count` labels, none taken.
    fn clear(&mut self, count: usize) {
        let slots = (2 * count).next_power_of_two().max(64);
        self.shift = 32 - slots.trailing_zeros().min(31);
        self.slots.clear();
        self.slots.resize(slots, PAD);
    }

    /// The slot of `label`, or the empty one where it would be.
    fn slot(&self, label: u32) -> usize {
        let mask = self.slots.len() - 1;
        // Fibonacci hashing: the high bits of the product depend on all bits of the label.
        let mut slot = (label.wrapping_mul(0x9E37_79B1) >> self.shift) as usize & mask;
        while self.slots[slot] != PAD && self.slots[slot] != label {
            slot = (slot + 1) & mask;
        }
        slot
    }

    fn insert(&mut self, label: u32) -> bool {
        let slot = self.slot(label);
        let new = self.slots[slot] == PAD;
        self.slots[slot] = label;
        new
    }

    fn has(&self, label: u32) -> bool {
        !self.slots.is_empty() && self.slots[self.slot(label)] == label
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Pairs(Vec<(u32, f32)>);

    impl Sorted for Pairs {
        fn len(&self) -> usize {
            self.0.len()
        }
        fn get(&self, at: usize) -> (u32, f32) {
            self.0[at]
        }
    }

    fn found(lists: &[Pairs], k: usize, merge: &mut Merge) -> Vec<Found> {
        let mut found = Vec::new();
        merge.best(lists, k, &mut found);
        found
    }

    /// Everything, sorted by value, list and place; later entries of a label dropped.
    fn twin(lists: &[Pairs], k: usize) -> Vec<Found> {
        let mut all: Vec<Found> = Vec::new();
        for (i, list) in lists.iter().enumerate() {
            for (at, &(label, value)) in list.0.iter().enumerate() {
                all.push(Found { label, value, list: i as u32, at: at as u32 });
            }
        }
        all.sort_by(|a, b| b.value.total_cmp(&a.value).then((a.list, a.at).cmp(&(b.list, b.at))));
        let mut seen = std::collections::HashSet::from([PAD]);
        all.retain(|found| seen.insert(found.label));
        all.truncate(k);
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]
        #[test]
        fn the_best_are_those_of_sorting(
            // Few labels and few values: duplicates and ties everywhere.
            lists in prop::collection::vec(prop::collection::vec((0u32..40, 0u32..12), 0..30), 0..9),
            k in 0usize..60,
        ) {
            let mut merge = Merge::default();
            // What an earlier merge left behind must not matter.
            found(&[Pairs(vec![(3, 0.0), (7, -1.0)])], 5, &mut merge);
            let lists: Vec<Pairs> = lists.into_iter().map(|list| {
                let mut list: Vec<(u32, f32)> = list
                    .into_iter()
                    .map(|(label, value)| (if label == 39 { PAD } else { label }, -(value as f32) / 4.0))
                    .collect();
                list.sort_by(|a, b| b.1.total_cmp(&a.1));
                Pairs(list)
            }).collect();
            let want = twin(&lists, k);
            prop_assert_eq!(found(&lists, k, &mut merge), want.clone());
            // In several goes.
            let mut again = Vec::new();
            merge.start(&lists, k, &mut again);
            for some in [k / 5, k / 3, k] {
                merge.more(&lists, some, &mut again);
                prop_assert_eq!(&again[..], &want[..some.min(want.len())]);
            }
            for label in 0..39 {
                prop_assert_eq!(merge.has(label), want.iter().any(|found| found.label == label));
            }
        }
    }

    #[test]
    fn numbers_that_are_none_end_in_some_order() {
        let lists = [Pairs(vec![(1, f32::NAN), (2, 0.5)]), Pairs(vec![(3, 1.0), (1, f32::NAN)])];
        let mut labels: Vec<u32> =
            found(&lists, 9, &mut Merge::default()).iter().map(|found| found.label).collect();
        labels.sort_unstable();
        assert_eq!(labels, [1, 2, 3]);
    }
}
