//! What comes out of the loop, and how is it kept? Prompt and adapters, the curves; and from these an embedding of every
//! label.

use std::path::{Path, PathBuf};

use xmc_nn::decoder::Prompted;

use super::config::QuestConfig;
use super::prompt;
use super::training::CURVES;
use crate::error::{Error, Result};
use crate::events::Events;
use crate::index::{Dtype, LabelEmbeddings};
use crate::methods::dexml::TokenSets;
use crate::model::finish::take;
use crate::run::Artifact;

/// Name of the file in the stage and in the model.
pub(super) use crate::methods::dexml::LABEL_EMBEDDINGS;

/// Labels whose embeddings are kept together while there are not all yet.
const PART: usize = 4096;

/// A finished training.
pub(super) enum Trained {
    /// Just now.
    Now {
        prompted: Box<Prompted>,
        /// That it has learned for.
        epochs: usize,
        /// Of the decoder.
        fingerprint: String,
        /// Where the curves lie.
        curves: PathBuf,
    },
    /// In an earlier run; its files are enough.
    Earlier,
}

impl Trained {
    pub(super) fn now(prompted: Prompted, epochs: usize, fingerprint: &str, curves: PathBuf) -> Self {
        Trained::Now { prompted: Box::new(prompted), epochs, fingerprint: fingerprint.to_owned(), curves }
    }
}

impl Artifact for Trained {
    fn save(&self, dir: &Path) -> Result<()> {
        let Trained::Now { prompted, epochs, fingerprint, curves } = self else { return Ok(()) };
        prompt::save(prompted, *epochs, fingerprint, dir)?;
        take(curves, &dir.join(CURVES))
    }

    fn load(dir: &Path) -> Result<Self> {
        let needed = dir.join(prompt::PROMPT);
        if needed.is_file() { Ok(Trained::Earlier) } else { Err(Error::file(&needed, "missing")) }
    }
}

/// Vectors of all labels.
pub(super) struct Vectors(LabelEmbeddings);

impl Vectors {
    /// Embeds all labels, part by part; parts that an interrupted run left in `unfinished` are not made again, and none
    /// if the training left them all in `ready`.
    pub(super) fn of(
        prompted: &Prompted,
        tokens: &TokenSets,
        config: &QuestConfig,
        [ready, unfinished]: [&Path; 2],
        events: &dyn Events,
    ) -> Result<Self> {
        let (labels, d) = (tokens.labels.len(), prompted.dim());
        let kept = |path: &Path, rows: usize| {
            LabelEmbeddings::open(path).ok().filter(|part| (part.rows(), part.dim()) == (rows, d))
        };
        let mut parts: Vec<LabelEmbeddings> = kept(ready, labels).into_iter().collect();
        let there = if parts.is_empty() { 0 } else { labels };
        for first in (there..labels).step_by(PART) {
            let ids: Vec<u32> = (first..labels.min(first + PART)).map(|label| label as u32).collect();
            let path = unfinished.join(format!("part.{}", parts.len()));
            parts.push(if let Some(part) = kept(&path, ids.len()) {
                part
            } else {
                let rows = prompted.embed_rows(&tokens.labels, &ids, config.tokens_per_batch, &|_, _| ())?;
                let part = LabelEmbeddings::from_values(d, rows.host(), Dtype::F32)?;
                part.save(&path)?;
                LabelEmbeddings::open(&path)?
            });
            events.progress((first + ids.len()) as u64, labels as u64);
        }
        let whole = unfinished.join("whole");
        LabelEmbeddings::write(&whole, labels, d, config.label_embeddings, |file| {
            parts.iter().try_for_each(|part| (0..part.rows()).try_for_each(|i| file.push(&part.row(i))))
        })?;
        Ok(Vectors(LabelEmbeddings::open(&whole)?))
    }
}

impl Artifact for Vectors {
    fn save(&self, dir: &Path) -> Result<()> {
        self.0.save(&dir.join(LABEL_EMBEDDINGS))
    }

    fn load(dir: &Path) -> Result<Self> {
        Ok(Vectors(LabelEmbeddings::open(&dir.join(LABEL_EMBEDDINGS))?))
    }
}
