//! How do encoders compute and learn?
//!
//! * [`batch`]: token sequences side by side, without padding;
//! * [`hf`]: encoders as folders of Hugging Face;
//! * [`loss`]: what a step minimises, streamed over all labels;
//! * [`ops`]: the kernels, chosen by instruction set at run time;
//! * [`params`]: all parameters of a model in one run of floats;
//! * [`tokens`]: texts as token ids, in memory or mapped;
//! * [`tensor`] and [`device`]: where numbers live.

pub mod batch;
pub mod device;
pub mod error;
pub mod hf;
pub mod loss;
pub mod ops;
pub mod params;
pub mod tensor;
pub mod tokens;

pub use batch::Batch;
pub use device::Device;
pub use error::{Error, Result};
pub use ops::matmul::Precision;
pub use params::Layout;
pub use tensor::Tensor;
pub use tokens::Tokens;
