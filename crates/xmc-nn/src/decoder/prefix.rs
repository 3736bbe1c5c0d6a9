//! How often is a prompt computed that stands in front of every text? Once: in a causal model its keys and values do not
//! depend on what follows.

use super::Decoder;
use super::lora::Adapter;
use super::packed::Packed;
use crate::batch::Batch;
use crate::error::Result;

/// Keys and values of the first positions, in every layer.
#[derive(Clone, Debug)]
pub struct Prefix {
    len: usize,
    /// Turned keys, and values, `[n, kv_heads width]` each.
    layers: Vec<[Vec<f32>; 2]>,
}

impl Prefix {
    /// Number of positions n.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no position.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Turned keys of a layer `[n, kv_heads width]`.
    pub(crate) fn keys(&self, layer: usize) -> &[f32] {
        &self.layers[layer][0]
    }

    /// Values of a layer `[n, kv_heads width]`.
    pub(crate) fn values(&self, layer: usize) -> &[f32] {
        &self.layers[layer][1]
    }
}

impl Decoder {
    /// Keys and values of `rows [n, h]`, input vectors of the first n positions.
    ///
    /// # Errors
    /// If they are not whole rows or more than the decoder has positions.
    pub fn prefix(&self, rows: &[f32]) -> Result<Prefix> {
        self.prefix_with(rows, None)
    }

    pub(crate) fn prefix_with(&self, rows: &[f32], adapter: Option<Adapter<'_>>) -> Result<Prefix> {
        let len = self.prompt_len(rows)?;
        let mut layers = Vec::with_capacity(self.config().layers);
        if len > 0 {
            let packed = Packed::new(&Batch::default(), len, 0);
            let mut x = rows.to_vec();
            self.layers(&packed, &mut x, None, adapter, &mut |_, _| (), &mut |_, keys, values| {
                layers.push([keys.to_vec(), values.to_vec()]);
            });
        } else {
            layers.resize(self.config().layers, [Vec::new(), Vec::new()]);
        }
        Ok(Prefix { len, layers })
    }
}
