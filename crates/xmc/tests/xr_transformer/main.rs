//! Training of XR-Transformer from end to end, on toy data and a tiny encoder that begins with nothing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod ahead;
mod ensembles;
#[path = "../toy/folders.rs"]
mod folders;
mod models;
mod resume;
#[path = "../toy/mod.rs"]
mod toy;
mod world;
