//! Extreme multi-label text classification: given a text, the few right labels out of thousands to millions.
//!
//! * [`methods`] learn;
//! * [`model`] is the folder that training leaves and what predicts with it; [`evaluation`] says how well;
//! * [`explain`] says why a text got its labels;
//! * [`config`] is how a user tells a method what to do;
//! * [`encoder`] makes embeddings of texts;
//! * [`index`] finds the labels whose embeddings fit a query best;
//! * [`augment`] finds labels that the training data miss;
//! * [`sampling`] finds the few labels and pairs that are enough to learn from;
//! * [`run`] cuts long work into stages that survive a crash; [`events`] says how far it is;
//! * [`memory`] counts bytes;
//! * [`data`] (datasets, text features, metrics) and [`linear`] (trees and rankers) and [`nn`]
//!   (encoders) are the crates below.

pub mod augment;
pub mod config;
pub mod encoder;
pub mod error;
pub mod evaluation;
pub mod events;
pub mod explain;
mod fingerprint;
pub mod index;
pub mod memory;
pub mod methods;
pub mod model;
mod pairing;
mod random;
pub mod run;
pub mod sampling;

pub use xmc_data as data;
pub use xmc_linear as linear;
pub use xmc_nn as nn;

pub use error::{Error, Result};
pub use model::{Model, OpenOptions, PredictOptions, Predictor};
