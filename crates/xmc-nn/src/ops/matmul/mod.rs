//! Matrix products `C = A B`, f32 in, f32 out, in the precision and with the instructions chosen at run time.
//!
//! Operands are first laid out for the kernel ([`Lhs`], [`Rhs`]) and then used as often as needed: weights once per
//! step, activations once per chunk of tokens. Every element of C sums over k in one fixed order that depends on
//! neither threads nor the range of rows asked for.

use std::ops::Range;

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

    fn at(&self, i: usize, j: usize) -> f32 {
        self.data[i * self.row_stride + j * self.col_stride]
    }
}

/// The left operand A `[m, k]`, laid out.
#[derive(Debug)]
pub struct Lhs {
    precision: Precision,
    m: usize,
    k: usize,
    data: Vec<f32>,
}

/// The right operand B `[k, n]`, laid out.
#[derive(Debug)]
pub struct Rhs {
    precision: Precision,
    k: usize,
    n: usize,
    data: Vec<f32>,
}

impl Lhs {
    /// Empty; `fill` gives it content and reuses its memory.
    pub fn new(precision: Precision) -> Self {
        Lhs { precision, m: 0, k: 0, data: Vec::new() }
    }

    /// Lays out `a [m, k]`.
    pub fn fill(&mut self, a: View<'_>) {
        (self.m, self.k) = (a.rows, a.cols);
        self.data.clear();
        self.data.extend((0..a.rows).flat_map(|i| (0..a.cols).map(move |j| a.at(i, j))));
        round(self.precision, &mut self.data);
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
        Rhs { precision, k: 0, n: 0, data: Vec::new() }
    }

    /// Lays out `b [k, n]`.
    pub fn fill(&mut self, b: View<'_>) {
        (self.k, self.n) = (b.rows, b.cols);
        self.data.clear();
        self.data.extend((0..b.rows).flat_map(|i| (0..b.cols).map(move |j| b.at(i, j))));
        round(self.precision, &mut self.data);
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

fn round(precision: Precision, values: &mut [f32]) {
    if precision == Precision::Bf16 {
        for v in values {
            *v = half::bf16::from_f32(*v).to_f32();
        }
    }
}

/// `c[rows, :] = a[rows, :] b`, or `+=` with `add`, by one thread. Row i of the result is
/// `c[(i - rows.start) * stride ..][..n]`.
///
/// # Panics
/// If shapes or precisions do not fit.
pub fn product(a: &Lhs, b: &Rhs, rows: Range<usize>, c: &mut [f32], stride: usize, add: bool) {
    assert_eq!((a.k, a.precision), (b.k, b.precision));
    for (i, row) in rows.zip(c.chunks_mut(stride.max(1))) {
        let row = &mut row[..b.n];
        if !add {
            row.fill(0.0);
        }
        for j in 0..a.k {
            let factor = a.data[i * a.k + j];
            for (sum, value) in row.iter_mut().zip(&b.data[j * b.n..]) {
                *sum += factor * value;
            }
        }
    }
}
