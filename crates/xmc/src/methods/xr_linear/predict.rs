//! A trained XR-Linear: vectorizer, one or more trees, and how their answers become one.

use std::path::Path;

use rayon::iter::{IntoParallelIterator, ParallelIterator};
use xmc_data::text::{Scratch, Vectorizer};
use xmc_data::topk::ensemble::EnsembleRule;
use xmc_data::{Csr, Row, Strings, TopK};
use xmc_linear::search::{Query, SearchOptions, Searcher};
use xmc_linear::store::TreeModel;
use xmc_nn::Tensor;

use super::config::XrLinearConfig;
use super::stages::{RANKER, VECTORIZER};
use crate::error::{Error, Result};
use crate::model::PredictOptions;

/// Rows that one task answers with the same buffers.
const ROWS_PER_TASK: usize = 64;

/// Labels that every tree of an ensemble proposes at least: one that a single tree ranks low may win the vote. Answers
/// to at most so many labels are the beginnings of one another; a search for more may order them otherwise.
const CANDIDATES: usize = 50;

/// Everything needed to answer.
pub struct XrLinear {
    vectorizer: Option<Vectorizer>,
    trees: Vec<TreeModel>,
    rule: EnsembleRule,
}

impl XrLinear {
    /// Puts trained parts together: rankers on sparse features with `dense` values beside, 0 in XR-Linear. Without a
    /// vectorizer the sparse features are given ones.
    pub fn new(
        vectorizer: Option<Vectorizer>,
        dense: usize,
        trees: Vec<TreeModel>,
        rule: EnsembleRule,
    ) -> Result<Self> {
        let Some(first) = trees.first() else {
            return Err(Error::Mismatch("a model needs at least one tree".to_owned()));
        };
        let shape = |tree: &TreeModel| (tree.features(), tree.tree().num_labels());
        if trees.iter().any(|tree| shape(tree) != shape(first)) {
            return Err(Error::Mismatch("the trees of the model differ in features or labels".to_owned()));
        }
        let (sparse, beside) = first.features();
        if let Some(made) = vectorizer.as_ref().map(Vectorizer::num_features).filter(|&made| made != sparse) {
            return Err(Error::Mismatch(format!(
                "the vectorizer makes {made} features, the rankers know {sparse}: mixed from two models?"
            )));
        }
        if beside != dense {
            return Err(Error::Mismatch(format!(
                "the rankers expect embeddings of {beside} values, but there are {dense}: mixed from two models?"
            )));
        }
        Ok(XrLinear { vectorizer, trees, rule })
    }

    /// Opens the parts of a model folder whose files are checked already; `dense` as in [`XrLinear::new`].
    pub(crate) fn open(dir: &Path, config: &XrLinearConfig, vectorizer: bool, dense: usize) -> Result<Self> {
        let vectorizer = if vectorizer { Some(Vectorizer::open(&dir.join(VECTORIZER))?) } else { None };
        let trees = (0..config.trees).map(|t| TreeModel::open(&dir.join(format!("{RANKER}.{t}"))));
        XrLinear::new(vectorizer, dense, trees.collect::<xmc_data::Result<_>>()?, config.combine)
    }

    /// The vectorizer, if the model reads texts.
    pub fn vectorizer(&self) -> Option<&Vectorizer> {
        self.vectorizer.as_ref()
    }

    /// The trees with their rankers.
    pub fn trees(&self) -> &[TreeModel] {
        &self.trees
    }

    /// Number of sparse features d.
    pub fn num_features(&self) -> usize {
        self.trees.first().map_or(0, |tree| tree.features().0)
    }

    /// Number of dense features beside them, 0 in XR-Linear.
    pub fn num_dense(&self) -> usize {
        self.trees.first().map_or(0, |tree| tree.features().1)
    }

    /// Number of labels L.
    pub fn num_labels(&self) -> usize {
        self.trees.first().map_or(0, |tree| tree.tree().num_labels())
    }

    /// The best labels of every text.
    pub fn predict_texts(&self, texts: &Strings, options: &PredictOptions) -> Result<TopK> {
        self.require_vectorizer()?;
        self.predict_rows(texts.len(), options, |session, i| session.text(texts.get(i)).map(|_| ()))
    }

    /// The best labels of every row of features `[n, d]`.
    pub fn predict_features(&self, x: &Csr, options: &PredictOptions) -> Result<TopK> {
        let (found, known) = (x.cols(), self.num_features());
        if found != known {
            let problem = format!("rows with {found} features, but the model was trained on {known}");
            return Err(Error::Mismatch(problem));
        }
        self.predict_rows(x.rows(), options, |session, i| session.row(x.row(i).into()))
    }

    /// The best labels of every text, whose embedding is a row of `dense [n, h]`.
    pub(in crate::methods) fn predict_beside(
        &self,
        texts: &Strings,
        dense: &Tensor,
        options: &PredictOptions,
    ) -> Result<TopK> {
        let rows = dense.host();
        let h = dense.cols();
        self.predict_rows(texts.len(), options, |session, i| {
            session.text_beside(texts.get(i), &rows[i * h..(i + 1) * h]).map(|_| ())
        })
    }

    /// Answers single rows one after the other without allocating; one session per thread.
    pub fn session(&self, options: PredictOptions) -> Session<'_> {
        Session {
            model: self,
            options,
            searchers: self.trees.iter().map(Searcher::new).collect(),
            answers: vec![Vec::new(); self.trees.len()],
            merged: Vec::new(),
            scratch: Scratch::default(),
        }
    }

    fn require_vectorizer(&self) -> Result<&Vectorizer> {
        self.vectorizer.as_ref().ok_or_else(|| {
            let problem =
                "the model was trained on given features and cannot read texts: give it an .npz file";
            Error::Mismatch(problem.to_owned())
        })
    }

    fn predict_rows(
        &self,
        rows: usize,
        options: &PredictOptions,
        answer: impl Fn(&mut Session, usize) -> Result<()> + Sync,
    ) -> Result<TopK> {
        let parts: Vec<TopK> = (0..rows.div_ceil(ROWS_PER_TASK))
            .into_par_iter()
            .map_init(
                || self.session(*options),
                |session, task| {
                    let start = task * ROWS_PER_TASK;
                    let mut part = TopK::new();
                    for i in start..rows.min(start + ROWS_PER_TASK) {
                        answer(session, i)?;
                        part.push_ranked(&session.merged);
                    }
                    Ok(part)
                },
            )
            .collect::<Result<_>>()?;
        let mut all = TopK::new();
        for part in &parts {
            all.append(part);
        }
        Ok(all)
    }
}

/// Buffers to answer row after row.
pub struct Session<'m> {
    model: &'m XrLinear,
    options: PredictOptions,
    searchers: Vec<Searcher<'m>>,
    answers: Vec<Vec<(u32, f32)>>,
    merged: Vec<(u32, f32)>,
    scratch: Scratch,
}

impl Session<'_> {
    /// The best labels of a text, best first.
    pub fn text(&mut self, text: &str) -> Result<&[(u32, f32)]> {
        let vectorizer = self.model.require_vectorizer()?;
        let mut scratch = std::mem::take(&mut self.scratch);
        let found = self.row(vectorizer.transform_one(text, &mut scratch).into());
        self.scratch = scratch;
        found.map(|()| self.merged.as_slice())
    }

    /// The best labels of a text with the embedding `dense [h]`, best first. Without a vectorizer that is all there is.
    pub(in crate::methods) fn text_beside(&mut self, text: &str, dense: &[f32]) -> Result<&[(u32, f32)]> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let sparse = match &self.model.vectorizer {
            Some(vectorizer) => vectorizer.transform_one(text, &mut scratch),
            None => Row { indices: &[], values: &[] },
        };
        let found = self.row(Query { sparse, dense });
        self.scratch = scratch;
        found.map(|()| self.merged.as_slice())
    }

    /// The best labels of a row of features, best first; ids that the model does not know are ignored.
    pub fn features(&mut self, row: Row<'_>) -> Result<&[(u32, f32)]> {
        self.row(row.into()).map(|()| self.merged.as_slice())
    }

    /// Searches every tree and leaves the joint answer in `merged`.
    fn row(&mut self, query: Query<'_>) -> Result<()> {
        let k = self.options.top_k;
        let wanted = if self.searchers.len() == 1 { k } else { k.max(CANDIDATES) };
        let search =
            SearchOptions { beam_size: self.options.beam_size, top_k: Some(wanted), post_processor: None };
        for (searcher, answer) in self.searchers.iter_mut().zip(&mut self.answers) {
            let found = if self.options.exact {
                searcher.exact(query, &search)?
            } else {
                searcher.beam(query, &search)
            };
            answer.clear();
            answer.extend_from_slice(found);
        }
        match self.answers.as_slice() {
            [only] => self.merged.clone_from(only),
            answers => {
                self.model.rule.merge_row(answers.iter().map(Vec::as_slice), wanted, &mut self.merged);
                self.merged.truncate(k);
            }
        }
        Ok(())
    }
}
