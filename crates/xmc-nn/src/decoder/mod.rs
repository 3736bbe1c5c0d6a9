//! How does a frozen, quantised language model turn tokens into vectors?

mod config;

pub use config::{Config, RopeLayout, RopeScaling};
