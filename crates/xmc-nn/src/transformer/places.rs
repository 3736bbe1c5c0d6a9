//! Where do a transformer's parameters lie, and what are they called?
//!
//! Names are those of Hugging Face's files without the prefix of the model class. Query, key and value weights lie
//! one after the other, so that they are one matrix `[3 h, h]`; so do their biases.

use std::ops::Range;

use super::config::{Config, Family};
use crate::params::Layout;

/// Weight `[out, in]` and bias `[out]`; also the weight and bias `[h]` of a norm.
#[derive(Clone, Debug)]
pub(crate) struct Affine {
    pub(crate) weight: Range<usize>,
    pub(crate) bias: Range<usize>,
}

/// One layer.
#[derive(Clone, Debug)]
pub(crate) struct LayerPlaces {
    /// Queries, keys and values: `[3 h, h]`.
    pub(crate) qkv: Affine,
    /// Behind attention: `[h, h]`.
    pub(crate) out: Affine,
    pub(crate) attention_norm: Affine,
    /// `[f, h]`
    pub(crate) up: Affine,
    /// `[h, f]`
    pub(crate) down: Affine,
    pub(crate) norm: Affine,
}

/// All parameters.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub(crate) words: Range<usize>,
    pub(crate) positions: Range<usize>,
    pub(crate) token_types: Option<Range<usize>>,
    pub(crate) embedding_norm: Affine,
    /// `[buckets, heads]`
    pub(crate) relative: Option<Range<usize>>,
    pub(crate) layers: Vec<LayerPlaces>,
}

/// What the parts of a layer are called in a family.
struct Names {
    layer: &'static str,
    qkv: [&'static str; 3],
    out: &'static str,
    attention_norm: &'static str,
    up: &'static str,
    down: &'static str,
    norm: &'static str,
}

const BERT: Names = Names {
    layer: "encoder.layer",
    qkv: ["attention.self.query", "attention.self.key", "attention.self.value"],
    out: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    norm: "output.LayerNorm",
};

const MPNET: Names = Names {
    qkv: ["attention.attn.q", "attention.attn.k", "attention.attn.v"],
    out: "attention.attn.o",
    attention_norm: "attention.LayerNorm",
    ..BERT
};

const DISTILBERT: Names = Names {
    layer: "transformer.layer",
    qkv: ["attention.q_lin", "attention.k_lin", "attention.v_lin"],
    out: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    up: "ffn.lin1",
    down: "ffn.lin2",
    norm: "output_layer_norm",
};

impl Places {
    /// Appends all parameters of a transformer to `layout`.
    pub(crate) fn new(config: &Config, layout: &mut Layout) -> Self {
        let names = match config.family {
            Family::Bert | Family::Roberta => &BERT,
            Family::DistilBert => &DISTILBERT,
            Family::Mpnet => &MPNET,
        };
        let h = config.hidden;
        let words = layout.push("embeddings.word_embeddings.weight", &[config.vocab, h]);
        let positions = layout.push("embeddings.position_embeddings.weight", &[config.positions, h]);
        let token_types = (config.token_types > 0)
            .then(|| layout.push("embeddings.token_type_embeddings.weight", &[config.token_types, h]));
        let embedding_norm = norm(layout, "embeddings.LayerNorm", h);
        let relative = (config.relative_buckets > 0).then(|| {
            layout.push("encoder.relative_attention_bias.weight", &[config.relative_buckets, config.heads])
        });
        let layers = (0..config.layers).map(|i| LayerPlaces::new(config, names, i, layout)).collect();
        Places { words, positions, token_types, embedding_norm, relative, layers }
    }
}

impl LayerPlaces {
    fn new(config: &Config, names: &Names, index: usize, layout: &mut Layout) -> Self {
        let (h, f) = (config.hidden, config.intermediate);
        let name = |part: &str| format!("{}.{index}.{part}", names.layer);
        let mut join = |what: &str, shape: &[usize]| {
            let parts = names.qkv.map(|part| layout.push(format!("{}.{what}", name(part)), shape));
            parts[0].start..parts[2].end
        };
        let qkv = Affine { weight: join("weight", &[h, h]), bias: join("bias", &[h]) };
        LayerPlaces {
            qkv,
            out: linear(layout, &name(names.out), h, h),
            attention_norm: norm(layout, &name(names.attention_norm), h),
            up: linear(layout, &name(names.up), f, h),
            down: linear(layout, &name(names.down), h, f),
            norm: norm(layout, &name(names.norm), h),
        }
    }
}

fn linear(layout: &mut Layout, name: &str, out: usize, inner: usize) -> Affine {
    Affine {
        weight: layout.push(format!("{name}.weight"), &[out, inner]),
        bias: layout.push(format!("{name}.bias"), &[out]),
    }
}

fn norm(layout: &mut Layout, name: &str, h: usize) -> Affine {
    Affine {
        weight: layout.push(format!("{name}.weight"), &[h]),
        bias: layout.push(format!("{name}.bias"), &[h]),
    }
}
