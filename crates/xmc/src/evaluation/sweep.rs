//! What does a wider search gain, and what does it cost? Metrics and time of a query, over several ways to search.
//!
//! Of models of ELIAS (without a ranker of words) texts are embedded once, and the time is that of the search alone, by
//! one thread, one query at a time; of others it is that of whole answers to single rows.

use std::time::Instant;

use xmc_data::dataset::{Dataset, Part};
use xmc_data::metrics::Report;
use xmc_data::{Strings, TopK};
use xmc_nn::Tensor;

use super::{EvaluateOptions, Measure, missing};
use crate::error::{Error, Result};
use crate::methods::elias::Elias;
use crate::model::{Model, PredictOptions, Predictor};

/// Queries that are timed at most.
const TIMED: usize = 1000;

/// What a way to search gives.
#[derive(Clone, Debug)]
pub struct SweepPoint {
    /// How far it goes; answers are as deep as the cuts need.
    pub search: PredictOptions,
    /// Metrics of all rows, without intervals.
    pub report: Report,
    /// Microseconds of a query, the median.
    pub micros: f64,
}

/// All ways, in their order.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// Microseconds of embedding a text, if the search is timed without it: all threads, texts in batches.
    pub encoder_micros: Option<f64>,
    /// One for each way.
    pub points: Vec<SweepPoint>,
}

/// Measures `model` on the rows of `part` at `cuts`, for each way to search; `data` is as in
/// [`evaluate`](super::evaluate).
pub fn sweep(
    model: &Model,
    data: &Dataset,
    part: &Part,
    cuts: &[usize],
    searches: &[PredictOptions],
) -> Result<Sweep> {
    let options = EvaluateOptions::at(cuts);
    let measure = Measure::new(model, data, part)?;
    let top_k = options.deepest() + measure.most_filtered();
    let texts = part.texts.as_ref().filter(|_| model.reads_texts());
    let (rows, embedded) = match (model.elias().filter(|method| !method.has_ranker()), texts, &part.features)
    {
        (Some(method), Some(texts), _) => {
            let start = Instant::now();
            let x = method.encoder().embed(texts, &|_, _| {})?;
            let micros = start.elapsed().as_secs_f64() * 1e6 / texts.len().max(1) as f64;
            (Rows::Embeddings(method, x), Some(micros))
        }
        (_, Some(texts), _) => (Rows::Texts(texts), None),
        (None, None, Some(x)) if !model.reads_texts() => (Rows::Features(x), None),
        _ => return Err(missing(model, data)),
    };
    let mut points = Vec::with_capacity(searches.len());
    for search in searches {
        let search = PredictOptions { top_k, ..*search };
        let found = rows.predict(model, &search)?;
        let micros = rows.time(model, search, part.rows().min(TIMED))?;
        points.push(SweepPoint { search, report: measure.report(&found, &options)?, micros });
    }
    Ok(Sweep { encoder_micros: embedded, points })
}

/// What is answered.
enum Rows<'a> {
    Embeddings(&'a Elias, Tensor),
    Texts(&'a Strings),
    Features(&'a xmc_data::Csr),
}

impl Rows<'_> {
    fn predict(&self, model: &Model, search: &PredictOptions) -> Result<TopK> {
        match self {
            Rows::Embeddings(method, x) => method.predict_embeddings(x, search),
            Rows::Texts(texts) => model.predict(texts, search),
            Rows::Features(x) => model.predict_features(x, search),
        }
    }

    /// Microseconds of a query, the median of the first `rows`.
    fn time(&self, model: &Model, search: PredictOptions, rows: usize) -> Result<f64> {
        let mut times = Vec::with_capacity(rows);
        let mut clock = |answer: &mut dyn FnMut() -> Result<()>| {
            let start = Instant::now();
            answer()?;
            times.push(start.elapsed().as_secs_f64() * 1e6);
            Ok::<(), Error>(())
        };
        match self {
            Rows::Embeddings(method, x) => {
                let mut session = method.session(search);
                for row in x.host().chunks_exact(x.cols()).take(rows) {
                    let x = Tensor::from_host(1, row.len(), row.to_vec(), x.device())?;
                    clock(&mut || session.embedding(&x).map(drop))?;
                }
            }
            Rows::Texts(texts) => {
                let mut session = model.session(search);
                for text in texts.iter().take(rows) {
                    clock(&mut || session.text(text).map(drop))?;
                }
            }
            Rows::Features(x) => {
                let mut session = model.session(search);
                for i in 0..rows {
                    clock(&mut || session.features(x.row(i)).map(drop))?;
                }
            }
        }
        times.sort_unstable_by(f64::total_cmp);
        Ok(times.get(times.len() / 2).copied().unwrap_or(0.0))
    }
}
