//! In which order is C computed? Passes over k, columns of blocks, blocks; a block is what fits into registers.
//!
//! A pass takes so much of k that the panel of B stays in the first cache while the blocks of A pass by; sums wait in C
//! between passes. Blocks begin at multiples of their size whatever rows are asked for, and every element sums over k
//! in the same order in each of them: a range of rows gives the same bits as all rows.

use std::ops::Range;

/// Most elements of a block.
const LARGEST: usize = 32 * 32;

/// How a kernel walks through a product.
pub(super) struct Walk {
    /// Rows and columns of a block.
    pub(super) block: [usize; 2],
    /// Rows and columns of the pieces of a block that the kernel can leave away.
    pub(super) piece: [usize; 2],
    /// Steps over k, and how many of them make a pass.
    pub(super) steps: usize,
    pub(super) pass: usize,
}

/// One block of C in one pass.
pub(super) struct Block {
    /// First row and column.
    pub(super) at: [usize; 2],
    /// Whole pieces, in rows and in columns, that must be computed.
    pub(super) pieces: [usize; 2],
    pub(super) steps: Range<usize>,
    /// Where sums begin, if `load`, and end; row i is at `c + i * stride`, room for all pieces.
    pub(super) c: *mut f32,
    pub(super) stride: usize,
    pub(super) load: bool,
}

/// Rows of the result: `c` is row `rows.start`.
pub(super) struct Target<'a> {
    pub(super) rows: Range<usize>,
    pub(super) cols: usize,
    pub(super) c: &'a mut [f32],
    pub(super) stride: usize,
    pub(super) add: bool,
}

impl Walk {
    /// Calls `kernel` for every block of every pass.
    #[inline(always)]
    pub(super) fn run(&self, target: Target<'_>, mut kernel: impl FnMut(&Block)) {
        let Target { rows, cols, c, stride, add } = target;
        assert!(rows.is_empty() || c.len() >= (rows.len() - 1) * stride + cols);
        let first = rows.start / self.block[0] * self.block[0];
        for start in (0..self.steps).step_by(self.pass) {
            let steps = start..self.steps.min(start + self.pass);
            let load = add || start > 0;
            for j in (0..cols).step_by(self.block[1]) {
                for i in (first..rows.end).step_by(self.block[0]) {
                    let high = [rows.end.min(i + self.block[0]) - i, cols.min(j + self.block[1]) - j];
                    let low = rows.start.saturating_sub(i);
                    let pieces = [high[0].div_ceil(self.piece[0]), high[1].div_ceil(self.piece[1])];
                    let whole = pieces[0] * self.piece[0] == high[0] && pieces[1] * self.piece[1] == high[1];
                    let at = [i, j];
                    let here = &mut c[(i + low - rows.start) * stride + j..];
                    if whole && low == 0 {
                        let c = here.as_mut_ptr();
                        kernel(&Block { at, pieces, steps: steps.clone(), c, stride, load });
                    } else {
                        let block =
                            Block { at, pieces, steps: steps.clone(), c: here.as_mut_ptr(), stride, load };
                        self.ragged(block, here, low..high[0], high[1], &mut kernel);
                    }
                }
            }
        }
    }

    /// A block of which C has only some rows and columns: by way of a buffer.
    #[inline(always)]
    fn ragged(
        &self,
        block: Block,
        c: &mut [f32],
        rows: Range<usize>,
        cols: usize,
        kernel: &mut impl FnMut(&Block),
    ) {
        #[repr(align(64))]
        struct Buffer([f32; LARGEST]);
        let mut buffer = Buffer([0.0; LARGEST]);
        let width = self.block[1];
        if block.load {
            for i in rows.clone() {
                let row = &c[(i - rows.start) * block.stride..][..cols];
                buffer.0[i * width..][..cols].copy_from_slice(row);
            }
        }
        kernel(&Block { c: buffer.0.as_mut_ptr(), stride: width, ..block });
        for i in rows.clone() {
            let row = &mut c[(i - rows.start) * block.stride..][..cols];
            row.copy_from_slice(&buffer.0[i * width..][..cols]);
        }
    }
}
