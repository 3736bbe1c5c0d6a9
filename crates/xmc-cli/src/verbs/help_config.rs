//! `xmc help-config METHOD`: the complete configuration file.

use std::io::{self, Write};

use anyhow::Result;
use xmc::augment::config::AugmentConfig;
use xmc::augment::finetune::FinetuneConfig;
use xmc::config;
use xmc::methods::dexml::DexmlConfig;
use xmc::methods::elias::EliasConfig;
use xmc::methods::quest::QuestConfig;
use xmc::methods::xr_linear::XrLinearConfig;
use xmc::methods::xr_transformer::XrTransformerConfig;

use crate::Outcome;
use crate::args::Configured;

pub(crate) fn run(of: Configured) -> Result<Outcome> {
    let text = match of {
        Configured::XrLinear => config::help::<XrLinearConfig>(),
        Configured::XrTransformer => config::help::<XrTransformerConfig>(),
        Configured::Dexml => config::help::<DexmlConfig>(),
        Configured::Elias => config::help::<EliasConfig>(),
        Configured::Quest => config::help::<QuestConfig>(),
        Configured::Augment => config::help::<AugmentConfig>(),
        Configured::Finetune => config::help::<FinetuneConfig>(),
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(Outcome::Done)
}
