//! Tests of decoders as a whole.

mod forward;
mod prompt;
mod twin;

use super::*;
use crate::quant::Format;
use weights::Site;

/// A decoder small enough for twins.
pub(crate) fn tiny() -> Config {
    Config { positions: 64, ..Config::llama(50, 32, 2, [4, 2], 64) }
}

fn worst(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| if a.is_nan() || b.is_nan() { f32::INFINITY } else { (a - b).abs() })
        .fold(0.0, f32::max)
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|v| v.to_bits()).collect()
}

fn decoder(config: Config, quantization: Quantization, precision: Precision) -> Decoder {
    Decoder::random(config, 7, quantization, precision).unwrap()
}

fn exact(config: Config) -> Decoder {
    decoder(config, Quantization::F32, Precision::F32)
}

fn texts(lengths: &[usize]) -> Batch {
    Batch::new(
        lengths
            .iter()
            .enumerate()
            .map(|(i, &len)| (0..len).map(|j| ((i * 31 + j * 17 + i * j) % 50) as u32).collect::<Vec<_>>()),
    )
}

fn threads<T: Send>(n: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap().install(work)
}
