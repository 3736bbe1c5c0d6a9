//! Stages that compare: embeddings of synthetic texts and targets, and the nearest targets of each text.
//!
//! What the neighbours were made of lies beside them in a record. Later stages look at it: neighbours of other texts would be
//! pairs that nobody suggested.

use std::fs;
use std::io::ErrorKind;

use serde::{Deserialize, Serialize};
use xmc_data::Strings;
use xmc_nn::{Device, Precision};

use super::Pipeline;
use crate::augment::config::EncoderConfig;
use crate::augment::embed::{self, Distinct, Embedder, embed_file};
use crate::augment::files::{COSINES, NEIGHBOURS};
use crate::augment::items::targets;
use crate::augment::map::{MapConfig, MapReport, map};
use crate::augment::{Neighbours, Synthetic};
use crate::error::{Error, Result};
use crate::index::{Dtype, LabelEmbeddings};
use crate::run::{create, remove, write_json};

/// What the neighbours were made of.
const MAPPED: &str = "map.json";
/// Folder of embeddings.
const EMBEDDINGS: &str = "embeddings";
/// Targets up to which labels are propagated between all of them, to compare with.
const PROPAGATED: usize = 200_000;
/// The one change that may change nothing.
const ENCODER: &str = "the settings of the encoder";

/// What was embedded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EmbedReport {
    /// What made embeddings.
    pub encoder: String,
    /// Synthetic texts.
    pub texts: usize,
    /// Distinct ones.
    pub distinct: usize,
    /// Targets.
    pub targets: usize,
    /// Values of an embedding.
    pub dim: usize,
    /// Texts that had to be embedded; the others were there.
    pub computed: usize,
}

impl Pipeline<'_> {
    /// Turns distinct synthetic texts and targets into embeddings, where that is not done.
    pub fn embed(&self) -> Result<EmbedReport> {
        Ok(self.embed_all(&self.synthetic()?)?.report)
    }

    /// Finds the nearest targets of synthetic texts; nothing is searched again if nothing has changed.
    pub fn map(&self) -> Result<MapReport> {
        let synthetic = self.synthetic()?;
        let embedded = self.embed_all(&synthetic)?;
        let made_of = self.made_of(&synthetic)?;
        let path = self.dir.join(MAPPED);
        let encoder = embedded.report.encoder.clone();
        if let Some(done) = self.mapped()?.filter(|done| done.made_of.same_content(&made_of))
            && done.encoder == encoder
            && Neighbours::read(&self.dir, self.config.map.k).is_ok()
        {
            let report = MapReport { resumed: done.report.queries, ..done.report };
            // The encoder may have moved.
            write_json(&path, &Done { made_of, encoder, report: report.clone() })?;
            return Ok(report);
        }
        let Embedded { queries, of, targets, .. } = embedded;
        let ongoing = self.dir.join("map.ongoing");
        let mapped = map(&queries, &of, &targets, &self.map_config(), &ongoing, self.events)?;
        let report = mapped.report.clone();
        mapped.keep(|neighbours| {
            // Nothing old must stand beside something new, whenever the process ends.
            for old in [&path, &self.dir.join(NEIGHBOURS), &self.dir.join(COSINES)] {
                remove(old)?;
            }
            neighbours.write(&self.dir)?;
            write_json(&path, &Done { made_of, encoder, report: report.clone() })
        })?;
        Ok(report)
    }

    /// The neighbours that were found last.
    ///
    /// # Errors
    /// If they are not those of `synthetic`, or were found in another way than the settings say. Those of the release come
    /// without a record, and are taken as they are.
    pub(super) fn neighbours(&self, synthetic: &Synthetic) -> Result<Neighbours> {
        if let Some(Done { made_of, .. }) = self.mapped()?
            && let Some(what) = made_of.difference(&self.made_of(synthetic)?)
        {
            let problem =
                format!("{what} have changed since the neighbours were found: `xmc augment map` again");
            return Err(Error::file(&self.dir.join(NEIGHBOURS), problem));
        }
        self.after("map", NEIGHBOURS)?;
        self.after("map", COSINES)?;
        Neighbours::read(&self.dir, self.config.map.k)
    }

    fn mapped(&self) -> Result<Option<Done>> {
        let path = self.dir.join(MAPPED);
        match fs::read(&path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(problem) if problem.kind() == ErrorKind::NotFound => Ok(None),
            Err(problem) => Err(Error::io(&path)(problem)),
        }
    }

    fn made_of(&self, synthetic: &Synthetic) -> Result<MadeOf> {
        let hash = |texts: &Strings| format!("{:016x}", embed::hash(texts));
        Ok(MadeOf {
            texts: hash(&synthetic.texts),
            targets: hash(targets(&self.data, self.config.direction)?),
            encoder: self.config.encoder.clone(),
            settings: self.map_config(),
        })
    }

    fn embed_all(&self, synthetic: &Synthetic) -> Result<Embedded> {
        let embedder = self.embedder()?;
        let Distinct { texts, of } = Distinct::new(&synthetic.texts);
        let targets = targets(&self.data, self.config.direction)?;
        let folder = self.dir.join(EMBEDDINGS);
        create(&folder)?;
        let file =
            |texts, name: &str| embed_file(&embedder, texts, Dtype::F32, &folder.join(name), self.events);
        let (queries, first) = file(&texts, "synthetic")?;
        let (rows, second) = file(targets, "targets")?;
        let computed = [(first, texts.len()), (second, targets.len())];
        let report = EmbedReport {
            encoder: embedder.id().to_owned(),
            texts: of.len(),
            distinct: texts.len(),
            targets: targets.len(),
            dim: embedder.dim(),
            computed: computed.iter().filter(|(computed, _)| *computed).map(|(_, n)| n).sum(),
        };
        Ok(Embedded { queries, of, targets: rows, report })
    }

    fn embedder(&self) -> Result<Embedder> {
        let config = &self.config.encoder;
        match &config.path {
            Some(path) => Embedder::open(path, config.max_len, Device::Cpu, Precision::F32),
            None => Embedder::words(config.dim),
        }
    }

    fn map_config(&self) -> MapConfig {
        let config = &self.config.map;
        MapConfig { k: config.k, search: config.search, recall: config.recall, seed: self.config.seed }
    }

    /// Neighbours of targets among the targets, unless there are very many.
    pub(super) fn propagation(&self, synthetic: &Synthetic) -> Result<Option<Neighbours>> {
        let embedded = self.embed_all(synthetic)?;
        let targets = embedded.targets;
        if targets.rows() > PROPAGATED {
            self.events.message(&format!(
                "{} targets: labels are not propagated between them for comparison (up to {PROPAGATED} are)",
                targets.rows()
            ));
            return Ok(None);
        }
        let of: Vec<u32> = (0..targets.rows() as u32).collect();
        let ongoing = self.dir.join("propagation.ongoing");
        let mapped = map(&targets, &of, &targets, &self.map_config(), &ongoing, self.events)?;
        Ok(Some(mapped.keep(|_| Ok(()))?.0))
    }
}
/// Embeddings, and which belongs to which text.
struct Embedded {
    queries: LabelEmbeddings,
    of: Vec<u32>,
    targets: LabelEmbeddings,
    report: EmbedReport,
}

/// A finished mapping.
#[derive(Serialize, Deserialize)]
struct Done {
    made_of: MadeOf,
    /// The encoder by its content.
    encoder: String,
    report: MapReport,
}

/// What neighbours depend on, as settings say it.
#[derive(PartialEq, Serialize, Deserialize)]
struct MadeOf {
    /// Hash of the synthetic texts.
    texts: String,
    /// Hash of the targets.
    targets: String,
    encoder: EncoderConfig,
    settings: MapConfig,
}

impl MadeOf {
    /// Whether only the place of the encoder may be another.
    fn same_content(&self, other: &MadeOf) -> bool {
        matches!(self.difference(other), None | Some(ENCODER))
    }

    /// What has changed first.
    fn difference(&self, now: &MadeOf) -> Option<&'static str> {
        let checks = [
            (self.texts == now.texts, "the synthetic texts"),
            (self.targets == now.targets, "the targets"),
            (self.settings == now.settings, "the settings of `map`"),
            (self.encoder == now.encoder, ENCODER),
        ];
        checks.into_iter().find(|(same, _)| !same).map(|(_, what)| what)
    }
}
