//! How does an encoder come in from Hugging Face, and go back out?
//!
//! As a folder with their file names: [`weights`] reads and writes `model.safetensors`.

pub mod weights;
