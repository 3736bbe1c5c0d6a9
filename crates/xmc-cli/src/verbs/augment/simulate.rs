//! `xmc augment simulate-bias`: what would a click log have kept?

use anyhow::Result;
use xmc::augment::embed::Embedder;
use xmc::augment::simulate::{Mechanism, Retriever, SimulateConfig, simulate};
use xmc_data::dataset::Dataset;
use xmc_nn::{Device, Precision};

use super::args::SimulateBias;
use super::print;
use crate::Outcome;
use crate::progress::Terminal;

pub(super) fn run(verb: &SimulateBias, terminal: &Terminal) -> Result<Outcome> {
    let data = Dataset::open(&verb.data)?;
    let names = data.labels.names();
    let retriever = match &verb.encoder {
        Some(dir) => {
            let embedder = Embedder::open(dir, None, Device::Cpu, Precision::F32)?;
            Retriever::embeddings(embedder, names)?
        }
        None => Retriever::words(names)?,
    };
    let mechanism = match (verb.mnar, verb.mar) {
        (true, _) => Mechanism::Mnar,
        (_, true) => Mechanism::Mar,
        _ => Mechanism::Exposure,
    };
    let config = SimulateConfig {
        mechanism,
        topk: verb.topk,
        test_topk: verb.test_topk,
        slope: verb.slope,
        seed: verb.seed,
    };
    let simulated = simulate(data, &retriever, &config, terminal)?;
    simulated.save(&verb.out)?;
    terminal.stage_over();
    terminal.say(&format!(
        "{0}: training rows as a log would have them, complete test rows; hidden pairs in hidden.trn.npz\n",
        verb.out.display()
    ));
    print(&simulated.report, verb.json)
}
