//! How does an encoder come in from Hugging Face, and go back out?
//!
//! As a folder with their file names: [`weights`] reads and writes `model.safetensors`, [`Tokenizer`] cuts texts as
//! `tokenizer.json` says. With the feature `hub` a model is downloaded by its name.

#[cfg(feature = "hub")]
pub mod hub;
mod keys;
mod tokenizer;
pub mod weights;
mod word_piece;

pub(crate) use keys::{Keys, read_json};
pub use tokenizer::Tokenizer;
