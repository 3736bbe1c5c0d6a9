//! `--biased FILE`: the same answers measured on all true labels and on those that a click log would hold, side by side.
//!
//! A model that learned what the log does not hold answers with labels that the log calls wrong: its biased numbers may fall
//! while the unbiased ones rise.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Result, bail};
use serde_json::json;
use xmc::evaluation::{EvaluateOptions, evaluate};
use xmc::model::Model;
use xmc_data::dataset::{Dataset, Part};
use xmc_data::formats::npz;
use xmc_data::metrics::Report;

use crate::table::{Align, Table};

/// Both reports.
pub(super) struct Sides {
    /// On all true labels.
    pub(super) unbiased: Report,
    biased: Report,
}

impl Sides {
    /// Measures `model` on the labels of `part`, and on those in `path` for the same rows.
    pub(super) fn measure(
        model: &Model,
        data: &Dataset,
        part: &Part,
        path: &Path,
        options: &EvaluateOptions,
    ) -> Result<Self> {
        let y = npz::read(path)?;
        if (y.rows(), y.cols()) != (part.y.rows(), part.y.cols()) {
            bail!(
                "{}: {} rows and {} labels; --biased expects {} and {}, those of the data",
                path.display(),
                y.rows(),
                y.cols(),
                part.y.rows(),
                part.y.cols()
            );
        }
        let unbiased = evaluate(model, data, part, options)?;
        let part = Part { y, ..part.clone() };
        Ok(Sides { unbiased, biased: evaluate(model, data, &part, options)? })
    }

    /// As one JSON object.
    pub(super) fn json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(&json!({ "unbiased": self.unbiased, "biased": self.biased }))? + "\n")
    }

    /// As a table, and why the sides differ.
    pub(super) fn show(&self) -> String {
        let columns = [("percent", Align::Left), ("unbiased", Align::Right), ("biased", Align::Right)];
        let mut table = Table::new(&columns);
        for (name, value) in self.unbiased.values.iter() {
            let biased = self.biased.values.get(name).map_or_else(String::new, |v| format!("{v:.2}"));
            table.row([name.to_owned(), format!("{value:.2}"), biased]);
        }
        let mut text = table.render();
        let (rows, fewer) = (self.unbiased.rows, self.biased.rows);
        let _ = writeln!(
            text,
            "\nunbiased: all true labels of {rows} rows; biased: those that a click log holds, {fewer} rows with any.\nA model \
             that learned labels missing in the log answers with some that the log calls wrong, so biased precision may \
             fall where unbiased precision rises; compare models by the unbiased column."
        );
        text
    }
}
