//! How fast and how exact are products? One thread; the best of many repeats.
//!
//! Prints GFLOP/s of every kernel with operands already laid out ("product"), with A laid out anew ("+A") and with
//! both ("+AB"); errors against f64 relative to the product of norms; and what the processor could do at best.

#![allow(clippy::print_stdout)] // A bench prints.

use std::hint::black_box;
use std::time::Instant;

use xmc_nn::ops::matmul::{Kernel, Lhs, Rhs, View, product};

/// (m, k, n, A transposed, B transposed): layers of a small encoder, heads of attention, gradients of weights.
const SHAPES: [(usize, usize, usize, bool, bool); 8] = [
    (256, 384, 1536, false, true),
    (256, 1536, 384, false, true),
    (256, 384, 1152, false, true),
    (256, 384, 384, false, true),
    (128, 32, 128, false, true),
    (128, 128, 32, false, false),
    (384, 256, 1536, true, false),
    (1536, 256, 384, true, false),
];

fn main() {
    peaks();
    println!(
        "{:>28} {:>18} {:>9} {:>9} {:>9} {:>8} {:>8}",
        "kernel", "m x k x n", "product", "+A", "+AB", "A ns/v", "B ns/v"
    );
    for shape in SHAPES {
        for kernel in Kernel::available() {
            speed(kernel, shape);
        }
        library(shape);
    }
    for k in [384, 1536] {
        for kernel in Kernel::available() {
            println!("error k {k:>5} {:>28} {:.2e}", format!("{kernel:?}"), error(kernel, k));
        }
    }
}

/// Best seconds of one call, over a fifth of a second.
fn best(mut call: impl FnMut()) -> f64 {
    let (begin, mut best, mut repeats) = (Instant::now(), f64::INFINITY, 1);
    while begin.elapsed().as_secs_f64() < 0.2 {
        let start = Instant::now();
        for _ in 0..repeats {
            call();
        }
        let seconds = start.elapsed().as_secs_f64();
        best = best.min(seconds / repeats as f64);
        if seconds < 1e-4 {
            repeats *= 2;
        }
    }
    best
}

/// Sums of twelve uniform numbers, from a counter.
fn normal(n: usize, mut state: u64) -> Vec<f32> {
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f64 / (1u64 << 24) as f64
    };
    (0..n).map(|_| ((0..12).map(|_| uniform()).sum::<f64>() - 6.0) as f32).collect()
}

fn view(data: &[f32], rows: usize, cols: usize, transposed: bool) -> View<'_> {
    if transposed { View::new(data, cols, rows).t() } else { View::new(data, rows, cols) }
}

fn speed(kernel: Kernel, (m, k, n, ta, tb): (usize, usize, usize, bool, bool)) {
    let (a, b, mut c) = (normal(m * k, 1), normal(k * n, 2), vec![0.0; m * n]);
    let (a, b) = (view(&a, m, k, ta), view(&b, k, n, tb));
    let (mut lhs, mut rhs) = (Lhs::with(kernel), Rhs::with(kernel));
    lhs.fill(a);
    rhs.fill(b);
    let seconds = best(|| product(&lhs, &rhs, 0..m, black_box(&mut c), n, false));
    let left = best(|| lhs.fill(black_box(a)));
    let right = best(|| rhs.fill(black_box(b)));
    let rate = |seconds: f64| (2 * m * k * n) as f64 / seconds / 1e9;
    println!(
        "{:>28} {:>18} {:>9.0} {:>9.0} {:>9.0} {:>8.3} {:>8.3}",
        format!("{kernel:?}"),
        format!("{m} x {k} x {n}"),
        rate(seconds),
        rate(seconds + left),
        rate(seconds + left + right),
        left / (m * k) as f64 * 1e9,
        right / (k * n) as f64 * 1e9,
    );
}

/// The `gemm` crate, f32, operands where they are.
fn library((m, k, n, ta, tb): (usize, usize, usize, bool, bool)) {
    let (a, b, mut c) = (normal(m * k, 1), normal(k * n, 2), vec![0f32; m * n]);
    let strides = |rows: usize, cols: usize, transposed| {
        if transposed { (rows.cast_signed(), 1) } else { (1, cols.cast_signed()) }
    };
    let ((a_cs, a_rs), (b_cs, b_rs)) = (strides(m, k, ta), strides(k, n, tb));
    let seconds = best(|| {
        let c = black_box(&mut c).as_mut_ptr();
        // SAFETY: shapes and strides are those of the three buffers.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                c,
                1,
                n.cast_signed(),
                false,
                a.as_ptr(),
                a_cs,
                a_rs,
                b.as_ptr(),
                b_cs,
                b_rs,
                0.0,
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
        }
    });
    println!(
        "{:>28} {:>18} {:>9} {:>9} {:>9.0}",
        "crate gemm",
        format!("{m} x {k} x {n}"),
        "",
        "",
        (2 * m * k * n) as f64 / seconds / 1e9
    );
}

/// Root of the mean squared error over |a_i| |b_j|.
fn error(kernel: Kernel, k: usize) -> f64 {
    let (m, n) = (64, 64);
    let (a, b, mut c) = (normal(m * k, 3), normal(k * n, 4), vec![0.0; m * n]);
    let (mut lhs, mut rhs) = (Lhs::with(kernel), Rhs::with(kernel));
    lhs.fill(view(&a, m, k, false));
    rhs.fill(view(&b, k, n, true));
    product(&lhs, &rhs, 0..m, &mut c, n, false);
    let norm = |v: &[f32]| v.iter().map(|&v| v as f64 * v as f64).sum::<f64>().sqrt();
    let mut sum = 0.0;
    for (i, a) in a.chunks(k).enumerate() {
        for (j, b) in b.chunks(k).enumerate() {
            let want: f64 = a.iter().zip(b).map(|(&a, &b)| a as f64 * b as f64).sum();
            sum += ((c[i * n + j] as f64 - want) / (norm(a) * norm(b))).powi(2);
        }
    }
    (sum / (m * n) as f64).sqrt()
}

#[cfg(not(target_arch = "x86_64"))]
fn peaks() {}

/// Loops that touch nothing but registers.
#[cfg(target_arch = "x86_64")]
fn peaks() {
    const LOOPS: u64 = 20_000;
    let available = Kernel::available();
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has AVX-512.
        report("AVX-512 f32", LOOPS * 12 * 32, || unsafe { fused(LOOPS) });
    }
    if available.contains(&Kernel::Avx512Bf16) {
        // SAFETY: the processor has AVX512-BF16.
        report("AVX512-BF16", LOOPS * 12 * 64, || unsafe { pairs(LOOPS) });
    }
    #[cfg(target_os = "linux")]
    if available.contains(&Kernel::Amx { planes: 1 }) {
        // SAFETY: the processor has AMX and `available` has asked Linux for it.
        report("AMX bf16", LOOPS * 4 * 16 * 16 * 64, || unsafe { tiles(LOOPS) });
    }
}

#[cfg(target_arch = "x86_64")]
fn report(name: &str, operations: u64, call: impl FnMut()) {
    println!("peak {name}: {:.0} GFLOP/s", operations as f64 / best(call) / 1e9);
}

/// Twelve independent chains of one instruction.
#[cfg(target_arch = "x86_64")]
macro_rules! chains {
    ($loops:expr, $instruction:literal) => {
        std::arch::asm!(
            "2:",
            concat!($instruction, " zmm0, zmm12, zmm13"), concat!($instruction, " zmm1, zmm12, zmm13"),
            concat!($instruction, " zmm2, zmm12, zmm13"), concat!($instruction, " zmm3, zmm12, zmm13"),
            concat!($instruction, " zmm4, zmm12, zmm13"), concat!($instruction, " zmm5, zmm12, zmm13"),
            concat!($instruction, " zmm6, zmm12, zmm13"), concat!($instruction, " zmm7, zmm12, zmm13"),
            concat!($instruction, " zmm8, zmm12, zmm13"), concat!($instruction, " zmm9, zmm12, zmm13"),
            concat!($instruction, " zmm10, zmm12, zmm13"), concat!($instruction, " zmm11, zmm12, zmm13"),
            "dec {n}", "jnz 2b",
            n = inout(reg) $loops => _,
            out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _, out("zmm4") _, out("zmm5") _, out("zmm6") _,
            out("zmm7") _, out("zmm8") _, out("zmm9") _, out("zmm10") _, out("zmm11") _,
            in("zmm12") std::arch::x86_64::_mm512_setzero_ps(), in("zmm13") std::arch::x86_64::_mm512_setzero_ps(),
            options(nostack, nomem),
        )
    };
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn fused(loops: u64) {
    // SAFETY: only registers are touched, and all are named.
    unsafe { chains!(loops, "vfmadd231ps") }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn pairs(loops: u64) {
    // SAFETY: only registers are touched, and all are named.
    unsafe { chains!(loops, "vdpbf16ps") }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
unsafe fn tiles(loops: u64) {
    #[repr(align(64))]
    struct Config([u8; 64]);
    let mut config = Config([0; 64]);
    config.0[0] = 1;
    for tile in 0..8 {
        config.0[16 + 2 * tile] = 64;
        config.0[48 + tile] = 16;
    }
    // SAFETY: the configuration is valid, tiles are released at the end, all registers are named.
    unsafe {
        std::arch::asm!(
            "ldtilecfg [{config}]",
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
            "tilezero tmm4", "tilezero tmm5", "tilezero tmm6", "tilezero tmm7",
            "2:",
            "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7",
            "dec {n}", "jnz 2b",
            "tilerelease",
            config = in(reg) config.0.as_ptr(),
            n = inout(reg) loops => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, readonly),
        );
    }
}
