//! Which labels and pairs are enough to learn from?
//!
//! Labels that are alike teach the same. They are hashed so that those share a bucket (`simhash`, `minhash`), every bucket
//! gives a few labels until the asked share is reached (`order`), and a pair of a row and a label is kept if the label
//! was taken (Zhou et al. 2024, "QUEST", Findings of EMNLP; the paper's code leaves the hashing out, so the rules here are
//! our own). `race` draws labels where few are like them, without buckets, and `random` is what both must beat.
//!
//! Hashes have as few bits as make a bucket for every label that is to be taken, so that buckets give about one. Labels
//! that no training row has teach nothing: they are not counted and never taken.
//!
//! Everything is a function of data, settings, seed and epoch. Time is about that of reading the names twice.

mod config;
mod dataset;
mod decoder;
mod features;
mod keys;
mod medoid;
mod minhash;
pub(crate) mod order;
mod race;
mod simhash;
#[cfg(test)]
mod tests;
mod volume;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use xmc_data::{Csr, CsrBuilder, Strings};
use xmc_nn::decoder::Source;

use self::config::MOST_BITS;
use self::order::Order;
use self::volume::{Volumes, frequencies, membership};
use crate::error::{Error, Result};
use crate::random::{Draws, Purpose};

pub use config::{HashFeatures, PositivesKept, RatioOf, SampleConfig, Sampler, Within};
pub use dataset::SAMPLE_FILE;
pub use features::LabelFeatures;
pub use keys::SAMPLING;
pub use volume::{Buckets, Report, Volume};

/// Bits that the search for a number of them begins with.
const FEWEST_BITS: u32 = 4;

/// Labels that were taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// How they were chosen.
    pub settings: SampleConfig,
    /// What they keep.
    pub report: Report,
    /// The labels, rising.
    pub labels: Vec<u32>,
}

/// What labels with these `names` look like, or `None` where the sampler does not look at them. `decoder` is needed for
/// what a decoder makes of names, and `auto` then means its token embeddings.
pub fn label_features(
    config: &SampleConfig,
    names: &Strings,
    decoder: Option<&Source>,
) -> Result<Option<LabelFeatures>> {
    if config.takes_all_labels() {
        return Ok(None);
    }
    match (config.sampler, config.features, &config.features_file) {
        (Sampler::Random, ..) => return Ok(None),
        (Sampler::Minhash, ..) => LabelFeatures::words(names),
        (_, HashFeatures::File, Some(path)) => LabelFeatures::file(path, names.len()),
        (_, features, _) => match (features, decoder) {
            (HashFeatures::Auto | HashFeatures::Tokemb, Some(decoder)) => {
                LabelFeatures::token_embeddings(names, decoder)
            }
            (HashFeatures::Llm, Some(decoder)) => LabelFeatures::last_hidden(names, decoder),
            (HashFeatures::Tokemb | HashFeatures::Llm, None) => Err(Error::Mismatch(format!(
                "label features `{}` need a decoder: give one with --decoder, or choose tfidf",
                format!("{features:?}").to_lowercase()
            ))),
            _ => LabelFeatures::tfidf(names),
        },
    }
    .map(Some)
}

/// Takes labels of `y` `[n, L]`. `features` are those of [`label_features`]; an `epoch` changes something only if the
/// settings say so.
pub fn sample(
    y: &Csr,
    features: Option<&LabelFeatures>,
    config: &SampleConfig,
    seed: u64,
    epoch: u64,
) -> Result<Sample> {
    config.check()?;
    let volumes = Volumes::new(y);
    if volumes.labels.is_empty() {
        return Err(Error::Mismatch("no training row has a label: there is nothing to sample".to_owned()));
    }
    if let Some(features) = features
        && features.rows() != y.cols()
    {
        let (rows, labels) = (features.rows(), y.cols());
        return Err(Error::Mismatch(format!("features of {rows} labels, but there are {labels} labels")));
    }
    let epoch = if config.resample { epoch } else { 0 };
    let (mut labels, hashing) = if config.takes_all_labels() {
        (volumes.labels.clone(), None)
    } else {
        choose(&volumes, features, config, seed, epoch)?
    };
    labels.sort_unstable();
    let trained = pairs(&labels, config, y, seed, epoch);
    let report = volumes.report(&labels, &trained, hashing);
    Ok(Sample { settings: config.clone(), report, labels })
}

impl Sample {
    /// Pairs to train on in `epoch`, `[n, L]` as `y`; a row may have none.
    pub fn pairs(&self, y: &Csr, seed: u64, epoch: u64) -> Csr {
        pairs(&self.labels, &self.settings, y, seed, epoch)
    }
}

/// Labels in the order of taking, cut where the share is reached.
fn choose(
    volumes: &Volumes<'_>,
    features: Option<&LabelFeatures>,
    config: &SampleConfig,
    seed: u64,
    epoch: u64,
) -> Result<(Vec<u32>, Option<Buckets>)> {
    let labels = within(volumes, config, seed, epoch);
    let need = || {
        features.ok_or_else(|| Error::Mismatch(format!("sampler {:?} needs label features", config.sampler)))
    };
    let take = |order: Order| {
        let count = volumes.first(&order, config);
        (order, count)
    };
    let ((order, count), bits) = match config.sampler {
        Sampler::Random => (take(unhashed(labels)), None),
        Sampler::Race => {
            let features = need()?;
            let densities = race::densities(features, &features.mean(), seed);
            (take(unhashed(by_density(&labels, &densities, seed, epoch))), None)
        }
        Sampler::Simhash => {
            let features = need()?;
            let mean = features.mean();
            let signatures = simhash::signatures(features, &mean, seed, 0);
            let fill = |bits: u32| {
                let bucket = |&l: &u32| signatures[l as usize] & ((1 << bits) - 1);
                let bucket_of: Vec<u32> = labels.iter().map(bucket).collect();
                take(if config.within == Within::Medoid {
                    let (labels, bucket_of) = medoid::ordered(features, &mean, &labels, &bucket_of);
                    Order::fill(&labels, &bucket_of, seed, epoch)
                } else {
                    Order::fill(&labels, &bucket_of, seed, epoch)
                })
            };
            let (taken, bits) = search_bits(config, volumes, FEWEST_BITS, MOST_BITS, fill);
            (taken, Some(bits))
        }
        Sampler::Minhash => {
            let values = minhash::values(need()?, seed);
            let fill = |words: u32| {
                let bucket_of = minhash::buckets(&values, &labels, words);
                take(Order::fill(&labels, &bucket_of, seed, epoch))
            };
            let (taken, words) = search_bits(config, volumes, 1, minhash::MOST_WORDS, fill);
            (taken, Some(words))
        }
    };
    let hashing = bits.map(|bits| {
        let (quota, extra) = order.quota(count);
        let covered = if quota > 0 { order.buckets } else { extra };
        let coverage = covered as f64 / order.buckets as f64;
        let (buckets, quota, extra) = (order.buckets as u64, quota as u64, extra as u64);
        Buckets { bits, buckets, quota, extra, coverage }
    });
    let mut labels = order.labels;
    labels.truncate(count);
    Ok((labels, hashing))
}

/// The fewest bits with which there are as many buckets as labels to take, and what they give.
fn search_bits(
    config: &SampleConfig,
    volumes: &Volumes<'_>,
    fewest: u32,
    most: u32,
    fill: impl Fn(u32) -> (Order, usize),
) -> ((Order, usize), u32) {
    if let Some(bits) = config.bits {
        return (fill(bits), bits);
    }
    // With `per_bucket` the ratio still says how fine buckets are.
    let asked = SampleConfig { per_bucket: None, ..config.clone() };
    let mut bits = fewest;
    loop {
        let (order, count) = fill(bits);
        let needed = if config.per_bucket.is_some() { volumes.first(&order, &asked) } else { count };
        if order.buckets >= needed || bits == most {
            return ((order, count), bits);
        }
        bits += 1;
    }
}

/// One bucket for everything.
fn unhashed(labels: Vec<u32>) -> Order {
    Order { rounds: vec![1; labels.len()], labels, buckets: 1 }
}

/// Labels of rows, those first that their bucket is to give first.
fn within(volumes: &Volumes<'_>, config: &SampleConfig, seed: u64, epoch: u64) -> Vec<u32> {
    let mut labels = volumes.labels.clone();
    Draws::new(seed, Purpose::Within, epoch).shuffle(&mut labels);
    let frequency = |l: &u32| volumes.frequency[*l as usize];
    match config.within {
        Within::Random | Within::Medoid => {}
        Within::Head => labels.par_sort_by_key(|l| std::cmp::Reverse(frequency(l))),
        Within::Tail => labels.par_sort_by_key(frequency),
    }
    labels
}

/// Draws without replacement, a label in proportion to one over its density.
fn by_density(labels: &[u32], densities: &[u64], seed: u64, epoch: u64) -> Vec<u32> {
    let mut draws = Draws::new(seed, Purpose::Within, epoch);
    let mut keyed: Vec<(f64, u32)> = labels
        .iter()
        .map(|&l| (-(f64::from(1.0 - draws.unit())).ln() * densities[l as usize] as f64, l))
        .collect();
    keyed.par_sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    keyed.into_iter().map(|(_, l)| l).collect()
}

/// Pairs of `y` whose label is among `labels`, at most so many of a row, and those of orphans.
fn pairs(labels: &[u32], config: &SampleConfig, y: &Csr, seed: u64, epoch: u64) -> Csr {
    let sampled = membership(labels, y.cols());
    let frequency = if config.keep_orphans { frequencies(y) } else { Vec::new() };
    let most = if config.max_positives == 0 { usize::MAX } else { config.max_positives };
    let mut places = Vec::new();
    let mut kept = CsrBuilder::new();
    for (i, row) in y.iter().enumerate() {
        places.clear();
        places.extend((0..row.len()).filter(|&at| sampled[row.indices[at] as usize]));
        if places.is_empty() && config.keep_orphans {
            places.extend((0..row.len()).min_by_key(|&at| frequency[row.indices[at] as usize]));
        }
        if places.len() > most && config.positives == PositivesKept::Random {
            let place = epoch << 32 | i as u64;
            let drawn = Draws::new(seed, Purpose::Positives, place).distinct(most, places.len());
            places = drawn.into_iter().map(|at| places[at as usize]).collect();
        }
        places.truncate(most);
        kept.push(places.iter().map(|&at| (row.indices[at], row.values[at])));
    }
    // No column is past those of `y`, and no value is new.
    kept.finish(y.cols()).unwrap_or_else(|_| Csr::empty(y.rows(), y.cols()))
}
