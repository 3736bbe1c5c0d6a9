//! The kernels: everything that knows about instruction sets.

pub mod exp;
pub mod gelu;
pub mod half;
pub mod matmul;
pub mod norm;
pub mod reduce;
pub mod rms_norm;
pub mod simd;
pub mod softmax;
pub mod swiglu;
