//! `xmc import FILE… --out DIR`: files of any known format to a dataset folder.

use anyhow::{Error, Result, anyhow, bail};
use xmc_data::formats::import::{FieldOptions, Format, ImportOptions, import};
use xmc_data::formats::source::Packing;

use crate::Outcome;
use crate::args::{Import, Pack};
use crate::progress::Terminal;

pub(crate) fn run(verb: &Import, quiet: bool) -> Result<Outcome> {
    if verb.out.exists() && verb.out.read_dir().map_or(true, |mut entries| entries.next().is_some()) {
        bail!("{}: exists and is not an empty folder; choose another --out", verb.out.display());
    }
    let options = ImportOptions {
        format: verb.format.as_deref().map(Format::named).transpose().map_err(by_option)?,
        fields: FieldOptions {
            text: verb.text.clone(),
            labels: verb.labels.clone(),
            separator: verb.separator.clone(),
            header: None,
        },
        label_names: verb.label_names.clone(),
        test_files: verb.test.clone(),
        test_fraction: verb.test_fraction,
        seed: verb.seed,
        packing: match verb.pack {
            Pack::None => Packing::Plain,
            Pack::Gz => Packing::Gzip,
            Pack::Zst => Packing::Zstd,
        },
    };
    let summary = import(&verb.files, &options, &verb.out).map_err(by_option)?;
    let terminal = Terminal::new(quiet);
    for guess in &summary.guesses {
        terminal.say(&guess.to_string());
    }
    let features = summary.features.map_or_else(String::new, |d| format!(", {d} features"));
    terminal.say(&format!(
        "{}: {} training rows, {} test rows, {} labels{features}; {} rows without labels, {} empty rows",
        verb.out.display(),
        summary.train_rows,
        summary.test_rows,
        summary.labels,
        summary.rows_without_labels,
        summary.empty_rows
    ));
    Ok(Outcome::Done)
}

/// A setting that is wrong, called by the option that gave it.
pub(crate) fn by_option(problem: xmc_data::Error) -> Error {
    match problem {
        xmc_data::Error::Config { key, value, expected } => {
            anyhow!("--{} {value}: expected {expected}", key.replace('_', "-"))
        }
        other => other.into(),
    }
}
