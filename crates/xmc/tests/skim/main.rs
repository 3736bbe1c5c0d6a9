//! An augmentation from end to end in a small world: does a model that learns from the augmented matrix find what the biased
//! one hides?

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../toy/encoder.rs"]
mod encoder;
mod gain;
mod world;
