//! Which decoder is in a GGUF file? Its metadata, as a [`Config`].

use crate::decoder::{Config, RopeLayout, RopeScaling};
use crate::error::{Error, Result};
use crate::gguf::File;

/// Frequencies of LLaMA 3.1 are divided by these.
const ROPE_FACTORS: &str = "rope_freqs.weight";

/// Reads the sizes of a file of architecture `llama` or `qwen2`.
pub(super) fn config(file: &File) -> Result<Config> {
    let wrong = |problem: String| Error::file(file.path(), problem);
    let architecture = file.text("general.architecture")?.unwrap_or_default();
    let rope = match architecture {
        "llama" => RopeLayout::Pairs,
        "qwen2" => RopeLayout::Halves,
        other => {
            return Err(wrong(format!(
                "general.architecture `{other}` is not supported; expected llama or qwen2"
            )));
        }
    };
    let key = |name: &str| format!("{architecture}.{name}");
    let needed = |name: &str| {
        let key = key(name);
        file.size(&key)?.ok_or_else(|| wrong(format!("key `{key}` is missing")))
    };
    if let Some(experts) = file.size(&key("expert_count"))?.filter(|&experts| experts > 0) {
        return Err(wrong(format!(
            "a mixture of {experts} experts is not supported; expected a dense model"
        )));
    }
    let (hidden, heads) = (needed("embedding_length")?, needed("attention.head_count")?);
    let head_dim = file.size(&key("attention.key_length"))?.unwrap_or(hidden / heads.max(1));
    let values = file.size(&key("attention.value_length"))?.unwrap_or(head_dim);
    let turned = file.size(&key("rope.dimension_count"))?.unwrap_or(head_dim);
    if values != head_dim || turned != head_dim {
        return Err(wrong(format!(
            "heads have {head_dim} numbers of keys, {values} of values, {turned} turned by positions; expected the same"
        )));
    }
    let positions = needed("context_length")?;
    let window = file.size(&key("attention.sliding_window"))?.filter(|&window| window > 0);
    let config = Config {
        vocab: vocabulary(file)?,
        hidden,
        layers: needed("block_count")?,
        heads,
        kv_heads: file.size(&key("attention.head_count_kv"))?.unwrap_or(heads),
        head_dim,
        intermediate: needed("feed_forward_length")?,
        // A sliding window sees all of a text that is not longer.
        positions: window.map_or(positions, |window| window.min(positions)),
        rope_theta: file.number(&key("rope.freq_base"))?.unwrap_or(10_000.0),
        rope,
        rope_scaling: rope_scaling(file, architecture, head_dim)?,
        norm_eps: file.number(&key("attention.layer_norm_rms_epsilon"))?.unwrap_or(1e-5),
        qkv_bias: file.tensor("blk.0.attn_q.bias")?.is_some(),
        tied: file.tensor("output.weight")?.is_none(),
        bos: special(file, "bos")?,
        eos: ends(file)?,
        pad: special(file, "padding")?,
        add_bos: false,
    };
    config.check().map_err(wrong)?;
    Ok(config)
}

/// Rows of the embeddings.
fn vocabulary(file: &File) -> Result<usize> {
    match file.tensor("token_embd.weight")? {
        Some((&[rows, _], _)) => Ok(rows),
        Some((shape, _)) => Err(Error::file(
            file.path(),
            format!("tensor `token_embd.weight` has shape {shape:?}, expected [tokens, width]"),
        )),
        None => Err(Error::file(file.path(), "has no tensor `token_embd.weight`: no language model")),
    }
}

fn rope_scaling(file: &File, architecture: &str, head_dim: usize) -> Result<Option<RopeScaling>> {
    let key = |name: &str| format!("{architecture}.rope.scaling.{name}");
    let factor = file.number(&key("factor"))?;
    let kind = file.text(&key("type"))?;
    if let Some(kind) = kind.filter(|kind| !["none", "linear"].contains(kind)) {
        return Err(Error::file(
            file.path(),
            format!("{} `{kind}` is not supported; expected none or linear", key("type")),
        ));
    }
    // Old files give the factor alone.
    let factor = factor.or(file.number(&format!("{architecture}.rope.scale_linear"))?);
    let factor = factor.filter(|&factor| kind != Some("none") && factor != 1.0 && factor != 0.0);
    if let Some(factor) = factor.filter(|&factor| factor < 0.0) {
        return Err(Error::file(
            file.path(),
            format!("key `{}` is {factor}; expected more than 0", key("factor")),
        ));
    }
    if file.tensor(ROPE_FACTORS)?.is_none() {
        return Ok(factor.map(RopeScaling::Linear));
    }
    // Sizes are believed only once the tensor has them.
    let matrix = file.matrix(ROPE_FACTORS, 1, head_dim / 2)?;
    let mut factors = vec![0.0; matrix.cols()];
    matrix.row(0, &mut factors);
    // Files that have both divide by both.
    for divisor in &mut factors {
        *divisor *= factor.unwrap_or(1.0);
    }
    Ok(Some(RopeScaling::Factors(factors)))
}

fn special(file: &File, name: &str) -> Result<Option<u32>> {
    let id = file.size(&format!("tokenizer.ggml.{name}_token_id"))?;
    // Beyond 32 bits it is beyond every vocabulary, which is checked.
    Ok(id.map(|id| u32::try_from(id).unwrap_or(u32::MAX)))
}

/// Every id that ends a text or a turn.
fn ends(file: &File) -> Result<Vec<u32>> {
    let mut ends = Vec::new();
    for name in ["eos", "eot", "eom"] {
        ends.extend(special(file, name)?.filter(|id| !ends.contains(id)));
    }
    Ok(ends)
}
