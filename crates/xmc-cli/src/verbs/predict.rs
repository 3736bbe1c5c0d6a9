//! `xmc predict MODEL`: labels for texts, as they come.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use xmc::model::{Model, PredictOptions, Predictor};
use xmc_data::formats::atomic::write_atomically;
use xmc_data::formats::npz;
use xmc_data::{Strings, TopK};

use crate::Outcome;
use crate::args::{InputFormat, OutputFormat, Predict};
use crate::input;
use crate::output::Answers;
use crate::progress::Terminal;

/// Up to this many texts are answered by one thread: waking the others would take longer.
const FEW: usize = 4;

pub(crate) fn run(verb: &Predict, quiet: bool) -> Result<Outcome> {
    let model = Model::open_with(&verb.model, &verb.compute.options())?;
    let options = verb.search.options(verb.top_k.get() as usize);
    model.check(&options)?;
    match (&verb.output, verb.format) {
        (Some(path), OutputFormat::Npz) => {
            let found = all(verb, &model, &options)?;
            npz::write(path, &found.to_csr(model.labels().len())?)?;
        }
        (None, OutputFormat::Npz) => {
            return Err(anyhow!("--format npz is not text: name a file with --output FILE.npz"));
        }
        (Some(path), _) => to_file(path, |out| answer(verb, &model, &options, out, quiet))?,
        (None, _) => answer(verb, &model, &options, &mut io::stdout().lock(), quiet)?,
    }
    Ok(Outcome::Done)
}

/// All answers at once.
fn all(verb: &Predict, model: &Model, options: &PredictOptions) -> Result<TopK> {
    if input::format_of(&verb.input) == InputFormat::Npz {
        return Ok(model.predict_features(&npz::read(&verb.input.path)?, options)?);
    }
    let mut texts = Strings::default();
    let mut source = input::open(&verb.input)?;
    while let Some(text) = source.next_text()? {
        texts.push(&text);
    }
    Ok(model.predict(&texts, options)?)
}

/// Writes text answers while questions come in.
fn answer(
    verb: &Predict,
    model: &Model,
    options: &PredictOptions,
    out: &mut dyn Write,
    quiet: bool,
) -> Result<()> {
    let mut answers = Answers::new(BufWriter::new(out), verb.format, model.labels());
    if input::format_of(&verb.input) == InputFormat::Npz {
        let found = all(verb, model, options)?;
        (0..found.rows()).try_for_each(|i| answers.write(found.row(i)))?;
        return answers.flush();
    }
    if verb.input.path == Path::new("-") && io::stdin().is_terminal() {
        Terminal::new(quiet).say("type one text a line; Ctrl-D ends");
    }
    let texts = input::read_ahead(input::open(&verb.input)?);
    let mut session = model.session(*options);
    let mut problem = None;
    while let Some(batch) = input::next_batch(&texts, &mut problem) {
        if batch.len() <= FEW {
            batch.iter().try_for_each(|text| answers.write(session.text(text)?))?;
        } else {
            let found = model.predict(&batch, options)?;
            (0..found.rows()).try_for_each(|i| answers.write(found.row(i)))?;
        }
        answers.flush()?;
    }
    problem.map_or(Ok(()), Err)
}

/// Runs `write` on a file that appears when all went well.
pub(crate) fn to_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let mut outcome = Ok(());
    let written = write_atomically(path, |file| {
        outcome = write(file);
        match &outcome {
            Ok(()) => Ok(()),
            Err(problem) => Err(xmc_data::Error::file(path, problem.to_string())),
        }
    });
    outcome.and(written.with_context(|| "could not write the answers"))
}
