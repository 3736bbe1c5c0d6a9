//! What is written down about a set of predictions?

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::bands::{Bands, PerBand};
use super::bootstrap;
use super::counts::Counted;
use super::ranking::{Metric, Ratio};
use super::{EvaluateConfig, Propensity};
use crate::csr::Csr;

/// Numbers under names such as `P@1`, in the order of the report; serialised as a map.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Values<T = f64>(Vec<(String, T)>);

impl<T: Copy> Values<T> {
    /// The number of that name.
    pub fn get(&self, name: &str) -> Option<T> {
        self.0.iter().find(|(known, _)| known == name).map(|&(_, value)| value)
    }

    /// All names and numbers.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, T)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }
}

impl<T: Serialize> Serialize for Values<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// Result of [`evaluate`](super::evaluate); serialises to one flat object.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Percent, by name: `P@k`, `nDCG@k`, `PSP@k`, `PSnDCG@k`, `R@k`, `MRR@k`, `microF1@k`, `macroF1@k`,
    /// `coverage@k` for each cut k.
    #[serde(flatten)]
    pub values: Values,
    /// Results on frequent and on rare labels.
    pub bands: PerBand<BandScores>,
    /// `[low, high]` in percent for every metric but `macroF1` and `coverage`, which are no sums over rows.
    pub confidence: Values<[f64; 2]>,
    /// Rows measured: those with at least one true label.
    pub rows: u64,
    /// Rows left out because no true label was there, or the filter took it.
    pub rows_without_labels: u64,
    /// Number of labels L.
    pub labels: u64,
    /// Labels of the data that the model does not have and so cannot predict, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown_labels: Option<u64>,
    /// Results on the labels that the model was never shown in training, if its method leaves some out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unseen: Option<Unseen>,
    /// Constants behind `PSP` and `PSnDCG`.
    pub propensity: Propensity,
    /// Seconds of the prediction, if the caller measured them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Rows for each second of the prediction, if the caller measured them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docs_per_second: Option<f64>,
}

/// Results on labels that a model was never shown: as if these were the only right ones, found among all labels.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Unseen {
    /// Their number.
    pub labels: u64,
    /// Rows that have one.
    pub rows: u64,
    /// The metrics of the report over those rows, percent.
    #[serde(flatten)]
    pub values: Values,
}

/// Results on the labels of one band of training frequency.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct BandScores {
    /// Labels in the band.
    pub labels: u64,
    /// Their positives in training.
    pub train_positives: u64,
    /// Their positives among the rows measured.
    pub positives: u64,
    /// For each cut k: `P@k`, the band's share of P@k (the three add up to it); `R@k`, the share of the band's
    /// positives found (over all rows together, unlike the R@k of the report); `coverage@k`. Percent.
    #[serde(flatten)]
    pub values: Values,
}

/// Puts the report together from the sums of the groups `[group][metric][cut]` and the counts of the labels.
pub(super) fn assemble(
    groups: &[Vec<Ratio>],
    counted: &Counted,
    train_counts: &[u32],
    rows: u64,
    y: &Csr,
    config: &EvaluateConfig,
    cuts: &[usize],
) -> Report {
    let names: Vec<String> =
        Metric::ALL.iter().flat_map(|m| cuts.iter().map(|k| format!("{}@{k}", m.name()))).collect();
    let mut totals = vec![Ratio::default(); names.len()];
    for cells in groups {
        totals.iter_mut().zip(cells).for_each(|(total, cell)| total.add(cell.gained, cell.possible));
    }
    let mut values: Vec<(String, f64)> =
        names.iter().cloned().zip(totals.into_iter().map(Ratio::percent)).collect();
    values.extend(cuts.iter().enumerate().map(|(c, k)| (format!("macroF1@{k}"), counted.macro_f1(c))));
    values.extend(cuts.iter().enumerate().map(|(c, k)| (format!("coverage@{k}"), counted.coverage(c))));
    let intervals = bootstrap::intervals(groups, config.resamples, config.confidence, config.seed);
    Report {
        values: Values(values),
        bands: band_scores(counted, train_counts, rows, cuts),
        confidence: Values(names.into_iter().zip(intervals).collect()),
        rows,
        rows_without_labels: y.rows() as u64 - rows,
        labels: y.cols() as u64,
        unknown_labels: None,
        unseen: None,
        propensity: config.propensity,
        seconds: None,
        docs_per_second: None,
    }
}

fn band_scores(counted: &Counted, train_counts: &[u32], rows: u64, cuts: &[usize]) -> PerBand<BandScores> {
    let bands = Bands::new(train_counts);
    let mut scores = PerBand::<BandScores>::default();
    let mut present = PerBand::<u64>::default();
    for (&n, &positives) in train_counts.iter().zip(&counted.positives) {
        let band = scores.get_mut(bands.of(n));
        band.labels += 1;
        band.train_positives += u64::from(n);
        band.positives += u64::from(positives);
        *present.get_mut(bands.of(n)) += u64::from(positives > 0);
    }
    for (hits, &k) in counted.hits.iter().zip(cuts) {
        let mut found = PerBand::<(u64, u64)>::default();
        for (&n, &hits) in train_counts.iter().zip(hits) {
            let sums = found.get_mut(bands.of(n));
            *sums = (sums.0 + u64::from(hits), sums.1 + u64::from(hits > 0));
        }
        for band in Bands::ALL {
            let (hits, labels) = *found.get_mut(band);
            let (present, scores) = (*present.get_mut(band), scores.get_mut(band));
            let positives = scores.positives;
            let mut put = |name: &str, part: u64, of: f64| {
                let ratio = Ratio { gained: part as f64, possible: of };
                scores.values.0.push((format!("{name}@{k}"), ratio.percent()));
            };
            put("P", hits, rows as f64 * k as f64);
            put("R", hits, positives as f64);
            put("coverage", labels, present as f64);
        }
    }
    scores
}
