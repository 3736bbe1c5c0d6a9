//! `xmc quickstart`: from nothing to labels, on data that is part of this program.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use xmc::config;
use xmc::methods::TrainOptions;
use xmc::methods::xr_linear::{self, XrLinearConfig};
use xmc::model::{Model, PredictOptions, Predictor};
use xmc_data::dataset::Dataset;
use xmc_data::{LabelId, Strings};

use crate::Outcome;
use crate::args::Quickstart;
use crate::progress::Terminal;
use crate::table::{Align, Table};
use crate::verbs::train::show;

/// A file of the bundled data.
macro_rules! bundled {
    ($name:literal) => {
        ($name, include_bytes!(concat!("../../../../data/debian-debtags/", $name)))
    };
}

/// The bundled data. Its 2 MB are part of the program, so that an installed one needs neither repository nor network.
const FILES: [(&str, &[u8]); 5] = [
    bundled!("raw/trn_X.txt.zst"),
    bundled!("raw/tst_X.txt.zst"),
    bundled!("raw/Y.txt"),
    bundled!("Y.trn.npz"),
    bundled!("Y.tst.npz"),
];

/// Texts that are in no data set.
const SAMPLES: [&str; 3] = [
    "small command line tool to resize and convert JPEG and PNG pictures in batches",
    "development files for a C library that parses XML documents",
    "arcade game for two players: drive tanks through a maze and shoot the other one",
];

const LABELS: usize = 5;

pub(crate) fn run(verb: &Quickstart, quiet: bool) -> Result<Outcome> {
    let terminal = Terminal::new(quiet);
    let temporary = tempfile::tempdir().context("could not make a temporary folder for the bundled data")?;
    let folder = temporary.path().join("debian-debtags");
    unpack(&folder)?;
    let data = Dataset::open(&folder)?;
    let test_rows = data.test.as_ref().map_or(0, xmc_data::dataset::Part::rows);
    let (rows, labels) = (data.train.rows(), data.labels.len());
    terminal.say(&format!(
        "bundled data: descriptions of Debian packages and their tags\n{rows} rows to train, {test_rows} to test, {labels} labels\n"
    ));
    let config = config::load::<XrLinearConfig>(None, &[])?;
    let summary = xr_linear::train(&data, &config, &TrainOptions::new(&verb.out), &terminal)?;
    terminal.say(&show(&summary, &verb.out));
    terminal.say("");

    let model = Model::open(&verb.out)?;
    io::stdout().write_all(predictions(&model)?.as_bytes())?;
    terminal.say(&next_steps(&verb.out));
    Ok(Outcome::Done)
}

fn unpack(dir: &Path) -> Result<()> {
    for (name, bytes) in FILES {
        let path = dir.join(name);
        let parent = path.parent().unwrap_or(dir);
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(&path, bytes))
            .with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// The samples, each with its best labels by name.
fn predictions(model: &Model) -> Result<String> {
    let found = model.predict(&Strings::new(SAMPLES), &PredictOptions::top(LABELS))?;
    let mut text = String::new();
    for (i, sample) in SAMPLES.iter().enumerate() {
        let mut table = Table::new(&[("label", Align::Left), ("score", Align::Right)]);
        for &(label, score) in found.row(i) {
            let name = model.labels().get(LabelId(label)).unwrap_or_default();
            table.row([name.to_owned(), format!("{score:.3}")]);
        }
        let _ = writeln!(text, "\"{sample}\"\n{}", table.render());
    }
    Ok(text)
}

/// Commands to go on with, as they work from here.
fn next_steps(model: &Path) -> String {
    // `cargo run` starts the program by its path, an installed one by its name.
    let xmc = env::args().next().unwrap_or_else(|| "xmc".to_owned());
    let model = model.display();
    let steps = [
        (format!("echo \"a web browser\" | {xmc} predict {model}"), "labels for your own texts"),
        (format!("{xmc} import my.csv --out my-data"), "your own texts and labels as a dataset"),
        (format!("{xmc} inspect my-data"), "what is in it"),
        (format!("{xmc} train xr-linear --data my-data --out my-model.xmc"), "a model of your own"),
        (format!("{xmc} help-config xr-linear"), "everything that can be set"),
    ];
    let mut table = Table::new(&[("next", Align::Left), ("gives", Align::Left)]);
    for (command, gives) in steps {
        table.row([command.as_str(), gives]);
    }
    format!("the model is in {model}\n\n{}", table.render().trim_end())
}
