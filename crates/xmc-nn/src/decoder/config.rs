//! Which decoder is it? Sizes and choices of LLaMA and its relatives, as `config.json` of Hugging Face says them.

use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::hf::{Keys, read_json};

/// Which numbers of a head are turned together by rotary positions: a property of the file, because programs store
/// the rows of query and key weights in the order that their own kernels like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeLayout {
    /// i and i + d/2: Hugging Face, and GGUF files of Qwen2.
    Halves,
    /// 2i and 2i + 1: GGUF files of LLaMA.
    Pairs,
}

/// How the frequencies of rotary positions differ from `theta^(-2i/d)`.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// All are divided by one number.
    Linear(f32),
    /// LLaMA 3.1: slow ones are divided by `factor`, fast ones stay, those between are mixed. With the wavelength
    /// w = 2 pi / f and n the positions of pre-training: slow is w > n / `low`, fast is w < n / `high`.
    Llama3 {
        /// What slow frequencies are divided by.
        factor: f32,
        /// Turns within n positions below which a frequency is slow.
        low: f32,
        /// Turns within n positions above which a frequency is fast.
        high: f32,
        /// Positions n of pre-training.
        positions: usize,
    },
    /// Each is divided by a number of its own, `[d/2]`: what GGUF files have for LLaMA 3.1.
    Factors(Vec<f32>),
}

/// Sizes and choices of a decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Number of token ids.
    pub vocab: usize,
    /// Width h of the stream.
    pub hidden: usize,
    /// Number of layers.
    pub layers: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values; `heads / kv_heads` query heads share one.
    pub kv_heads: usize,
    /// Width d of a head.
    pub head_dim: usize,
    /// Width inside the feed-forward part.
    pub intermediate: usize,
    /// Longest sequence.
    pub positions: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f32,
    /// Which numbers are turned together.
    pub rope: RopeLayout,
    /// Changed frequencies.
    pub rope_scaling: Option<RopeScaling>,
    /// Added to mean squares in norms.
    pub norm_eps: f32,
    /// Whether queries, keys and values have biases (Qwen2).
    pub qkv_bias: bool,
    /// Whether the token embeddings are the output matrix too.
    pub tied: bool,
    /// Id that begins a text.
    pub bos: Option<u32>,
    /// Ids that end a text.
    pub eos: Vec<u32>,
    /// Id of the padding token.
    pub pad: Option<u32>,
    /// Whether the model's tokenizer puts `bos` before a text.
    pub add_bos: bool,
}

impl Config {
    /// LLaMA with the given sizes, query heads and key heads; everything else as in its smaller models.
    pub fn llama(
        vocab: usize,
        hidden: usize,
        layers: usize,
        [heads, kv_heads]: [usize; 2],
        intermediate: usize,
    ) -> Self {
        Config {
            vocab,
            hidden,
            layers,
            heads,
            kv_heads,
            head_dim: hidden / heads.max(1),
            intermediate,
            positions: 2048,
            rope_theta: 10_000.0,
            rope: RopeLayout::Halves,
            rope_scaling: None,
            norm_eps: 1e-5,
            qkv_bias: false,
            tied: true,
            bos: Some(1),
            eos: vec![2],
            pad: None,
            add_bos: true,
        }
    }

    /// Reads `config.json`; no weights are needed.
    pub fn open(path: &Path) -> Result<Self> {
        Self::from_json(&read_json(path)?).map_err(|problem| Error::file(path, problem))
    }

    /// Takes the content of a `config.json`; the error says which key and what was expected.
    pub fn from_json(json: &Value) -> std::result::Result<Self, String> {
        let keys = Keys::of(json)?;
        let family = keys.text("model_type", "")?;
        if !["llama", "mistral", "qwen2"].contains(&family) {
            return Err(format!("model_type `{family}` is not supported; expected llama, mistral or qwen2"));
        }
        keys.expect_text("hidden_act", "silu")?;
        keys.expect_false("attention_bias", "biases behind attention are not supported")?;
        keys.expect_false("mlp_bias", "biases of the feed-forward part are not supported")?;
        if keys.get("partial_rotary_factor").is_some_and(|value| value.as_f64() != Some(1.0)) {
            return Err("partial_rotary_factor is not supported; expected 1 or nothing".to_owned());
        }
        let (hidden, heads) = (keys.required("hidden_size")?, keys.required("num_attention_heads")?);
        let (rope_theta, rope_scaling) = rope(&keys)?;
        let eos = keys.get("eos_token_id").map(|value| ids("eos_token_id", value)).transpose()?;
        let config = Config {
            vocab: keys.required("vocab_size")?,
            hidden,
            layers: keys.required("num_hidden_layers")?,
            heads,
            kv_heads: keys.size("num_key_value_heads", heads)?,
            head_dim: keys.size("head_dim", hidden / heads.max(1))?,
            intermediate: keys.required("intermediate_size")?,
            positions: positions(&keys, family)?,
            rope_theta,
            rope: RopeLayout::Halves,
            rope_scaling,
            norm_eps: keys.positive("rms_norm_eps", Some(1e-6))?,
            qkv_bias: family == "qwen2",
            tied: keys.flag("tie_word_embeddings", false)?,
            bos: first_id(&keys, "bos_token_id")?,
            eos: eos.unwrap_or_default(),
            pad: first_id(&keys, "pad_token_id")?,
            add_bos: false,
        };
        config.check()?;
        Ok(config)
    }

    /// Adds the ids that a `generation_config.json` lets end a text.
    pub(super) fn add_ends(&mut self, json: &Value) -> std::result::Result<(), String> {
        let key = "eos_token_id";
        let more = Keys::of(json)?.get(key).map(|value| ids(key, value)).transpose()?.unwrap_or_default();
        for id in more {
            if !self.eos.contains(&id) {
                self.eos.push(id);
            }
        }
        self.check()
    }

    /// What positions are multiplied with to get angles, `[d/2]`: `theta^(-2i/d)`, scaled as the model asks.
    pub fn rope_frequencies(&self) -> Vec<f32> {
        let plain = (0..self.head_dim / 2)
            .map(|i| f64::from(self.rope_theta).powf(-2.0 * i as f64 / self.head_dim as f64));
        let Some(scaling) = &self.rope_scaling else { return plain.map(|f| f as f32).collect() };
        plain.enumerate().map(|(i, f)| scaling.apply(i, f) as f32).collect()
    }

    /// Refuses sizes with which nothing can be computed.
    pub(crate) fn check(&self) -> std::result::Result<(), String> {
        let sizes = [
            ("vocabulary", self.vocab),
            ("width", self.hidden),
            ("number of layers", self.layers),
            ("number of heads", self.heads),
            ("number of key heads", self.kv_heads),
            ("width of a head", self.head_dim),
            ("inner width", self.intermediate),
            ("number of positions", self.positions),
        ];
        for (what, size) in sizes {
            if !(1..=1 << 28).contains(&size) {
                return Err(format!("{what} is {size}; expected 1 to 2^28"));
            }
        }
        if self.layers > 1000 || self.heads > 1 << 16 || self.head_dim > 1 << 12 {
            return Err("more or wider heads, or more layers, than any known model has".to_owned());
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            let (heads, kv_heads) = (self.heads, self.kv_heads);
            return Err(format!("{heads} query heads cannot share {kv_heads} key heads evenly"));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(format!("heads are {} wide; rotary positions need an even width", self.head_dim));
        }
        for (what, value) in [("rope theta", self.rope_theta), ("epsilon of norms", self.norm_eps)] {
            if !(value.is_finite() && value > 0.0) {
                return Err(format!("{what} is {value}; expected a positive number"));
            }
        }
        if let Some(RopeScaling::Factors(factors)) = &self.rope_scaling {
            let good =
                factors.len() == self.head_dim / 2 && factors.iter().all(|&f| f.is_finite() && f > 0.0);
            if !good {
                return Err(format!("rope factors: expected {} positive numbers", self.head_dim / 2));
            }
        }
        let special = self.bos.iter().chain(&self.eos).chain(&self.pad);
        match special.copied().find(|&id| id as usize >= self.vocab) {
            Some(id) => Err(format!("special token {id} is beyond the vocabulary of {}", self.vocab)),
            None => Ok(()),
        }
    }
}

impl RopeScaling {
    /// Frequency `i`, which is `f` without scaling.
    fn apply(&self, i: usize, f: f64) -> f64 {
        match self {
            RopeScaling::Linear(factor) => f / f64::from(*factor),
            RopeScaling::Factors(factors) => f / f64::from(factors[i]),
            &RopeScaling::Llama3 { factor, low, high, positions } => {
                let (low, high) = (f64::from(low), f64::from(high));
                let turns = positions as f64 * f / (2.0 * std::f64::consts::PI);
                let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                kept * f + (1.0 - kept) * f / f64::from(factor)
            }
        }
    }
}

/// Positions for which the model is computed as published: a sliding window sees all of a text that is not longer.
fn positions(keys: &Keys<'_>, family: &str) -> std::result::Result<usize, String> {
    let positions = keys.size("max_position_embeddings", 2048)?;
    let slides = match family {
        "mistral" => true,
        "qwen2" => keys.flag("use_sliding_window", false)?,
        _ => false,
    };
    Ok(if slides { positions.min(keys.size("sliding_window", positions)?) } else { positions })
}

/// Base and scaling, wherever the version of transformers wrote them.
fn rope(keys: &Keys<'_>) -> std::result::Result<(f32, Option<RopeScaling>), String> {
    let theta = keys.positive("rope_theta", Some(10_000.0))?;
    let place = ["rope_parameters", "rope_scaling"].into_iter().find_map(|key| Some((key, keys.get(key)?)));
    let Some((place, json)) = place else { return Ok((theta, None)) };
    let within = |problem: String| format!("{place}: {problem}");
    let keys = Keys::of(json).map_err(within)?;
    let read = || {
        let theta = keys.positive("rope_theta", Some(theta))?;
        let kind = keys.text("rope_type", keys.text("type", "default")?)?;
        let scaling = match kind {
            "default" => None,
            "linear" => Some(RopeScaling::Linear(keys.positive("factor", None)?)),
            "llama3" => Some(llama3(&keys)?),
            other => {
                return Err(format!(
                    "rope_type `{other}` is not supported; expected default, linear or llama3"
                ));
            }
        };
        Ok((theta, scaling))
    };
    read().map_err(within)
}

fn llama3(keys: &Keys<'_>) -> std::result::Result<RopeScaling, String> {
    let (low, high) = (keys.positive("low_freq_factor", None)?, keys.positive("high_freq_factor", None)?);
    if low >= high {
        return Err(format!("low_freq_factor {low} is not below high_freq_factor {high}"));
    }
    let positions = keys.required("original_max_position_embeddings")?;
    Ok(RopeScaling::Llama3 { factor: keys.positive("factor", None)?, low, high, positions })
}

/// An id, or several.
fn ids(key: &str, value: &Value) -> std::result::Result<Vec<u32>, String> {
    let wrong = || format!("key `{key}` is {value}; expected a token id or a list of them");
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(wrong);
    value.as_array().map_or_else(|| Ok(vec![id(value)?]), |list| list.iter().map(id).collect())
}

/// The first id of a key; -1 stands for none in old files.
fn first_id(keys: &Keys<'_>, key: &str) -> std::result::Result<Option<u32>, String> {
    match keys.get(key) {
        Some(value) if value.as_i64() != Some(-1) => Ok(ids(key, value)?.first().copied()),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn llama() -> Value {
        json!({
            "model_type": "llama", "vocab_size": 128, "hidden_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 96,
            "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "hidden_act": "silu",
            "bos_token_id": 1, "eos_token_id": [2, 3], "pad_token_id": -1, "tie_word_embeddings": true,
        })
    }

    #[test]
    fn sizes_come_from_every_family() {
        let config = Config::from_json(&llama()).unwrap();
        assert_eq!((config.head_dim, config.kv_heads, config.positions), (16, 2, 512));
        assert_eq!((config.bos, &config.eos[..], config.pad), (Some(1), &[2, 3][..], None));
        assert!(config.tied && !config.qkv_bias && config.rope == RopeLayout::Halves);
        assert_eq!(config.rope_theta, 10_000.0);

        let mut qwen = llama();
        qwen["model_type"] = json!("qwen2");
        qwen["rope_parameters"] = json!({"rope_type": "default", "rope_theta": 1e6});
        qwen["use_sliding_window"] = json!(false);
        qwen["sliding_window"] = json!(32);
        let config = Config::from_json(&qwen).unwrap();
        assert!(config.qkv_bias && config.positions == 512 && config.rope_theta == 1e6);

        let mut mistral = llama();
        mistral["model_type"] = json!("mistral");
        mistral["head_dim"] = json!(32);
        mistral["sliding_window"] = json!(128);
        let config = Config::from_json(&mistral).unwrap();
        assert_eq!((config.head_dim, config.positions), (32, 128));
    }

    /// Numbers of `_compute_llama3_parameters` of transformers for a head of 16, theta 500,000, 8 times 1,024 positions.
    #[test]
    fn rotary_frequencies_are_scaled_as_published() {
        let mut json = llama();
        json["rope_theta"] = json!(500_000.0);
        json["rope_scaling"] = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 1024});
        let config = Config::from_json(&json).unwrap();
        let golden = [
            1.0,
            0.193_922_76,
            0.037_606_03,
            1.312_569_5e-3,
            1.767_766_8e-4,
            3.428_102_4e-5,
            6.647_869_7e-6,
            1.289_173e-6,
        ];
        for (found, expected) in config.rope_frequencies().into_iter().zip(golden) {
            assert!((found - expected).abs() <= 1e-6 * expected, "{found} {expected}");
        }
        json["rope_scaling"] = json!({"type": "linear", "factor": 4.0});
        let linear = Config::from_json(&json).unwrap();
        let plain = Config { rope_scaling: None, ..linear.clone() };
        let divided: Vec<f32> = plain.rope_frequencies().iter().map(|f| f / 4.0).collect();
        assert_eq!(linear.rope_frequencies(), divided);
    }

    #[test]
    fn what_cannot_be_computed_is_refused_by_name() {
        for (key, value, expected) in [
            ("model_type", json!("mixtral"), "model_type `mixtral` is not supported; expected llama"),
            ("hidden_act", json!("gelu"), "hidden_act `gelu` is not supported; expected `silu`"),
            ("attention_bias", json!(true), "attention_bias is true; biases behind attention"),
            ("mlp_bias", json!(true), "mlp_bias is true"),
            ("partial_rotary_factor", json!(0.5), "partial_rotary_factor is not supported"),
            ("rope_scaling", json!({"type": "yarn"}), "rope_scaling: rope_type `yarn` is not supported"),
            ("rope_scaling", json!({"type": "linear"}), "rope_scaling: key `factor` is missing"),
            ("rope_parameters", json!(3), "rope_parameters: expected an object"),
            ("num_key_value_heads", json!(3), "4 query heads cannot share 3 key heads"),
            ("num_attention_heads", json!(0), "number of heads is 0"),
            ("head_dim", json!(5), "heads are 5 wide"),
            ("rms_norm_eps", json!(0), "key `rms_norm_eps` is 0; expected a positive number"),
            ("eos_token_id", json!("x"), "key `eos_token_id` is \"x\"; expected a token id"),
            ("bos_token_id", json!(128), "special token 128 is beyond the vocabulary of 128"),
            ("vocab_size", Value::Null, "key `vocab_size` is missing"),
            ("num_hidden_layers", json!(1u64 << 40), "number of layers is 1099511627776; expected 1 to 2^28"),
        ] {
            let mut json = llama();
            json[key] = value;
            let error = Config::from_json(&json).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
