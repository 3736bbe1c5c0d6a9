use super::*;
use crate::Precision;

fn sample() -> Vec<f32> {
    (0..64).map(|i| (0.5 * (0.37 * i as f64).sin() + 0.1 * (1.3 * i as f64).cos()) as f32).collect()
}

fn unpacked(w: &QuantMatrix) -> Vec<f32> {
    let mut values = vec![0.0; w.rows() * w.cols()];
    for (i, row) in values.chunks_mut(w.cols()).enumerate() {
        w.row(i, row);
    }
    values
}

fn rmse(a: &[f32], b: &[f32]) -> f64 {
    let sum: f64 = a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
    (sum / a.len() as f64).sqrt()
}

#[test]
fn nf4_has_the_published_codes() {
    let w = sample();
    let packed = QuantMatrix::quantize(&w, 1, 64, Format::Nf4 { double: false }).unwrap();
    assert!((packed.places().scale(&packed.blocks, 0) - 0.582_752_5).abs() < 1e-6);
    assert_eq!(packed.blocks[..8], [155, 206, 255, 234, 134, 65, 0, 19]);
    let sum: u32 = packed.blocks[..32].iter().map(|b| u32::from(b >> 4) + u32::from(b & 15)).sum();
    assert_eq!(sum, 494);
    assert!((rmse(&w, &unpacked(&packed)) - 0.02996).abs() < 5e-6);
}

#[test]
fn products_are_those_of_the_unpacked_matrix() {
    let w = sample().repeat(9);
    let packed = QuantMatrix::quantize(&w, 9, 64, Format::Q4_1).unwrap();
    let x = sample();
    let mut input = Input::new();
    let want: Vec<f32> =
        unpacked(&packed).chunks(64).map(|row| row.iter().zip(&x).map(|(a, b)| a * b).sum()).collect();
    let mut y = vec![0.0; 9];
    input.dense(&x, 1, 64, Precision::F32);
    packed.multiply(&input, &mut y, false);
    assert!(rmse(&y, &want) < 1e-5);
    input.bytes(&x, 1, 64);
    packed.multiply(&input, &mut y, false);
    assert!(rmse(&y, &want) < 1e-2 * f64::from(want[0]), "{y:?} {want:?}");
}
