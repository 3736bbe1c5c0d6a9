//! What can be typed behind `xmc augment`. Help texts come from the comments here.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use super::finetune::Finetune;

/// Fill in labels that are missing in a training matrix (SKIM)
///
/// A generator reads what is known of an item (its page, its article) and writes texts as users would; each is replaced by
/// its nearest real ones, and these pairs are added with a value below 1. Stages keep their results in one folder, and each
/// can be done alone and again: generate, parse, embed, map, build, validate; `run` does all.
#[derive(Debug, Parser)]
pub(crate) struct Augment {
    #[command(subcommand)]
    pub(crate) stage: Stage,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Stage {
    Init(Init),
    Run(RunAll),
    Generate(Generate),
    Teach(Teach),
    /// Cut answers into synthetic texts
    Parse(OfRun),
    /// Turn synthetic texts and targets into embeddings
    Embed(OfRun),
    /// Find the nearest targets of every synthetic text
    Map(OfRun),
    Build(Build),
    Validate(Validate),
    Sweep(Sweep),
    /// Say which threshold suits the known pairs
    ///
    /// A share of them (validate.share) plays the missing ones: how many does each threshold suggest, and how much else? The
    /// one with the largest F1 is named first; build with it by --set build.tau=... It errs on the high side: what is not
    /// known may be right.
    Calibrate(OfRun),
    Explain(Explain),
    Finetune(Finetune),
    SimulateBias(SimulateBias),
}

/// Which run, and how it answers.
#[derive(Debug, Parser)]
pub(crate) struct OfRun {
    /// Folder of the run.
    #[arg(long, value_name = "RUN")]
    pub(crate) run: PathBuf,
    /// One setting for this call, over run.toml; can be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Print one JSON object instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which side the metadata belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Side {
    /// Pages of labels: texts like rows are written for each label.
    Label,
    /// Pages of rows: texts like labels are written for each row.
    Instance,
}

/// Begin a run: write its settings and check what it reads
#[derive(Debug, Parser)]
pub(crate) struct Init {
    /// Which side the metadata belong to.
    #[arg(long, value_enum)]
    pub(crate) direction: Side,
    /// Dataset folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// What is known of the sources: one object a line with id (name or number), and any of text, title, body, url, known.
    #[arg(long, value_name = "FILE.jsonl")]
    pub(crate) meta: Option<PathBuf>,
    /// Folder of the run.
    #[arg(long, value_name = "RUN")]
    pub(crate) out: PathBuf,
    /// Settings to begin with, in TOML.
    #[arg(long, value_name = "FILE.toml")]
    pub(crate) config: Option<PathBuf>,
    /// One setting, over those of --config; can be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Print one JSON object instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Do all stages: generate, parse, embed, map, build, validate
///
/// Embeddings and neighbours are kept where nothing they depend on has changed: after a crash the same command goes on.
#[derive(Debug, Parser)]
pub(crate) struct RunAll {
    #[command(flatten)]
    pub(crate) of: OfRun,
    /// Write the augmented data set, with which every method trains, to this folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) gate: Gate,
}

/// Write what is found for every source
///
/// Answers are kept in RUN/generated as they come: after a crash, or where a limit was reached, the same command goes on,
/// and nothing is asked twice unless the prompt or the way of drawing has changed. Generators (generator.kind): extractive
/// takes titles and telling phrases of the metadata; decoder is a language model on this machine (generator.path=FILE.gguf);
/// http one behind an OpenAI-compatible address (http.url, http.model, http.key_env); replay takes texts of another program
/// (generator.path=FILE.jsonl with {"source": name or number, "text"} a line).
///
/// What a language model reads is a template: generator.template is instructed, fields, or a TOML file such as
///
///   chat = true
///   body_tokens = 750
///   stop = "\n\n"
///   parts = ["Write search queries for this page.\n", "Title: {title}\n", "{body}\n", "Queries:\n"]
///
/// with the places {text}, {title}, {body}, {url} and {known}. A part with a place that an item does not fill is left out.
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
#[expect(clippy::doc_link_with_quotes, reason = "lists of TOML")]
pub(crate) struct Generate {
    #[command(flatten)]
    pub(crate) of: OfRun,
    /// Print how many prompts, tokens and hours it would take, and ask nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Ask again where the answer was a failure.
    #[arg(long)]
    pub(crate) retry_failed: bool,
}

/// Collect a large model's answers for a sample, from which a small one learns the task
///
/// Asks the generator of the run about some sources, rare and frequent ones evenly, and writes train.jsonl for
/// `xmc augment finetune`, and chat.jsonl for other programs. The answers are kept in the run as those of `generate`. The tuned
/// decoder then serves with generator.kind=decoder, generator.path=ITS_FOLDER and generator.template=fields.
#[derive(Debug, Parser)]
pub(crate) struct Teach {
    #[command(flatten)]
    pub(crate) of: OfRun,
    /// Sources to ask about.
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    pub(crate) count: usize,
    /// Folder for the examples.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}

/// Add the pairs to the training matrix
#[derive(Debug, Parser)]
pub(crate) struct Build {
    #[command(flatten)]
    pub(crate) of: OfRun,
    /// Write the augmented data set, with which every method trains, to this folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// When a run fails.
#[derive(Debug, Parser)]
pub(crate) struct Gate {
    /// End with exit code 1 if a number of the report is below this, as in recovery.uniform.recall=0.2; can be repeated.
    #[arg(long, value_name = "NAME=NUMBER", value_parser = number)]
    pub(crate) fail_under: Vec<(String, f64)>,
    /// Pairs that are true and not in the data, as simulate-bias leaves them in hidden.trn.npz: were they found?
    #[arg(long, value_name = "FILE.npz")]
    pub(crate) hidden: Option<PathBuf>,
    /// Another augmented matrix to compare with.
    #[arg(long, value_name = "FILE.npz")]
    pub(crate) other: Option<PathBuf>,
}

/// Say whether the augmentation helped, before anything is trained on it
#[derive(Debug, Parser)]
pub(crate) struct Validate {
    #[command(flatten)]
    pub(crate) of: OfRun,
    #[command(flatten)]
    pub(crate) gate: Gate,
}

/// Build with several thresholds and numbers of neighbours, and compare; nothing is embedded or searched again
#[derive(Debug, Parser)]
pub(crate) struct Sweep {
    #[command(flatten)]
    pub(crate) of: OfRun,
    /// Thresholds of sigma = (cosine + 1) / 2.
    #[arg(long, value_name = "TAU,TAU,...", value_delimiter = ',', default_value = "0.7,0.75,0.8,0.85,0.9")]
    pub(crate) tau: Vec<f32>,
    /// Neighbours of a text; that of the settings if not given.
    #[arg(long, value_name = "K,K,...", value_delimiter = ',')]
    pub(crate) k: Vec<usize>,
    /// Pairs that are true and not in the data: which threshold finds most of them?
    #[arg(long, value_name = "FILE.npz")]
    pub(crate) hidden: Option<PathBuf>,
}

/// Say where a new pair comes from
#[derive(Debug, Parser)]
pub(crate) struct Explain {
    #[command(flatten)]
    pub(crate) of: OfRun,
    /// Number of the row.
    #[arg(long, value_name = "I")]
    pub(crate) row: u32,
    /// Number of the label.
    #[arg(long, value_name = "J")]
    pub(crate) col: u32,
}

/// Take labels away as a click log would, to measure what an augmentation brings back
///
/// Writes a data set whose training rows have only the labels that a retriever shows, and whose test rows are complete;
/// beside it the pairs that were hidden, and the labels that a biased test would have (for `xmc evaluate --biased`).
#[derive(Debug, Parser)]
pub(crate) struct SimulateBias {
    /// Dataset folder with complete labels.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Folder for the biased data set.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Labels that are shown for a training row.
    #[arg(long, value_name = "K", default_value_t = 200)]
    pub(crate) topk: usize,
    /// Labels that are shown for a test row.
    #[arg(long, value_name = "K", default_value_t = 100)]
    pub(crate) test_topk: usize,
    /// Keep what is shown with the probability sigmoid(slope * score): missing not at random.
    #[arg(long, conflicts_with = "mar")]
    pub(crate) mnar: bool,
    /// Keep as many pairs, any of them: missing at random.
    #[arg(long)]
    pub(crate) mar: bool,
    /// Slope of the sigmoid of --mnar.
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    pub(crate) slope: f32,
    /// Encoder folder, or a model that has one, that shows labels; words (tf-idf) if not given.
    #[arg(long, value_name = "DIR")]
    pub(crate) encoder: Option<PathBuf>,
    /// Seed of all chance.
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Print one JSON object instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `recovery.uniform.recall=0.2` to name and number.
fn number(text: &str) -> Result<(String, f64), String> {
    let wrong = || format!("`{text}`: expected name=number, as in recovery.uniform.recall=0.2");
    let (name, value) = text.split_once('=').ok_or_else(wrong)?;
    let value: f64 = value.trim().parse().map_err(|_| wrong())?;
    if value.is_nan() { Err(wrong()) } else { Ok((name.trim().to_owned(), value)) }
}
