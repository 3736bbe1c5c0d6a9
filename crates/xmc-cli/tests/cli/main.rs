//! What a user sees of every verb, on data of a few rows.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod augment;
mod damage;
#[path = "../../../xmc/tests/toy/decoder.rs"]
mod decoder;
mod dexml;
mod elias;
mod embed;
mod encoders;
mod ensemble;
mod evaluate;
mod explain;
mod import;
mod inspect;
mod predict;
mod quest;
mod quickstart;
mod resume;
mod sample;
mod tiny_encoder;
#[path = "../../../xmc/tests/toy/mod.rs"]
#[allow(dead_code, reason = "only the decoder is used here")]
mod toy;
mod train;
mod usage;
mod world;
mod xr_transformer;
