//! `xmc ensemble MODEL... --out DIR`: several models as one.

use anyhow::Result;
use xmc::memory;
use xmc::model::ensemble::ensemble;
use xmc_data::topk::ensemble::EnsembleRule;

use crate::Outcome;
use crate::args::{Ensemble, Rule};
use crate::progress::Terminal;
use crate::table::counted;

pub(crate) fn run(verb: &Ensemble, quiet: bool) -> Result<Outcome> {
    let rule = match verb.combine {
        Rule::Average => EnsembleRule::Average,
        Rule::RankAverage => EnsembleRule::RankAverage,
        Rule::SigmoidAverage => EnsembleRule::SigmoidAverage,
        Rule::SoftmaxAverage => EnsembleRule::SoftmaxAverage,
        Rule::RoundRobin => EnsembleRule::RoundRobin,
    };
    let manifest = ensemble(&verb.models, rule, &verb.out)?;
    let out = verb.out.display();
    let members = counted(verb.models.len(), "member");
    let labels = counted(manifest.data.labels, "label");
    let size = memory::show(manifest.bytes());
    Terminal::new(quiet).say(&format!("{out}: {members}, {labels}, {size}"));
    Ok(Outcome::Done)
}
