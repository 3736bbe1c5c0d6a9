//! How does training end? With a model folder, or with that of the encoder alone.

use std::path::Path;

use super::config::XrTransformerConfig;
use crate::error::Result;
use crate::methods::Summary;
use crate::methods::dexml::ENCODER;
use crate::methods::start::Start;
use crate::methods::xr_linear::write::parts;
use crate::model::encoder_folder::{bytes, describe, publish};
use crate::model::finish::{Finished, finish, take};
use crate::model::manifest::Manifest;
use crate::run::Run;

/// Publishes the encoder in the folder `encoder` with the results of the stages: a vectorizer if there is one, and the
/// trees with their rankers.
pub(super) fn model(
    run: &Run,
    finished: &Finished<'_>,
    (encoder, start): (&Path, &Start),
    config: &XrTransformerConfig,
    vectorizer: bool,
) -> Result<Manifest> {
    finish(run, finished, |dir| {
        described(encoder, start, config, &dir.join(ENCODER))?;
        parts(run, vectorizer, config.trees, dir)
    })
}

/// Publishes the encoder in the folder `encoder` alone, and ends the run.
pub(super) fn encoder(
    run: Run,
    (encoder, start): (&Path, &Start),
    config: &XrTransformerConfig,
    out: &Path,
) -> Result<Summary> {
    let scratch = run.scratch("published")?;
    let dir = scratch.join(ENCODER);
    described(encoder, start, config, &dir)?;
    let model_bytes = bytes(&dir)?;
    publish(&dir, out, &run.stage_dir("old"))?;
    Ok(Summary { stages: run.succeed()?, model_bytes, metrics: None, alone: Some("encoder") })
}

/// Takes the files of an encoder to the new folder `dir`, and says there how it is used.
fn described(encoder: &Path, start: &Start, config: &XrTransformerConfig, dir: &Path) -> Result<()> {
    take(encoder, dir)?;
    describe(dir, start.normalized(), config.max_len)
}
