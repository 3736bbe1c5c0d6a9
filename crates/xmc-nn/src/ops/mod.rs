//! The kernels: everything that knows about instruction sets.

pub mod matmul;
