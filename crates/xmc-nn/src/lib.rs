//! How do encoders compute and learn?
//!
//! * [`batch`]: token sequences side by side, without padding;
//! * [`checkpoint`]: named runs of floats in a checked file;
//! * [`decoder`]: frozen language models;
//! * [`dropout`] and [`pool`]: which activations are dropped, how tokens become one vector;
//! * [`generate`]: decoders continue texts;
//! * [`gguf`]: language models as single files;
//! * [`hf`]: encoders as folders of Hugging Face;
//! * [`loss`]: what a step minimises, streamed over all labels;
//! * [`ops`]: the kernels, chosen by instruction set at run time;
//! * [`optim`]: optimisers, schedules, clipping, averages;
//! * [`params`]: all parameters of a model in one run of floats;
//! * [`quant`]: frozen weights in few bits;
//! * [`table`]: classifiers of labels of which a step touches few;
//! * [`tensor`] and [`device`]: where numbers live;
//! * [`tokens`]: texts as token ids, in memory or mapped;
//! * [`tower`]: texts to embeddings, and gradients back;
//! * [`transformer`]: the layers;
//! * [`tune`]: decoders learn to continue texts.

pub mod batch;
mod buffers;
pub mod checkpoint;
pub mod decoder;
pub mod device;
pub mod dropout;
pub mod error;
pub mod generate;
pub mod gguf;
pub mod hf;
pub mod loss;
pub mod ops;
pub mod optim;
pub mod params;
pub mod pool;
pub mod quant;
pub mod table;
pub mod tensor;
pub mod tokens;
pub mod tower;
pub mod transformer;
pub mod tune;

pub use batch::Batch;
pub use device::Device;
pub use dropout::DropoutKey;
pub use error::{Error, Result};
pub use ops::matmul::Precision;
pub use params::Layout;
pub use tensor::Tensor;
pub use tokens::Tokens;
pub use tower::{Pooling, Tower, TowerConfig};
