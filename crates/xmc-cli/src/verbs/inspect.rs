//! `xmc inspect DATA|MODEL`: what does it look like?

mod dataset;
mod model;

use std::io::{self, Write};

use anyhow::Result;
use xmc::model::Model;
use xmc_data::dataset::Dataset;
use xmc_data::inspect::inspect;

use crate::Outcome;
use crate::args::Inspect;

pub(crate) fn run(verb: &Inspect) -> Result<Outcome> {
    let text = if Model::is_at(&verb.path) {
        model::show(&Model::open(&verb.path)?, verb.json)?
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
