//! The methods: each reads like its paper.

pub mod xr_linear;
