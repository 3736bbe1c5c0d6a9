//! What would a click log have kept of a complete label matrix?
//!
//! Users can only click what they are shown, and a retriever shows what it ranks high. A complete matrix is therefore cut to
//! the pairs whose label is among the `topk` best that a frozen retriever finds for the text of the row:
//!
//! * `exposure`: all of those. What is missing is missing systematically;
//! * `mnar`: of those, each with probability sigmoid(`slope` * score), missing not at random;
//! * `mar`: as many pairs as `exposure` keeps, drawn from all: missing at random, for comparison.
//!
//! The retriever is an encoder ([`Retriever::embeddings`]) or tf-idf over words ([`Retriever::words`]); a label that
//! shares no word with a text is then never shown. Test rows stay complete, which makes their scores unbiased; what a
//! biased test would hold, the labels among the `test_topk` best, is kept beside them.

use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use xmc_data::dataset::{Dataset, Part};
use xmc_data::formats::npz;
use xmc_data::text::{Vectorizer, VectorizerConfig};
use xmc_data::topk::by_score;
use xmc_data::{Csr, Strings, TopK};
use xmc_nn::{Device, Tensor};

use super::embed::Embedder;
use crate::error::{Error, Result};
use crate::events::Events;
use crate::index::{Dtype, Filter, LabelEmbeddings, search};
use crate::random::{Draws, Purpose};
use crate::run::write_json;

/// Training pairs that were taken away.
pub const HIDDEN_FILE: &str = "hidden.trn.npz";
/// Labels of the test rows that a biased test would have.
pub const BIASED_TEST_FILE: &str = "biased.tst.npz";
/// What was simulated.
pub const REPORT_FILE: &str = "bias.json";

/// Rows that are shown labels at a time.
const AT_ONCE: usize = 4096;

/// What decides which pairs are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mechanism {
    /// All pairs that are shown.
    #[default]
    Exposure,
    /// Pairs that are shown, by chance that grows with their score.
    Mnar,
    /// As many pairs as are shown, by chance alone.
    Mar,
}

/// Settings of a simulation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SimulateConfig {
    /// What decides.
    pub mechanism: Mechanism,
    /// Labels that are shown for a training row.
    pub topk: usize,
    /// Labels that are shown for a test row.
    pub test_topk: usize,
    /// Slope of the sigmoid of `mnar`.
    pub slope: f32,
    /// Seed of all chance.
    pub seed: u64,
}

impl Default for SimulateConfig {
    fn default() -> Self {
        SimulateConfig { mechanism: Mechanism::Exposure, topk: 200, test_topk: 100, slope: 1.0, seed: 0 }
    }
}

/// What ranks labels for a text.
pub enum Retriever {
    /// By cosine.
    Embeddings(Box<Embedder>, LabelEmbeddings),
    /// By tf-idf; columns of the label names turned into rows.
    Words(Box<Vectorizer>, Csr),
}

impl Retriever {
    /// Ranks labels with these `names` by their embeddings.
    pub fn embeddings(embedder: Embedder, names: &Strings) -> Result<Self> {
        let labels = embedder.matrix(names, Dtype::F32)?;
        Ok(Retriever::Embeddings(Box::new(embedder), labels))
    }

    /// Ranks labels with these `names` by the words that they share with a text.
    pub fn words(names: &Strings) -> Result<Self> {
        let (vectorizer, x) = Vectorizer::fit(&[VectorizerConfig::default()], names)?;
        Ok(Retriever::Words(Box::new(vectorizer), x.transpose()))
    }

    /// How it is called in a report.
    pub fn id(&self) -> String {
        match self {
            Retriever::Embeddings(embedder, _) => embedder.id().to_owned(),
            Retriever::Words(..) => "tf-idf".to_owned(),
        }
    }

    /// The best `k` labels for each text.
    pub fn top(&self, texts: &Strings, k: usize) -> Result<TopK> {
        match self {
            Retriever::Embeddings(embedder, labels) => {
                let rows = embedder.embed(texts)?;
                let queries = Tensor::from_host(texts.len(), embedder.dim(), rows, Device::Cpu)?;
                search(&queries, labels, k, &Filter::none())
            }
            Retriever::Words(vectorizer, columns) => {
                let x = vectorizer.transform(texts);
                let mut top = TopK::new();
                let found: Vec<_> = (0..x.rows())
                    .into_par_iter()
                    .map_init(|| vec![0f32; columns.cols()], |scores, i| ranked(&x, i, columns, scores, k))
                    .collect();
                for row in &found {
                    top.push_ranked(row);
                }
                Ok(top)
            }
        }
    }
}

/// The best labels of row `i`; `scores` are all 0 before and after.
fn ranked(x: &Csr, i: usize, columns: &Csr, scores: &mut [f32], k: usize) -> Vec<(u32, f32)> {
    let mut touched = Vec::new();
    for (word, weight) in x.row(i).iter() {
        for (label, value) in columns.row(word as usize).iter() {
            let score = &mut scores[label as usize];
            if *score == 0.0 {
                touched.push(label);
            }
            *score += weight * value;
        }
    }
    let mut found: Vec<(u32, f32)> =
        touched.into_iter().map(|label| (label, std::mem::take(&mut scores[label as usize]))).collect();
    if found.len() > k && k > 0 {
        found.select_nth_unstable_by(k - 1, by_score);
    }
    found.truncate(k);
    found.sort_unstable_by(by_score);
    found
}

/// What a simulation did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SimulateReport {
    /// Its settings.
    pub settings: SimulateConfig,
    /// What ranked labels.
    pub retriever: String,
    /// Training pairs before, and those that were shown and kept.
    pub pairs: usize,
    /// See `pairs`.
    pub shown: usize,
    /// See `pairs`.
    pub kept: usize,
    /// Rows that had labels and have none left; they stay, so that rows keep their numbers.
    pub emptied_rows: usize,
    /// Labels that had rows and have none left.
    pub emptied_labels: usize,
    /// Pairs of the test rows, and those that a biased test would have.
    pub test_pairs: usize,
    /// See `test_pairs`.
    pub biased_test_pairs: usize,
    /// Mean probability with which `mnar` keeps what is shown.
    pub mean_probability: Option<f64>,
}

/// What is left of a data set, and what is not.
#[derive(Debug)]
pub struct Simulated {
    /// The data set with the training pairs that were kept, and all test pairs.
    pub data: Dataset,
    /// Training pairs that were taken away.
    pub hidden: Csr,
    /// Labels of the test rows that a biased test would have.
    pub biased_test: Option<Csr>,
    /// What happened.
    pub report: SimulateReport,
}

/// Takes pairs away from the training rows of `data`.
pub fn simulate(
    data: Dataset,
    retriever: &Retriever,
    config: &SimulateConfig,
    events: &dyn Events,
) -> Result<Simulated> {
    if config.topk == 0 || !config.slope.is_finite() {
        let SimulateConfig { topk, slope, .. } = config;
        return Err(Error::Mismatch(format!(
            "topk = {topk}, slope = {slope}: expected topk >= 1 and a number"
        )));
    }
    let y = &data.train.y;
    let scores = shown(&data.train, &data.path, "training", retriever, config.topk, events)?;
    let seen = scores.iter().filter(|score| score.is_some()).count();
    let (keep, mean_probability) = chosen(&scores, config);
    let [kept, hidden] = [true, false].map(|side| entries(y, |at| keep[at] == side));
    let (biased_test, test_pairs) = match &data.test {
        Some(test) => {
            let scores = shown(test, &data.path, "test", retriever, config.test_topk, events)?;
            (Some(entries(&test.y, |at| scores[at].is_some())), test.y.nnz())
        }
        None => (None, 0),
    };
    let report = SimulateReport {
        settings: config.clone(),
        retriever: retriever.id(),
        pairs: y.nnz(),
        shown: seen,
        kept: kept.nnz(),
        emptied_rows: emptied(y, &kept),
        emptied_labels: emptied(&y.transpose(), &kept.transpose()),
        test_pairs,
        biased_test_pairs: biased_test.as_ref().map_or(0, Csr::nnz),
        mean_probability,
    };
    let data = Dataset { train: Part { y: kept, ..data.train }, ..data };
    Ok(Simulated { data, hidden, biased_test, report })
}

/// For every pair of `part`, in order, its score if the label is shown for the row.
fn shown(
    part: &Part,
    path: &Path,
    side: &str,
    retriever: &Retriever,
    k: usize,
    events: &dyn Events,
) -> Result<Vec<Option<f32>>> {
    let Some(texts) = &part.texts else {
        return Err(Error::file(
            path,
            format!("no texts of the {side} rows: a retriever has nothing to read"),
        ));
    };
    let mut scores = Vec::with_capacity(part.y.nnz());
    for start in (0..texts.len()).step_by(AT_ONCE) {
        events.progress(start as u64, texts.len() as u64);
        let rows: Vec<u32> = (start..texts.len().min(start + AT_ONCE)).map(|i| i as u32).collect();
        let top = retriever.top(&texts.select(&rows), k)?;
        for (at, &i) in rows.iter().enumerate() {
            let mut found = top.row(at).to_vec();
            found.sort_unstable_by_key(|&(label, _)| label);
            let score =
                |label: &u32| found.binary_search_by_key(label, |&(l, _)| l).ok().map(|at| found[at].1);
            scores.extend(part.y.row(i as usize).indices.iter().map(score));
        }
    }
    Ok(scores)
}

/// Which entries are kept, and the mean probability of that where it is a matter of chance.
fn chosen(scores: &[Option<f32>], config: &SimulateConfig) -> (Vec<bool>, Option<f64>) {
    let shown = scores.iter().flatten().count();
    match config.mechanism {
        Mechanism::Exposure => (scores.iter().map(Option::is_some).collect(), None),
        Mechanism::Mar => {
            let mut keep = vec![false; scores.len()];
            let drawn = Draws::new(config.seed, Purpose::Exposure, 0).distinct(shown, scores.len());
            for at in drawn {
                keep[at as usize] = true;
            }
            (keep, None)
        }
        Mechanism::Mnar => {
            let probability = |score: f32| 1.0 / (1.0 + (-f64::from(config.slope) * f64::from(score)).exp());
            let mut draws = Draws::new(config.seed, Purpose::Exposure, 0);
            // One draw for each entry, shown or not: what is kept of one does not depend on the others.
            let keep = scores.iter().map(|score| {
                let draw = f64::from(draws.unit());
                score.is_some_and(|score| draw < probability(score))
            });
            let keep = keep.collect();
            let sum: f64 = scores.iter().flatten().map(|&score| probability(score)).sum();
            (keep, Some(if shown == 0 { 0.0 } else { sum / shown as f64 }))
        }
    }
}

/// The entries of `y` whose position `keep` accepts.
fn entries(y: &Csr, keep: impl Fn(usize) -> bool) -> Csr {
    let mut at = 0;
    y.filter(|_, _, _| {
        at += 1;
        keep(at - 1)
    })
}

/// Rows that only the first matrix has entries in.
fn emptied(before: &Csr, after: &Csr) -> usize {
    before.iter().zip(after.iter()).filter(|(a, b)| !a.is_empty() && b.is_empty()).count()
}

impl Simulated {
    /// Writes a data set folder, with what was taken away beside it. The folder appears complete or not at all; one that
    /// exists must be empty.
    pub fn save(&self, dir: &Path) -> Result<()> {
        self.data.save_with(dir, |dir| {
            npz::write(&dir.join(HIDDEN_FILE), &self.hidden)?;
            if let Some(test) = &self.biased_test {
                npz::write(&dir.join(BIASED_TEST_FILE), test)?;
            }
            write_json(&dir.join(REPORT_FILE), &self.report)
        })
    }
}

#[cfg(test)]
mod tests {
    use xmc_data::{CsrBuilder, LabelSet};

    use super::*;
    use crate::events::Silent;

    /// Row i says w(i mod 50) and w(i mod 7); label l is called w(l mod 50); rows are relevant to labels of either word and to
    /// labels that they share no word with.
    fn world() -> Dataset {
        let part = |rows: u32| {
            let mut y = CsrBuilder::new();
            for i in 0..rows {
                let mut labels = vec![i % 50, 50 + i % 50, i % 7, (i * 13 + 5) % 100, (i * 29 + 11) % 100];
                labels.sort_unstable();
                labels.dedup();
                y.push(labels.into_iter().map(|l| (l, 1.0)));
            }
            let texts = Strings::new((0..rows).map(|i| format!("word{} word{} the", i % 50, i % 7)));
            Part { texts: Some(texts), features: None, y: y.finish(100).unwrap(), filter: Vec::new() }
        };
        let labels = LabelSet::new((0..100).map(|l| format!("word{} of {l}x", l % 50)));
        Dataset::new(Path::new("world"), labels, part(3000), Some(part(200))).unwrap()
    }

    fn run(mechanism: Mechanism, topk: usize, retriever: &Retriever) -> Simulated {
        let config = SimulateConfig { mechanism, topk, test_topk: 2, seed: 3, ..Default::default() };
        simulate(world(), retriever, &config, &Silent).unwrap()
    }

    fn pairs(y: &Csr) -> Vec<(usize, u32)> {
        y.iter().enumerate().flat_map(|(i, row)| row.indices.iter().map(move |&l| (i, l))).collect()
    }

    #[test]
    fn kept_pairs_are_pairs_of_the_original_among_the_best_of_the_retriever() {
        let world = world();
        let names = world.labels.names();
        let retrievers =
            [Retriever::words(names), Retriever::embeddings(Embedder::words(128).unwrap(), names)];
        for retriever in retrievers.map(Result::unwrap) {
            let simulated = run(Mechanism::Exposure, 3, &retriever);
            let top = retriever.top(world.train.texts.as_ref().unwrap(), 3).unwrap();
            let kept = pairs(&simulated.data.train.y);
            let all = pairs(&world.train.y);
            let expected: Vec<_> =
                all.iter().copied().filter(|&(i, l)| top.row(i).iter().any(|e| e.0 == l)).collect();
            assert_eq!(kept, expected, "{}", retriever.id());
            let mut both = [kept.clone(), pairs(&simulated.hidden)].concat();
            both.sort_unstable();
            assert_eq!(both, all);
            assert!(!kept.is_empty() && kept.len() < all.len());
            assert_eq!(simulated.report.kept, kept.len());
            assert_eq!(simulated.data.test, world.test, "the test stays complete");
            let test = simulated.biased_test.unwrap();
            assert!(test.nnz() > 0 && test.nnz() < world.test.as_ref().unwrap().y.nnz());
        }
    }

    #[test]
    fn mnar_keeps_what_the_sigmoid_of_the_scores_says() {
        let world = world();
        let retriever = Retriever::words(world.labels.names()).unwrap();
        let shown = run(Mechanism::Exposure, 100, &retriever);
        let kept = run(Mechanism::Mnar, 100, &retriever);
        let all = pairs(&shown.data.train.y);
        assert!(pairs(&kept.data.train.y).iter().all(|pair| all.binary_search(pair).is_ok()));
        let n = all.len() as f64;
        let p = kept.report.mean_probability.unwrap();
        assert!(p > 0.5 && p < 1.0 / (1.0 + (-1f64).exp()));
        let rate = kept.report.kept as f64 / n;
        assert!((rate - p).abs() < 3.0 * (p * (1.0 - p) / n).sqrt(), "{rate} {p}");
    }

    #[test]
    fn mar_keeps_exactly_as_many_pairs_as_are_shown_and_not_those() {
        let world = world();
        let retriever = Retriever::words(world.labels.names()).unwrap();
        let (shown, mar) = (run(Mechanism::Exposure, 3, &retriever), run(Mechanism::Mar, 3, &retriever));
        assert_eq!(mar.report.kept, shown.report.kept);
        assert_eq!(mar.report.kept, mar.data.train.y.nnz());
        assert_ne!(pairs(&mar.data.train.y), pairs(&shown.data.train.y));
        assert_eq!(pairs(&mar.data.train.y), pairs(&run(Mechanism::Mar, 3, &retriever).data.train.y));
    }

    #[test]
    fn the_folder_is_a_data_set_with_what_was_hidden_beside_it() {
        let world = world();
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("biased");
        let simulated = run(Mechanism::Exposure, 3, &Retriever::words(world.labels.names()).unwrap());
        simulated.save(&out).unwrap();
        let back = Dataset::open(&out).unwrap();
        assert_eq!((&back.train, &back.test), (&simulated.data.train, &world.test));
        assert_eq!(npz::read(&out.join(HIDDEN_FILE)).unwrap(), simulated.hidden);
        assert_eq!(Some(npz::read(&out.join(BIASED_TEST_FILE)).unwrap()), simulated.biased_test);
        assert!(simulated.save(&out).unwrap_err().to_string().contains("not empty"));
    }

    #[test]
    fn rows_without_texts_are_named() {
        let world = world();
        let retriever = Retriever::words(world.labels.names()).unwrap();
        let y = world.train.y.clone();
        let features = Some(Csr::empty(y.rows(), 3));
        let train = Part { texts: None, features, y, filter: Vec::new() };
        let data = Dataset { train, test: None, ..world };
        let message = simulate(data, &retriever, &SimulateConfig::default(), &Silent).unwrap_err();
        assert!(message.to_string().contains("no texts of the training rows"));
    }
}
