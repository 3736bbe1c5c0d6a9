//! Stages of an augmentation as a program uses them: with an encoder, and in processes that die.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod answers;
mod decoder;
mod embedding;
mod killed;
mod stages;
#[allow(dead_code, reason = "shared with other tests")]
#[path = "../toy/mod.rs"]
mod toy;
#[allow(dead_code, reason = "shared with other tests")]
#[path = "../toy/decoder.rs"]
mod toy_decoder;
#[path = "../toy/folders.rs"]
mod toy_files;
