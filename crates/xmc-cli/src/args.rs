//! What can be typed. Help texts come from the comments here.

use std::num::NonZeroU16;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use xmc_nn::Device;

/// Extreme multi-label text classification: the few right labels of a text out of thousands to millions.
#[derive(Debug, Parser)]
#[command(name = "xmc", version, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) verb: Verb,
    /// Threads to use; all processors if not given. Results do not depend on it.
    #[arg(long, global = true, value_name = "N")]
    pub(crate) threads: Option<NonZeroU16>,
    /// No progress, no summary: only results and errors.
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Quickstart(Quickstart),
    Train(Train),
    Predict(Predict),
    Evaluate(Evaluate),
    Inspect(Inspect),
    Import(Import),
    HelpConfig(HelpConfig),
}

/// Methods that can be trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Method {
    /// Label tree with linear rankers over sparse text features (PECOS).
    XrLinear,
}

/// Train, evaluate and predict on bundled data; needs nothing else
///
/// The data are 20,622 package descriptions of Debian with 592 tags. They are part of this program.
#[derive(Debug, Parser)]
pub(crate) struct Quickstart {
    /// Folder for the model; an earlier model there is replaced.
    #[arg(long, value_name = "DIR", default_value = "quickstart.xmc")]
    pub(crate) out: PathBuf,
}

/// Train a model
#[derive(Debug, Parser)]
pub(crate) struct Train {
    /// What to train.
    #[arg(value_enum)]
    pub(crate) method: Method,
    /// Dataset folder, or a file that `xmc import` understands.
    #[arg(long, value_name = "DIR|FILE")]
    pub(crate) data: PathBuf,
    /// Folder for the model; an earlier model there is replaced when the new one is complete.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Settings in TOML; `xmc help-config METHOD` prints all of them.
    #[arg(long, value_name = "FILE.toml")]
    pub(crate) config: Option<PathBuf>,
    /// One setting, over those of --config; can be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Seed of every random choice: the same seed gives the same model, bit for bit.
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Continue an interrupted training with the same data, settings and seed.
    #[arg(long)]
    pub(crate) resume: bool,
    /// Refuse to begin if training needs more memory than this, for example 4GiB.
    #[arg(long, value_name = "SIZE", value_parser = xmc::memory::parse)]
    pub(crate) max_memory: Option<u64>,
    /// Where an encoder computes: cpu, cuda:N, or auto for the best there is. XR-Linear always uses the processor.
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub(crate) device: Device,
    /// Do not measure the model on the test rows of the data.
    #[arg(long)]
    pub(crate) no_evaluation: bool,
}

/// Predict labels for texts, from a file or line by line from stdin
///
/// Rows are answered as they come: a pipe can stay open. Formats of the answers: jsonl is one object a row,
/// {"row": 0, "labels": [{"label": "sea", "id": 7, "score": 0.93}]}; tsv is one line a label with row, id, score and name;
/// npz is the matrix of scores that scipy.sparse.load_npz reads.
#[derive(Debug, Parser)]
pub(crate) struct Predict {
    /// Model folder.
    pub(crate) model: PathBuf,
    /// Texts, one a line, or a .jsonl, .csv, .tsv or .npz file, plain, .gz or .zst; `-` is stdin.
    #[arg(long, value_name = "FILE|-", default_value = "-")]
    pub(crate) input: PathBuf,
    /// Format of the input if its name does not tell.
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(crate) input_format: Option<InputFormat>,
    /// Field or column that holds the text in jsonl, csv and tsv.
    #[arg(long, value_name = "NAME", default_value = "text")]
    pub(crate) text_column: String,
    /// Labels for each row.
    #[arg(long, short = 'k', value_name = "K", default_value = "5")]
    pub(crate) top_k: NonZeroU16,
    /// Nodes kept at every level of the tree; the model's own number if not given.
    #[arg(long, value_name = "N", conflicts_with = "exact")]
    pub(crate) beam: Option<NonZeroU16>,
    /// Search until no better label is possible: slower than the beam, and exact.
    #[arg(long)]
    pub(crate) exact: bool,
    /// Format of the answers.
    #[arg(long, value_enum, default_value_t = OutputFormat::Jsonl)]
    pub(crate) format: OutputFormat,
    /// Write the answers to this file instead of stdout.
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum InputFormat {
    /// One text a line.
    Lines,
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated with a header.
    Csv,
    /// Tab-separated with a header.
    Tsv,
    /// Features as a scipy sparse matrix, for models trained on given features.
    Npz,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// One JSON object a row.
    Jsonl,
    /// One line a label: row, id, score, name.
    Tsv,
    /// Matrix of scores.
    Npz,
}

/// Measure a model on labelled rows
#[derive(Debug, Parser)]
pub(crate) struct Evaluate {
    /// Model folder.
    pub(crate) model: PathBuf,
    /// Dataset folder, or a file that `xmc import` understands.
    #[arg(long, value_name = "DIR|FILE")]
    pub(crate) data: PathBuf,
    /// Which rows.
    #[arg(long, value_enum, default_value_t = Split::Test)]
    pub(crate) split: Split,
    /// Nodes kept at every level of the tree; the model's own number if not given.
    #[arg(long, value_name = "N", conflicts_with = "exact")]
    pub(crate) beam: Option<NonZeroU16>,
    /// Search until no better label is possible: what the beam misses is the difference.
    #[arg(long)]
    pub(crate) exact: bool,
    /// Print one JSON object instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
    /// End with exit code 1 if a metric is below this many percent, as in P@1=80; can be repeated.
    #[arg(long, value_name = "METRIC=PERCENT", value_parser = threshold)]
    pub(crate) fail_under: Vec<(String, f64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Split {
    /// The training rows.
    Train,
    /// The test rows.
    Test,
}

/// Say what a dataset or a model looks like
#[derive(Debug, Parser)]
pub(crate) struct Inspect {
    /// Dataset folder, file that `xmc import` understands, or model folder.
    pub(crate) path: PathBuf,
    /// Print one JSON object instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print every setting of a method with default and meaning, as a TOML file
#[derive(Debug, Parser)]
pub(crate) struct HelpConfig {
    /// Whose settings.
    #[arg(value_enum)]
    pub(crate) method: Method,
}

/// Turn files of any known format into a dataset folder
#[derive(Debug, Parser)]
pub(crate) struct Import {
    /// Files: csv, tsv, jsonl, XMC-repository text or svmlight; plain, .gz or .zst.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Folder for the dataset.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Format of all files: csv, tsv, jsonl, xmc or svmlight; guessed if not given.
    #[arg(long)]
    pub(crate) format: Option<String>,
    /// Column or field of the text; several are joined in the given order. Guessed if not given.
    #[arg(long, value_name = "NAME")]
    pub(crate) text: Vec<String>,
    /// Column or field of the labels; guessed if not given.
    #[arg(long, value_name = "NAME")]
    pub(crate) labels: Option<String>,
    /// What stands between two labels of a row; guessed if not given.
    #[arg(long, value_name = "TEXT")]
    pub(crate) separator: Option<String>,
    /// File with the names of the labels, one a line; the rows then hold such names, or line numbers from 0.
    #[arg(long, value_name = "FILE")]
    pub(crate) label_names: Option<PathBuf>,
    /// File of test rows; files whose name begins or ends with the word test or tst are test rows too.
    #[arg(long, value_name = "FILE")]
    pub(crate) test: Vec<PathBuf>,
    /// Share of the training rows to set aside as test rows.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub(crate) test_fraction: f64,
    /// Chooses which rows those are; rows of the same text stay together.
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) seed: u64,
    /// How the text files of the folder are packed.
    #[arg(long, value_enum, default_value_t = Pack::None)]
    pub(crate) pack: Pack,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pack {
    /// Plain text.
    None,
    /// gzip.
    Gz,
    /// Zstandard.
    Zst,
}

/// `P@1=80` to a metric and its least percentage.
fn threshold(text: &str) -> Result<(String, f64), String> {
    let parts = text.split_once('=').and_then(|(metric, percent)| Some((metric, percent.parse().ok()?)));
    match parts {
        Some((metric, percent)) if (0.0..=100.0).contains(&percent) => Ok((metric.to_owned(), percent)),
        _ => Err(format!("found `{text}`, expected a metric and a percentage like P@1=80")),
    }
}
