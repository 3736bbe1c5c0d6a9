//! What does a token look like at first? z = word[id] + position[place] + type[0], x = drop(norm(z)).

use rayon::prelude::*;

use super::chunks::Chunk;
use super::pass::Pass;
use crate::buffers::sized;
use crate::dropout::{Dropout, Site};
use crate::ops::norm::layer_norm_backward;
use crate::ops::reduce::{add_bias, axpy, column_sums};

/// Rows of the word or position table that one task adds to.
const TABLE_ROWS: usize = 256;

/// Before and after the norm; what backward needs.
#[derive(Debug, Default)]
pub(crate) struct EmbeddingTape {
    /// `[t, h]`
    pub(crate) z: Vec<f32>,
    pub(crate) stats: Vec<[f32; 2]>,
}

/// Gradients of the parts that all tokens of a chunk share.
#[derive(Debug)]
pub(crate) struct EmbeddingGradients {
    /// Weight and bias of the norm.
    norm: [Vec<f32>; 2],
    token_type: Vec<f32>,
}

impl EmbeddingGradients {
    pub(crate) fn new(h: usize) -> Self {
        EmbeddingGradients { norm: [vec![0.0; h], vec![0.0; h]], token_type: vec![0.0; h] }
    }
}

/// Fills the tape with a chunk's embeddings.
pub(crate) fn forward(pass: &Pass<'_>, chunk: &Chunk, tape: &mut EmbeddingTape, x: &mut Vec<f32>) {
    let (h, params) = (pass.config.hidden, pass.params);
    let (words, positions) = (&params[pass.places.words.clone()], &params[pass.places.positions.clone()]);
    let z = sized(&mut tape.z, chunk.len() * h);
    for (token, row) in chunk.tokens.clone().zip(z.chunks_exact_mut(h)) {
        row.copy_from_slice(&words[pass.batch.ids()[token] as usize * h..][..h]);
    }
    for rows in chunk.rows(pass.batch) {
        axpy(
            1.0,
            &positions[pass.config.first_position * h..][..rows.len() * h],
            &mut z[rows.start * h..rows.end * h],
        );
    }
    if let Some(types) = &pass.places.token_types {
        add_bias(z, &params[types.start..][..h]);
    }
    let x = sized(x, chunk.len() * h);
    pass.norm(&pass.places.embedding_norm, z, x, &mut tape.stats);
    drop_embeddings(pass, chunk, x);
}

/// x = drop(norm(z)) again, from the tape.
pub(crate) fn again(
    pass: &Pass<'_>,
    chunk: &Chunk,
    tape: &EmbeddingTape,
    x: &mut [f32],
    stats: &mut Vec<[f32; 2]>,
) {
    pass.norm(&pass.places.embedding_norm, &tape.z[..x.len()], x, stats);
    drop_embeddings(pass, chunk, x);
}

fn drop_embeddings(pass: &Pass<'_>, chunk: &Chunk, x: &mut [f32]) {
    if let Some(dropout) = Dropout::new(pass.dropout, 0, Site::Embeddings, pass.config.dropout.embeddings) {
        dropout.apply(chunk.tokens.start, x, pass.config.hidden);
    }
}

/// `dx [t, h]` becomes dz.
pub(crate) fn backward(
    pass: &Pass<'_>,
    chunk: &Chunk,
    tape: &EmbeddingTape,
    dx: &mut [f32],
    gradients: &mut EmbeddingGradients,
) {
    let weight = &pass.params[pass.places.embedding_norm.weight.clone()];
    drop_embeddings(pass, chunk, dx);
    let [dweight, dbias] = &mut gradients.norm;
    for part in [&mut *dweight, &mut *dbias, &mut gradients.token_type] {
        part.fill(0.0);
    }
    layer_norm_backward(&tape.z[..dx.len()], weight, &tape.stats, dx, dweight, dbias);
    column_sums(dx, &mut gradients.token_type);
}

/// Adds the shared parts of a chunk to the gradients of all parameters.
pub(crate) fn add_shared(pass: &Pass<'_>, gradients: &EmbeddingGradients, grads: &mut [f32]) {
    let at = &pass.places.embedding_norm;
    axpy(1.0, &gradients.norm[0], &mut grads[at.weight.clone()]);
    axpy(1.0, &gradients.norm[1], &mut grads[at.bias.clone()]);
    if let Some(types) = &pass.places.token_types {
        axpy(1.0, &gradients.token_type, &mut grads[types.start..][..pass.config.hidden]);
    }
}

/// Adds dz of the chunks of a group to the gradients of the word and position tables. A task owns a range of rows
/// and adds those tokens that fall into it, in their order.
pub(crate) fn add_tables(pass: &Pass<'_>, group: &[(&Chunk, &[f32])], grads: &mut [f32]) {
    let h = pass.config.hidden;
    let first = pass.config.first_position;
    let words: Vec<&[u32]> = group.iter().map(|(chunk, _)| &pass.batch.ids()[chunk.tokens.clone()]).collect();
    scatter(&words, group, h, &mut grads[pass.places.words.clone()]);
    let positions: Vec<Vec<u32>> = group
        .iter()
        .map(|(chunk, _)| {
            chunk.rows(pass.batch).flat_map(|rows| first as u32..(first + rows.len()) as u32).collect()
        })
        .collect();
    scatter(&positions, group, h, &mut grads[pass.places.positions.clone()]);
}

/// table[row of token] += dz of token
fn scatter<R: AsRef<[u32]> + Sync>(rows: &[R], group: &[(&Chunk, &[f32])], h: usize, table: &mut [f32]) {
    table.par_chunks_mut(TABLE_ROWS * h).enumerate().for_each(|(task, part)| {
        let first = task * TABLE_ROWS;
        let owned = first..first + part.len() / h;
        for (rows, (_, dz)) in rows.iter().zip(group) {
            for (&row, dz) in rows.as_ref().iter().zip(dz.chunks_exact(h)) {
                if owned.contains(&(row as usize)) {
                    axpy(1.0, dz, &mut part[(row as usize - first) * h..][..h]);
                }
            }
        }
    });
}
