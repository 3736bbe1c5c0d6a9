//! Training of ELIAS from end to end, on toy data and a tiny encoder that begins with nothing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "../toy/folders.rs"]
mod folders;
mod inputs;
mod resume;
mod stages;
#[path = "../toy/mod.rs"]
mod toy;
mod world;
