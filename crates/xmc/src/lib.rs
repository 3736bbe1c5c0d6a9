//! Extreme multi-label text classification: given a text, the few right labels out of thousands to millions.
//!
//! * [`config`] is how a user tells a method what to do;
//! * [`run`] cuts long work into stages that survive a crash; [`events`] says how far it is;
//! * [`memory`] counts bytes.

pub mod config;
pub mod error;
pub mod events;
pub mod memory;
pub mod run;

pub use error::{Error, Result};
