//! What can be typed; options of `sample` stand beside the verb. Help texts come from the comments here.

use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use xmc::{OpenOptions, PredictOptions};
use xmc_nn::Device;

use crate::verbs::augment::args::Augment;
use crate::verbs::sample::Sample;

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
    Explain(Explain),
    Import(Import),
    HelpConfig(HelpConfig),
    Embed(Embed),
    Sample(Sample),
    Similar(Similar),
    AddLabels(AddLabels),
    Ensemble(Ensemble),
    Augment(Augment),
}

/// Methods that can be trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Method {
    /// Label tree with linear rankers over sparse text features (PECOS).
    XrLinear,
    /// The same beside the embedding of an encoder, which is fine-tuned along the tree (XR-Transformer).
    XrTransformer,
    /// One encoder for texts and label names, fine-tuned: labels of a text are the nearest (DEXML).
    Dexml,
    /// An encoder and a search index that learn together: clusters, edges to labels, a classifier for each label (ELIAS).
    Elias,
    /// A frozen language model of few bits behind a short prompt that learns: labels of a text are the nearest (QUEST).
    Quest,
}

/// Where and how an encoder computes; models without one ignore it.
#[derive(Debug, Parser)]
pub(crate) struct Compute {
    /// Where an encoder computes: cpu, cuda:N, or auto for the best there is.
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub(crate) device: Device,
    /// How an encoder multiplies; auto is bf16 where the processor has instructions for it, else f32.
    #[arg(long, value_enum, default_value_t = Precision::Auto)]
    pub(crate) precision: Precision,
    /// Decoder of a model of quest, if it is not where it was in training: a .gguf file or a folder.
    #[arg(long, value_name = "PATH")]
    pub(crate) decoder: Option<PathBuf>,
}

impl Compute {
    /// The same for the library.
    pub(crate) fn options(&self) -> OpenOptions {
        let decoder = self.decoder.clone();
        let fastest = OpenOptions { device: self.device, decoder, ..OpenOptions::default() };
        match self.precision {
            Precision::Auto => fastest,
            Precision::F32 => OpenOptions { precision: xmc_nn::Precision::F32, ..fastest },
            Precision::Bf16 => OpenOptions { precision: xmc_nn::Precision::Bf16, ..fastest },
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Precision {
    /// bf16 where the processor has instructions for it, else f32.
    Auto,
    /// 32 bits.
    F32,
    /// Factors of 16 bits, sums of 32: faster, scores differ in the third digit.
    Bf16,
}

/// How far to search; the model's own numbers if not given.
#[derive(Clone, Copy, Debug, Parser)]
pub(crate) struct Search {
    /// Nodes kept at every level of a tree, or clusters that a text goes to (elias).
    #[arg(long, value_name = "N", conflicts_with = "exact")]
    pub(crate) beam: Option<NonZeroU32>,
    /// Labels that are scored (elias).
    #[arg(long, value_name = "K", conflicts_with = "exact")]
    pub(crate) shortlist: Option<NonZeroU32>,
    /// Edges of a cluster that are followed, from the best on (elias); all if not given.
    #[arg(long, value_name = "N", conflicts_with = "exact")]
    pub(crate) edges: Option<NonZeroU32>,
    /// Search until no better label is possible: slower than the beam, and exact. elias: score all labels, by their
    /// classifiers alone.
    #[arg(long)]
    pub(crate) exact: bool,
}

impl Search {
    /// The same for the library, for the best `k` labels.
    pub(crate) fn options(&self, k: usize) -> PredictOptions {
        let number = |n: NonZeroU32| n.get() as usize;
        PredictOptions {
            top_k: k,
            beam_size: self.beam.map(number),
            shortlist: self.shortlist.map(number),
            edges: self.edges.map(number),
            exact: self.exact,
        }
    }
}

/// Where texts come from.
#[derive(Debug, Parser)]
pub(crate) struct Input {
    /// Texts, one a line, or a .jsonl, .csv, .tsv or .npz file, plain, .gz or .zst; `-` is stdin.
    #[arg(id = "input", long = "input", value_name = "FILE|-", default_value = "-")]
    pub(crate) path: PathBuf,
    /// Format of the input if its name does not tell.
    #[arg(id = "input_format", long = "input-format", value_enum, value_name = "FORMAT")]
    pub(crate) format: Option<InputFormat>,
    /// Field or column that holds the text in jsonl, csv and tsv.
    #[arg(long, value_name = "NAME", default_value = "text")]
    pub(crate) text_column: String,
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
#[allow(clippy::struct_excessive_bools, reason = "each is an option")]
#[derive(Debug, Parser)]
pub(crate) struct Train {
    /// What to train.
    #[arg(value_enum)]
    pub(crate) method: Method,
    /// Dataset folder, or a file that `xmc import` understands.
    #[arg(long, value_name = "DIR|FILE")]
    pub(crate) data: PathBuf,
    /// Folder for the model; an earlier model there is replaced when the new one is complete.
    #[arg(long, value_name = "DIR", required_unless_present = "dry_run")]
    pub(crate) out: Option<PathBuf>,
    /// Encoder that dexml, xr-transformer and elias begin with: folder in Hugging Face layout, or its name on the hub in
    /// builds with the feature hub; for xr-transformer and elias also a model of any of them. Wins over the setting
    /// `encoder`.
    #[arg(long, value_name = "DIR|HUB-ID|MODEL")]
    pub(crate) encoder: Option<String>,
    /// Decoder that quest begins with: a .gguf file, or a folder in Hugging Face layout. Wins over the setting `decoder`.
    #[arg(long, value_name = "PATH")]
    pub(crate) decoder: Option<PathBuf>,
    /// Settings to begin with; --config and --set change single ones. dexml: laptop (a few cores, an hour), server (many
    /// cores, a day) or paper, each for the size of the data. xr-transformer: laptop, or as published for eurlex-4k,
    /// wiki10-31k, amazoncat-13k, wiki-500k, amazon-670k or amazon-3m. elias: laptop, as published for amazon-670k or
    /// lf-amazontitles-131k, or as the authors of LEVER trained it: lever-lf-amazontitles-131k, lever-lf-amazon-131k,
    /// lever-lf-wikiseealso-320k, lever-lf-wikipedia-500k or lever-lf-amazontitles-1.3m. quest: laptop, paper, release (as the
    /// authors' program) or recommended. laptop if not given.
    #[arg(long, value_name = "NAME")]
    pub(crate) preset: Option<String>,
    /// Settings in TOML; `xmc help-config METHOD` prints all of them.
    #[arg(long, value_name = "FILE.toml")]
    pub(crate) config: Option<PathBuf>,
    /// One setting, over those of --config; can be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Seed of every random choice: the same seed gives the same model, bit for bit. (Curves of dexml hold times too.)
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
    /// Only say what training would cost: bytes of memory by part, operations and bytes of a step (elias), or
    /// operations, memory and hours (quest; of the decoder a config.json is enough).
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// With --dry-run: print one JSON object instead of tables.
    #[arg(long, requires = "dry_run")]
    pub(crate) json: bool,
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
    #[command(flatten)]
    pub(crate) input: Input,
    /// Labels for each row.
    #[arg(long, short = 'k', value_name = "K", default_value = "5")]
    pub(crate) top_k: NonZeroU32,
    #[command(flatten)]
    pub(crate) search: Search,
    /// Format of the answers.
    #[arg(long, value_enum, default_value_t = OutputFormat::Jsonl)]
    pub(crate) format: OutputFormat,
    /// Write the answers to this file instead of stdout.
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) compute: Compute,
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
    #[command(flatten)]
    pub(crate) search: Search,
    #[command(flatten)]
    pub(crate) compute: Compute,
    /// Search in several ways, and print what each finds and takes: beam=1,2,5,10,20, or shortlist=... or edges=... of models of
    /// elias; if repeated, all combinations, and a repeated key adds numbers.
    #[arg(long, value_name = "KEY=N,N,...", value_parser = sweep, conflicts_with_all = ["exact", "fail_under"])]
    pub(crate) sweep: Vec<(Knob, Vec<usize>)>,
    /// Leave out a label whose name is the text itself: where texts and labels are the same things.
    #[arg(long, conflicts_with = "sweep")]
    pub(crate) drop_self: bool,
    /// Labels of the same rows as a click log would hold them, a matrix of scipy [n, L], as `xmc augment simulate-bias`
    /// writes it: both are measured side by side; --fail-under looks at the unbiased side.
    #[arg(long, value_name = "FILE.npz", conflicts_with = "sweep")]
    pub(crate) biased: Option<PathBuf>,
    /// Print one JSON object instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
    /// End with exit code 1 if a metric is below this many percent, as in P@1=80; can be repeated.
    #[arg(long, value_name = "METRIC=PERCENT", value_parser = threshold)]
    pub(crate) fail_under: Vec<(String, f64)>,
}

/// What a sweep changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Knob {
    /// Nodes or clusters that are kept.
    Beam,
    /// Labels that are scored.
    Shortlist,
    /// Edges of a cluster.
    Edges,
}

impl Knob {
    /// All, with their names.
    pub(crate) const ALL: [(&str, Knob); 3] =
        [("beam", Knob::Beam), ("shortlist", Knob::Shortlist), ("edges", Knob::Edges)];

    /// The number in `options` that it changes.
    pub(crate) fn of(self, options: &mut PredictOptions) -> &mut Option<usize> {
        match self {
            Knob::Beam => &mut options.beam_size,
            Knob::Shortlist => &mut options.shortlist,
            Knob::Edges => &mut options.edges,
        }
    }
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
    /// Levels of a label tree that are drawn, from the root.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) depth: u16,
    /// Children of a node that are drawn.
    #[arg(long, value_name = "N", default_value = "5")]
    pub(crate) width: NonZeroU16,
    /// Print one JSON object instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Say why a text gets its labels
///
/// For models with label trees (xr-linear, xr-transformer): the path of every label through the tree, and how much each word
/// of the text, and its embedding, spoke for it.
#[derive(Debug, Parser)]
pub(crate) struct Explain {
    /// Model folder.
    pub(crate) model: PathBuf,
    /// A text.
    pub(crate) text: String,
    /// Labels to explain.
    #[arg(long, short = 'k', value_name = "K", default_value = "3")]
    pub(crate) top_k: NonZeroU32,
    /// Words to show for each label.
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub(crate) terms: u32,
    #[command(flatten)]
    pub(crate) search: Search,
    /// Print one JSON object instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) compute: Compute,
}

/// Print every setting of a method with default and meaning, as a TOML file
#[derive(Debug, Parser)]
pub(crate) struct HelpConfig {
    /// Whose settings.
    #[arg(value_enum)]
    pub(crate) of: Configured,
}

/// What has settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Configured {
    XrLinear,
    XrTransformer,
    Dexml,
    Elias,
    Quest,
    /// Runs of `xmc augment`.
    Augment,
    /// `xmc augment finetune`.
    Finetune,
}

/// Turn texts into embeddings
///
/// Rows of numbers, one for each text, in the order of the input: as numpy array of f32 [rows, d] in a file, or as JSON
/// Lines {"row": 0, "embedding": [0.1, ...]} on stdout.
#[derive(Debug, Parser)]
pub(crate) struct Embed {
    /// Folder of an encoder in Hugging Face layout, its name on the hub, or a model of dexml, xr-transformer, elias or
    /// quest.
    #[arg(long, value_name = "DIR|MODEL")]
    pub(crate) encoder: String,
    #[command(flatten)]
    pub(crate) input: Input,
    /// Write to this file, FILE.npy or FILE.jsonl, instead of stdout.
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// How the vectors of the tokens become one. If not given, what the folder says, in tower.json or as
    /// sentence-transformers does in 1_Pooling/config.json, else mean. A model knows its own.
    #[arg(long, value_enum)]
    pub(crate) pooling: Option<Pooling>,
    /// Tokens of a text that are read. If not given, what the folder says, in tower.json or as sentence-transformers does
    /// in sentence_bert_config.json, else as many as the encoder can; a model reads as many as in training.
    #[arg(long, value_name = "N")]
    pub(crate) max_len: Option<NonZeroU16>,
    /// Leave embeddings as long as they are, instead of length 1. A model knows its own.
    #[arg(long)]
    pub(crate) no_normalize: bool,
    #[command(flatten)]
    pub(crate) compute: Compute,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pooling {
    /// Their mean.
    Mean,
    /// The vector of the first token.
    Cls,
    /// That vector behind the layer that BERT trains with it.
    Pooler,
}

/// Find the labels of a dexml, elias or quest model that mean most nearly the same as a text
///
/// Compared are the vectors of labels, by their cosine: embedded names or classifiers in dexml, classifiers in elias, embedded
/// names in quest.
#[derive(Debug, Parser)]
pub(crate) struct Similar {
    /// Model folder.
    pub(crate) model: PathBuf,
    /// A text; with --label the name of one of the model's labels.
    pub(crate) text: String,
    /// Compare with the vector of this label instead of embedding the text.
    #[arg(long)]
    pub(crate) label: bool,
    /// Labels to show.
    #[arg(long, short = 'k', value_name = "K", default_value = "10")]
    pub(crate) top_k: NonZeroU32,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) compute: Compute,
}

/// Give a model of dexml or quest further labels, without training
///
/// The names are embedded and stand behind the labels that the model has. Names that it has already are left out.
#[derive(Debug, Parser)]
pub(crate) struct AddLabels {
    /// Model folder.
    pub(crate) model: PathBuf,
    /// Names of the labels, one a line; plain, .gz or .zst.
    pub(crate) labels: PathBuf,
    /// Folder for the model with the labels; in place of the old one if not given.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) compute: Compute,
}

/// Make one model of several that have the same labels
///
/// The members are copied: they and the ensemble do not need each other. predict, evaluate and inspect take an ensemble; explain,
/// embed, similar and --encoder take one of its members, as in OUT/member.0.
#[derive(Debug, Parser)]
pub(crate) struct Ensemble {
    /// Model folders, of any method.
    #[arg(required = true, value_name = "MODEL")]
    pub(crate) models: Vec<PathBuf>,
    /// Folder for the ensemble.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// How the scores of the members become one. average suits scores on the same scale, ranks suit all.
    #[arg(long, value_enum, value_name = "RULE", default_value_t = Rule::Average)]
    pub(crate) combine: Rule,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rule {
    /// Mean of the scores.
    Average,
    /// Mean of the ranks.
    RankAverage,
    /// Mean of the scores after a sigmoid.
    SigmoidAverage,
    /// Mean of the scores after a softmax over the labels of a row.
    SoftmaxAverage,
    /// First ranks of all members, then second ranks, and so on; earlier members first.
    RoundRobin,
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

/// `beam=1,2,5` to what is changed and its values.
fn sweep(text: &str) -> Result<(Knob, Vec<usize>), String> {
    let parsed = text.split_once('=').and_then(|(name, values)| {
        let knob = Knob::ALL.iter().find(|(known, _)| *known == name)?.1;
        let values: Option<Vec<usize>> =
            values.split(',').map(|value| value.trim().parse().ok().filter(|&n| n > 0)).collect();
        Some((knob, values?))
    });
    parsed.ok_or_else(|| {
        format!("found `{text}`, expected beam, shortlist or edges and numbers from 1, like beam=1,2,5,10,20")
    })
}
