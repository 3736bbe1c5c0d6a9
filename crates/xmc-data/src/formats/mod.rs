//! How do rows and labels come in and go out?
//!
//! * [`source`] opens any text file line by line, plain, `.gz` or `.zst`, and writes one packed as its name says;
//! * [`lines`] is one text or name a line, [`xmc_text`] the XMC repository's sparse text;
//! * [`npz`] is scipy's sparse matrix, [`npy`] numpy's dense one;
//! * [`atomic`] replaces a file in one step.

pub mod atomic;
pub mod lines;
pub mod npy;
pub mod npz;
pub mod source;
mod unsorted;
pub mod xmc_text;

pub use source::{Lines, open_lines};
