//! Extreme multi-label text classification.
