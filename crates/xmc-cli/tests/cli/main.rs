//! What a user sees of every verb, on data of a few rows.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod damage;
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
mod quickstart;
mod resume;
mod sample;
mod tiny_encoder;
mod train;
mod usage;
mod world;
mod xr_transformer;
