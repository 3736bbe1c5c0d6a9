//! A trained ELIAS: an encoder, an index from texts to labels, and a classifier for every label.
//!
//! ```text
//! score_l(text) = s_c s_cl sigmoid(w_l . encoder(text) + b_l)     along the best path over a cluster c
//! ```
//!
//! A model that learned without an index (one-vs-all, batch) scores all labels, without a path. That is also what an
//! exact search of any other does: it shows what classifiers know without the index that they learned with.

use std::path::Path;

use rayon::iter::{IntoParallelIterator, ParallelIterator};
use xmc_data::text::Vectorizer;
use xmc_data::{Row, Strings, TopK};
use xmc_linear::Query;
use xmc_nn::Tensor;
use xmc_nn::tower::TowerConfig;

use super::batch::search_all;
use super::config::{EliasConfig, Head};
use super::edges::Edges;
use super::ranker::{CALIBRATION, RANKER, Ranker};
use super::search::{LearnedIndex, Reach, Searcher, log_sigmoid};
use crate::config::Settings;
use crate::encoder::Encoder;
use crate::error::{Error, Result};
use crate::index::{self, Filter, LabelEmbeddings};
use crate::methods::classifier::with_one;
use crate::methods::dexml::{ENCODER, LABEL_EMBEDDINGS};
use crate::methods::xr_linear::VECTORIZER;
use crate::model::encoder_folder::stored_tower;
use crate::model::{OpenOptions, PredictOptions, reads_no_features};

/// Files of a model with an index: clusters `[C, d + 1]` in the format of label embeddings, and their edges.
pub(crate) const CLUSTERS: &str = "clusters";
pub(crate) const EDGES: &str = "edges";

/// Texts whose embeddings are held at a time.
const ROWS_AT_ONCE: usize = 4096;

/// What leads from a text to labels.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "a model has one")]
pub enum Search {
    /// Clusters and edges.
    Index(LearnedIndex),
    /// Nothing: all labels are scored.
    Exact,
}

/// Everything needed to answer.
pub struct Elias {
    encoder: Encoder,
    search: Search,
    labels: LabelEmbeddings,
    /// How far to search if nobody says.
    reach: Reach,
    reranker: Option<Reranker>,
}

/// What has a last look at the best labels.
struct Reranker {
    vectorizer: Vectorizer,
    ranker: Ranker,
    /// Labels that it looks at.
    top_k: usize,
}

impl Reranker {
    /// Opens the files in the folder `dir` of a model, if there are any.
    fn open(dir: &Path, config: &EliasConfig) -> Result<Option<Self>> {
        if !dir.join(RANKER).is_file() {
            return Ok(None);
        }
        let vectorizer = Vectorizer::open(&dir.join(VECTORIZER))?;
        let ranker = Ranker::open(dir, dir.join(CALIBRATION).is_file())?;
        Ok(Some(Reranker { vectorizer, ranker, top_k: config.ranker.top_k }))
    }

    /// Refuses parts that do not belong together.
    fn check(&self, labels: usize, dim: usize) -> Result<()> {
        let (found, read) = (self.vectorizer.num_features() + dim, self.ranker.num_features());
        if found == read && self.ranker.num_labels() == labels {
            return Ok(());
        }
        Err(Error::Mismatch(format!(
            "a ranker of {} labels with {read} features, but there are {labels} with {found}: mixed from two models?",
            self.ranker.num_labels()
        )))
    }

    /// Options that find as many labels as the ranker looks at.
    fn deeper(&self, options: &PredictOptions) -> PredictOptions {
        PredictOptions { top_k: options.top_k.max(self.top_k), ..*options }
    }

    /// The best `k` of `found` labels for `texts`, whose embeddings are `x [b, d]`.
    fn rank(&self, texts: &Strings, x: &Tensor, found: &TopK, k: usize) -> TopK {
        let words = self.vectorizer.transform(texts);
        let tasks: Vec<usize> = (0..texts.len()).collect();
        let parts: Vec<Vec<(u32, f32)>> = tasks
            .into_par_iter()
            .map_init(
                || self.ranker.scorer(),
                |scorer, i| {
                    let mut row = found.row(i)[..found.row(i).len().min(self.top_k.max(k))].to_vec();
                    let dense = &x.host()[i * x.cols()..(i + 1) * x.cols()];
                    scorer.rescore(Query { sparse: words.row(i), dense }, &mut row);
                    row.truncate(k);
                    row
                },
            )
            .collect();
        let mut all = TopK::new();
        for row in &parts {
            all.push_ranked(row);
        }
        all
    }
}

impl Elias {
    /// Puts trained parts together; `labels` are classifiers `[L, d + 1]`, biases last.
    pub fn new(
        encoder: Encoder,
        search: Search,
        labels: LabelEmbeddings,
        config: &EliasConfig,
    ) -> Result<Self> {
        let expected = encoder.dim() + 1;
        let clusters = match &search {
            Search::Index(index) => Some((index.clusters().dim(), index.edges().num_labels())),
            Search::Exact => None,
        };
        for (what, dim) in [("classifiers", Some(labels.dim())), ("clusters", clusters.map(|(dim, _)| dim))] {
            if let Some(found) = dim.filter(|&dim| dim != expected) {
                return Err(Error::Mismatch(format!(
                    "{what} of {found} values, but the encoder needs {expected}: mixed from two models?"
                )));
            }
        }
        if let Some((_, known)) = clusters.filter(|&(_, known)| known != labels.rows()) {
            let found = labels.rows();
            return Err(Error::Mismatch(format!(
                "classifiers of {found} labels, but edges to {known}: mixed from two models?"
            )));
        }
        let index = &config.index;
        let reach = Reach { beam: index.beam, edges: usize::MAX, shortlist: index.shortlist, top_k: 0 };
        Ok(Elias { encoder, search, labels, reach, reranker: None })
    }

    /// Opens the parts of a model folder whose files are checked already: the folder [`ENCODER`], and the files
    /// [`LABEL_EMBEDDINGS`] and, if the head is an index, [`CLUSTERS`] and [`EDGES`].
    pub(crate) fn open(dir: &Path, config: &EliasConfig, options: &OpenOptions) -> Result<Self> {
        let folder = dir.join(ENCODER);
        let tower = stored_tower(&folder, config.pooling.map(Into::into))?;
        // Embeddings keep their length: clusters and classifiers learned so.
        let tower = TowerConfig { normalize: false, ..tower };
        let encoder = Encoder::open(&folder, tower, config.max_len, options.device, options.precision)?;
        let search = match config.head {
            Head::Index => Search::Index(LearnedIndex::new(
                LabelEmbeddings::open(&dir.join(CLUSTERS))?,
                Edges::open(&dir.join(EDGES))?,
                config.index.alpha,
            )?),
            Head::OneVsAll | Head::Batch => Search::Exact,
        };
        let labels = LabelEmbeddings::open(&dir.join(LABEL_EMBEDDINGS))?;
        let model = Elias::new(encoder, search, labels, config)?;
        let reranker = Reranker::open(dir, config)?;
        reranker.iter().try_for_each(|ranker| ranker.check(model.num_labels(), model.encoder.dim()))?;
        Ok(Elias { reranker, ..model })
    }

    /// What embeds texts.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// What embeds texts, without the rest.
    pub fn into_encoder(self) -> Encoder {
        self.encoder
    }

    /// What leads from a text to labels.
    pub fn search(&self) -> &Search {
        &self.search
    }

    /// Classifiers of the labels `[L, d + 1]`, biases last.
    pub fn label_embeddings(&self) -> &LabelEmbeddings {
        &self.labels
    }

    /// Number of labels L.
    pub fn num_labels(&self) -> usize {
        self.labels.rows()
    }

    /// The best labels of every text.
    pub fn predict_texts(&self, texts: &Strings, options: &PredictOptions) -> Result<TopK> {
        let mut all = TopK::new();
        for first in (0..texts.len()).step_by(ROWS_AT_ONCE) {
            let rows: Vec<u32> = (first..texts.len().min(first + ROWS_AT_ONCE)).map(|i| i as u32).collect();
            let x = self.encoder.embed(&texts.select(&rows), &|_, _| {})?;
            all.append(&self.predict_beside(&texts.select(&rows), &x, options)?);
        }
        Ok(all)
    }

    /// Whether a ranker has a last look at the words of a text.
    pub fn has_ranker(&self) -> bool {
        self.reranker.is_some()
    }

    /// The best labels of every text, whose embeddings are `x [b, d]`.
    fn predict_beside(&self, texts: &Strings, x: &Tensor, options: &PredictOptions) -> Result<TopK> {
        match &self.reranker {
            None => self.predict_embeddings(x, options),
            Some(ranker) => {
                let found = self.predict_embeddings(x, &ranker.deeper(options))?;
                Ok(ranker.rank(texts, x, &found, options.top_k))
            }
        }
    }

    /// The best labels for every embedding of `x [b, d]`, before a ranker has a look.
    pub fn predict_embeddings(&self, x: &Tensor, options: &PredictOptions) -> Result<TopK> {
        match self.reach(options)? {
            Some((index, reach)) => search_all(index, &self.labels, reach, x),
            None => self.predict_exactly(x, options.top_k),
        }
    }

    /// The labels with the best classifiers, of all.
    fn predict_exactly(&self, x: &Tensor, k: usize) -> Result<TopK> {
        let found = index::search(&with_one(x)?, &self.labels, k, &Filter::none())?;
        let mut all = TopK::new();
        for i in 0..found.rows() {
            let row: Vec<_> = found.row(i).iter().map(|&(id, z)| (id, log_sigmoid(z).exp())).collect();
            all.push_ranked(&row);
        }
        Ok(all)
    }

    /// The index and how far it is searched; none if all labels are scored.
    fn reach(&self, options: &PredictOptions) -> Result<Option<(&LearnedIndex, Reach)>> {
        let PredictOptions { top_k, beam_size, shortlist, edges, exact } = *options;
        let limited = beam_size.or(shortlist).or(edges).is_some();
        match &self.search {
            Search::Exact if limited => Err(Error::Mismatch(
                "a model of elias without an index scores all labels: leave --beam, --shortlist and --edges out"
                    .to_owned(),
            )),
            Search::Index(_) if exact && limited => Err(Error::Mismatch(
                "an exact search scores all labels: leave --beam, --shortlist and --edges out".to_owned(),
            )),
            Search::Index(index) if !exact => {
                let usual = self.reach;
                let reach = Reach {
                    beam: beam_size.unwrap_or(usual.beam),
                    edges: edges.unwrap_or(usual.edges),
                    // Who wants more answers than the usual shortlist has gets them.
                    shortlist: shortlist.unwrap_or(usual.shortlist.max(top_k)),
                    top_k,
                };
                Ok(Some((index, reach)))
            }
            _ => Ok(None),
        }
    }

    /// Answers single texts one after the other, in this thread as far as that goes.
    pub fn session(&self, options: PredictOptions) -> Session<'_> {
        Session { model: self, options, searcher: None, found: Vec::new() }
    }
}

/// Answers text after text.
pub struct Session<'m> {
    model: &'m Elias,
    options: PredictOptions,
    searcher: Option<Searcher<'m>>,
    found: Vec<(u32, f32)>,
}

impl Session<'_> {
    /// The best labels of a text, best first.
    pub fn text(&mut self, text: &str) -> Result<&[(u32, f32)]> {
        let x = self.model.encoder.embed_one(text)?;
        if self.model.reranker.is_none() {
            return self.embedding(&x);
        }
        let found = self.model.predict_beside(&Strings::new([text]), &x, &self.options)?;
        self.found.clear();
        self.found.extend_from_slice(found.row(0));
        Ok(&self.found)
    }

    /// The best labels of the embedding `x [1, d]`, best first, before a ranker has a look.
    pub(crate) fn embedding(&mut self, x: &Tensor) -> Result<&[(u32, f32)]> {
        if self.searcher.is_none()
            && let Some((index, reach)) = self.model.reach(&self.options)?
        {
            self.searcher = Some(Searcher::new(index, &self.model.labels, reach));
        }
        if let Some(searcher) = &mut self.searcher {
            return searcher.search(x.host());
        }
        let found = self.model.predict_exactly(x, self.options.top_k)?;
        self.found.clear();
        self.found.extend_from_slice(found.row(0));
        Ok(&self.found)
    }

    /// Always an error.
    pub fn features(&mut self, _: Row<'_>) -> Result<&[(u32, f32)]> {
        Err(reads_no_features(EliasConfig::METHOD))
    }
}
