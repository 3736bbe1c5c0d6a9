//! A trained model: a folder on disk, and something that predicts.
//!
//! | file | content |
//! |---|---|
//! | `model.json` | the [`manifest`]: what it is, how it was trained, all files with sizes and checksums |
//! | `labels` | names of the labels |
//! | `vectorizer` | from texts to features; missing in models of given features |
//! | `ranker.0`, `ranker.1`, … | one tree with its rankers each |
//! | `encoder/` | an encoder in the layout of Hugging Face; in models of DEXML, XR-Transformer and ELIAS |
//! | `label_embeddings` | one vector for every label; in models of DEXML, ELIAS and QUEST |
//! | `prompt.safetensors`, `lora.safetensors` | what QUEST learned; in its models |
//! | `decoder.json`, `tokenizer/`, `sample.json` | where its decoder lies, how it cuts texts, labels it learned from |
//! | `clusters`, `edges` | one vector for every cluster, and the labels that they lead to; in models of ELIAS |
//! | `member.0/`, `member.1/`, … | a model each; in an [`ensemble`](mod@ensemble) |
//!
//! Opening checks every file and maps it: labels, vectorizer, rankers and label vectors are read from the page cache as
//! needed.
//! A folder written by libpecos opens too; its labels are named by their numbers.

pub mod add_labels;
pub mod encoder_folder;
pub mod ensemble;
pub(crate) mod finish;
pub mod manifest;
pub mod publish;
mod session;

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use xmc_data::topk::ensemble::EnsembleRule;
use xmc_data::{Csr, LabelSet, Strings, TopK};
use xmc_linear::pecos;
use xmc_linear::store::TreeModel;
use xmc_nn::{Device, Precision};

use crate::config::Settings;
use crate::encoder::{Encoder, best_precision};
use crate::error::{Error, Result};
use crate::index::{Filter, LabelEmbeddings};
use crate::methods::Method;
use crate::methods::dexml::{Dexml, DexmlConfig, ENCODER, LABEL_EMBEDDINGS};
use crate::methods::elias::{Elias, EliasConfig};
use crate::methods::quest::{Quest, QuestConfig};
use crate::methods::xr_linear::{VECTORIZER, XrLinear, XrLinearConfig};
use crate::methods::xr_transformer::{XrTransformer, XrTransformerConfig};
use crate::model::ensemble::Ensemble;
use crate::model::manifest::Manifest;

pub use session::Session;

/// Name of the file of label names in a model folder.
pub(crate) const LABELS: &str = "labels";

/// How to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PredictOptions {
    /// Labels for each row, k. More than 50 may reorder those of an ensemble: its trees then propose more.
    pub top_k: usize,
    /// Nodes kept at every inner level of a tree, or clusters that a text goes to in models of ELIAS; the model's own number
    /// if not given. No others take it.
    pub beam_size: Option<usize>,
    /// Labels that classifiers score; the model's own number if not given. Only models of ELIAS take it.
    pub shortlist: Option<usize>,
    /// Edges of a cluster that are followed, from the best on; all if not given. Only models of ELIAS take it.
    pub edges: Option<usize>,
    /// Search until no better label is possible, instead of keeping a beam. Models of DEXML and QUEST always do; those of ELIAS
    /// score all labels by their classifiers alone.
    pub exact: bool,
}

impl PredictOptions {
    /// The best `k` labels, searched as the model was told in training.
    pub fn top(k: usize) -> Self {
        PredictOptions { top_k: k, beam_size: None, shortlist: None, edges: None, exact: false }
    }
}

/// Where and how a model with an encoder computes; the others ignore it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    /// Where.
    pub device: Device,
    /// How exactly: bf16 is faster where the processor has it, and moves scores in the third digit.
    pub precision: Precision,
    /// Where the decoder of a model of QUEST is, if it is not where it was in training.
    pub decoder: Option<PathBuf>,
}

impl Default for OpenOptions {
    /// This machine's processor, at its fastest.
    fn default() -> Self {
        OpenOptions { device: Device::Cpu, precision: best_precision(), decoder: None }
    }
}

/// Something that labels rows.
pub trait Predictor {
    /// Names of the labels.
    fn labels(&self) -> &LabelSet;
    /// The best labels of every text.
    fn predict(&self, texts: &Strings, options: &PredictOptions) -> Result<TopK>;
    /// The best labels of every row of features `[n, d]`.
    fn predict_features(&self, x: &Csr, options: &PredictOptions) -> Result<TopK>;
}

/// A model that was opened.
pub struct Model {
    path: PathBuf,
    /// None for a folder of another program.
    manifest: Option<Manifest>,
    labels: LabelSet,
    method: Method,
}

impl Model {
    /// Whether `path` looks like a model folder, damaged or not.
    pub fn is_at(path: &Path) -> bool {
        path.join(manifest::NAME).exists() || pecos::is_pecos_model(path)
    }

    /// Opens a model folder after checking all its files.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::open_with(dir, &OpenOptions::default())
    }

    /// The same, with a say in where and how an encoder computes.
    pub fn open_with(dir: &Path, options: &OpenOptions) -> Result<Self> {
        Self::require(dir)?;
        if dir.join(manifest::NAME).exists() {
            Self::of_manifest(dir, Manifest::open(dir)?, options)
        } else {
            Self::foreign(dir, pecos::open(dir)?)
        }
    }

    /// Refuses a path that does not look like a model folder.
    fn require(dir: &Path) -> Result<()> {
        if Self::is_at(dir) {
            return Ok(());
        }
        let problem = if encoder_folder::is_at(dir) {
            "an encoder, not a model: use it with --encoder, in `xmc embed` or `xmc train`"
        } else if dir.exists() {
            "not a model folder: it has neither model.json nor the param.json of libpecos"
        } else {
            "no such model folder; `xmc train` makes one"
        };
        Err(Error::file(dir, problem))
    }

    /// Opens a model of this program whose files are checked already.
    fn open_checked(dir: &Path, options: &OpenOptions) -> Result<Self> {
        Self::of_manifest(dir, Manifest::read(dir)?, options)
    }

    fn of_manifest(dir: &Path, manifest: Manifest, options: &OpenOptions) -> Result<Self> {
        let labels: LabelSet = Strings::open(&dir.join(LABELS))?.into();
        let method: Method = match manifest.method.as_str() {
            XrLinearConfig::METHOD => {
                XrLinear::open(dir, &settings(dir, &manifest)?, manifest.has(VECTORIZER), 0)?.into()
            }
            DexmlConfig::METHOD => {
                let config: DexmlConfig = settings(dir, &manifest)?;
                let (encoder, labels) = (dir.join(ENCODER), dir.join(LABEL_EMBEDDINGS));
                Dexml::open(&encoder, &labels, &config, options.device, options.precision)?.into()
            }
            XrTransformerConfig::METHOD => {
                let (config, vectorizer) = (settings(dir, &manifest)?, manifest.has(VECTORIZER));
                XrTransformer::open(dir, &config, vectorizer, options)?.into()
            }
            EliasConfig::METHOD => Elias::open(dir, &settings(dir, &manifest)?, options)?.into(),
            QuestConfig::METHOD => Quest::open(dir, &settings(dir, &manifest)?, options)?.into(),
            ensemble::METHOD => Ensemble::open(dir, &manifest, options)?.into(),
            other => {
                let problem = format!("unknown method `{other}`: update xmc");
                return Err(Error::file(&dir.join(manifest::NAME), problem));
            }
        };
        if labels.len() != method.num_labels() {
            let (names, known) = (labels.len(), method.num_labels());
            return Err(Error::file(
                dir,
                format!("{names} label names for {known} labels: mixed from two models?"),
            ));
        }
        Ok(Model { path: dir.to_owned(), manifest: Some(manifest), labels, method })
    }

    /// Wraps trees of another program, with numbered labels.
    fn foreign(dir: &Path, tree: TreeModel) -> Result<Self> {
        let method = XrLinear::new(None, 0, vec![tree], EnsembleRule::Average)?;
        let labels = LabelSet::numbered(method.num_labels());
        Ok(Self::assemble(dir, labels, method.into()))
    }

    /// A model that has no folder yet.
    pub(crate) fn assemble(path: &Path, labels: LabelSet, method: Method) -> Self {
        Model { path: path.to_owned(), manifest: None, labels, method }
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is written about it, unless another program made it.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    /// What answers.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// Vectorizer and trees, if this is a model of XR-Linear.
    pub fn xr_linear(&self) -> Option<&XrLinear> {
        match &self.method {
            Method::XrLinear(model) => Some(model),
            _ => None,
        }
    }

    /// Encoder, vectorizer and trees, if this is a model of XR-Transformer.
    pub fn xr_transformer(&self) -> Option<&XrTransformer> {
        match &self.method {
            Method::XrTransformer(model) => Some(model),
            _ => None,
        }
    }

    /// Encoder and label vectors, if this is a model of DEXML.
    pub fn dexml(&self) -> Option<&Dexml> {
        match &self.method {
            Method::Dexml(model) => Some(model),
            _ => None,
        }
    }

    /// Encoder, index and classifiers, if this is a model of ELIAS.
    pub fn elias(&self) -> Option<&Elias> {
        match &self.method {
            Method::Elias(model) => Some(model),
            _ => None,
        }
    }

    /// Decoder, prompt and label vectors, if this is a model of QUEST.
    pub fn quest(&self) -> Option<&Quest> {
        match &self.method {
            Method::Quest(model) => Some(model),
            _ => None,
        }
    }

    /// What embeds texts and the vectors of the labels beside it, if the method has one for each label.
    pub fn label_vectors(&self) -> Option<(&Encoder, &LabelEmbeddings)> {
        match &self.method {
            Method::Dexml(model) => Some((model.encoder(), model.label_embeddings())),
            Method::Elias(model) => Some((model.encoder(), model.label_embeddings())),
            Method::Quest(model) => Some((model.encoder(), model.label_embeddings())),
            Method::XrLinear(_) | Method::XrTransformer(_) | Method::Ensemble(_) => None,
        }
    }

    /// Label trees with their rankers and the vectorizer, if the method has them.
    pub fn trees(&self) -> Option<&XrLinear> {
        match &self.method {
            Method::XrLinear(model) => Some(model),
            Method::XrTransformer(model) => Some(model.linear()),
            Method::Dexml(_) | Method::Elias(_) | Method::Quest(_) | Method::Ensemble(_) => None,
        }
    }

    /// Several models that answer together, if this is an ensemble.
    pub fn ensemble(&self) -> Option<&Ensemble> {
        match &self.method {
            Method::Ensemble(model) => Some(model),
            _ => None,
        }
    }

    /// The encoder alone, for embedding texts as the model does.
    pub fn into_encoder(self) -> Result<Encoder> {
        match self.method {
            Method::Dexml(model) => Ok(model.into_encoder()),
            Method::Elias(model) => Ok(model.into_encoder()),
            Method::Quest(model) => Ok(model.into_encoder()),
            Method::XrTransformer(model) => Ok(model.into_encoder()),
            Method::XrLinear(_) => {
                Err(Error::Mismatch(format!("a model of {} has no encoder", XrLinearConfig::METHOD)))
            }
            Method::Ensemble(_) => {
                let problem =
                    "an ensemble has no encoder of its own: take that of a member, member.0 or another";
                Err(Error::file(&self.path, problem))
            }
        }
    }

    /// Whether rows are texts; else they are features.
    pub fn reads_texts(&self) -> bool {
        match &self.method {
            Method::XrLinear(model) => model.vectorizer().is_some(),
            Method::XrTransformer(_) | Method::Dexml(_) | Method::Elias(_) | Method::Quest(_) => true,
            Method::Ensemble(model) => model.reads_texts(),
        }
    }

    /// Refuses ways to search that the method does not have; [`Predictor`] does so too.
    pub fn check(&self, options: &PredictOptions) -> Result<()> {
        let asked = [("shortlist", options.shortlist), ("edges", options.edges)];
        match (&self.method, asked.iter().find(|(_, value)| value.is_some())) {
            (Method::Elias(_) | Method::Ensemble(_), _) | (_, None) => Ok(()),
            (_, Some((name, _))) => Err(Error::Mismatch(format!(
                "--{name} is for models of elias: this one has no clusters with edges to labels; leave it out"
            ))),
        }
    }

    /// Buffers to answer single texts, one after the other. What [`check`](Model::check) refuses is ignored.
    pub fn session(&self, options: PredictOptions) -> Session<'_> {
        match &self.method {
            Method::XrLinear(model) => Session::XrLinear(model.session(options)),
            Method::XrTransformer(model) => Session::XrTransformer(model.session(options)),
            Method::Dexml(model) => Session::Dexml(model.session(options)),
            Method::Elias(model) => Session::Elias(model.session(options)),
            Method::Quest(model) => Session::Quest(model.session(options)),
            Method::Ensemble(model) => Session::Ensemble(model.session(options)),
        }
    }
}

impl Predictor for Model {
    fn labels(&self) -> &LabelSet {
        &self.labels
    }

    fn predict(&self, texts: &Strings, options: &PredictOptions) -> Result<TopK> {
        self.check(options)?;
        match &self.method {
            Method::XrLinear(model) => model.predict_texts(texts, options),
            Method::XrTransformer(model) => model.predict_texts(texts, options),
            Method::Dexml(model) => model.predict_texts(texts, options, Filter::none()),
            Method::Elias(model) => model.predict_texts(texts, options),
            Method::Quest(model) => model.predict_texts(texts, options, Filter::none()),
            Method::Ensemble(model) => model.predict_texts(texts, options),
        }
    }

    fn predict_features(&self, x: &Csr, options: &PredictOptions) -> Result<TopK> {
        self.check(options)?;
        match &self.method {
            Method::XrLinear(model) => model.predict_features(x, options),
            Method::XrTransformer(_) => Err(reads_no_features(XrTransformerConfig::METHOD)),
            Method::Dexml(_) => Err(reads_no_features(DexmlConfig::METHOD)),
            Method::Elias(_) => Err(reads_no_features(EliasConfig::METHOD)),
            Method::Quest(_) => Err(reads_no_features(QuestConfig::METHOD)),
            Method::Ensemble(model) => model.predict_features(x, options),
        }
    }
}

/// What to say when features are given to a model of `method`, which reads texts.
pub(crate) fn reads_no_features(method: &str) -> Error {
    Error::Mismatch(format!("a model of {method} reads texts, not features: give it the texts themselves"))
}

/// The settings that a model was trained with.
pub(crate) fn settings<C: DeserializeOwned>(dir: &Path, manifest: &Manifest) -> Result<C> {
    serde_json::from_value(manifest.config.clone()).map_err(|e| {
        let problem = format!("settings of another version of this program ({e})");
        Error::file(&dir.join(manifest::NAME), problem)
    })
}

#[cfg(test)]
mod tests {
    use xmc_data::LabelId;
    use xmc_data::formats::npz;

    use super::*;

    #[test]
    fn a_model_of_libpecos_answers_features_with_numbered_labels() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../xmc-linear/tests/golden/pecos");
        let model = Model::open(&golden.join("default")).unwrap();
        assert!(model.manifest().is_none() && !model.reads_texts());
        assert_eq!(model.labels().get(LabelId(3)), Some("3"));
        let x = npz::read(&golden.join("X.npz")).unwrap();
        let found = model.predict_features(&x, &PredictOptions::top(3)).unwrap();
        assert_eq!((found.rows(), found.row(0).len()), (x.rows(), 3));
        let mut session = model.session(PredictOptions::top(3));
        for i in 0..x.rows() {
            assert_eq!(session.features(x.row(i)).unwrap(), found.row(i));
        }
        let message = model.predict(&Strings::new(["a"]), &PredictOptions::top(1)).unwrap_err().to_string();
        assert!(message.contains("cannot read texts"), "{message}");
    }
}
