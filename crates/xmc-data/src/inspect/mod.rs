//! What does a data set look like, and what in it deserves a second look?
//!
//! Counts, percentiles and warnings of the kind that explain a bad score: rows without labels or text, test labels
//! that training never shows, test texts that training already holds, labels of the same name. Frequencies are
//! banded as in [`metrics`](crate::metrics). One pass over texts and matrices, O(bytes + n log n + L log L).

mod split;
mod spread;
mod texts;

pub use split::{FeatureReport, SplitReport};
pub use spread::{Bin, Spread};
pub use texts::TextReport;

use serde::Serialize;

use crate::csr::Csr;
use crate::dataset::{Dataset, Part};
use crate::metrics::{Bands, PerBand, label_counts};
use crate::strings::Strings;
use split::inspect_split;
use texts::TextHashes;

/// Description of a data set; serialises to one object.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DatasetReport {
    /// Name of the data set.
    pub name: String,
    /// Number of labels L.
    pub labels: u64,
    /// Labels whose name an earlier label has.
    pub duplicate_label_names: u64,
    /// Labels that no training row has.
    pub labels_without_training_rows: u64,
    /// Head, torso and tail of the labels by training frequency.
    pub bands: PerBand<BandSize>,
    /// The rows to learn from.
    pub train: SplitReport,
    /// The rows to judge with.
    pub test: Option<SplitReport>,
    /// What the test rows share with the training rows.
    pub overlap: Option<Overlap>,
    /// Bytes of all texts and matrices in memory.
    pub memory_bytes: u64,
}

/// Labels of one band.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BandSize {
    /// Smallest number of training rows in the band.
    pub from: u32,
    /// Labels in the band.
    pub labels: u64,
    /// Their positives in training.
    pub train_positives: u64,
    /// Their positives in the test rows.
    pub test_positives: u64,
}

/// How the test rows relate to the training rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Overlap {
    /// Labels of test rows that no training row has.
    pub unseen_labels: u64,
    /// Positives of these labels: out of reach for methods that do not read label texts.
    pub unseen_positives: u64,
    /// Test rows whose text a training row has too, if both sides have texts.
    pub texts_in_train: Option<u64>,
}

/// Describes a data set.
pub fn inspect(data: &Dataset) -> DatasetReport {
    let train_counts = label_counts(&data.train.y);
    let test_counts = data.test.as_ref().map(|test| label_counts(&test.y));
    let (train, train_hashes) = side(&data.train, &train_counts);
    let (test, test_hashes) = match data.test.as_ref().zip(test_counts.as_ref()) {
        Some((part, counts)) => {
            let (report, hashes) = side(part, counts);
            (Some(report), hashes)
        }
        None => (None, None),
    };
    let overlap = test_counts.as_deref().map(|test_counts| {
        let texts_in_train = test_hashes.zip(train_hashes).map(|(test, train)| test.also_in(&train));
        overlap(&train_counts, test_counts, texts_in_train)
    });
    DatasetReport {
        name: data.name.clone(),
        labels: train_counts.len() as u64,
        duplicate_label_names: data.labels.repeated() as u64,
        labels_without_training_rows: train_counts.iter().filter(|&&n| n == 0).count() as u64,
        bands: band_sizes(&train_counts, test_counts.as_deref().unwrap_or_default()),
        memory_bytes: memory(&data.train) + data.test.as_ref().map_or(0, memory),
        train,
        test,
        overlap,
    }
}

/// Describes one side and returns the hashes of its texts.
fn side(part: &Part, counts: &[u32]) -> (SplitReport, Option<TextHashes>) {
    let hashes = part.texts.as_ref().map(|texts| TextHashes::new(texts.iter()));
    let texts = part.texts.as_ref().zip(hashes.as_ref());
    (inspect_split(&part.y, counts, texts, part.features.as_ref(), part.filter.len()), hashes)
}

fn memory(part: &Part) -> u64 {
    let texts = part.texts.as_ref().map_or(0, Strings::bytes);
    texts + part.y.bytes() + part.features.as_ref().map_or(0, Csr::bytes)
}

fn overlap(train_counts: &[u32], test_counts: &[u32], texts_in_train: Option<u64>) -> Overlap {
    let unseen = || train_counts.iter().zip(test_counts).filter(|&(&train, &test)| train == 0 && test > 0);
    Overlap {
        unseen_labels: unseen().count() as u64,
        unseen_positives: unseen().map(|(_, &test)| u64::from(test)).sum(),
        texts_in_train,
    }
}

fn band_sizes(train_counts: &[u32], test_counts: &[u32]) -> PerBand<BandSize> {
    let bands = Bands::new(train_counts);
    let mut sizes = PerBand::<BandSize>::default();
    sizes.head.from = bands.head_from;
    sizes.torso.from = bands.torso_from;
    for (l, &n) in train_counts.iter().enumerate() {
        let size = sizes.get_mut(bands.of(n));
        size.labels += 1;
        size.train_positives += u64::from(n);
        size.test_positives += test_counts.get(l).map_or(0, |&n| u64::from(n));
    }
    sizes
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{CsrBuilder, LabelSet};

    fn matrix(rows: &[&[u32]], cols: usize) -> Csr {
        let mut builder = CsrBuilder::new();
        for row in rows {
            builder.push(row.iter().map(|&c| (c, 1.0)));
        }
        builder.finish(cols).unwrap()
    }

    fn part(texts: &[&str], rows: &[&[u32]]) -> Part {
        Part { texts: Some(Strings::new(texts)), features: None, y: matrix(rows, 5), filter: vec![] }
    }

    fn data() -> Dataset {
        let train = part(&["red", "blue", "red"], &[&[0, 1], &[0], &[0, 2]]);
        let mut test = part(&["red", "green", ""], &[&[0, 4], &[4], &[]]);
        test.features = Some(matrix(&[&[0, 6], &[], &[1]], 7));
        test.filter = vec![(0, 1)];
        let labels = LabelSet::new(["a", "b", "a", "c", "d"]);
        Dataset { path: Path::new("x").into(), name: "x".into(), labels, train, test: Some(test) }
    }

    #[test]
    fn what_deserves_a_second_look_is_counted() {
        let report = inspect(&data());
        assert_eq!((report.labels, report.duplicate_label_names), (5, 1));
        assert_eq!(report.labels_without_training_rows, 2);
        let test = report.test.as_ref().unwrap();
        assert_eq!((test.rows_without_labels, test.filter_pairs, test.labels), (1, 1, 2));
        assert_eq!(report.train.texts.as_ref().map(|t| t.duplicates), Some(1));
        assert_eq!(test.texts.as_ref().map(|t| t.empty), Some(1));
        let overlap = Overlap { unseen_labels: 1, unseen_positives: 2, texts_in_train: Some(1) };
        assert_eq!(report.overlap, Some(overlap));
    }

    #[test]
    fn bands_split_all_labels_and_positives() {
        let bands = inspect(&data()).bands;
        assert_eq!(bands.head.labels + bands.torso.labels + bands.tail.labels, 5);
        let all = [bands.head, bands.torso, bands.tail];
        assert_eq!(all.iter().map(|b| b.train_positives).sum::<u64>(), 5);
        assert_eq!(all.iter().map(|b| b.test_positives).sum::<u64>(), 3);
        // Label 0 holds 3 of 5 positives, centred at 30 %: head. The others appear once or never: tail.
        assert_eq!((bands.head.from, bands.head.labels, bands.tail.labels), (3, 1, 4));
    }

    #[test]
    fn without_a_test_part_there_is_no_overlap() {
        let report = inspect(&Dataset { test: None, ..data() });
        assert_eq!((report.test, report.overlap), (None, None));
        assert_eq!(report.bands.tail.test_positives, 0);
    }

    #[test]
    fn memory_is_that_of_texts_and_matrices() {
        let report = inspect(&data());
        let of = |s: &SplitReport| {
            let features = s.features.as_ref().map_or(0, |f| f.bytes);
            s.label_bytes + s.texts.as_ref().map_or(0, |t| t.bytes) + features
        };
        assert_eq!(report.memory_bytes, of(&report.train) + report.test.as_ref().map_or(0, of));
    }

    #[test]
    fn the_report_is_one_json_object() {
        let json = serde_json::to_value(inspect(&data())).unwrap();
        assert_eq!(json["train"]["labels_per_row"]["median"], 2.0);
        assert_eq!(json["test"]["features"]["columns"], 7);
        assert_eq!(json["bands"]["head"]["train_positives"], 3);
    }
}
