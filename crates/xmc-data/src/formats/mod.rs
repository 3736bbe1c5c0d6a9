//! How do rows and labels come in and go out?
//!
//! * [`source`] opens any text file line by line, plain, `.gz` or `.zst`, and writes one packed as its name says;
//! * [`atomic`] replaces a file in one step;
//! * [`npz`] is scipy's sparse matrix, [`npy`] numpy's dense one;
//! * [`xmc_text`] and [`svmlight`] are sparse rows with labels as text;
//! * [`table`] (csv, tsv) and [`jsonl`] are texts with label names, whose [`fields`] are named or guessed;
//! * [`lines`] is one text or name a line;
//! * [`import`] makes a dataset of any of these, after [`sniff`] told which it is.

pub mod atomic;
pub mod fields;
pub mod import;
pub mod jsonl;
pub mod lines;
pub mod npy;
pub mod npz;
pub mod sniff;
pub mod source;
pub mod svmlight;
pub mod table;
mod unsorted;
pub mod xmc_text;

pub use source::{Lines, open_lines};
