use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::Precision;
use crate::ops::matmul::Kernel;

const WRITTEN: [Format; 8] = [
    Format::F32,
    Format::F16,
    Format::Bf16,
    Format::Q8_0,
    Format::Q4_0,
    Format::Q4_1,
    Format::Nf4 { double: false },
    Format::Nf4 { double: true },
];

/// The weights of the table of expected errors.
fn sample() -> Vec<f32> {
    (0..64).map(|i| (0.5 * (0.37 * i as f64).sin() + 0.1 * (1.3 * i as f64).cos()) as f32).collect()
}

/// Normal numbers, from a counter (Box and Muller).
fn normal(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    };
    (0..n)
        .map(|_| ((-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos()) as f32)
        .collect()
}

/// A matrix of any format; those that are only read get random bytes with small scales.
fn matrix(format: Format, rows: usize, cols: usize, seed: u64) -> QuantMatrix {
    let (size, scales): (usize, &[usize]) = match format {
        Format::Q4K => (144, &[0, 2]),
        Format::Q6K => (210, &[208]),
        _ => return QuantMatrix::quantize(&normal(rows * cols, seed), rows, cols, format).unwrap(),
    };
    let noise = normal(format.bytes(rows, cols).unwrap(), seed);
    let mut bytes: Vec<u8> = noise.iter().map(|v| (v * 1000.0) as i32 as u8).collect();
    for block in bytes.chunks_mut(size) {
        for &at in scales {
            block[at + 1] = block[at + 1] & 0x83 | 0x18;
        }
    }
    QuantMatrix::from_blocks(format, rows, cols, bytes.into()).unwrap()
}

fn unpacked(w: &QuantMatrix) -> Vec<f32> {
    let mut values = vec![0.0; w.rows() * w.cols()];
    for (i, row) in values.chunks_mut(w.cols()).enumerate() {
        w.row(i, row);
    }
    values
}

fn rmse(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let sum: f64 = a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
    (sum / a.len() as f64).sqrt()
}

fn error(weights: &[f32], format: Format) -> f64 {
    let packed = QuantMatrix::quantize(weights, 1, weights.len(), format).unwrap();
    rmse(weights, &unpacked(&packed))
}

fn threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

#[test]
fn nf4_has_the_published_codes() {
    let w = sample();
    let packed = QuantMatrix::quantize(&w, 1, 64, Format::Nf4 { double: false }).unwrap();
    assert!((packed.places().scale(&packed.blocks, 0) - 0.582_752_5).abs() < 5e-8);
    let codes: Vec<u8> = packed.blocks[..32].iter().flat_map(|b| [b >> 4, b & 15]).collect();
    assert_eq!(codes[..16], [9, 11, 12, 14, 15, 15, 14, 10, 8, 6, 4, 1, 0, 0, 1, 3]);
    assert_eq!(packed.blocks[..8], [155, 206, 255, 234, 134, 65, 0, 19]);
    assert_eq!(codes.iter().map(|&c| u32::from(c)).sum::<u32>(), 494);
    assert!((rmse(&w, &unpacked(&packed)) - 0.02996).abs() < 5e-6);
}

#[test]
fn levels_of_nf4_come_back_as_they_were() {
    for scale in [1.0, 0.03, 7e4] {
        let w: Vec<f32> = nf4::LEVELS.iter().rev().cycle().take(128).map(|level| level * scale).collect();
        let packed = QuantMatrix::quantize(&w, 2, 64, Format::Nf4 { double: false }).unwrap();
        assert_eq!(unpacked(&packed), w);
    }
}

#[test]
fn double_quantisation_takes_4_127_bits_and_costs_little() {
    let (n, w) = (4096 * 64, normal(4096 * 64, 4));
    let double = QuantMatrix::quantize(&w, 4096, 64, Format::Nf4 { double: true }).unwrap();
    assert_eq!(double.bytes(), n / 2 + 4096 + 4 * 16 + 4);
    assert!((8.0 * double.bytes() as f64 / n as f64 - 4.127).abs() < 1e-3);
    let single = QuantMatrix::quantize(&w, 4096, 64, Format::Nf4 { double: false }).unwrap();
    let [a, b] = [&single, &double].map(|packed| rmse(&w, &unpacked(packed)));
    assert!(b > a && b < 1.03 * a, "{a} {b}");
}

#[test]
fn errors_are_those_of_the_formats() {
    let w = sample();
    assert!((error(&w, Format::Q8_0) - 0.001_176).abs() < 1e-5);
    assert!((error(&w, Format::Q4_0) - 0.025_09).abs() < 1e-4);
    let w = normal(262_144, 3);
    let nf4 = Format::Nf4 { double: false };
    let mut last = 0.0;
    for (format, want) in [
        (Format::Bf16, 0.001_66),
        (Format::Q8_0, 0.0054),
        (Format::Q4_1, 0.078),
        (Format::Q4_0, 0.086),
        (nf4, 0.092),
    ] {
        let found = error(&w, format);
        assert!((found / want - 1.0).abs() < 0.03 && found > last, "{format}: {found}, not {want}");
        last = found;
    }
}

#[derive(Deserialize)]
struct Golden {
    blocks: Vec<Blocks>,
    packed: Vec<Packed>,
    weights: Vec<u32>,
    nf4: Nf4,
    dynamic: Vec<u32>,
}

#[derive(Deserialize)]
struct Blocks {
    format: String,
    cols: usize,
    bytes: Vec<u8>,
    bits: Vec<u32>,
}

#[derive(Deserialize)]
struct Packed {
    format: String,
    bytes: Vec<u8>,
}

#[derive(Deserialize)]
struct Nf4 {
    codes: Vec<u8>,
    single: Vec<u32>,
    double: Vec<u32>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../tests/golden/quantised.json")).unwrap()
}

fn named(name: &str) -> Format {
    let all = [Format::Q8_0, Format::Q4_0, Format::Q4_1, Format::Q4K, Format::Q6K];
    all.into_iter().find(|format| format.to_string() == name).unwrap()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn blocks_unpack_to_the_bits_of_the_package_gguf() {
    let golden = golden();
    assert_eq!(golden.blocks.len(), 5);
    for Blocks { format, cols, bytes, bits: want } in golden.blocks {
        let w = QuantMatrix::from_blocks(named(&format), 1, cols, bytes.into()).unwrap();
        assert_eq!(bits(&unpacked(&w)), want, "{format}");
    }
}

#[test]
fn weights_pack_to_the_bytes_of_the_package_gguf() {
    let golden = golden();
    let weights: Vec<f32> = golden.weights.iter().map(|&w| f32::from_bits(w)).collect();
    for Packed { format, bytes } in golden.packed {
        let w = QuantMatrix::quantize(&weights, 1, weights.len(), named(&format)).unwrap();
        assert_eq!(w.blocks[..], bytes, "{format}");
    }
}

#[test]
fn nf4_is_that_of_a_numpy_twin_with_and_without_double_quantisation() {
    let Golden { nf4: want, dynamic, .. } = golden();
    assert_eq!(bits(nf4::dynamic()), dynamic);
    let w: Vec<f32> = (0..64 * 300u64)
        .map(|i| {
            let uniform = ((i * 2_654_435_761 % (1 << 32)) >> 8) as f32 / (1u32 << 24) as f32 - 0.5;
            uniform * (1 + i / 64 % 7) as f32
        })
        .collect();
    let single = QuantMatrix::quantize(&w, 300, 64, Format::Nf4 { double: false }).unwrap();
    let codes = 64 * 300 / 2;
    assert_eq!(single.blocks[..64], want.codes[..64]);
    assert_eq!(single.blocks[codes - 64..codes], want.codes[64..]);
    assert_eq!(bits(&unpacked(&single)[..64]), want.single);
    let double = QuantMatrix::quantize(&w, 300, 64, Format::Nf4 { double: true }).unwrap();
    assert_eq!(double.blocks[..codes], single.blocks[..codes]);
    let values = unpacked(&double);
    for (range, want) in [(0..64, &want.double[..64]), (299 * 64..300 * 64, &want.double[64..])] {
        for (found, want) in values[range].iter().zip(want) {
            assert!((found - f32::from_bits(*want)).abs() <= 1e-6 * found.abs(), "{found}");
        }
    }
}

/// `x W^T` in f64.
fn reference(w: &[f32], cols: usize, x: &[f32]) -> Vec<f32> {
    let dot =
        |x: &[f32], w: &[f32]| -> f64 { x.iter().zip(w).map(|(&x, &w)| f64::from(x) * f64::from(w)).sum() };
    x.chunks(cols).flat_map(|x| w.chunks(cols).map(move |w| dot(x, w) as f32)).collect()
}

fn transposed(w: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    (0..cols).flat_map(|j| (0..rows).map(move |i| w[i * cols + j])).collect()
}

fn size(values: &[f32]) -> f64 {
    rmse(values, &vec![0.0; values.len()])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn products_are_those_of_the_unpacked_matrix(
        format in prop_oneof![
            Just(Format::F32), Just(Format::F16), Just(Format::Bf16), Just(Format::Q8_0), Just(Format::Q4_0),
            Just(Format::Q4_1), Just(Format::Q4K), Just(Format::Q6K), Just(Format::Nf4 { double: false }),
            Just(Format::Nf4 { double: true }),
        ],
        (rows, blocks, t) in (1..150usize, 1..20usize, 1..70usize),
        (odd, add, seed) in (any::<bool>(), any::<bool>(), 0..1000u64),
    ) {
        let cols = match format {
            Format::Q4K | Format::Q6K => 256 * (blocks % 3 + 1),
            Format::Q8_0 | Format::Q4_0 | Format::Q4_1 => 32 * blocks,
            _ => 32 * blocks + usize::from(odd) * 7,
        };
        let w = matrix(format, rows, cols, seed);
        let values = unpacked(&w);
        let (x, dy) = (normal(t * cols, seed + 1), normal(t * rows, seed + 2));
        let want = reference(&values, cols, &x);
        let want_dx = reference(&transposed(&values, rows, cols), rows, &dy);
        let mut input = Input::new();
        let start = |n: usize| vec![if add { 1.0 } else { f32::NAN }; n];
        let check = |found: Vec<f32>, want: &[f32], tolerance: f64| {
            let found: Vec<f32> = found.iter().map(|v| v - if add { 1.0 } else { 0.0 }).collect();
            let off = rmse(&found, want) / (size(want) + 1.0);
            prop_assert!(off < tolerance, "{format} [{rows}, {cols}] t {t}: {off}");
            Ok(())
        };
        for (precision, tolerance) in [(Precision::F32, 2e-6), (Precision::Bf16, 8e-3)] {
            let mut y = start(t * rows);
            input.dense(&x, t, cols, precision);
            w.multiply(&input, &mut y, add);
            check(y, &want, tolerance)?;
            let mut dx = start(t * cols);
            input.dense_from(t, rows, precision, |part, out| {
                out.copy_from_slice(&dy[part.start * rows..part.end * rows]);
            });
            w.multiply_transposed(&input, &mut dx, add);
            check(dx, &want_dx, tolerance)?;
        }
        let mut y = start(t * rows);
        input.bytes(&x, t, cols);
        w.multiply(&input, &mut y, add);
        check(y, &want, 2e-2)?;
    }
}

/// Bytes to the int8 values that they are, in f64: only the rounding of x is left away from the comparison.
#[test]
fn integer_products_are_exact_but_for_the_rounding_of_activations() {
    for (format, cols) in [(Format::Q8_0, 576), (Format::Q4_0, 32), (Format::Q4_1, 1536), (Format::Q4_1, 544)]
    {
        let (w, x) = (matrix(format, 40, cols, 5), normal(3 * cols, 6));
        let rounded: Vec<f32> = x
            .as_chunks::<32>()
            .0
            .iter()
            .flat_map(|block| {
                let scale = block.iter().fold(0.0, |a: f32, v| a.max(v.abs())) / 127.0;
                block.map(|v| (v / scale).round() * scale)
            })
            .collect();
        let mut input = Input::new();
        input.bytes(&x, 3, cols);
        let mut y = vec![0.0; 3 * 40];
        w.multiply(&input, &mut y, false);
        let want = reference(&unpacked(&w), cols, &rounded);
        assert!(rmse(&y, &want) < 2e-6 * size(&want).max(1.0) * 10.0, "{format}: {}", rmse(&y, &want));
    }
}

#[test]
fn every_instruction_set_adds_bytes_in_the_same_order() {
    for (format, cols) in [(Format::Q8_0, 576), (Format::Q4_0, 96), (Format::Q4_1, 1536), (Format::Q4_1, 544)]
    {
        let (w, x) = (matrix(format, 33, cols, 7), normal(15 * cols, 8));
        let mut input = Input::new();
        input.bytes(&x, 15, cols);
        let Kind::Bytes(prepared) = input.kind() else { unreachable!() };
        let mut y = vec![0.0; 15 * 33];
        w.multiply(&input, &mut y, false);
        for (t, y) in y.chunks(33).enumerate() {
            for (i, &y) in y.iter().enumerate() {
                assert_eq!(y, bytes::integers(format, w.row_bytes(i), prepared, t), "{format} {t} {i}");
            }
        }
    }
}

/// The tiles that kernels read are the same whether blocks are unpacked in registers or by way of f32.
#[test]
fn strips_in_registers_are_strips_by_way_of_f32() {
    #[cfg(target_arch = "x86_64")]
    for kernel in Kernel::available() {
        use crate::ops::matmul::{Lhs, Rhs, View, product};
        for format in WRITTEN.into_iter().chain([Format::Q4K, Format::Q6K]) {
            let (rows, cols) = (50, 256);
            let w = matrix(format, rows, cols, 9);
            if !tiles::can(&w, kernel) {
                continue;
            }
            let values = unpacked(&w);
            let products = |rhs: &Rhs, depth: usize| {
                let mut lhs = Lhs::with(kernel);
                lhs.fill(View::new(&normal(5 * depth, 10), 5, depth));
                let mut c = vec![0.0; 5 * rhs.cols()];
                product(&lhs, rhs, 0..5, &mut c, rhs.cols(), false);
                c
            };
            let (mut direct, mut detour) = (Rhs::with(kernel), Rhs::with(kernel));
            // SAFETY: `can` was asked, columns are multiples of 32.
            unsafe { tiles::unpack::<true>(&w, 3..40, 0..cols, &mut direct) };
            detour.fill(View::new(&values[3 * cols..40 * cols], 37, cols).t());
            assert_eq!(products(&direct, cols), products(&detour, cols), "{format} {kernel:?}");
            // SAFETY: as above.
            unsafe { tiles::unpack::<false>(&w, 0..rows, 32..128, &mut direct) };
            detour.fill(View::strided(&values[32..], rows, 96, cols));
            assert_eq!(products(&direct, rows), products(&detour, rows), "{format} {kernel:?}");
        }
    }
}

#[test]
fn a_token_has_the_same_bits_alone_and_among_a_hundred_and_at_any_number_of_threads() {
    for format in WRITTEN.into_iter().chain([Format::Q4K, Format::Q6K]) {
        let (rows, cols, t) = (200, 512, 100);
        let (w, x) = (matrix(format, rows, cols, 11), normal(t * cols, 12));
        let run = |x: &[f32], way: usize| {
            let t = x.len() / cols;
            let mut input = Input::new();
            match way {
                0 => input.dense(x, t, cols, Precision::F32),
                1 => input.dense(x, t, cols, Precision::Bf16),
                _ => input.bytes(x, t, cols),
            }
            let mut y = vec![0.0; t * rows];
            w.multiply(&input, &mut y, false);
            y
        };
        for way in 0..3 {
            let all = threads(1, || run(&x, way));
            assert_eq!(threads(2, || run(&x, way)), all, "{format}");
            assert_eq!(threads(3, || run(&x, way)), all, "{format}");
            for token in [0, 7, 63, 64, 99] {
                let alone = threads(2, || run(&x[token * cols..][..cols], way));
                assert_eq!(alone, all[token * rows..][..rows], "{format} {way} {token}");
            }
        }
        let back = |x: &[f32]| {
            let t = x.len() / rows;
            let mut input = Input::new();
            input.dense(x, t, rows, Precision::Bf16);
            let mut dx = vec![0.0; t * cols];
            w.multiply_transposed(&input, &mut dx, false);
            dx
        };
        let dy = normal(t * rows, 13);
        let all = threads(1, || back(&dy));
        assert_eq!(threads(2, || back(&dy)), all);
        assert_eq!(threads(2, || back(&dy[70 * rows..][..rows])), all[70 * cols..][..cols]);
    }
}

#[test]
fn a_part_is_a_part_of_the_whole() {
    let (w, x) = (matrix(Format::Q4_1, 100, 64, 14), normal(3 * 64, 15));
    let mut input = Input::new();
    input.bytes(&x, 3, 64);
    let (mut all, mut part) = (vec![0.0; 300], vec![1.0; 3 * 17]);
    w.multiply(&input, &mut all, false);
    w.multiply_part(&input, 50..67, &mut part, true);
    for (all, part) in all.chunks(100).zip(part.chunks(17)) {
        for (a, p) in all[50..67].iter().zip(part) {
            assert_eq!(1.0 + a, *p);
        }
    }
}

#[test]
fn odd_activations_are_not_hidden() {
    let w = matrix(Format::Q4_0, 4, 64, 16);
    for odd in [f32::NAN, f32::INFINITY] {
        let mut x = normal(64, 17);
        x[40] = odd;
        let mut input = Input::new();
        input.bytes(&x, 1, 64);
        let mut y = vec![0.0; 4];
        w.multiply(&input, &mut y, false);
        assert!(y.iter().all(|v| !v.is_finite()), "{y:?}");
    }
    let mut input = Input::new();
    input.bytes(&[0.0; 64], 1, 64);
    let mut y = vec![1.0; 4];
    w.multiply(&input, &mut y, false);
    assert_eq!(y, [0.0; 4]);
}

#[test]
fn formats_change_into_each_other() {
    let w = matrix(Format::Q4K, 6, 512, 18);
    for format in WRITTEN {
        let other = w.to_format(format).unwrap();
        assert_eq!((other.rows(), other.cols(), other.format()), (6, 512, format));
        assert!(rmse(&unpacked(&other), &unpacked(&w)) < 0.12 * size(&unpacked(&w)), "{format}");
    }
    assert_eq!(w.to_format(Format::Q4K).unwrap().blocks[..], w.blocks[..]);
    let exact = w.to_format(Format::F32).unwrap();
    assert_eq!(unpacked(&exact), unpacked(&w));
}

#[test]
fn what_does_not_fit_is_refused() {
    let refused = |result: Result<QuantMatrix>, words: &[&str]| {
        let message = result.unwrap_err().to_string();
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    };
    let from =
        |format, rows, cols, bytes: Vec<u8>| QuantMatrix::from_blocks(format, rows, cols, bytes.into());
    refused(from(Format::Q4_1, 2, 64, vec![0; 79]), &["[2, 64]", "Q4_1", "79 bytes", "expected 80"]);
    refused(from(Format::Q4_1, 2, 48, vec![0; 60]), &["48 columns", "multiple of 32"]);
    refused(from(Format::Q6K, 1, 128, vec![0; 105]), &["128 columns", "multiple of 256"]);
    refused(from(Format::Q8_0, usize::MAX / 2, 64, vec![]), &["Q8_0", "64 columns"]);
    refused(from(Format::F32, usize::MAX / 2, usize::MAX / 2, vec![]), &["F32"]);
    refused(from(Format::Nf4 { double: true }, usize::MAX / 2, 3, vec![]), &["NF4"]);
    for (format, at, size) in [(Format::Q4_0, 1, 18), (Format::Q4_1, 3, 20), (Format::Q8_0, 1, 34)] {
        let mut bytes = vec![0; 3 * size];
        bytes[2 * size + at] = 0x7c;
        refused(from(format, 3, 32, bytes), &["row 2", "inf", "damaged"]);
    }
    for (format, at, size) in [(Format::Q4K, 3, 144), (Format::Q6K, 209, 210)] {
        let mut bytes = vec![0; 2 * size];
        bytes[size + at] = 0x7e;
        refused(from(format, 2, 256, bytes), &["row 1", "NaN", "damaged"]);
    }
    for (format, bits) in [(Format::F16, 0xfc00u16), (Format::Bf16, 0xff80)] {
        let bytes = [0, 0, 0, bits].iter().flat_map(|v| v.to_le_bytes()).collect();
        refused(from(format, 2, 2, bytes), &["row 1", "-inf"]);
    }
    for double in [false, true] {
        let format = Format::Nf4 { double };
        let len = format.bytes(3, 64).unwrap();
        let mut bytes = vec![0; len];
        bytes[len - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
        refused(from(format, 3, 64, bytes), &["NaN", "damaged"]);
    }
    let quantize = |w: &[f32], rows, cols, format| QuantMatrix::quantize(w, rows, cols, format);
    refused(quantize(&[0.0; 63], 2, 32, Format::Q8_0), &["63 values"]);
    refused(quantize(&[0.0; 256], 1, 256, Format::Q4K), &["Q4_K", "Q8_0"]);
    refused(quantize(&[1.0, f32::NAN], 2, 1, Format::F32), &["row 1", "NaN"]);
    refused(quantize(&[1e9; 32], 1, 32, Format::Q8_0), &["too large", "BF16"]);
    refused(quantize(&[1e9; 2], 1, 2, Format::F16), &["too large"]);
}

#[test]
fn nothing_times_nothing() {
    // More rows than can be looked at.
    assert!(QuantMatrix::from_blocks(Format::F32, 1 << 60, 0, Vec::new().into()).is_ok());
    for (rows, cols, t) in [(0, 64, 2), (3, 64, 0), (3, 0, 2), (0, 0, 0)] {
        for format in WRITTEN {
            let w = QuantMatrix::quantize(&vec![0.5; rows * cols], rows, cols, format).unwrap();
            let (mut y, mut dx) = (vec![1.0; t * rows], vec![1.0; t * cols]);
            let mut input = Input::new();
            input.dense(&vec![1.0; t * cols], t, cols, Precision::Bf16);
            w.multiply(&input, &mut y, false);
            assert!(cols > 0 || y.iter().all(|v| *v == 0.0));
            input.bytes(&vec![1.0; t * cols], t, cols);
            w.multiply(&input, &mut y, true);
            input.dense(&vec![1.0; t * rows], t, rows, Precision::Bf16);
            w.multiply_transposed(&input, &mut dx, false);
            assert!(rows > 0 || dx.iter().all(|v| *v == 0.0));
        }
    }
}
