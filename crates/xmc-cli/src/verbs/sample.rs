//! `xmc sample --data DIR --out DIR`: a part of a dataset that is enough to learn from.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Parser;
use serde::de::DeserializeOwned;
use xmc::sampling::{
    HashFeatures, PositivesKept, RatioOf, Report, SampleConfig, Sampler, Volume, Within, label_features,
    sample,
};
use xmc_data::Error;
use xmc_data::dataset::{Dataset, Part};
use xmc_nn::decoder::Source;

use crate::Outcome;
use crate::progress::Terminal;
use crate::table::{Align, Table};
use crate::verbs::import::by_option;

/// Keep the part of a dataset that is enough to learn from
///
/// Labels that are alike share a bucket, and every bucket gives a few. A training row keeps the labels that were taken; rows
/// without any go. All labels keep their names and numbers, and the test rows stay, so every method trains on the result.
#[derive(Debug, Parser)]
pub(crate) struct Sample {
    /// Dataset folder, or a file that `xmc import` understands.
    #[arg(long, value_name = "DIR|FILE")]
    pub(crate) data: PathBuf,
    /// Folder for the sample; if not given, only how large it would be is printed.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Share that is kept.
    #[arg(long, value_name = "SHARE", default_value_t = 0.25)]
    pub(crate) ratio: f32,
    /// What it is a share of: pairs of a row and a label, labels, or documents.
    #[arg(long, value_name = "WHAT", default_value = "pairs", value_parser = named::<RatioOf>)]
    pub(crate) ratio_of: RatioOf,
    /// How labels are told apart: simhash and minhash (words of names) make buckets, race draws labels where few are like
    /// them, random draws any.
    #[arg(long, value_name = "NAME", default_value = "simhash", value_parser = named::<Sampler>)]
    pub(crate) sampler: Sampler,
    /// What a label looks like, for simhash and race: tfidf (words and characters of its name), file, or with --decoder
    /// tokemb (its token embeddings) or llm (its last hidden state). auto is tokemb with --decoder, else tfidf.
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = named::<HashFeatures>)]
    pub(crate) hash_features: HashFeatures,
    /// Decoder that looks at the names: a GGUF file, or a folder in Hugging Face layout.
    #[arg(long, value_name = "FILE|DIR")]
    pub(crate) decoder: Option<PathBuf>,
    /// A row of features for each label: a matrix of numpy.
    #[arg(long, value_name = "FILE.npy")]
    pub(crate) hash_features_file: Option<PathBuf>,
    /// Bits of a hash (minhash: words of it). As few as make enough buckets for one label of each, if not given.
    #[arg(long, value_name = "N")]
    pub(crate) bits: Option<u32>,
    /// Labels that every bucket gives; the share is then what it comes to.
    #[arg(long, value_name = "K")]
    pub(crate) per_bucket: Option<u32>,
    /// Labels of a bucket that are taken first: random, head (of most rows), tail (of fewest) or medoid (nearest to the
    /// middle).
    #[arg(long, value_name = "NAME", default_value = "random", value_parser = named::<Within>)]
    pub(crate) within: Within,
    /// Sampled labels of a row at most; 0 is all.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) max_positives: usize,
    /// Which those are: random ones, or the first, with the lowest ids.
    #[arg(long, value_name = "NAME", default_value = "random", value_parser = named::<PositivesKept>)]
    pub(crate) positives: PositivesKept,
    /// Let a row without a sampled label keep its rarest one.
    #[arg(long)]
    pub(crate) keep_orphans: bool,
    /// Seed of every random choice.
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(verb: &Sample, quiet: bool) -> Result<Outcome> {
    let config = settings(verb)?;
    if let Some(out) = verb.out.as_ref().filter(|out| out.exists())
        && out.read_dir().map_or(true, |mut entries| entries.next().is_some())
    {
        bail!("{}: exists and is not an empty folder; choose another --out", out.display());
    }
    let data = Dataset::open(&verb.data)?;
    let decoder = verb.decoder.as_deref().map(Source::open).transpose()?;
    let features = label_features(&config, data.labels.names(), decoder.as_ref())?;
    let sample = sample(&data.train.y, features.as_ref(), &config, verb.seed, 0)
        .with_context(|| data.path.display().to_string())?;
    drop(features);
    let text = if verb.json {
        serde_json::to_string_pretty(&sample.report)? + "\n"
    } else {
        shown(&sample.report, &config)
    };
    if let Some(out) = &verb.out {
        let (rows, pairs) = (sample.report.trained_documents, sample.report.trained_pairs);
        let (labels, test) = (data.labels.len(), data.test.as_ref().map_or(0, Part::rows));
        if rows == 0 {
            bail!("{}: no row is left to learn from; choose a larger --ratio", verb.data.display());
        }
        sample.save(data, verb.seed, out)?;
        let out = out.display();
        Terminal::new(quiet).say(&format!(
            "{out}: {rows} training rows with {pairs} pairs, {test} test rows, all {labels} labels"
        ));
    }
    io::stdout().write_all(text.as_bytes())?;
    Ok(Outcome::Done)
}

/// What the options say.
fn settings(verb: &Sample) -> Result<SampleConfig> {
    let file = verb.hash_features_file.clone();
    let features = if file.is_some() && verb.hash_features == HashFeatures::Auto {
        HashFeatures::File
    } else {
        verb.hash_features
    };
    let config = SampleConfig {
        ratio: verb.ratio,
        ratio_of: verb.ratio_of,
        sampler: verb.sampler,
        features,
        features_file: file,
        bits: verb.bits,
        per_bucket: verb.per_bucket,
        within: verb.within,
        max_positives: verb.max_positives,
        positives: verb.positives,
        keep_orphans: verb.keep_orphans,
        resample: false,
    };
    config.check().map_err(|problem| match problem {
        Error::Config { key, value, expected } if key.starts_with("features") => {
            by_option(Error::Config { key: format!("hash_{key}"), value, expected })
        }
        other => by_option(other),
    })?;
    Ok(config)
}

/// A name as configuration files spell it.
fn named<T: DeserializeOwned>(name: &str) -> Result<T, String> {
    serde_json::from_value(name.into()).map_err(|problem| problem.to_string())
}

/// The three volumes, and how they came about.
fn shown(report: &Report, config: &SampleConfig) -> String {
    let columns = [("", Align::Left), ("kept", Align::Right), ("of", Align::Right), ("share", Align::Right)];
    let mut table = Table::new(&columns);
    let mut row = |name: &str, volume: Volume| {
        let share = format!("{:.2} %", 100.0 * volume.share());
        table.row([name.to_owned(), volume.kept.to_string(), volume.of.to_string(), share]);
    };
    row("labels", report.labels);
    row("pairs", report.pairs);
    row("documents", report.documents);
    row("pairs to train on", Volume { kept: report.trained_pairs, of: report.pairs.of });
    row("documents to train on", Volume { kept: report.trained_documents, of: report.documents.of });
    let mut text = table.render();
    if let Some(hashing) = &report.hashing {
        let unit = if config.sampler == Sampler::Minhash { "words" } else { "bits" };
        let (bits, buckets) = (hashing.bits, hashing.buckets);
        let (quota, extra, coverage) = (hashing.quota, hashing.extra, 100.0 * hashing.coverage);
        let _ = write!(
            text,
            "\nhashes of {bits} {unit} make {buckets} buckets; each gives {quota} labels if it has them (c), {extra} \
             give one more (r); {coverage:.1} % of the buckets give any\n"
        );
    }
    if config.max_positives > 0 {
        let which = if config.positives == PositivesKept::First { "the first" } else { "random ones" };
        let _ = writeln!(text, "at most {} labels of a document, {which}", config.max_positives);
    }
    if report.labels_without_rows > 0 {
        let _ = writeln!(text, "{} further labels have no training row", report.labels_without_rows);
    }
    text
}
