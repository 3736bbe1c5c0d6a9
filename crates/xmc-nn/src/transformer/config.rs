//! Which transformer is it? Read from and written as the `config.json` of Hugging Face.

use std::path::Path;

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::hf::{Keys, read_json};

/// The published families; they differ in names, embeddings and where they drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// BERT, MiniLM and their like: learned positions, token types.
    Bert,
    /// BERT without token types and without dropout behind attention.
    DistilBert,
    /// BERT whose positions begin behind the padding id.
    Roberta,
    /// RoBERTa without token types, with a bias on attention scores that depends on the distance of two tokens.
    Mpnet,
}

impl Family {
    /// `model_type` of `config.json`.
    fn name(self) -> &'static str {
        match self {
            Family::Bert => "bert",
            Family::DistilBert => "distilbert",
            Family::Roberta => "roberta",
            Family::Mpnet => "mpnet",
        }
    }
}

/// Probabilities of dropping, at the four places where BERT drops.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DropoutRates {
    /// Embeddings, behind their norm.
    pub embeddings: f32,
    /// Attention probabilities.
    pub probabilities: f32,
    /// What attention adds to the stream.
    pub attention: f32,
    /// What the feed-forward part adds to the stream.
    pub feed_forward: f32,
}

/// Sizes and choices of a transformer.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Which names and embeddings.
    pub family: Family,
    /// Number of token ids.
    pub vocab: usize,
    /// Width h of the stream.
    pub hidden: usize,
    /// Number of layers.
    pub layers: usize,
    /// Attention heads; each is `hidden / heads` wide.
    pub heads: usize,
    /// Width f inside the feed-forward part.
    pub intermediate: usize,
    /// Rows of the position table.
    pub positions: usize,
    /// Rows of the token type table, 0 without one. Every token is of type 0.
    pub token_types: usize,
    /// Row of the first token's position.
    pub first_position: usize,
    /// Buckets of the distance bias, 0 without one.
    pub relative_buckets: usize,
    /// Added to variances in norms.
    pub norm_eps: f32,
    /// Where and how often training drops.
    pub dropout: DropoutRates,
    /// Id of the padding token; written, never computed with.
    pub pad_token: usize,
}

impl Config {
    /// A BERT of these sizes with 512 positions and dropout 0.1.
    pub fn bert(vocab: usize, hidden: usize, layers: usize, heads: usize, intermediate: usize) -> Self {
        Config {
            family: Family::Bert,
            vocab,
            hidden,
            layers,
            heads,
            intermediate,
            positions: 512,
            token_types: 2,
            first_position: 0,
            relative_buckets: 0,
            norm_eps: 1e-12,
            dropout: DropoutRates { embeddings: 0.1, probabilities: 0.1, attention: 0.1, feed_forward: 0.1 },
            pad_token: 0,
        }
    }

    /// Width of a head.
    pub fn head_dim(&self) -> usize {
        self.hidden / self.heads
    }

    /// What queries are multiplied with: 1 / sqrt(head width).
    pub(crate) fn query_scale(&self) -> f32 {
        1.0 / (self.head_dim() as f32).sqrt()
    }

    /// Longest sequence.
    pub fn max_positions(&self) -> usize {
        self.positions - self.first_position
    }

    /// Reads `config.json`.
    pub fn open(path: &Path) -> Result<Self> {
        Self::from_json(&read_json(path)?).map_err(|problem| Error::file(path, problem))
    }

    /// Takes the content of a `config.json`; the error says which key and what was expected.
    pub fn from_json(json: &Value) -> std::result::Result<Self, String> {
        let keys = Keys::of(json)?;
        let config = match keys.text("model_type", "")? {
            "bert" => Self::bert_like(Family::Bert, &keys)?,
            "roberta" | "xlm-roberta" | "camembert" => Self::bert_like(Family::Roberta, &keys)?,
            "mpnet" => Self::bert_like(Family::Mpnet, &keys)?,
            "distilbert" => Self::distilbert(&keys)?,
            other => {
                return Err(format!(
                    "model_type `{other}` is not supported; expected bert, distilbert, roberta or mpnet"
                ));
            }
        };
        config.check()?;
        Ok(config)
    }

    fn bert_like(family: Family, keys: &Keys<'_>) -> std::result::Result<Self, String> {
        keys.expect_text("hidden_act", "gelu")?;
        keys.expect_text("position_embedding_type", "absolute")?;
        keys.expect_false("is_decoder", "only encoders are supported")?;
        let hidden = keys.fraction("hidden_dropout_prob", 0.1)?;
        let pad_token = keys.size("pad_token_id", usize::from(family != Family::Bert))?;
        Ok(Config {
            family,
            vocab: keys.required("vocab_size")?,
            hidden: keys.required("hidden_size")?,
            layers: keys.required("num_hidden_layers")?,
            heads: keys.required("num_attention_heads")?,
            intermediate: keys.required("intermediate_size")?,
            positions: keys.size("max_position_embeddings", 512)?,
            token_types: if family == Family::Mpnet { 0 } else { keys.size("type_vocab_size", 2)? },
            first_position: match family {
                Family::Bert | Family::DistilBert => 0,
                Family::Roberta => pad_token + 1,
                Family::Mpnet => 2, // the published code fixes the padding id of positions to 1
            },
            relative_buckets: match family {
                Family::Mpnet => keys.size("relative_attention_num_buckets", 32)?,
                _ => 0,
            },
            norm_eps: keys.fraction("layer_norm_eps", 1e-12)?,
            dropout: DropoutRates {
                embeddings: hidden,
                probabilities: keys.fraction("attention_probs_dropout_prob", 0.1)?,
                attention: hidden,
                feed_forward: hidden,
            },
            pad_token,
        })
    }

    fn distilbert(keys: &Keys<'_>) -> std::result::Result<Self, String> {
        keys.expect_text("activation", "gelu")?;
        let hidden = keys.fraction("dropout", 0.1)?;
        Ok(Config {
            family: Family::DistilBert,
            vocab: keys.required("vocab_size")?,
            hidden: keys.required("dim")?,
            layers: keys.required("n_layers")?,
            heads: keys.required("n_heads")?,
            intermediate: keys.required("hidden_dim")?,
            positions: keys.size("max_position_embeddings", 512)?,
            token_types: 0,
            first_position: 0,
            relative_buckets: 0,
            norm_eps: 1e-12,
            dropout: DropoutRates {
                embeddings: hidden,
                probabilities: keys.fraction("attention_dropout", 0.1)?,
                attention: 0.0,
                feed_forward: hidden,
            },
            pad_token: keys.size("pad_token_id", 0)?,
        })
    }

    /// Refuses sizes with which nothing can be computed.
    pub(crate) fn check(&self) -> std::result::Result<(), String> {
        let sizes = [
            ("vocabulary", self.vocab),
            ("width", self.hidden),
            ("number of heads", self.heads),
            ("inner width", self.intermediate),
        ];
        for (what, size) in sizes {
            if !(1..=1 << 28).contains(&size) {
                return Err(format!("{what} is {size}; expected 1 to 2^28"));
            }
        }
        if self.layers > 1000 || self.token_types > 1 << 16 || self.positions > 1 << 24 {
            return Err("more layers, token types or positions than any known model has".to_owned());
        }
        if !self.hidden.is_multiple_of(self.heads) {
            return Err(format!("width {} is not a multiple of {} heads", self.hidden, self.heads));
        }
        if self.positions <= self.first_position {
            return Err(format!("{} positions leave none for tokens", self.positions));
        }
        if !self.relative_buckets.is_multiple_of(2) || self.relative_buckets > 1 << 16 {
            return Err(format!("{} distance buckets; expected an even number", self.relative_buckets));
        }
        Ok(())
    }

    /// The content of a `config.json` from which [`Config::from_json`] and Hugging Face make the same model.
    pub fn to_json(&self) -> Value {
        let mut json = json!({
            "model_type": self.family.name(),
            "vocab_size": self.vocab,
            "max_position_embeddings": self.positions,
            "pad_token_id": self.pad_token,
        });
        let more = match self.family {
            Family::DistilBert => json!({
                "architectures": ["DistilBertModel"],
                "activation": "gelu",
                "dim": self.hidden,
                "n_layers": self.layers,
                "n_heads": self.heads,
                "hidden_dim": self.intermediate,
                "dropout": decimal(self.dropout.embeddings),
                "attention_dropout": decimal(self.dropout.probabilities),
            }),
            Family::Bert | Family::Roberta | Family::Mpnet => json!({
                "architectures": [match self.family {
                    Family::Roberta => "RobertaModel",
                    Family::Mpnet => "MPNetModel",
                    _ => "BertModel",
                }],
                "hidden_act": "gelu",
                "hidden_size": self.hidden,
                "num_hidden_layers": self.layers,
                "num_attention_heads": self.heads,
                "intermediate_size": self.intermediate,
                "hidden_dropout_prob": decimal(self.dropout.embeddings),
                "attention_probs_dropout_prob": decimal(self.dropout.probabilities),
                "layer_norm_eps": decimal(self.norm_eps),
            }),
        };
        if let (Some(json), Value::Object(more)) = (json.as_object_mut(), more) {
            json.extend(more);
            if self.token_types > 0 {
                json.insert("type_vocab_size".to_owned(), self.token_types.into());
            }
            if self.relative_buckets > 0 {
                json.insert("relative_attention_num_buckets".to_owned(), self.relative_buckets.into());
            }
        }
        json
    }
}

/// The shortest decimal that is this f32, as f64: 0.1, not 0.10000000149.
fn decimal(x: f32) -> f64 {
    x.to_string().parse().unwrap_or(f64::from(x))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mini() -> Value {
        Config::bert(100, 32, 2, 4, 64).to_json()
    }

    #[test]
    fn every_family_survives_writing_and_reading() {
        let bert = Config::bert(100, 32, 2, 4, 64);
        let distilbert = Config {
            family: Family::DistilBert,
            token_types: 0,
            dropout: DropoutRates { attention: 0.0, ..bert.dropout },
            ..bert.clone()
        };
        let roberta = Config { family: Family::Roberta, pad_token: 3, first_position: 4, ..bert.clone() };
        let mpnet = Config {
            family: Family::Mpnet,
            token_types: 0,
            pad_token: 1,
            first_position: 2,
            relative_buckets: 32,
            ..bert.clone()
        };
        for config in [bert, distilbert, roberta, mpnet] {
            assert_eq!(Config::from_json(&config.to_json()).unwrap(), config);
        }
    }

    #[test]
    fn what_cannot_be_computed_is_refused_by_name() {
        for (key, value, expected) in [
            ("model_type", json!("t5"), "model_type `t5` is not supported"),
            ("model_type", Value::Null, "model_type `` is not supported"),
            ("hidden_act", json!("relu"), "hidden_act `relu` is not supported; expected `gelu`"),
            ("hidden_act", json!("gelu_new"), "hidden_act `gelu_new` is not supported"),
            ("position_embedding_type", json!("relative_key"), "position_embedding_type `relative_key`"),
            ("is_decoder", json!(true), "only encoders"),
            ("hidden_size", Value::Null, "key `hidden_size` is missing"),
            ("hidden_size", json!(-3), "key `hidden_size` is -3; expected a whole number"),
            ("hidden_size", json!(33), "width 33 is not a multiple of 4 heads"),
            ("num_attention_heads", json!(0), "number of heads is 0"),
            ("hidden_dropout_prob", json!(1.0), "expected a number in [0, 1)"),
            ("max_position_embeddings", json!(0), "0 positions leave none"),
        ] {
            let mut json = mini();
            json[key] = value;
            let error = Config::from_json(&json).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
