//! Which labels are frequent, which are rare?
//!
//! The field plots results over *equi-voluminous* groups of labels: groups that hold the same share of the training
//! positives (as in the papers on SiameseXML and DECAF, and pyxclib's analysis). We take three: sort the labels by
//! their number of training rows; the **head** holds the first third of the positives, the **torso** the second, the
//! **tail** the last. Labels of equal count stay together, so that a band is a range of counts and does not depend
//! on label ids: they all go to the band in which the middle of their common positives lies. Labels without a
//! training row belong to the tail. A band can be empty if one count holds two thirds of all positives.
//!
//! O(L log L).

use serde::Serialize;

/// A third of the training positives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Band {
    /// The few most frequent labels.
    Head,
    /// Labels of medium frequency.
    Torso,
    /// The many rare labels, those never seen in training included.
    Tail,
}

/// Training counts at which head and torso begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bands {
    /// Labels with at least this many training rows are head.
    pub head_from: u32,
    /// Labels with at least this many training rows, but fewer than `head_from`, are torso.
    pub torso_from: u32,
}

/// One value for each band.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PerBand<T> {
    /// Of the head.
    pub head: T,
    /// Of the torso.
    pub torso: T,
    /// Of the tail.
    pub tail: T,
}

impl<T> PerBand<T> {
    /// The value of a band.
    pub fn get_mut(&mut self, band: Band) -> &mut T {
        match band {
            Band::Head => &mut self.head,
            Band::Torso => &mut self.torso,
            Band::Tail => &mut self.tail,
        }
    }
}

impl Bands {
    /// All bands, the most frequent labels first.
    pub const ALL: [Band; 3] = [Band::Head, Band::Torso, Band::Tail];

    /// Finds the borders for labels with these numbers of training rows, `[L]`.
    pub fn new(train_counts: &[u32]) -> Self {
        let mut counts: Vec<u32> = train_counts.iter().copied().filter(|&n| n > 0).collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let total: u64 = counts.iter().map(|&n| u64::from(n)).sum();
        let above_all = counts.first().map_or(1, |&n| n.saturating_add(1));
        let mut bands = Bands { head_from: above_all, torso_from: above_all };
        let mut before = 0u64;
        for same in counts.chunk_by(|a, b| a == b) {
            let (count, mass) = (same[0], u64::from(same[0]) * same.len() as u64);
            // The middle of this group as a share of all positives, times 6: whole numbers only.
            let middle = 3 * (2 * before + mass);
            if middle < 2 * total {
                bands.head_from = count;
            }
            if middle < 4 * total {
                bands.torso_from = count;
            }
            before += mass;
        }
        bands
    }

    /// Band of a label with this many training rows.
    pub fn of(&self, train_count: u32) -> Band {
        if train_count >= self.head_from {
            Band::Head
        } else if train_count >= self.torso_from {
            Band::Torso
        } else {
            Band::Tail
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_band_holds_a_third_of_the_positives() {
        // 30 + 30 | 10 x 6 | 1 x 60
        let mut counts = vec![30, 30];
        counts.extend([10; 6]);
        counts.extend([1; 60]);
        counts.push(0);
        let bands = Bands::new(&counts);
        assert_eq!(bands, Bands { head_from: 30, torso_from: 10 });
        assert_eq!(bands.of(30), Band::Head);
        assert_eq!(bands.of(29), Band::Torso);
        assert_eq!(bands.of(1), Band::Tail);
        assert_eq!(bands.of(0), Band::Tail);
    }

    #[test]
    fn labels_without_training_rows_are_tail_even_if_there_are_no_others() {
        assert_eq!(Bands::new(&[0, 0]).of(0), Band::Tail);
        assert_eq!(Bands::new(&[]).of(0), Band::Tail);
        assert_eq!(Bands::new(&[u32::MAX]).of(0), Band::Tail);
    }

    #[test]
    fn a_tail_of_single_rows_is_never_swallowed_by_the_torso() {
        // Half of the positives are labels seen once: they begin at 50 %, their middle is at 75 %.
        let mut counts = vec![20, 5, 5, 5, 5, 5, 5];
        counts.extend([1; 50]);
        assert_eq!(Bands::new(&counts).of(1), Band::Tail);
    }

    proptest! {
        #[test]
        fn bands_do_not_depend_on_the_order_of_labels(counts in vec(0u32..50, 0..40)) {
            let mut turned = counts.clone();
            turned.reverse();
            prop_assert_eq!(Bands::new(&counts), Bands::new(&turned));
        }

        #[test]
        fn no_band_misses_a_third_by_more_than_one_group_of_equal_counts(counts in vec(1u32..50, 1..60)) {
            let bands = Bands::new(&counts);
            let mut mass = PerBand::<u64>::default();
            let mut groups = [0u64; 50];
            for &n in &counts {
                *mass.get_mut(bands.of(n)) += u64::from(n);
                groups[n as usize] += u64::from(n);
            }
            let total: u64 = counts.iter().map(|&n| u64::from(n)).sum();
            let slack = groups.iter().copied().max().unwrap();
            for m in [mass.head, mass.torso, mass.tail] {
                prop_assert!((3 * m).abs_diff(total) <= 3 * slack);
            }
        }
    }
}
