//! What are the rows, labels, features and scores of an extreme multi-label data set, and how good are they?
//!
//! Data flows from top to bottom of this list:
//! * [`formats`] reads and writes every file format of the field, plain or compressed;
//! * [`dataset`] is one folder of texts, features and labels;
//! * [`text`] turns texts into sparse features;
//! * [`csr`] is the one sparse matrix that everything else works on;
//! * [`topk`] holds predictions: rows of `(label, score)`;
//! * [`metrics`] says how good they are; [`inspect`] says what a data set looks like.

pub mod buffer;
pub mod csr;
pub mod dataset;
pub mod dense;
pub mod error;
pub mod filter;
pub mod formats;
pub mod inspect;
pub mod labels;
pub mod metrics;
pub mod strings;
pub mod text;
pub mod topk;

pub use buffer::Buffer;
pub use csr::{Csr, CsrBuilder, Row};
pub use dense::Dense;
pub use error::{Error, Result};
pub use labels::{LabelId, LabelSet};
pub use strings::Strings;
pub use topk::TopK;
