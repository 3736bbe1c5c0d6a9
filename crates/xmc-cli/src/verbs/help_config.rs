//! `xmc help-config METHOD`: the complete configuration file.

use std::io::{self, Write};

use anyhow::Result;
use xmc::config;
use xmc::methods::dexml::DexmlConfig;
use xmc::methods::elias::EliasConfig;
use xmc::methods::quest::QuestConfig;
use xmc::methods::xr_linear::XrLinearConfig;
use xmc::methods::xr_transformer::XrTransformerConfig;

use crate::Outcome;
use crate::args::Method;

pub(crate) fn run(method: Method) -> Result<Outcome> {
    let text = match method {
        Method::XrLinear => config::help::<XrLinearConfig>(),
        Method::XrTransformer => config::help::<XrTransformerConfig>(),
        Method::Dexml => config::help::<DexmlConfig>(),
        Method::Elias => config::help::<EliasConfig>(),
        Method::Quest => config::help::<QuestConfig>(),
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(Outcome::Done)
}
