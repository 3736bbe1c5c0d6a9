//! What does one side of the split hold?

use serde::Serialize;

use super::spread::Spread;
use super::texts::{TextHashes, TextReport, inspect_texts};
use crate::csr::Csr;
use crate::strings::Strings;

/// Rows, labels, texts and features of one side.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SplitReport {
    /// Rows n.
    pub rows: u64,
    /// Labels that occur.
    pub labels: u64,
    /// (row, label) pairs.
    pub positives: u64,
    /// Rows without a label.
    pub rows_without_labels: u64,
    /// Pairs that the filter takes out of the evaluation.
    pub filter_pairs: u64,
    /// Labels of a row, over all rows.
    pub labels_per_row: Spread,
    /// Rows of a label, over the labels that occur.
    pub rows_per_label: Spread,
    /// Bytes of the label matrix in memory.
    pub label_bytes: u64,
    /// The texts, if there are any.
    pub texts: Option<TextReport>,
    /// The features given with the data, if there are any.
    pub features: Option<FeatureReport>,
}

/// A feature matrix.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct FeatureReport {
    /// Columns d.
    pub columns: u64,
    /// Stored entries.
    pub entries: u64,
    /// Rows without an entry.
    pub empty_rows: u64,
    /// Stored entries of a row.
    pub entries_per_row: Spread,
    /// Bytes in memory.
    pub bytes: u64,
}

/// Describes one side; `counts` are the rows of each label, `[L]`, `texts` come with their hashes.
pub(super) fn inspect_split(
    y: &Csr,
    counts: &[u32],
    texts: Option<(&Strings, &TextHashes)>,
    features: Option<&Csr>,
    filter_pairs: usize,
) -> SplitReport {
    let per_row: Vec<u32> = y.iter().map(|r| r.values.iter().filter(|&&v| v > 0.0).count() as u32).collect();
    let occurring: Vec<u32> = counts.iter().copied().filter(|&n| n > 0).collect();
    SplitReport {
        rows: y.rows() as u64,
        labels: occurring.len() as u64,
        positives: per_row.iter().map(|&n| u64::from(n)).sum(),
        rows_without_labels: per_row.iter().filter(|&&n| n == 0).count() as u64,
        filter_pairs: filter_pairs as u64,
        labels_per_row: Spread::of(per_row),
        rows_per_label: Spread::of(occurring),
        label_bytes: y.bytes(),
        texts: texts.map(|(texts, hashes)| inspect_texts(texts, hashes)),
        features: features.map(inspect_features),
    }
}

fn inspect_features(x: &Csr) -> FeatureReport {
    let per_row: Vec<u32> = x.iter().map(|row| row.len() as u32).collect();
    FeatureReport {
        columns: x.cols() as u64,
        entries: x.nnz() as u64,
        empty_rows: per_row.iter().filter(|&&n| n == 0).count() as u64,
        entries_per_row: Spread::of(per_row),
        bytes: x.bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::label_counts;

    #[test]
    fn rows_and_labels_are_counted_without_stored_zeros() {
        let y = Csr::new(3, 4, vec![0, 2, 3, 3], vec![0, 3, 3], vec![1.0, 1.0, 0.0]).unwrap();
        let counts = label_counts(&y);
        assert_eq!(counts, [1, 0, 0, 1]);
        let report = inspect_split(&y, &counts, None, None, 2);
        assert_eq!((report.rows, report.labels, report.positives), (3, 2, 2));
        assert_eq!((report.rows_without_labels, report.filter_pairs), (2, 2));
        assert_eq!((report.labels_per_row.max, report.rows_per_label.min), (2.0, 1.0));
        assert_eq!(report.label_bytes, 4 * 8 + 3 * 8);
    }

    #[test]
    fn empty_feature_rows_are_found() {
        let x = Csr::new(2, 9, vec![0, 3, 3], vec![0, 3, 8], vec![1.0; 3]).unwrap();
        let report = inspect_split(&Csr::empty(2, 1), &[0], None, Some(&x), 0).features.unwrap();
        assert_eq!((report.columns, report.entries, report.empty_rows), (9, 3, 1));
        assert_eq!(report.entries_per_row.mean, 1.5);
    }
}
