//! Matrix products `C = A B`, f32 in, f32 out, in the precision and with the instructions chosen at run time.
//!
//! Operands are first laid out for the kernel ([`Lhs`], [`Rhs`]) and then used as often as needed: weights once per
//! step, activations once per chunk of tokens. Every element of C sums over k in one fixed order that depends on
//! neither threads nor the range of rows asked for.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
mod blocks;
mod kernel;
mod layout;
#[cfg(target_arch = "x86_64")]
mod pairs;
mod parallel;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod tiles;
mod vector;

use std::ops::Range;

use blocks::Target;
pub use kernel::Kernel;
use layout::{Line, Side, Source, TILE};
pub use parallel::{add_transposed, multiply};

/// How products are computed. Sums are f32 always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Factors as exact as f32.
    F32,
    /// Factors rounded to bfloat16 (8 bits of mantissa).
    Bf16,
}

/// A matrix in f32 memory with any strides: element (i, j) is `data[i * row_stride + j * col_stride]`.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> View<'a> {
    /// Rows one after the other.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// Rows `row_stride` apart: a block of columns of a wider matrix.
    ///
    /// # Panics
    /// If `data` is too short.
    pub fn strided(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(rows == 0 || cols == 0 || data.len() >= (rows - 1) * row_stride + cols);
        View { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// The same matrix, transposed; nothing moves.
    pub fn t(self) -> Self {
        View {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }
}

/// The left operand A `[m, k]`, laid out.
#[derive(Debug)]
pub struct Lhs {
    kernel: Kernel,
    m: usize,
    k: usize,
    data: Vec<Line>,
}

/// The right operand B `[k, n]`, laid out.
#[derive(Debug)]
pub struct Rhs {
    kernel: Kernel,
    k: usize,
    n: usize,
    data: Vec<Line>,
}

impl Lhs {
    /// Empty; `fill` gives it content and reuses its memory.
    pub fn new(precision: Precision) -> Self {
        Self::with(Kernel::best(precision))
    }

    /// The same for a kernel of one's own choice.
    ///
    /// # Panics
    /// If this processor does not have it.
    pub fn with(kernel: Kernel) -> Self {
        kernel.check();
        Lhs { kernel, m: 0, k: 0, data: Vec::new() }
    }

    /// Lays out `a [m, k]`.
    pub fn fill(&mut self, a: View<'_>) {
        (self.m, self.k) = (a.rows, a.cols);
        let out = layout::room(self.kernel, Side::Left, a.rows, a.cols, &mut self.data);
        // SAFETY: `with` has seen that the processor has the instructions.
        unsafe { layout::lay_out(self.kernel, Source::lhs(a), Side::Left, out) };
    }

    /// The kernel that it is laid out for.
    pub(crate) fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Number of rows m.
    pub fn rows(&self) -> usize {
        self.m
    }

    /// Number of columns k, over which products sum.
    pub fn depth(&self) -> usize {
        self.k
    }
}

impl Rhs {
    /// Empty; `fill` gives it content and reuses its memory.
    pub fn new(precision: Precision) -> Self {
        Self::with(Kernel::best(precision))
    }

    /// The same for a kernel of one's own choice.
    ///
    /// # Panics
    /// If this processor does not have it.
    pub fn with(kernel: Kernel) -> Self {
        kernel.check();
        Rhs { kernel, k: 0, n: 0, data: Vec::new() }
    }

    /// Lays out `b [k, n]`.
    pub fn fill(&mut self, b: View<'_>) {
        (self.k, self.n) = (b.rows, b.cols);
        let out = layout::room(self.kernel, Side::Right, b.cols, b.rows, &mut self.data);
        // SAFETY: `with` has seen that the processor has the instructions.
        unsafe { layout::lay_out(self.kernel, Source::rhs(b), Side::Right, out) };
    }

    /// Lays out Wᵀ (with `ALONG`) or W for a matrix W `[rows, cols]` of which `read(row, col)` unpacks 32 values.
    ///
    /// # Safety
    /// The processor has AVX-512 (f, bw, vl) and AVX512-BF16, the kernel is none of vectors, `cols` is a multiple of 32.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    #[inline]
    pub(crate) unsafe fn unpack<const ALONG: bool>(
        &mut self,
        [rows, cols]: [usize; 2],
        read: impl Fn(usize, usize) -> [std::arch::x86_64::__m512; 2],
    ) {
        (self.k, self.n) = if ALONG { (cols, rows) } else { (rows, cols) };
        let out = layout::room(self.kernel, Side::Right, self.n, self.k, &mut self.data);
        // SAFETY: the caller's promise.
        unsafe {
            match self.kernel.planes() {
                1 => tiles::unpack::<1, ALONG>([rows, cols], out, read),
                2 => tiles::unpack::<2, ALONG>([rows, cols], out, read),
                _ => tiles::unpack::<3, ALONG>([rows, cols], out, read),
            }
        }
    }

    /// The kernel that it is laid out for.
    pub(crate) fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Number of rows k, over which products sum.
    pub fn depth(&self) -> usize {
        self.k
    }

    /// Number of columns n.
    pub fn cols(&self) -> usize {
        self.n
    }
}

/// `c[rows, :] = a[rows, :] b`, or `+=` with `add`, by one thread. Row i of the result is
/// `c[(i - rows.start) * stride ..][..n]`.
///
/// # Panics
/// If shapes or kernels do not fit.
pub fn product(a: &Lhs, b: &Rhs, rows: Range<usize>, c: &mut [f32], stride: usize, add: bool) {
    assert!(stride >= b.n && (rows.is_empty() || c.len() >= (rows.len() - 1) * stride + b.n));
    // SAFETY: all rows lie inside C, which is borrowed.
    unsafe { product_at(a, b, rows, c.as_mut_ptr(), stride, add) };
}

/// [`product`] where other threads write other columns of the same rows.
///
/// # Panics
/// If shapes or kernels do not fit.
///
/// # Safety
/// `c` is valid for n values in each of the rows, `stride` apart, and nobody else uses them meanwhile.
pub(crate) unsafe fn product_at(a: &Lhs, b: &Rhs, rows: Range<usize>, c: *mut f32, stride: usize, add: bool) {
    assert_eq!((a.k, a.kernel), (b.k, b.kernel));
    assert!(rows.end <= a.m);
    if b.n == 0 || rows.is_empty() {
        return;
    }
    if a.k == 0 {
        for i in 0..if add { 0 } else { rows.len() } {
            // SAFETY: the caller's promise.
            unsafe { std::slice::from_raw_parts_mut(c.add(i * stride), b.n) }.fill(0.0);
        }
        return;
    }
    let target = &Target { rows, cols: b.n, c, stride, add };
    let steps = a.k.div_ceil(TILE[1]);
    match a.kernel {
        // SAFETY: the target is what the caller promises.
        Kernel::Vector { .. } => unsafe { vector::product(&a.data, &b.data, a.k, target) },
        // SAFETY: as above; `with` has seen that the processor has the instructions; `fill` has laid out all tiles.
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx512Bf16 => unsafe { pairs::product(&a.data, &b.data, steps, target) },
        // SAFETY: as above.
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        Kernel::Amx { planes } => unsafe { amx::product(&a.data, &b.data, planes, steps, target) },
        #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
        _ => unreachable!("`with` has seen that this processor cannot"),
    }
}
