//! What does a training step cost? The same data and mathematics as `bench/elias/torch_step.py`.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::json;
use xmc::data::formats::{npy, npz};
use xmc::data::{Csr, TopK};
use xmc::memory;
use xmc::methods::elias::{Graph, Index, IndexConfig, IndexOptions, Rates};
use xmc::nn::optim::AdamWConfig;
use xmc::nn::table::{Moments, Stored, TableConfig};
use xmc::nn::{Device, Precision, Tensor};

use crate::clock::{Clock, median};
use crate::plant::{LABEL_GAIN, Settings, graph};
use crate::planted::POSITIVES;

#[derive(Args)]
pub(crate) struct How {
    #[arg(long, default_value = "f32/element")]
    table: Table,
    #[arg(long, default_value_t = 256)]
    batch: usize,
    /// Steps that are timed, after `--warm-up`.
    #[arg(long, default_value_t = 5)]
    steps: usize,
    #[arg(long, default_value_t = 2)]
    warm_up: usize,
}

/// How classifiers and their moments are stored.
#[derive(Clone, Copy)]
pub(crate) struct Table {
    stored: Stored,
    moments: Moments,
}

impl FromStr for Table {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let (stored, moments) = word.split_once('/').unwrap_or((word, ""));
        let stored = match stored {
            "f32" => Stored::F32,
            "bf16" => Stored::Bf16,
            _ => return Err(format!("found `{word}`, expected f32/… or bf16/…")),
        };
        let moments = match moments {
            "element" => Moments::Element,
            "row" => Moments::Row,
            _ => return Err(format!("found `{word}`, expected …/element or …/row")),
        };
        Ok(Table { stored, moments })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stored = if self.stored == Stored::F32 { "f32" } else { "bf16" };
        let moments = if self.moments == Moments::Element { "element" } else { "row" };
        write!(f, "{stored}/{moments}")
    }
}

/// An index that learns, and what its steps need.
pub(crate) struct Stepper {
    pub(crate) index: Index,
    settings: Settings,
    steps: u64,
}

/// What a step found.
pub(crate) struct Taken {
    /// The loss, and its parts of classification and shortlist.
    pub(crate) losses: [f64; 3],
    dx_norm: f64,
}

impl Stepper {
    /// An index with cluster weights `[C, d + 1]` and label weights by `fill`; classifiers in `mapped`, if given.
    pub(crate) fn new(
        settings: &Settings,
        table: Table,
        mapped: Option<PathBuf>,
        (clusters, graph): (&[f32], Graph),
        fill: impl Fn(u32, &mut [f32]) + Sync,
    ) -> Result<Self> {
        let adam = AdamWConfig { weight_decay: f64::from(settings.weight_decay), ..AdamWConfig::default() };
        let config = IndexConfig {
            alpha: settings.alpha,
            beta: settings.beta,
            beam: settings.beam,
            shortlist: settings.shortlist,
            ..IndexConfig::default()
        };
        // With f32 weights, products are those of f32 too.
        let defaults = IndexOptions::default();
        let precision = if table.stored == Stored::F32 { Precision::F32 } else { defaults.precision };
        let table = TableConfig { stored: table.stored, moments: table.moments, adam };
        let options = IndexOptions { table, adam, working_folder: mapped, precision, seed: settings.seed };
        let mut index = Index::new(graph, settings.dim, &config, &options)?;
        index.set_clusters(clusters)?;
        index.labels_mut().fill(fill);
        index.labels_mut().set_biases(&vec![settings.bias; settings.labels])?;
        Ok(Stepper { index, settings: settings.clone(), steps: 0 })
    }

    /// Loss, gradients, and AdamW of everything.
    pub(crate) fn step(&mut self, x: &Tensor, y: &Csr) -> Result<Taken> {
        let scale = self.index.scale(x.rows(), POSITIVES, self.settings.loss_lambda);
        let part = self.index.part(x, y, scale)?;
        let rates = Rates { clusters: self.settings.cluster_lr, labels: self.settings.label_lr };
        self.index.apply(x.host(), &[part.gradients], rates, self.settings.seed)?;
        self.steps += 1;
        let squares: f64 = part.dx.host().iter().map(|&v| f64::from(v) * f64::from(v)).sum();
        Ok(Taken { losses: [part.loss, part.classification, part.shortlist], dx_norm: squares.sqrt() })
    }

    /// Different labels that the rows `x` meet.
    pub(crate) fn met(&self, x: &Tensor) -> Result<usize> {
        let mut labels = self.index.shortlist(x, None, None)?.labels;
        labels.sort_unstable();
        labels.dedup();
        Ok(labels.len())
    }

    /// The ten best labels of every row.
    pub(crate) fn search(&self, x: &Tensor) -> Result<TopK> {
        Ok(self.index.predict(x, 10, None, None)?)
    }
}

/// Prints one line of JSON.
pub(crate) fn measure(folder: &Path, how: &How) -> Result<()> {
    let settings = Settings::read(folder)?;
    let planted = settings.planted();
    let clusters = npy::read_dense(&folder.join("clusters.npy"))?;
    let (x, y) = (npy::read_dense(&folder.join("x.npy"))?, npz::read(&folder.join("y.npz"))?);
    if how.batch > x.rows() {
        bail!("--batch {}: the folder has {} rows", how.batch, x.rows());
    }
    // The same numbers as in labels.npy, which would have to be read.
    let fill = |label: u32, row: &mut [f32]| {
        planted.label(label, row);
        for v in row {
            *v *= LABEL_GAIN;
        }
    };
    let first = (clusters.values(), graph(folder, &settings)?);
    let mut stepper = Stepper::new(&settings, how.table, None, first, fill)?;

    let (mut passed, mut losses, mut dx_norm) = (Vec::new(), Vec::new(), None);
    for step in 0..how.warm_up + how.steps {
        let ids: Vec<u32> = rows_of(step, how.batch).map(|row| (row % x.rows()) as u32).collect();
        let values = ids.iter().flat_map(|&row| x.row(row as usize)).copied().collect();
        let batch = tensor(values, settings.dim)?;
        let y = y.select_rows(&ids);
        let clock = Clock::start();
        let taken = stepper.step(&batch, &y)?;
        passed.extend((step >= how.warm_up).then(|| clock.passed()));
        losses.push(taken.losses);
        dx_norm.get_or_insert(taken.dx_norm);
    }
    let middle = median(&passed);
    println!(
        "{}",
        json!({"side": "ours", "table": how.table.to_string(), "threads": rayon::current_num_threads(),
               "cpu_s": middle.cpu, "wall_s": middle.wall, "peak_rss_mb": memory::peak() as f64 / 1_048_576.0,
               "losses": losses, "dx_norm": dx_norm})
    );
    Ok(())
}

/// Rows of `dim` values.
pub(crate) fn tensor(values: Vec<f32>, dim: usize) -> Result<Tensor> {
    Ok(Tensor::from_host(values.len() / dim, dim, values, Device::Cpu)?)
}

/// Numbers of the rows of a step.
pub(crate) fn rows_of(step: usize, batch: usize) -> Range<usize> {
    step * batch..(step + 1) * batch
}
