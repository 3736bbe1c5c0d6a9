//! Which stage reads and writes what? One folder holds a run; every stage reads the files of the stages before it, so each
//! can be done alone and again.
//!
//! ```text
//! run.toml                          settings
//! generated/                        generate: answers, kept for ever
//! synthetic.jsonl, raw_rewrites.txt, start_indices.npy     parse
//! embeddings/{synthetic,targets}    embed: distinct synthetic texts, targets
//! ngbr_{indices,scores}_mat.npy     map
//! trn_X_Y_skim.npz, provenance.jsonl                       build
//! report.json                       validate
//! ```

mod neighbours;
mod texts;

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xmc_data::dataset::Dataset;
use xmc_data::formats::npz;
use xmc_data::formats::source::write_text;
use xmc_data::text::{Vectorizer, VectorizerConfig};
use xmc_data::{Csr, LabelId};

pub use neighbours::EmbedReport;
pub use texts::ParseReport;

use super::build::{BuildConfig, BuildReport, build};
use super::calibrate::{Calibration, calibrate};
use super::config::AugmentConfig;
use super::dataset::BuiltOf;
use super::files::{AUGMENTED, BUILT};
use super::items::{items, targets};
use super::leaks::{Guard, Leaks, TestRows};
use super::mapping::Mapping;
use super::provenance::{Explanation, explain};
use super::recovery::clusters;
use super::sweep::{Point, sweep};
use super::validate::{Inputs, Report, ValidateConfig, validate};
use super::{Item, Neighbours, Synthetic};
use crate::config::{self, Checked};
use crate::error::{Error, Result};
use crate::events::Events;
use crate::fingerprint::Fingerprint;
use crate::run::{create, write_json};

/// Settings of a run.
pub const SETTINGS: &str = "run.toml";
/// Report of a validation.
pub const REPORT: &str = "report.json";
/// A run, opened.
pub struct Pipeline<'e> {
    dir: PathBuf,
    config: Checked<AugmentConfig>,
    data: Dataset,
    events: &'e dyn Events,
}

/// What is known beside the data.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evidence<'a> {
    /// A matrix of pairs that are true and not in the data.
    pub hidden: Option<&'a Path>,
    /// Another augmented matrix.
    pub other: Option<&'a Path>,
}

/// A pair with its names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explained {
    /// Text of the row.
    pub row_text: Option<String>,
    /// Name of the label.
    pub label_name: String,
    /// Where it comes from.
    #[serde(flatten)]
    pub pair: Explanation,
}

impl<'e> Pipeline<'e> {
    /// Begins a run in `dir`: writes its settings, and checks what it will read.
    pub fn init(dir: &Path, config: Checked<AugmentConfig>, events: &'e dyn Events) -> Result<Self> {
        let path = dir.join(SETTINGS);
        if path.exists() {
            return Err(Error::file(&path, "is there already: change it, or choose another folder"));
        }
        // A key that was given for the name of its variable must not get into the file.
        config.http.check_secrets()?;
        let data = open_data(&config)?;
        items(&data, config.direction, config.meta.as_deref())?;
        targets(&data, config.direction)?;
        create(dir)?;
        let title = "# Settings of this run; `xmc augment` reads them in every stage.\n";
        write_text(&path, |file| write!(file, "{title}{}", config::file(&*config)))?;
        Ok(Pipeline { dir: dir.to_owned(), config, data, events })
    }

    /// Opens the run in `dir`, with `sets` over its settings.
    pub fn open(dir: &Path, sets: &[String], events: &'e dyn Events) -> Result<Self> {
        let path = dir.join(SETTINGS);
        if !path.exists() {
            return Err(Error::file(&path, "no such file: `xmc augment init` begins a run"));
        }
        let config = config::load::<AugmentConfig>(Some(&path), sets)?;
        let data = open_data(&config)?;
        Ok(Pipeline { dir: dir.to_owned(), config, data, events })
    }

    /// The settings.
    pub fn config(&self) -> &AugmentConfig {
        &self.config
    }

    /// The data.
    pub fn data(&self) -> &Dataset {
        &self.data
    }

    /// What is written for.
    pub fn items(&self) -> Result<Vec<Item>> {
        items(&self.data, self.config.direction, self.config.meta.as_deref())
    }

    /// Adds the pairs, and writes where each comes from; with `out` a data set on which every method trains, too.
    pub fn build(&self, out: Option<&Path>) -> Result<BuildReport> {
        let found = self.found()?;
        let guard = self.guard(&found.synthetic)?;
        let built = build(&found.mapping(self)?, &self.data.train.y, &self.config.build, &guard)?;
        built.write(&self.dir, &found.synthetic.texts, found.fingerprint())?;
        if let Some(out) = out {
            built.save_dataset(&self.data, out)?;
        }
        Ok(built.report)
    }

    /// Builds with each of `taus` and of `ks` (those of the settings if there are none); with pairs that are true and not
    /// in the data, says how many each finds.
    pub fn sweep(&self, taus: &[f32], ks: &[usize], hidden: Option<&Path>) -> Result<Vec<Point>> {
        let found = self.found()?;
        let usual = [self.config.build.k];
        let ks = if ks.is_empty() { &usual[..] } else { ks };
        let truth = hidden.map(npz::read).transpose()?;
        let (y, guard) = (&self.data.train.y, self.guard(&found.synthetic)?);
        sweep(&found.mapping(self)?, y, &self.config.build, (ks, taus), truth.as_ref(), &guard)
    }

    /// Says which threshold suits the known pairs, a share of which plays the missing ones.
    pub fn calibrate(&self) -> Result<Calibration> {
        let AugmentConfig { build, validate, seed, .. } = &*self.config;
        calibrate(&self.found()?.mapping(self)?, &self.data.train.y, build.k, validate.share, *seed)
    }

    /// Says where the pair of `row` and `label` comes from, or why it is not there.
    pub fn explain(&self, row: u32, label: u32) -> Result<Explained> {
        let found = self.found()?;
        let (augmented, how) = self.built(&found)?;
        let matrices = [&self.data.train.y, &augmented];
        let pair = explain(&found.mapping(self)?, &found.synthetic.texts, matrices, &how, row, label)?;
        let text = self.data.train.texts.as_ref().map(|texts| texts.get(row as usize).to_owned());
        let name = self.data.labels.get(LabelId(label)).unwrap_or_default().to_owned();
        Ok(Explained { row_text: text, label_name: name, pair })
    }

    /// What must get no new pair: training rows that are test rows.
    fn guard(&self, synthetic: &Synthetic) -> Result<Guard> {
        let test = self.data.test.as_ref().and_then(|test| test.texts.as_ref());
        let (Some(train), Some(test)) = (&self.data.train.texts, test) else { return Ok(Guard::default()) };
        let leaks = Leaks::find(self.config.direction, train, test, synthetic);
        if !leaks.texts.is_empty() {
            self.events.message(&format!(
                "{} synthetic texts are texts of test rows, the first that of row {}",
                leaks.texts.len(),
                leaks.texts[0].test
            ));
        }
        let rows = if self.config.exclude_test { TestRows::Exclude } else { TestRows::Refuse };
        leaks.guard(rows)
    }

    /// Says whether the augmentation helped, and writes that down.
    pub fn validate(&self, evidence: &Evidence<'_>) -> Result<Report> {
        let found = self.found()?;
        let (augmented, how) = self.built(&found)?;
        let [hidden, other] = [evidence.hidden, evidence.other].map(|path| path.map(npz::read).transpose());
        let (hidden, other) = (hidden?, other?);
        let propagation = self.propagation(&found.synthetic)?;
        let clusters = self.clusters()?;
        let inputs = Inputs {
            original: &self.data.train.y,
            augmented: &augmented,
            mapping: found.mapping(self)?,
            guard: &self.guard(&found.synthetic)?,
            propagation: propagation.as_ref(),
            clusters: clusters.as_deref(),
            hidden: hidden.as_ref(),
            other: other.as_ref(),
        };
        self.say_if_told()?;
        let report = validate(&inputs, &self.validate_config(how))?;
        write_json(&self.dir.join(REPORT), &report)?;
        Ok(report)
    }

    /// Says that a generator was told pairs which are looked for.
    fn say_if_told(&self) -> Result<()> {
        let told = |item: &Item| item.meta.as_ref().is_some_and(|meta| !meta.known.is_empty());
        if self.config.meta.is_some() && self.items()?.iter().any(told) {
            self.events.message(
                "the metadata name known counterparts: known pairs that are hidden and found again (uniform, systematic) \
                 may have been told to the generator, and look better than pairs that are missing",
            );
        }
        Ok(())
    }

    fn validate_config(&self, build: BuildConfig) -> ValidateConfig {
        let AugmentConfig { validate, map, seed, .. } = &*self.config;
        let coverage_k = validate.coverage_k.min(map.k);
        ValidateConfig { build, share: validate.share, coverage_k, seed: *seed }
    }

    /// Refuses to go on without the file `name`, which `stage` writes.
    fn after(&self, stage: &str, name: impl AsRef<Path>) -> Result<PathBuf> {
        let path = self.dir.join(name);
        if path.exists() {
            return Ok(path);
        }
        let problem = format!("is not there: `xmc augment {stage} --run {}` writes it", self.dir.display());
        Err(Error::file(&path, problem))
    }

    /// Synthetic texts and their neighbours.
    fn found(&self) -> Result<Found> {
        let synthetic = self.synthetic()?;
        let neighbours = self.neighbours(&synthetic)?;
        Ok(Found { synthetic, neighbours })
    }

    /// The matrix that was built last, and how; by the settings where that is not written, as in runs of the release.
    fn built(&self, found: &Found) -> Result<(Csr, BuildConfig)> {
        let (path, record) = (self.after("build", AUGMENTED)?, self.dir.join(BUILT));
        let augmented = npz::read(&path)?;
        if !record.exists() {
            return Ok((augmented, self.config.build.clone()));
        }
        let bytes = fs::read(&record).map_err(Error::io(&record))?;
        let built: BuiltOf = serde_json::from_slice(&bytes)
            .map_err(|problem| Error::file(&record, format!("{problem}: `xmc augment build` again")))?;
        if built.neighbours != found.fingerprint() {
            let problem = "the neighbours have changed since it was built: `xmc augment build` again";
            return Err(Error::file(&path, problem));
        }
        if built.report.settings != self.config.build {
            self.events.message("the settings of `build` have changed since; those of the matrix count here");
        }
        Ok((augmented, built.report.settings))
    }

    /// Labels whose rows have words in common; none if there are no texts.
    fn clusters(&self) -> Result<Option<Vec<u32>>> {
        let Some(texts) = &self.data.train.texts else { return Ok(None) };
        let (_, x) = Vectorizer::fit(&[VectorizerConfig::default()], texts)?;
        let y: &Csr = &self.data.train.y;
        clusters(x, y, self.config.validate.cluster_size, self.config.seed).map(Some)
    }
}

/// Synthetic texts, and what they lie near.
struct Found {
    synthetic: Synthetic,
    neighbours: Neighbours,
}

impl Found {
    fn mapping(&self, run: &Pipeline<'_>) -> Result<Mapping<'_>> {
        let targets = targets(&run.data, run.config.direction)?.len();
        Mapping::new(run.config.direction, &self.synthetic.starts, &self.neighbours, targets)
    }

    /// A hash of all that pairs are made of.
    fn fingerprint(&self) -> String {
        let mut print = Fingerprint::new();
        let halves = self.synthetic.starts.iter().flat_map(|&at| [at as u32, (at >> 32) as u32]);
        print.ids(&halves.collect::<Vec<_>>());
        print.ids(bytemuck::cast_slice(&self.neighbours.ids));
        print.ids(bytemuck::cast_slice(&self.neighbours.cosines));
        print.finish()
    }
}

fn open_data(config: &AugmentConfig) -> Result<Dataset> {
    let unset = || xmc_data::Error::config("data", "nothing", "the folder of a data set");
    Ok(Dataset::open(config.data.as_deref().ok_or_else(unset)?)?)
}
