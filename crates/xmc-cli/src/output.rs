//! How are answers written?

use std::io::Write;

use anyhow::Result;
use serde::Serialize;
use xmc_data::{LabelId, LabelSet};

use crate::args::OutputFormat;

/// One row of JSON Lines.
#[derive(Serialize)]
struct Answer<'a> {
    row: u64,
    labels: Vec<Named<'a>>,
}

#[derive(Serialize)]
struct Named<'a> {
    label: &'a str,
    id: u32,
    score: f32,
}

/// Writes answers as text, row after row.
pub(crate) struct Answers<'a, W: Write> {
    out: W,
    tsv: bool,
    labels: &'a LabelSet,
    row: u64,
}

impl<'a, W: Write> Answers<'a, W> {
    /// Writes to `out` in one of the text formats.
    pub(crate) fn new(out: W, format: OutputFormat, labels: &'a LabelSet) -> Self {
        Answers { out, tsv: format == OutputFormat::Tsv, labels, row: 0 }
    }

    /// The labels of the next row, best first.
    pub(crate) fn write(&mut self, found: &[(u32, f32)]) -> Result<()> {
        let name = |id: u32| self.labels.get(LabelId(id)).unwrap_or_default();
        if self.tsv {
            for &(id, score) in found {
                // A name that holds the separator would become two columns.
                writeln!(
                    self.out,
                    "{}\t{id}\t{score}\t{}",
                    self.row,
                    name(id).replace(['\t', '\n', '\r'], " ")
                )?;
            }
        } else {
            let labels = found.iter().map(|&(id, score)| Named { label: name(id), id, score }).collect();
            serde_json::to_writer(&mut self.out, &Answer { row: self.row, labels })
                .map_err(std::io::Error::from)?;
            self.out.write_all(b"\n")?;
        }
        self.row += 1;
        Ok(())
    }

    /// Everything written so far reaches the reader.
    pub(crate) fn flush(&mut self) -> Result<()> {
        Ok(self.out.flush()?)
    }
}
