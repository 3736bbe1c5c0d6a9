//! How does an encoder come in from Hugging Face, and go back out?
//!
//! As a folder with their file names: [`weights`] reads and writes `model.safetensors`, [`Tokenizer`] cuts texts as
//! `tokenizer.json` says.

mod tokenizer;
pub mod weights;
mod word_piece;

pub use tokenizer::Tokenizer;
