//! In which order is C computed? Chunks of rows, columns of blocks, passes over k, blocks; a block is what fits into registers.
//!
//! Chunks of rows of A (or of C) stay in the second cache. A pass
//! takes so much of k that the panel of B stays in the first cache while the blocks of A pass by; sums wait in C
//! between passes. Blocks begin at multiples of their size whatever rows are asked for, and every element sums over k
//! in the same order in each of them: a range of rows gives the same bits as all rows.

use std::ops::Range;

/// Rows of A or C that are used with all of B before the next: they stay in the second cache.
const CHUNK_BYTES: usize = 768 * 1024;

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
    /// Bytes of a row of A, all steps.
    pub(super) row_bytes: usize,
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

/// Rows of the result: `c` is row `rows.start`. It is a pointer because threads may share rows, not elements.
pub(super) struct Target {
    pub(super) rows: Range<usize>,
    pub(super) cols: usize,
    pub(super) c: *mut f32,
    pub(super) stride: usize,
    pub(super) add: bool,
}

impl Walk {
    /// Calls `kernel` for every block of every pass.
    ///
    /// # Safety
    /// `c` is valid for `cols` values in each of the rows, `stride` apart, and nobody else uses them meanwhile.
    pub(super) unsafe fn run(&self, target: &Target, mut kernel: impl FnMut(&Block)) {
        let (rows, cols) = (target.rows.clone(), target.cols);
        let first = rows.start / self.block[0] * self.block[0];
        // What is walked through again and again is kept near: the rows of A, or those of C if they are shorter.
        let c_bytes = cols * size_of::<f32>();
        let near = CHUNK_BYTES / self.row_bytes.min(c_bytes);
        let chunk = (near / self.block[0]).max(1) * self.block[0];
        for top in (first..rows.end).step_by(chunk) {
            let chunk = top..rows.end.min(top + chunk);
            if self.row_bytes <= c_bytes {
                for j in (0..cols).step_by(self.block[1]) {
                    for start in (0..self.steps).step_by(self.pass) {
                        self.column(target, chunk.clone(), j, start, &mut kernel);
                    }
                }
            } else {
                for start in (0..self.steps).step_by(self.pass) {
                    for j in (0..cols).step_by(self.block[1]) {
                        self.column(target, chunk.clone(), j, start, &mut kernel);
                    }
                }
            }
        }
    }

    /// One pass, from step `start`, over the blocks of some rows from column `j`.
    #[inline(always)]
    fn column(
        &self,
        target: &Target,
        rows: Range<usize>,
        j: usize,
        start: usize,
        kernel: &mut impl FnMut(&Block),
    ) {
        let (stride, load) = (target.stride, target.add || start > 0);
        for i in rows.clone().step_by(self.block[0]) {
            let low = target.rows.start.saturating_sub(i);
            let high = [rows.end.min(i + self.block[0]) - i, target.cols.min(j + self.block[1]) - j];
            let pieces = [high[0].div_ceil(self.piece[0]), high[1].div_ceil(self.piece[1])];
            let steps = start..self.steps.min(start + self.pass);
            let c = target.c.wrapping_add((i + low - target.rows.start) * stride + j);
            let block = Block { at: [i, j], pieces, steps, c, stride, load };
            if low == 0 && (0..2).all(|d| pieces[d] * self.piece[d] == high[d]) {
                kernel(&block);
            } else {
                self.ragged(block, low..high[0], high[1], kernel);
            }
        }
    }

    /// A block of which C has only some rows and columns: by way of a buffer.
    #[inline(always)]
    fn ragged(&self, block: Block, rows: Range<usize>, cols: usize, kernel: &mut impl FnMut(&Block)) {
        #[repr(align(64))]
        struct Buffer([f32; LARGEST]);
        let mut buffer = Buffer([0.0; LARGEST]);
        let width = self.block[1];
        let (c, stride) = (block.c, block.stride);
        // SAFETY: the promise of `run`; only what is there of the block is touched.
        let row = |i: usize| unsafe {
            std::slice::from_raw_parts_mut(c.wrapping_add((i - rows.start) * stride), cols)
        };
        if block.load {
            for i in rows.clone() {
                buffer.0[i * width..][..cols].copy_from_slice(row(i));
            }
        }
        kernel(&Block { c: buffer.0.as_mut_ptr(), stride: width, ..block });
        for i in rows.clone() {
            row(i).copy_from_slice(&buffer.0[i * width..][..cols]);
        }
    }
}
