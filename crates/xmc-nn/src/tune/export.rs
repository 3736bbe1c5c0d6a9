//! How does a tuned decoder leave? As a folder of Hugging Face, its adapter added to the weights, matrix after matrix.
//!
//!   W' = W + s B A
//!
//! `config.json` and `model.safetensors`; whoever calls adds the tokenizer. W is what the adapter learned beside: where the
//! decoder was opened in few bits, those bits unpacked.

use std::io::Write;
use std::path::Path;

use half::bf16;
use safetensors::tensor::Dtype;
use serde_json::{Value, json};
use xmc_data::formats::atomic::write_atomically;

use super::Tuned;
use crate::decoder::weights::Site;
use crate::decoder::{Config, RopeLayout, RopeScaling};
use crate::error::{Error, Result};
use crate::hf::weights::{FILE, write_tensors};
use crate::quant::QuantMatrix;

/// Numbers of an exported decoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Export {
    /// 32 bits: to the bit what was learned.
    F32,
    /// 16 bits, rounded to the nearest.
    #[default]
    Bf16,
}

/// One tensor of the file.
struct Part<'a> {
    name: String,
    shape: Vec<usize>,
    origin: Origin<'a>,
}

/// Where its numbers are from.
enum Origin<'a> {
    /// A matrix as it is.
    Matrix(&'a QuantMatrix),
    /// A vector as it is.
    Vector(&'a [f32]),
    /// A matrix of a layer with its adapter.
    Merged(usize, Site),
    /// The bias of one.
    Bias(usize, Site),
}

impl<'a> Part<'a> {
    fn new(name: String, shape: Vec<usize>, origin: Origin<'a>) -> Self {
        Part { name, shape, origin }
    }

    fn vector(name: String, values: &'a [f32]) -> Self {
        Part::new(name, vec![values.len()], Origin::Vector(values))
    }
}

impl Tuned {
    /// Writes the decoder with its adapter merged into the existing folder `dir`, where
    /// [`Source`](crate::decoder::Source) reads it.
    ///
    /// # Errors
    /// If files cannot be written, or the decoder turns positions by factors that `config.json` has no words for.
    pub fn export(&self, dir: &Path, numbers: Export) -> Result<()> {
        let config = config_json(self.decoder.config(), numbers)
            .ok_or_else(|| {
                Error::Shape(
                    "the decoder's file scales rotary positions by a list of factors, which config.json cannot hold: \
                     tune the decoder from its folder of Hugging Face instead of a GGUF file"
                        .to_owned(),
                )
            })
            .and_then(|json| {
                serde_json::to_vec_pretty(&json).map_err(|e| Error::file(dir, format!("config: {e}")))
            })?;
        let parts = self.parts();
        let shapes: Vec<(&str, &[usize])> = parts.iter().map(|p| (p.name.as_str(), &p.shape[..])).collect();
        let dtype = if numbers == Export::F32 { Dtype::F32 } else { Dtype::BF16 };
        write_tensors(&dir.join(FILE), &shapes, dtype, ("format", "pt".to_owned()), |i, file| {
            let values = self.values(&parts[i].origin);
            match numbers {
                Export::F32 => file.write_all(bytemuck::cast_slice(&values)),
                Export::Bf16 => {
                    let rounded: Vec<u16> = values.iter().map(|&v| bf16::from_f32(v).to_bits()).collect();
                    file.write_all(bytemuck::cast_slice(&rounded))
                }
            }
        })?;
        let path = dir.join("config.json");
        write_atomically(&path, |file| file.write_all(&config).map_err(xmc_data::Error::io(&path)))?;
        Ok(())
    }

    /// All tensors in their order.
    fn parts(&self) -> Vec<Part<'_>> {
        let weights = self.decoder.weights();
        let matrix = |name: &str, matrix| Part::new(name.to_owned(), shape(matrix), Origin::Matrix(matrix));
        let mut parts = vec![matrix("model.embed_tokens.weight", &weights.embeddings)];
        for (index, layer) in weights.layers.iter().enumerate() {
            let name = |part: &str, what: &str| format!("model.layers.{index}.{part}.{what}");
            parts.push(Part::vector(name("input_layernorm", "weight"), &layer.attention_norm));
            parts.push(Part::vector(name("post_attention_layernorm", "weight"), &layer.feed_norm));
            for site in Site::ALL {
                let linear = layer.linear(site);
                let merged = Origin::Merged(index, site);
                parts.push(Part::new(name(site.name(), "weight"), shape(&linear.weight), merged));
                if !linear.bias.is_empty() {
                    let bias = Origin::Bias(index, site);
                    parts.push(Part::new(name(site.name(), "bias"), vec![linear.bias.len()], bias));
                }
            }
        }
        parts.push(Part::vector("model.norm.weight".to_owned(), &weights.norm));
        parts.extend(weights.head.as_ref().map(|head| matrix("lm_head.weight", head)));
        parts
    }

    fn values(&self, origin: &Origin<'_>) -> Vec<f32> {
        let layers = &self.decoder.weights().layers;
        match *origin {
            Origin::Matrix(matrix) => unpacked(matrix),
            Origin::Vector(values) => values.to_vec(),
            Origin::Merged(layer, site) => {
                let mut values = unpacked(&layers[layer].linear(site).weight);
                self.lora.merge(layer, site, &self.params, &mut values);
                self.as_halves(site, values)
            }
            Origin::Bias(layer, site) => self.as_halves(site, layers[layer].linear(site).bias.clone()),
        }
    }

    /// Rows of queries and keys in the order of Hugging Face: the numbers that are turned together half a head apart.
    fn as_halves(&self, site: Site, values: Vec<f32>) -> Vec<f32> {
        let config = self.decoder.config();
        if config.rope == RopeLayout::Halves || !matches!(site, Site::Query | Site::Key) {
            return values;
        }
        let d = config.head_dim;
        let rows = site.shape(config)[0];
        let cols = values.len() / rows;
        let mut ordered = Vec::with_capacity(values.len());
        for row in 0..rows {
            let (head, i) = (row / d, row % d);
            let from = head * d + 2 * (i % (d / 2)) + i / (d / 2);
            ordered.extend_from_slice(&values[from * cols..(from + 1) * cols]);
        }
        ordered
    }
}

fn shape(matrix: &QuantMatrix) -> Vec<usize> {
    vec![matrix.rows(), matrix.cols()]
}

fn unpacked(matrix: &QuantMatrix) -> Vec<f32> {
    let mut values = vec![0.0; matrix.rows() * matrix.cols()];
    for (i, row) in values.chunks_exact_mut(matrix.cols()).enumerate() {
        matrix.row(i, row);
    }
    values
}

/// What [`Config::from_json`] reads back; none if there are no words for it.
fn config_json(config: &Config, numbers: Export) -> Option<Value> {
    let scaling = match &config.rope_scaling {
        None => Value::Null,
        Some(RopeScaling::Linear(factor)) => json!({"rope_type": "linear", "factor": short(*factor)}),
        Some(RopeScaling::Llama3 { factor, low, high, positions }) => json!({
            "rope_type": "llama3", "factor": short(*factor), "low_freq_factor": short(*low),
            "high_freq_factor": short(*high), "original_max_position_embeddings": positions,
        }),
        Some(RopeScaling::Factors(_)) => return None,
    };
    let (family, class) =
        if config.qkv_bias { ("qwen2", "Qwen2ForCausalLM") } else { ("llama", "LlamaForCausalLM") };
    Some(json!({
        "architectures": [class],
        "model_type": family,
        "vocab_size": config.vocab,
        "hidden_size": config.hidden,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.intermediate,
        "max_position_embeddings": config.positions,
        "rope_theta": short(config.rope_theta),
        "rope_scaling": scaling,
        "rms_norm_eps": short(config.norm_eps),
        "hidden_act": "silu",
        "attention_bias": false,
        "mlp_bias": false,
        "tie_word_embeddings": config.tied,
        "bos_token_id": config.bos,
        "eos_token_id": config.eos,
        "pad_token_id": config.pad,
        "torch_dtype": if numbers == Export::F32 { "float32" } else { "bfloat16" },
    }))
}

/// The shortest decimal number that is this one in 32 bits: 1e-5, and not 9.999999747378752e-6.
fn short(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}
