//! The stages of a run, each from what the ones before it left.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use xmc_data::dataset::Dataset;
use xmc_data::{Csr, Dense, TopK};
use xmc_linear::Features;
use xmc_nn::Tensor;
use xmc_nn::tokens::Tokens;

use super::adjacency::Adjacency;
use super::cluster_head::{ClusterHead, ROWS_AT_ONCE};
use super::clusters::{self, Clusters};
use super::config::{EliasConfig, Phase, Stage};
use super::earlier::Model;
use super::graph::PAD;
use super::learner::adamw;
use super::model::Elias;
use super::ranker::{Examples, Ranker, found_matrix};
use super::stages;
use super::training::{self, Edges, First, PhaseTask, Texts};
use crate::encoder::Encoder;
use crate::error::{Error, Result};
use crate::events::Events;
use crate::methods::TrainOptions;
use crate::methods::start::Start;
use crate::methods::text_stages::Embedding;
use crate::model::PredictOptions;
use crate::run::{Run, remove};

/// What all stages read.
pub(super) struct Pipeline<'a> {
    pub(super) data: &'a Dataset,
    pub(super) config: &'a EliasConfig,
    pub(super) options: &'a TrainOptions,
    pub(super) events: &'a dyn Events,
    pub(super) start: &'a Start,
    /// Texts of the training rows as token ids.
    pub(super) tokens: &'a Tokens,
    /// Their embeddings `[n, d]`, if the encoder does not learn.
    pub(super) frozen: Option<&'a Dense>,
    /// Rows that do not train, rising.
    pub(super) validation: &'a [u32],
    /// Labels of the others `[n, L]`; these rows are empty.
    pub(super) learned: &'a Csr,
}

impl Pipeline<'_> {
    /// The folder of the encoder after the training in the folder `last`.
    pub(super) fn encoder(&self, last: Option<&Path>) -> PathBuf {
        last.and_then(stages::encoder).unwrap_or_else(|| self.start.dir.clone())
    }

    /// That encoder, opened.
    pub(super) fn open(&self, last: Option<&Path>) -> Result<Encoder> {
        let config = self.config;
        let precision = config.precision.resolve();
        Encoder::open(&self.encoder(last), self.start.tower, config.max_len, self.options.device, precision)
    }

    /// Embeddings `[n, d]` of the training rows by that encoder.
    pub(super) fn embeddings(&self, last: Option<&Path>) -> Result<Cow<'_, Dense>> {
        match self.frozen {
            Some(x) => Ok(Cow::Borrowed(x)),
            None => Ok(Cow::Owned(Embedding::of(self.tokens, &self.open(last)?, self.events)?.0)),
        }
    }

    /// Groups labels by words and, after the training in the folder `last`, by embeddings too.
    pub(super) fn recluster(&self, words: &Features, last: Option<&Path>) -> Result<Clusters> {
        let z = clusters::centroids(words, Some(&*self.embeddings(last)?), self.learned)?;
        Clusters::grow(&z, &self.config.cluster, self.options.seed)
    }

    /// Trains a phase as a stage of `run`; `last` has the training before it. Returns its folder.
    pub(super) fn fit(
        &self,
        run: &mut Run,
        stage: Stage,
        first: First<'_>,
        last: Option<&Path>,
    ) -> Result<PathBuf> {
        let phase = self.phase(stage);
        let (name, dir) = (training::name(stage), self.encoder(last));
        let texts = match self.frozen {
            Some(x) => Texts::Embeddings(x),
            None => Texts::Tokens { tokens: self.tokens, dir: &dir, tower: self.start.tower },
        };
        let task = PhaseTask {
            config: self.config,
            phase,
            stage,
            texts,
            y: &self.data.train.y,
            validation: self.validation,
            first,
            seed: self.options.seed,
            device: self.options.device,
            events: self.events,
        };
        let unfinished = run.ongoing(name)?;
        drop(run.stage(name, || training::fit(&task, &unfinished))?);
        remove(&unfinished)?;
        Ok(run.stage_dir(name))
    }

    fn phase(&self, stage: Stage) -> &Phase {
        match stage {
            Stage::Warmup => &self.config.warmup,
            Stage::Stage2 => &self.config.stage2,
            _ => &self.config.stage1,
        }
    }

    /// The best cluster of each label, of the training in the folder `dir`.
    pub(super) fn clusters_of(&self, dir: &Path) -> Result<Clusters> {
        let graph = stages::graph(dir, self.config.index.beta)?;
        let of_label = graph.parents().into_iter().map(|c| if c == PAD { 0 } else { c }).collect();
        Ok(Clusters { count: graph.clusters(), of_label })
    }

    /// Edges for stage 2, from the clusters that the training in the folder `dir` left.
    pub(super) fn adjacency(&self, dir: Option<&Path>) -> Result<Adjacency> {
        let dir = dir.ok_or_else(no_training)?;
        let (index, former) = (&self.config.index, self.clusters_of(dir)?.of_label);
        let visits = self.visits(dir)?;
        // Visits of rows that are set aside count for no label.
        Adjacency::of(&visits, self.learned, index.kappa, index.frequency_power, &former)
    }

    /// M `[n, C]`: the best clusters of the training rows, with their scores.
    fn visits(&self, dir: &Path) -> Result<Csr> {
        let x = self.embeddings(Some(dir))?;
        let (cols, weights) = stages::clusters(dir)?;
        if cols != x.cols() + 1 {
            let problem = format!("clusters of {cols} values, embeddings of {}", x.cols());
            return Err(Error::file(dir, problem));
        }
        let (clusters, adam) = (weights.len() / cols, adamw(&self.config.training));
        let mut head = ClusterHead::new(clusters, x.cols(), adam, self.config.precision.resolve(), 0);
        head.set_weights(&weights)?;
        let (beam, ln_alpha) = (self.config.index.beam, self.config.index.alpha.ln());
        let mut top = TopK::new();
        for block in x.values().chunks(ROWS_AT_ONCE * x.cols().max(1)) {
            head.best(block, ln_alpha, beam, &mut top);
            self.events.progress(top.rows() as u64, x.rows() as u64);
        }
        Ok(top.to_csr(clusters)?)
    }

    /// The re-ranker for what `model` finds, from words `[n, f]` and the embeddings of the training in the folder `last`.
    pub(super) fn ranker(&self, model: &Elias, words: &Features, last: &Path) -> Result<Ranker> {
        let (config, y) = (&self.config.ranker, &self.data.train.y);
        let progress = |done, total| self.events.progress(done, total);
        let embeddings = self.embeddings(Some(last))?;
        let (rows, cols) = (embeddings.rows(), embeddings.cols());
        let found = found_matrix(&self.found(model, &embeddings)?, y.cols())?;
        let unit = clusters::unit_rows(&embeddings)?;
        drop(embeddings);
        if self.validation.is_empty() {
            let examples = Examples { x: &words.beside(unit)?, y, found: &found };
            return Ranker::train(examples, config, self.options.seed, &progress);
        }
        let part = |rows: &[u32]| -> Result<(Features, Csr, Csr)> {
            let values: Vec<f32> = rows.iter().flat_map(|&i| unit.row(i as usize)).copied().collect();
            let dense = Dense::new(rows.len(), cols, values)?;
            let x = Features::new(words.sparse().select_rows(rows), Some(dense))?;
            Ok((x, y.select_rows(rows), found.select_rows(rows)))
        };
        let training: Vec<u32> =
            (0..rows as u32).filter(|row| self.validation.binary_search(row).is_err()).collect();
        let (x, y, found) = part(&training)?;
        let examples = Examples { x: &x, y: &y, found: &found };
        let ranker = Ranker::train(examples, config, self.options.seed, &progress)?;
        if !config.calibrate {
            return Ok(ranker);
        }
        let trained = y.clone();
        let (x, y, found) = part(self.validation)?;
        Ok(ranker.calibrated(Examples { x: &x, y: &y, found: &found }, &trained))
    }

    /// The best labels for each of the embeddings, a block after the other.
    fn found(&self, model: &Elias, embeddings: &Dense) -> Result<TopK> {
        let options = PredictOptions::top(self.config.ranker.top_k);
        let (cols, mut top) = (embeddings.cols(), TopK::new());
        for block in embeddings.values().chunks(ROWS_AT_ONCE * cols.max(1)) {
            let x = Tensor::from_host(block.len() / cols, cols, block.to_vec(), self.options.device)?;
            let found = model.predict_embeddings(&x, &options)?;
            for i in 0..found.rows() {
                top.push_ranked(found.row(i));
            }
        }
        Ok(top)
    }
}

/// Writes what the model that training begins with has; returns the folder.
pub(super) fn begin(run: &mut Run, model: &Model<'_>) -> Result<PathBuf> {
    drop(run.stage("begin", || model.open())?);
    Ok(run.stage_dir("begin"))
}

fn no_training() -> Error {
    Error::Mismatch("no training came before this stage".to_owned())
}

/// Edges of fixed clusters, for training.
pub(super) fn fixed(clusters: &Clusters) -> Edges<'_> {
    Edges::Fixed { of_label: &clusters.of_label, clusters: clusters.count }
}
