//! How many CPU seconds does tf-idf take? `bench/tfidf/compare.py` runs this beside scikit-learn. Linux only.
//!
//! `tfidf_cpu TRAIN.txt TEST.txt CONFIG` with one text a line and the configuration as JSON prints one JSON object.

#![allow(clippy::print_stdout, reason = "the result")]

use std::error::Error;

use xmc_data::Strings;
use xmc_data::text::{Vectorizer, VectorizerConfig};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [train, test, config] = args.as_slice() else {
        return Err("usage: tfidf_cpu TRAIN.txt TEST.txt CONFIG.json".into());
    };
    let config: VectorizerConfig = serde_json::from_str(config)?;
    let (train, test) = (texts(train)?, texts(test)?);
    let start = cpu_seconds()?;
    let (vectorizer, x) = Vectorizer::fit(&[config], &train)?;
    let fitted = cpu_seconds()?;
    let z = vectorizer.transform(&test);
    let (fit, transform) = (fitted - start, cpu_seconds()? - fitted);
    let (features, stored) = (x.cols(), x.nnz() + z.nnz());
    println!(
        r#"{{"fit": {fit:.4}, "transform": {transform:.4}, "features": {features}, "stored": {stored}}}"#
    );
    Ok(())
}

fn texts(path: &str) -> Result<Strings, Box<dyn Error>> {
    Ok(Strings::new(std::fs::read_to_string(path)?.lines()))
}

/// CPU seconds of all threads so far: the kernel gives nanoseconds first.
fn cpu_seconds() -> Result<f64, Box<dyn Error>> {
    let mut nanoseconds = 0.0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let times = std::fs::read_to_string(task?.path().join("schedstat"))?;
        nanoseconds += times.split(' ').next().unwrap_or("0").parse::<f64>()?;
    }
    Ok(nanoseconds / 1e9)
}
