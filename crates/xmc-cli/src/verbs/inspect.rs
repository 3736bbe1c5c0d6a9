//! `xmc inspect DATA|MODEL`: what does it look like?

mod dataset;
mod model;
mod tree;

use std::io::{self, Write};

use anyhow::Result;
use xmc::model::{Model, encoder_folder};
use xmc_data::dataset::Dataset;
use xmc_data::inspect::inspect;

use crate::Outcome;
use crate::args::Inspect;
use crate::verbs::inspect::tree::Extent;

pub(crate) fn run(verb: &Inspect) -> Result<Outcome> {
    // An encoder alone is refused as what it is.
    let text = if Model::is_at(&verb.path) || encoder_folder::is_at(&verb.path) {
        let extent = Extent { depth: verb.depth.into(), width: verb.width.get().into() };
        model::show(&Model::open(&verb.path)?, verb.json, extent)?
    } else {
        of_data(verb)?
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(Outcome::Done)
}

fn of_data(verb: &Inspect) -> Result<String> {
    let report = inspect(&Dataset::open(&verb.path)?);
    if verb.json {
        return Ok(serde_json::to_string_pretty(&report)? + "\n");
    }
    Ok(dataset::show(&report))
}
