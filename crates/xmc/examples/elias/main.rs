//! What do a training step and a search of ELIAS cost, with the embeddings given? Measurements for `bench/elias`.
//!
//! ```text
//! elias plant FOLDER [--labels L] [--dim d] …     # labels, queries and an index with a known structure
//! elias step FOLDER [--table bf16/row] …          # training steps on it
//! elias search FOLDER [--dtype int8] …            # searches in it, beside brute force
//! elias scale --labels L [--clusters C] …         # training steps with many labels, without files
//! ```
#![allow(clippy::print_stdout, reason = "a program for the command line")]

mod clock;
mod plant;
mod planted;
mod scale;
mod search;
mod step;
mod truth;
mod visits;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
    #[arg(long, default_value_t = 1, global = true)]
    threads: usize,
}

#[derive(Subcommand)]
enum What {
    /// Makes a folder of planted data.
    Plant {
        folder: PathBuf,
        #[command(flatten)]
        settings: plant::Settings,
    },
    /// Takes training steps.
    Step {
        folder: PathBuf,
        #[command(flatten)]
        how: step::How,
    },
    /// Searches, and compares with brute force.
    Search {
        folder: PathBuf,
        #[command(flatten)]
        how: search::How,
    },
    /// Takes training steps with many labels.
    Scale {
        #[command(flatten)]
        settings: plant::Settings,
        #[command(flatten)]
        how: scale::How,
    },
}

fn main() -> Result<()> {
    let args = Arguments::parse();
    rayon::ThreadPoolBuilder::new().num_threads(args.threads).build_global()?;
    match args.what {
        What::Plant { folder, settings } => plant::write(&settings, &folder),
        What::Step { folder, how } => step::measure(&folder, &how),
        What::Search { folder, how } => search::measure(&folder, &how),
        What::Scale { settings, how } => scale::measure(&settings, &how),
    }
}
