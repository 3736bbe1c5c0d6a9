//! `xmc add-labels MODEL FILE`: new labels without training.

use anyhow::{Error, Result};
use xmc::events::Events;
use xmc::model::add_labels::{Added, add_labels};
use xmc_data::formats::lines;

use crate::Outcome;
use crate::args::AddLabels;
use crate::progress::Terminal;
use crate::table::counted;

pub(crate) fn run(verb: &AddLabels, quiet: bool) -> Result<Outcome> {
    let terminal = Terminal::new(quiet);
    let names = lines::read(&verb.labels)?;
    let out = verb.out.as_ref().unwrap_or(&verb.model);
    terminal.stage_started("labels");
    let progress = |done, total| terminal.progress(done, total);
    let added = add_labels(&verb.model, &names, out, &verb.compute.options(), &progress);
    terminal.stage_over();
    let Added { added, known, labels } = added.map_err(|problem| match problem {
        // What does not fit is a name; all else says itself where it is.
        xmc::Error::Mismatch(_) => Error::new(problem).context(verb.labels.display().to_string()),
        _ => Error::new(problem),
    })?;
    let left_out = if known > 0 { format!(", {known} left out that it has already") } else { String::new() };
    terminal.say(&format!("{}: {} added{left_out}; {labels} in all", out.display(), counted(added, "label")));
    Ok(Outcome::Done)
}
