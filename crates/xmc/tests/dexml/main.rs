//! Training of DEXML from end to end, on toy data and a tiny encoder that begins with nothing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod learning;
mod resume;
mod soft;
#[path = "../toy/mod.rs"]
mod toy;
mod world;
