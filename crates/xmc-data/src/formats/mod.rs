//! How do rows and labels come in and go out?
//!
//! * [`source`] opens any text file line by line, plain, `.gz` or `.zst`, and writes one packed as its name says;
//! * [`atomic`] replaces a file in one step.

pub mod atomic;
pub mod source;

pub use source::{Lines, open_lines};
