//! The description of a dataset as tables.

use std::fmt::Write as _;

use xmc::memory;
use xmc_data::inspect::{Bin, DatasetReport, SplitReport, Spread};

use crate::table::{Align, Table};

/// Width of the longest bar of a histogram.
const BAR: u64 = 40;

/// Rows and labels, how they are spread, and what deserves a second look.
pub(super) fn show(report: &DatasetReport) -> String {
    let sides: Vec<(&str, &SplitReport)> = std::iter::once(("train", &report.train))
        .chain(report.test.as_ref().map(|test| ("test", test)))
        .collect();
    let mut text = format!(
        "{}: {} labels, {} in memory\n\n{}\n",
        report.name,
        report.labels,
        memory::show(report.memory_bytes),
        counts(&sides)
    );
    let _ = write!(text, "{}\n{}", spreads(&sides), bands(report));
    for note in notes(report) {
        let _ = write!(text, "\nnote: {note}");
    }
    if let Some(texts) = &report.train.texts {
        let _ = write!(text, "\nwords in a training text\n{}", histogram(&texts.word_bins));
    }
    text
}

fn counts(sides: &[(&str, &SplitReport)]) -> String {
    let mut columns = vec![("", Align::Left)];
    columns.extend(sides.iter().map(|(name, _)| (*name, Align::Right)));
    let mut table = Table::new(&columns);
    let mut row = |name: &str, value: &dyn Fn(&SplitReport) -> Option<u64>| {
        if sides.iter().any(|(_, side)| value(side).is_some()) {
            let cells = sides.iter().map(|(_, side)| value(side).map_or_else(String::new, |v| v.to_string()));
            table.row(std::iter::once(name.to_owned()).chain(cells));
        }
    };
    row("rows", &|side| Some(side.rows));
    row("labels that occur", &|side| Some(side.labels));
    row("labels of all rows", &|side| Some(side.positives));
    row("rows without labels", &|side| Some(side.rows_without_labels));
    row("empty texts", &|side| side.texts.as_ref().map(|texts| texts.empty));
    row("repeated texts", &|side| side.texts.as_ref().map(|texts| texts.duplicates));
    row("features", &|side| side.features.as_ref().map(|features| features.columns));
    row("rows without features", &|side| side.features.as_ref().map(|features| features.empty_rows));
    row("filter pairs", &|side| Some(side.filter_pairs).filter(|&pairs| pairs > 0));
    table.render()
}

fn spreads(sides: &[(&str, &SplitReport)]) -> String {
    let names = ["", "mean", "least", "10%", "25%", "median", "75%", "90%", "99%", "most"];
    let columns: Vec<(&str, Align)> =
        names.iter().map(|&name| (name, if name.is_empty() { Align::Left } else { Align::Right })).collect();
    let mut table = Table::new(&columns);
    for (name, side) in sides {
        let mut row = |what: &str, s: &Spread| {
            let cells = [s.mean, s.min, s.p10, s.p25, s.median, s.p75, s.p90, s.p99, s.max];
            let shown = cells
                .iter()
                .enumerate()
                .map(|(i, v)| if i == 0 { format!("{v:.1}") } else { format!("{v:.0}") });
            table.row(std::iter::once(format!("{what}, {name}")).chain(shown));
        };
        row("labels of a row", &side.labels_per_row);
        row("rows of a label", &side.rows_per_label);
        if let Some(texts) = &side.texts {
            row("words of a text", &texts.words);
        }
        if let Some(features) = &side.features {
            row("features of a row", &features.entries_per_row);
        }
    }
    table.render()
}

/// Labels by training frequency; every band holds a third of the training positives.
fn bands(report: &DatasetReport) -> String {
    let mut table = Table::new(&[
        ("labels by frequency", Align::Left),
        ("rows from", Align::Right),
        ("labels", Align::Right),
        ("train positives", Align::Right),
        ("test positives", Align::Right),
    ]);
    for (name, band) in
        [("head", &report.bands.head), ("torso", &report.bands.torso), ("tail", &report.bands.tail)]
    {
        let numbers = [u64::from(band.from), band.labels, band.train_positives, band.test_positives];
        table.row(std::iter::once(name.to_owned()).chain(numbers.iter().map(u64::to_string)));
    }
    table.render()
}

fn notes(report: &DatasetReport) -> Vec<String> {
    let overlap = report.overlap.as_ref();
    let unseen = overlap.map_or(0, |o| o.unseen_labels);
    let positives = overlap.map_or(0, |o| o.unseen_positives);
    let repeated = overlap.and_then(|o| o.texts_in_train).unwrap_or(0);
    let mut not_learnt = "labels have no training row and cannot be learnt".to_owned();
    if unseen > 0 {
        let _ = write!(not_learnt, "; test rows have {unseen} of them, {positives} times");
    }
    [
        (report.duplicate_label_names, "labels have the name of an earlier label".to_owned()),
        (report.labels_without_training_rows, not_learnt),
        (repeated, "test texts are training texts too: scores will be too good".to_owned()),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, words)| format!("{count} {words}\n"))
    .collect()
}

fn histogram(bins: &[Bin]) -> String {
    let most = bins.iter().map(|bin| bin.rows).max().unwrap_or(0).max(1);
    let mut table = Table::new(&[("words", Align::Right), ("rows", Align::Right), ("", Align::Left)]);
    for bin in bins.iter().skip_while(|bin| bin.rows == 0) {
        let range =
            if bin.from == bin.to { bin.from.to_string() } else { format!("{}–{}", bin.from, bin.to) };
        let bar = "█".repeat((bin.rows * BAR).div_ceil(most) as usize);
        table.row([range, bin.rows.to_string(), bar]);
    }
    table.render()
}
