//! How does a prompt in front of a frozen decoder learn? Forward keeps what goes into every layer, backward goes back
//! layer by layer and computes inside a layer again.
//!
//! The rows of the prompt are computed with the texts of every batch, so one unpacking of a weight serves both, and what all
//! texts add to the gradients of the prompt's keys and values is there when the layer needs it. Memory: `(layers + 1) t h`
//! floats and the buffers of one layer.

use super::Decoder;
use super::layer::{Layer, norm_backward_rows};
use super::lora::Adapter;
use super::packed::Packed;

/// What [`Decoder::backward`] needs of a forward pass.
#[derive(Debug)]
pub(crate) struct Tape {
    pub(crate) packed: Packed,
    /// What goes into every layer and into the last norm `[layers + 1][t, h]`.
    inputs: Vec<Vec<f32>>,
}

impl Decoder {
    /// Hidden states of all text rows `[t, h]` behind `prompt [n, h]`, and what backward needs. `packed` has n rows of a
    /// prompt.
    pub(crate) fn forward(
        &self,
        packed: Packed,
        prompt: &[f32],
        adapter: Option<Adapter<'_>>,
    ) -> (Vec<f32>, Tape) {
        let h = self.config().hidden;
        let mut inputs = self.tapes.take(Vec::new);
        let mut x = vec![0.0; packed.rows() * h];
        let (first, texts) = x.split_at_mut(packed.prompt() * h);
        first.copy_from_slice(prompt);
        self.embed(packed.text_ids(), texts);
        inputs.resize_with(self.config().layers + 1, Vec::new);
        let keep = |layer: usize, x: &[f32], inputs: &mut Vec<Vec<f32>>| {
            inputs[layer].clear();
            inputs[layer].extend_from_slice(x);
        };
        self.layers(
            &packed,
            &mut x,
            None,
            adapter,
            &mut |layer, x| keep(layer, x, &mut inputs),
            &mut |_, _, _| (),
        );
        keep(self.config().layers, &x, &mut inputs);
        let hidden = self.finish(&x[packed.prompt() * h..]);
        (hidden, Tape { packed, inputs })
    }

    /// Adds the gradient of the prompt to `dprompt [n, h]` and those of an adapter to `grads`, given `dhidden [t, h]`, the
    /// gradient of the hidden states.
    pub(crate) fn backward(
        &self,
        tape: Tape,
        dhidden: &[f32],
        adapter: Option<Adapter<'_>>,
        dprompt: &mut [f32],
        mut grads: Option<&mut [f32]>,
    ) {
        let (config, Tape { packed, inputs }) = (self.config(), tape);
        let (h, prompt) = (config.hidden, packed.prompt());
        let positions = packed.positions();
        let turns = self.turns(&positions);
        let pass = self.pass(&packed, &positions, &turns, adapter);
        let mut work = self.take_work();
        let mut dx = vec![0.0; packed.rows() * h];
        let (top, weights) = (&inputs[config.layers], self.weights());
        norm_backward_rows(
            &top[prompt * h..],
            &weights.norm,
            config.norm_eps,
            dhidden,
            &mut dx[prompt * h..],
        );
        rayon::scope(|_| {
            for (index, weights) in weights.layers.iter().enumerate().rev() {
                let layer = Layer { pass, index, weights };
                layer.backward(&inputs[index], &mut dx, &mut work, grads.as_deref_mut());
            }
        });
        for (sum, d) in dprompt.iter_mut().zip(&dx[..prompt * h]) {
            *sum += d;
        }
        self.give_work(work);
        self.tapes.give(inputs);
    }
}
