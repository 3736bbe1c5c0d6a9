//! How do operands lie in memory? So that kernels read them from front to back.
//!
//! A *line* is a row of A or a column of B: what k runs along. Two layouts:
//! * panels, f32: `[lines / w][k][w]` with w = 8 for A and 32 for B;
//! * tiles, bfloat16: `[lines / 16][k / 32][plane][16 rows of 64 bytes]`; a row is a line with 32 values of k in A, a
//!   pair of k with 16 lines in B.
//!
//! What is missing to whole panels and tiles is zero.

use super::{Kernel, View};

/// 64 bytes: a row of a tile, a register of AVX-512.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [f32; 16]);

/// Lines of a panel of A and of B.
pub(super) const PANEL: [usize; 2] = [8, 32];

/// Lines and depth of a tile.
pub(super) const TILE: [usize; 2] = [16, 32];

/// Which side of the product an operand is on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// A, whose lines are rows.
    Left,
    /// B, whose lines are columns.
    Right,
}

/// An operand seen along its lines: element (line, k) is `data[line * line_stride + k * depth_stride]`.
/// One of the strides is 1.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) data: &'a [f32],
    pub(super) lines: usize,
    pub(super) depth: usize,
    pub(super) line_stride: usize,
    pub(super) depth_stride: usize,
}

impl<'a> Source<'a> {
    pub(super) fn lhs(a: View<'a>) -> Self {
        Source {
            data: a.data,
            lines: a.rows,
            depth: a.cols,
            line_stride: a.row_stride,
            depth_stride: a.col_stride,
        }
    }

    pub(super) fn rhs(b: View<'a>) -> Self {
        Self::lhs(b.t())
    }
}

/// Rows of 64 bytes of an operand of `lines` lines and depth `depth`.
pub(super) fn len(kernel: Kernel, side: Side, lines: usize, depth: usize) -> usize {
    match kernel {
        Kernel::Vector { .. } => {
            let width = PANEL[side as usize];
            (lines.div_ceil(width) * width * depth).div_ceil(16)
        }
        _ => lines.div_ceil(TILE[0]) * depth.div_ceil(TILE[1]) * kernel.planes() * 16,
    }
}

/// Room for an operand; old content may stay.
pub(super) fn room(
    kernel: Kernel,
    side: Side,
    lines: usize,
    depth: usize,
    out: &mut Vec<Line>,
) -> &mut [Line] {
    let len = len(kernel, side, lines, depth);
    if out.len() < len {
        out.resize(len, Line([0.0; 16]));
    }
    &mut out[..len]
}

/// Lays out an operand as `kernel` wants it.
///
/// # Safety
/// The processor has the instructions of `kernel`.
pub(super) unsafe fn lay_out(kernel: Kernel, source: Source<'_>, side: Side, out: &mut [Line]) {
    match kernel {
        Kernel::Vector { rounded } => panels(source, side, rounded, out),
        // SAFETY: the caller's promise.
        #[cfg(target_arch = "x86_64")]
        kernel => unsafe { super::tiles::tiles(source, side, kernel.planes(), out) },
        #[cfg(not(target_arch = "x86_64"))]
        _ => unreachable!("there are no tiles here"),
    }
}

/// Lays out panels of [`PANEL`] lines for one side of a product.
pub(super) fn panels(source: Source<'_>, side: Side, rounded: bool, out: &mut [Line]) {
    let width = PANEL[side as usize];
    let len = source.lines.div_ceil(width) * width * source.depth;
    let out = &mut bytemuck::cast_slice_mut::<Line, f32>(out)[..len];
    match side {
        Side::Left => pack_left(source, out),
        Side::Right => pack_right(source, out),
    }
    if rounded {
        round(out);
    }
}

crate::simd! {
    fn pack_left(source: Source<'_>, out: &mut [f32]) {
        pack::<{ PANEL[0] }>(source, out);
    }

    fn pack_right(source: Source<'_>, out: &mut [f32]) {
        pack::<{ PANEL[1] }>(source, out);
    }

    /// To bfloat16 and back; ties to even, NaN stays NaN.
    fn round(values: &mut [f32]) {
        for v in values {
            let bits = v.to_bits();
            let up = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) & 0xffff_0000;
            *v = if v.is_nan() { *v } else { f32::from_bits(up) };
        }
    }
}

/// Panels of W lines; compiled inside each version of the functions above.
#[inline(always)]
fn pack<const W: usize>(source: Source<'_>, out: &mut [f32]) {
    for (p, panel) in out.chunks_exact_mut((W * source.depth).max(1)).enumerate() {
        let rows = panel.as_chunks_mut::<W>().0;
        let lines = W.min(source.lines - p * W);
        if lines < W {
            rows.fill([0.0; W]);
        }
        let data = &source.data[p * W * source.line_stride..];
        if source.depth_stride == 1 {
            for line in 0..lines {
                for (row, &value) in rows.iter_mut().zip(&data[line * source.line_stride..]) {
                    row[line] = value;
                }
            }
        } else {
            for (k, row) in rows.iter_mut().enumerate() {
                row[..lines].copy_from_slice(&data[k * source.depth_stride..][..lines]);
            }
        }
    }
}
