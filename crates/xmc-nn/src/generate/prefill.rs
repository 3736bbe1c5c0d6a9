//! How do prompts get into the caches? All at once, token beside token, as texts are encoded.

use super::cache::Cache;
use crate::batch::Batch;
use crate::decoder::packed::Packed;
use crate::decoder::{Decoder, Prefix};
use crate::error::Result;

/// Fills empty caches with the keys and values of `prefix` and of their prompts, which are checked; returns the logits of
/// what may follow each, `[prompts, vocab]`.
pub(super) fn prefill(
    decoder: &Decoder,
    prompts: &[&[u32]],
    caches: &mut [&mut Cache],
    prefix: Option<&Prefix>,
) -> Result<Vec<f32>> {
    let config = decoder.config();
    let (h, width) = (config.hidden, config.kv_heads * config.head_dim);
    let before = prefix.map_or(0, Prefix::len);
    if let Some(prefix) = prefix {
        for cache in caches.iter_mut() {
            for layer in 0..config.layers {
                cache.write(layer, prefix.keys(layer), prefix.values(layer), width);
            }
            cache.advance(before);
        }
    }
    let batch = Batch::new(prompts);
    let ends = batch.cu_seqlens();
    let hidden = decoder.run(&Packed::new(&batch, 0, before), prefix, None, &mut |layer, keys, values| {
        for (cache, ends) in caches.iter_mut().zip(ends.windows(2)) {
            let rows = ends[0] * width..ends[1] * width;
            cache.write(layer, &keys[rows.clone()], &values[rows], width);
        }
    });
    let mut last = Vec::with_capacity(prompts.len() * h);
    for (cache, ends) in caches.iter_mut().zip(ends.windows(2)) {
        cache.advance(ends[1] - ends[0]);
        last.extend_from_slice(&hidden[(ends[1] - 1) * h..ends[1] * h]);
    }
    decoder.logits(&last)
}
