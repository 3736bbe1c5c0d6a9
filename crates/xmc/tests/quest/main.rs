//! Training of QUEST from end to end, on toy data and a tiny decoder that knows nothing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "../toy/decoder.rs"]
mod decoder;
#[path = "../toy/folders.rs"]
mod folders;
mod learning;
mod models;
mod real;
mod resume;
#[path = "../toy/mod.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod toy;
mod world;
