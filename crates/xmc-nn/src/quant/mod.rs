//! How do frozen weights live in few bits, and how are they multiplied?
//!
//! A [`QuantMatrix`] is W `[rows, cols]`: a row per output, a column per input, in the bytes of its [`Format`], owned or
//! mapped from a file. Activations are made ready once for all matrices that read them, as an [`Input`], in one of two
//! ways, and that way alone decides how products are computed, never the number of tokens:
//!
//! * *dense*: as factors of the product kernels. Strips of W are unpacked into a thread's memory, in the kernel's
//!   layout, and multiplied with all tokens: `2 t rows cols` operations and one unpacking of W;
//! * *bytes*: every 32 values of a row as int8 with a scale of their own. Q8_0, Q4_0 and Q4_1 are multiplied in
//!   integers as they are packed; other formats are unpacked row by row and multiplied with the f32 values. This is
//!   for few tokens, where W is read faster than it could be unpacked.
//!
//! Every element of a product is summed in one order, whatever else is computed with it: neither the other tokens
//! nor the number of threads change a bit.

mod bytes;
mod decode;
mod dense;
mod encode;
mod format;
mod input;
mod nf4;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod tiles;
#[cfg(target_arch = "x86_64")]
mod vnni;

use std::ops::Range;

use rayon::prelude::*;
use xmc_data::Buffer;

pub use format::Format;
pub use input::Input;

use crate::error::{Error, Result};
use input::Kind;

/// Weights W `[rows, cols]` in the bytes of a format.
#[derive(Clone, Debug)]
pub struct QuantMatrix {
    format: Format,
    rows: usize,
    cols: usize,
    blocks: Buffer<u8>,
}

impl QuantMatrix {
    /// A matrix whose bytes are those of a file, row after row.
    ///
    /// # Errors
    /// If rows are not whole blocks, the number of bytes is not that of the shape, or a scale is not finite.
    pub fn from_blocks(format: Format, rows: usize, cols: usize, blocks: Buffer<u8>) -> Result<Self> {
        let Some(bytes) = format.bytes(rows, cols) else {
            return Err(not_whole(format, rows, cols));
        };
        if blocks.len() != bytes {
            return Err(Error::Shape(format!(
                "weights [{rows}, {cols}] as {format}: found {} bytes, expected {bytes}",
                blocks.len()
            )));
        }
        let matrix = QuantMatrix { format, rows, cols, blocks };
        match matrix.not_finite() {
            Some((row, value)) => Err(Error::Shape(format!(
                "weights [{rows}, {cols}] as {format}: row {row} has the scale {value}, expected finite numbers; \
                 the file is damaged"
            ))),
            None => Ok(matrix),
        }
    }

    /// The matrix of a format that comes nearest to `weights [rows, cols]`.
    ///
    /// # Errors
    /// If the length is not that of the shape, rows are not whole blocks, a weight is not finite or too large for the
    /// format, or the format is one that is only read (Q4_K, Q6_K).
    pub fn quantize(weights: &[f32], rows: usize, cols: usize, format: Format) -> Result<Self> {
        if rows.checked_mul(cols) != Some(weights.len()) {
            return Err(Error::Shape(format!(
                "weights [{rows}, {cols}]: found {} values, expected as many as the shape says",
                weights.len()
            )));
        }
        if format.bytes(rows, cols).is_none() {
            return Err(not_whole(format, rows, cols));
        }
        if let Some(i) = weights.iter().position(|w| !w.is_finite()) {
            let (row, value) = (i / cols, weights[i]);
            return Err(Error::Shape(format!(
                "weights [{rows}, {cols}]: row {row} has {value}, expected finite numbers to store as {format}"
            )));
        }
        let Some(bytes) = encode::encode(weights, format) else {
            return Err(Error::Shape(format!(
                "weights can be read as {format} but not be stored so; choose Q4_0, Q4_1, Q8_0, NF4, BF16, F16 or F32"
            )));
        };
        let matrix = QuantMatrix { format, rows, cols, blocks: bytes.into() };
        match matrix.not_finite() {
            Some((row, _)) => Err(Error::Shape(format!(
                "weights [{rows}, {cols}]: row {row} has values too large for {format}; choose BF16 or F32"
            ))),
            None => Ok(matrix),
        }
    }

    /// The same weights in another format, as near as it comes; a copy if it is the same.
    ///
    /// # Errors
    /// As [`QuantMatrix::quantize`].
    pub fn to_format(&self, format: Format) -> Result<Self> {
        if format == self.format {
            return Ok(self.clone());
        }
        let mut weights = vec![0.0; self.rows * self.cols];
        if self.cols > 0 {
            weights.par_chunks_mut(self.cols).enumerate().for_each(|(i, row)| self.row(i, row));
        }
        Self::quantize(&weights, self.rows, self.cols, format)
    }

    /// Unpacks row `i` into `out [cols]`.
    ///
    /// # Panics
    /// If there is no such row or `out` has another length.
    pub fn row(&self, i: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.cols);
        self.part(i, 0..self.cols, out);
    }

    /// Number of outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of inputs.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// How the weights are stored.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Bytes of all weights, mapped or owned.
    pub fn bytes(&self) -> usize {
        self.blocks.len()
    }

    /// `y = x W^T`, or `+=` with `add`: x `[t, cols]` made ready, y `[t, rows]`. All threads share the outputs.
    ///
    /// # Panics
    /// If shapes do not fit.
    pub fn multiply(&self, x: &Input, y: &mut [f32], add: bool) {
        assert_eq!((x.cols(), x.rows() * self.rows), (self.cols, y.len()));
        match x.kind() {
            Kind::Dense(lhs) => dense::multiply(self, lhs, y, add),
            Kind::Bytes(bytes) => bytes::multiply(self, bytes, y, add),
        }
    }

    /// The outputs `outputs` of [`QuantMatrix::multiply`] by this thread alone: y `[t, outputs]`. For callers that share
    /// the work themselves.
    ///
    /// # Panics
    /// If shapes do not fit or `x` was not made ready as bytes.
    pub fn multiply_part(&self, x: &Input, outputs: Range<usize>, y: &mut [f32], add: bool) {
        assert_eq!((x.cols(), x.rows() * outputs.len()), (self.cols, y.len()));
        match x.kind() {
            Kind::Dense(_) => unreachable!("parts are for few tokens, made ready as bytes"),
            // SAFETY: y has the shape and is borrowed.
            Kind::Bytes(bytes) => unsafe {
                let stride = outputs.len();
                bytes::part(self, bytes, outputs, y.as_mut_ptr(), stride, add);
            },
        }
    }

    /// The same for an y of which this thread writes a part only: output i of token t, the first being 0, goes to
    /// `y + t stride + i`.
    ///
    /// # Safety
    /// So much of y is there, and nobody else uses these elements meanwhile.
    pub(crate) unsafe fn multiply_to(
        &self,
        x: &Input,
        outputs: Range<usize>,
        y: *mut f32,
        stride: usize,
        add: bool,
    ) {
        match x.kind() {
            Kind::Dense(_) => unreachable!("parts are for few tokens, made ready as bytes"),
            // SAFETY: the caller's promise.
            Kind::Bytes(bytes) => unsafe { bytes::part(self, bytes, outputs, y, stride, add) },
        }
    }

    /// `dx = dy W`, or `+=` with `add`: dy `[t, rows]` made ready as dense, dx `[t, cols]`. All threads share the inputs.
    ///
    /// # Panics
    /// If shapes do not fit or `dy` was made ready as bytes.
    pub fn multiply_transposed(&self, dy: &Input, dx: &mut [f32], add: bool) {
        assert_eq!((dy.cols(), dy.rows() * self.cols), (self.rows, dx.len()));
        match dy.kind() {
            Kind::Dense(lhs) => dense::multiply_transposed(self, lhs, dx, add),
            Kind::Bytes(_) => unreachable!("gradients are dense"),
        }
    }

    /// The bytes of row `i`; all bytes for NF4.
    fn row_bytes(&self, i: usize) -> &[u8] {
        match self.format.block() {
            Some((weights, bytes)) => {
                let len = self.cols / weights * bytes;
                &self.blocks[i * len..][..len]
            }
            None => &self.blocks,
        }
    }

    /// Where NF4 has its codes and scales.
    fn places(&self) -> nf4::Places {
        let double = self.format == Format::Nf4 { double: true };
        nf4::Places::new(self.rows * self.cols, double)
    }

    /// Unpacks columns `cols` of row `i`; both ends are multiples of 32 or the end of the row.
    fn part(&self, i: usize, cols: Range<usize>, out: &mut [f32]) {
        let out = &mut out[..cols.len()];
        if let Format::Nf4 { .. } = self.format {
            let begin = i * self.cols + cols.start;
            self.places().decode(&self.blocks, begin..begin + cols.len(), out);
        } else {
            decode::decode(self.format, self.row_bytes(i), cols.start, out);
        }
    }

    /// The first row with a scale (or weight) that is not finite.
    fn not_finite(&self) -> Option<(usize, f32)> {
        if self.blocks.is_empty() {
            // There may be more rows without columns than anyone can count.
            return None;
        }
        if let Format::Nf4 { .. } = self.format {
            let (block, value) = self.places().not_finite(&self.blocks)?;
            return Some((block * nf4::BLOCK / self.cols.max(1), value));
        }
        (0..self.rows)
            .into_par_iter()
            .find_map_first(|i| Some((i, decode::not_finite(self.format, self.row_bytes(i))?)))
    }
}

fn not_whole(format: Format, rows: usize, cols: usize) -> Error {
    let block = format.block().map_or(1, |(weights, _)| weights);
    Error::Shape(format!(
        "weights [{rows}, {cols}] as {format}: rows of {cols} columns cannot be stored, expected a multiple of {block}"
    ))
}
