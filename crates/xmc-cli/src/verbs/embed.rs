//! `xmc embed --encoder DIR|MODEL`: texts to embeddings.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use xmc::encoder::Encoder;
use xmc::events::{Events, StageReport};
use xmc::memory;
use xmc::model::Model;
use xmc::model::encoder_folder::{stored_max_len, stored_tower};
use xmc_data::formats::atomic::write_atomically;
use xmc_data::formats::npy::RowWriter;
use xmc_nn::tower::{self, TowerConfig};

use crate::Outcome;
use crate::args::{Embed, Input, InputFormat, Pooling};
use crate::encoder;
use crate::input;
use crate::progress::Terminal;
use crate::verbs::predict::to_file;

/// Tokens of a text at most if neither options nor files say so: no encoder here reads more.
const ALL: usize = usize::MAX;

/// One row of JSON Lines.
#[derive(Serialize)]
struct Row<'a> {
    row: u64,
    embedding: &'a [f32],
}

pub(crate) fn run(verb: &Embed, quiet: bool) -> Result<Outcome> {
    let to_npy = match verb.output.as_deref().map(Path::extension) {
        None => false,
        Some(Some(end)) if end == "npy" || end == "jsonl" => end == "npy",
        Some(_) => bail!("--output: the name tells the format; expected FILE.npy or FILE.jsonl"),
    };
    if input::format_of(&verb.input) == InputFormat::Npz {
        bail!("{}: features, but an encoder reads texts", verb.input.path.display());
    }
    let encoder = open(verb)?;
    let terminal = Terminal::new(quiet);
    let work = Work { encoder: &encoder, input: &verb.input, terminal: &terminal };
    match &verb.output {
        None => work.as_json(&mut io::stdout().lock())?,
        Some(path) if to_npy => {
            let mut outcome = Ok(());
            let written = write_atomically(path, |file| {
                outcome = work.as_npy(file).with_context(|| path.display().to_string());
                outcome.as_ref().map_or_else(|e| Err(xmc_data::Error::file(path, e.to_string())), |()| Ok(()))
            });
            outcome.and(written.context("could not write the embeddings"))?;
        }
        Some(path) => to_file(path, |out| work.as_json(out))?,
    }
    Ok(Outcome::Done)
}

/// The encoder of a model as it was trained, or that of a folder as the options say.
fn open(verb: &Embed) -> Result<Encoder> {
    let folder = encoder::folder(&verb.encoder)?;
    let options = verb.compute.options();
    let max_len = verb.max_len.map(|n| usize::from(n.get()));
    if !Model::is_at(&folder) {
        let pooling = verb.pooling.map(|pooling| match pooling {
            Pooling::Cls => tower::Pooling::Cls,
            Pooling::Pooler => tower::Pooling::Pooler,
            Pooling::Mean => tower::Pooling::Mean,
        });
        let stored = stored_tower(&folder, pooling)?;
        let config = TowerConfig { normalize: stored.normalize && !verb.no_normalize, ..stored };
        let max_len = match max_len {
            Some(max_len) => max_len,
            None => stored_max_len(&folder)?.unwrap_or(ALL),
        };
        return Ok(Encoder::open(&folder, config, max_len, options.device, options.precision)?);
    }
    if verb.pooling.is_some() || verb.no_normalize {
        bail!(
            "{}: a model embeds as it was trained: leave --pooling and --no-normalize out",
            folder.display()
        );
    }
    let model = Model::open_with(&folder, &options)?;
    let shown = folder.display();
    let encoder =
        model.into_encoder().with_context(|| format!("{shown}: no embeddings can be made with it"))?;
    Ok(match max_len {
        Some(max_len) => encoder.with_max_len(max_len)?,
        None => encoder,
    })
}

/// Where texts come from and what they go through.
struct Work<'a> {
    encoder: &'a Encoder,
    input: &'a Input,
    terminal: &'a Terminal,
}

impl Work<'_> {
    fn as_json(&self, out: &mut dyn Write) -> Result<()> {
        let mut out = BufWriter::new(out);
        let mut row = 0;
        self.each(|rows| {
            for embedding in rows.chunks_exact(self.encoder.dim()) {
                serde_json::to_writer(&mut out, &Row { row, embedding }).map_err(io::Error::from)?;
                out.write_all(b"\n")?;
                row += 1;
            }
            Ok(out.flush()?)
        })
    }

    fn as_npy(&self, file: &mut BufWriter<File>) -> Result<()> {
        let mut rows = RowWriter::new(file, self.encoder.dim())?;
        self.each(|values| Ok(rows.push(values)?))?;
        rows.finish()?;
        Ok(())
    }

    /// Embeds as texts come and gives rows `[b, d]` to `write`.
    fn each(&self, mut write: impl FnMut(&[f32]) -> Result<()>) -> Result<()> {
        let texts = input::read_ahead(input::open(self.input)?);
        let (start, mut done, mut problem) = (Instant::now(), 0, None);
        self.terminal.stage_started("embed");
        while let Some(batch) = input::next_batch(&texts, &mut problem) {
            write(self.encoder.embed(&batch, &|_, _| {})?.host())?;
            done += batch.len();
            self.terminal.status(&format!("{done} texts, {:.0} a second", per_second(done, start)));
        }
        if let Some(problem) = problem {
            return Err(problem);
        }
        let seconds = start.elapsed().as_secs_f64();
        let (name, peak_memory) = ("embed".to_owned(), memory::peak());
        self.terminal.stage_finished(&StageReport { name, seconds, peak_memory, resumed: false });
        let (d, speed) = (self.encoder.dim(), per_second(done, start));
        self.terminal.say(&format!("{done} texts, {d} values each, {speed:.0} a second"));
        Ok(())
    }
}

fn per_second(done: usize, start: Instant) -> f64 {
    done as f64 / start.elapsed().as_secs_f64().max(f64::MIN_POSITIVE)
}
