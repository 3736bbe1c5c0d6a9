//! How do operands lie in memory? So that kernels read them from front to back.
//!
//! A *line* is a row of A or a column of B: what k runs along. Two layouts:
//! * panels, f32: `[lines / w][k][w]` with w = 8 for A and 32 for B;
//! * tiles, bfloat16: `[lines / 16][k / 32][plane][16 rows of 64 bytes]`; a row is a line with 32 values of k in A, a
//!   pair of k with 16 lines in B.
//!
//! What is missing to whole panels and tiles is zero.

use super::View;

/// 64 bytes: a row of a tile, a register of AVX-512.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [f32; 16]);

/// Lines of a panel of A and of B.
pub(super) const PANEL: [usize; 2] = [8, 32];

/// Lines and depth of a tile.
pub(super) const TILE: [usize; 2] = [16, 32];

/// An operand seen along its lines: element (line, k) is `data[line * line_stride + k * depth_stride]`.
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

/// Makes room; old content may stay.
pub(super) fn resize(out: &mut Vec<Line>, lines: usize) {
    if out.len() < lines {
        out.resize(lines, Line([0.0; 16]));
    }
}

/// Lays out panels of `width` lines.
pub(super) fn panels(source: Source<'_>, width: usize, rounded: bool, out: &mut Vec<Line>) {
    let len = source.lines.div_ceil(width) * width * source.depth;
    resize(out, len.div_ceil(16));
    let out = &mut bytemuck::cast_slice_mut::<Line, f32>(out)[..len];
    pack(source, width, out);
    if rounded {
        round(out);
    }
}

crate::simd! {
    fn pack(source: Source<'_>, width: usize, out: &mut [f32]) {
        for (p, panel) in out.chunks_exact_mut((width * source.depth).max(1)).enumerate() {
            let lines = width.min(source.lines - p * width);
            if lines < width {
                panel.fill(0.0);
            }
            let data = &source.data[p * width * source.line_stride..];
            if source.line_stride == 1 {
                for (k, row) in panel.chunks_exact_mut(width).enumerate() {
                    row[..lines].copy_from_slice(&data[k * source.depth_stride..][..lines]);
                }
            } else {
                for line in 0..lines {
                    let values = &data[line * source.line_stride..];
                    for (k, row) in panel.chunks_exact_mut(width).enumerate() {
                        row[line] = values[k * source.depth_stride];
                    }
                }
            }
        }
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
