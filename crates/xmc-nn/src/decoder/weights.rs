//! What does a decoder hold, and how does it get it? Matrices in few bits as [`QuantMatrix`], norms and biases as f32.

use std::fmt;
use std::str::FromStr;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use xmc_data::Buffer;

use super::config::Config;
use crate::error::Result;
use crate::quant::{Format, QuantMatrix};

/// How the matrices of the layers are held; embeddings, norms and biases stay as they are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Quantization {
    /// As the file has them.
    #[default]
    Stored,
    /// 4.5 bits.
    Q4_0,
    /// 8.5 bits.
    Q8_0,
    /// NF4, 4.5 bits, or 4.127 with double quantisation.
    Nf4 {
        /// Whether scales are quantised too.
        double: bool,
    },
    /// 32 bits.
    F32,
    /// 16 bits.
    Bf16,
}

const NAMES: [(&str, Quantization); 7] = [
    ("stored", Quantization::Stored),
    ("nf4", Quantization::Nf4 { double: false }),
    ("nf4-double", Quantization::Nf4 { double: true }),
    ("q4_0", Quantization::Q4_0),
    ("q8_0", Quantization::Q8_0),
    ("bf16", Quantization::Bf16),
    ("f32", Quantization::F32),
];

impl Quantization {
    /// The format that matrices get, none if they keep theirs.
    pub fn format(self) -> Option<Format> {
        match self {
            Quantization::Stored => None,
            Quantization::Q4_0 => Some(Format::Q4_0),
            Quantization::Q8_0 => Some(Format::Q8_0),
            Quantization::Nf4 { double } => Some(Format::Nf4 { double }),
            Quantization::F32 => Some(Format::F32),
            Quantization::Bf16 => Some(Format::Bf16),
        }
    }
}

impl fmt::Display for Quantization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES.iter().find(|(_, other)| other == self).map_or("", |(name, _)| name))
    }
}

impl FromStr for Quantization {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        NAMES.iter().find(|(name, _)| *name == text).map(|(_, found)| *found).ok_or_else(|| {
            let names = NAMES.map(|(name, _)| name).join(", ");
            format!("unknown quantization `{text}`; expected one of {names}")
        })
    }
}

/// The matrices of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Site {
    Query,
    Key,
    Value,
    Output,
    Gate,
    Up,
    Down,
}

impl Site {
    pub(crate) const ALL: [Site; 7] =
        [Site::Query, Site::Key, Site::Value, Site::Output, Site::Gate, Site::Up, Site::Down];

    /// Name inside a layer, as Hugging Face has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Site::Query => "self_attn.q_proj",
            Site::Key => "self_attn.k_proj",
            Site::Value => "self_attn.v_proj",
            Site::Output => "self_attn.o_proj",
            Site::Gate => "mlp.gate_proj",
            Site::Up => "mlp.up_proj",
            Site::Down => "mlp.down_proj",
        }
    }

    /// Outputs and inputs.
    pub(crate) fn shape(self, config: &Config) -> [usize; 2] {
        let (h, f) = (config.hidden, config.intermediate);
        let (queries, keys) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        match self {
            Site::Query => [queries, h],
            Site::Key | Site::Value => [keys, h],
            Site::Output => [h, queries],
            Site::Gate | Site::Up => [f, h],
            Site::Down => [h, f],
        }
    }

    /// Whether it has a bias.
    fn has_bias(self, config: &Config) -> bool {
        config.qkv_bias && matches!(self, Site::Query | Site::Key | Site::Value)
    }
}

/// y = x W^T + b
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    /// `[outputs, inputs]`
    pub(crate) weight: QuantMatrix,
    /// `[outputs]` or empty.
    pub(crate) bias: Vec<f32>,
}

/// Weights of one layer.
#[derive(Clone, Debug)]
pub(crate) struct LayerWeights {
    /// In front of attention `[h]`.
    pub(crate) attention_norm: Vec<f32>,
    /// In front of the feed-forward part `[h]`.
    pub(crate) feed_norm: Vec<f32>,
    /// In the order of [`Site::ALL`].
    pub(crate) linears: [Linear; 7],
}

/// All weights.
#[derive(Clone, Debug)]
pub(crate) struct Weights {
    /// `[vocab, h]`
    pub(crate) embeddings: QuantMatrix,
    pub(crate) layers: Vec<LayerWeights>,
    /// Behind the last layer `[h]`.
    pub(crate) norm: Vec<f32>,
    /// `[vocab, h]`; none where the embeddings are used again.
    pub(crate) head: Option<QuantMatrix>,
}

impl LayerWeights {
    pub(crate) fn linear(&self, site: Site) -> &Linear {
        &self.linears[site as usize]
    }
}

impl Weights {
    /// Collects all weights: `matrix` finds one by its name and shape, `vector` by its name and length.
    pub(crate) fn collect(
        config: &Config,
        quantization: Quantization,
        matrix: &dyn Fn(&str, [usize; 2]) -> Result<QuantMatrix>,
        vector: &dyn Fn(&str, usize) -> Result<Vec<f32>>,
    ) -> Result<Self> {
        let h = config.hidden;
        let layers = (0..config.layers)
            .map(|layer| {
                let name = |part: &str| format!("model.layers.{layer}.{part}");
                let linear = |site: Site| -> Result<Linear> {
                    let weight = matrix(&name(&format!("{}.weight", site.name())), site.shape(config))?;
                    let weight = match quantization.format() {
                        Some(format) => weight.to_format(format)?,
                        None => weight,
                    };
                    let bias = if site.has_bias(config) {
                        vector(&name(&format!("{}.bias", site.name())), weight.rows())?
                    } else {
                        Vec::new()
                    };
                    Ok(Linear { weight, bias })
                };
                let [q, k, v, o, gate, up, down] = Site::ALL.map(linear);
                Ok(LayerWeights {
                    attention_norm: vector(&name("input_layernorm.weight"), h)?,
                    feed_norm: vector(&name("post_attention_layernorm.weight"), h)?,
                    linears: [q?, k?, v?, o?, gate?, up?, down?],
                })
            })
            .collect::<Result<_>>()?;
        let vocabulary = [config.vocab, h];
        Ok(Weights {
            embeddings: matrix("model.embed_tokens.weight", vocabulary)?,
            layers,
            norm: vector("model.norm.weight", h)?,
            head: if config.tied { None } else { Some(matrix("lm_head.weight", vocabulary)?) },
        })
    }

    /// Random weights that keep signals at their size: matrices uniform with variance 1 / inputs, norms around 1.
    pub(crate) fn random(config: &Config, seed: u64, quantization: Quantization) -> Result<Self> {
        let values = |name: &str, n: usize, middle: f32, bound: f32| {
            let place = xxhash_rust::xxh3::xxh3_64_with_seed(name.as_bytes(), seed);
            let mut random = Pcg64Mcg::seed_from_u64(place);
            (0..n).map(|_| middle + (random.random::<f32>() * 2.0 - 1.0) * bound).collect::<Vec<f32>>()
        };
        let matrix = |name: &str, [rows, cols]: [usize; 2]| {
            let bound = if name.starts_with("model.embed") { 1.0 } else { (3.0 / cols as f32).sqrt() };
            let bytes: Vec<u8> =
                values(name, rows * cols, 0.0, bound).iter().flat_map(|v| v.to_le_bytes()).collect();
            QuantMatrix::from_blocks(Format::F32, rows, cols, Buffer::from(bytes))
        };
        let vector = |name: &str, n: usize| {
            let (middle, bound) = if name.ends_with("bias") { (0.0, 0.5) } else { (1.0, 0.3) };
            Ok(values(name, n, middle, bound))
        };
        Self::collect(config, quantization, &matrix, &vector)
    }

    /// Bytes of all weights, mapped or owned.
    pub(crate) fn bytes(&self) -> usize {
        let vectors = |layer: &LayerWeights| {
            let biases: usize = layer.linears.iter().map(|linear| linear.bias.len()).sum();
            4 * (layer.attention_norm.len() + layer.feed_norm.len() + biases)
        };
        let layers: usize = self
            .layers
            .iter()
            .map(|layer| layer.linears.iter().map(|l| l.weight.bytes()).sum::<usize>() + vectors(layer))
            .sum();
        layers
            + self.embeddings.bytes()
            + self.head.as_ref().map_or(0, QuantMatrix::bytes)
            + 4 * self.norm.len()
    }
}
