//! The product as a library: train on a dataset folder, then label texts. The README shows this file.

use std::io::{self, Write};
use std::path::Path;

use xmc::config;
use xmc::data::LabelId;
use xmc::data::dataset::Dataset;
use xmc::events::Silent;
use xmc::methods::TrainOptions;
use xmc::methods::xr_linear::{self, XrLinearConfig};
use xmc::{Model, PredictOptions, Predictor};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Settings are those of `xmc help-config xr-linear`; what is not set has its default.
    let config = config::load::<XrLinearConfig>(None, &["ranker.weights=u8".to_owned()])?;
    let data = Dataset::open(Path::new("data/debian-debtags"))?;
    let options = TrainOptions::new("debtags.xmc");
    let summary = xr_linear::train(&data, &config, &options, &Silent)?;
    let precision = summary.metrics.and_then(|report| report.values.get("P@1"));
    let mut out = io::stdout().lock();
    writeln!(out, "P@1 {:.2}, {} bytes", precision.unwrap_or_default(), summary.model_bytes)?;

    // Training left a folder; opening maps its files. A session keeps its buffers from text to text.
    let model = Model::open(&options.out)?;
    let mut session = model.session(PredictOptions::top(3));
    for text in ["a web browser", "chess for two players"] {
        for &(label, score) in session.text(text)? {
            writeln!(out, "{score:.3} {} <- {text}", model.labels().get(LabelId(label)).unwrap_or_default())?;
        }
    }
    Ok(())
}
