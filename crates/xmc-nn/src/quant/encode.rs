//! Which codes stand for given weights? Those of GGUF's own writer.

use half::{bf16, f16};

use super::format::{CHUNK, Format};

/// The bytes of `weights`, rows of whole blocks, all finite; none for formats that are only read.
pub(super) fn encode(weights: &[f32], format: Format) -> Option<Vec<u8>> {
    let blocks = weights.as_chunks::<CHUNK>().0;
    Some(match format {
        Format::F32 => weights.iter().flat_map(|w| w.to_le_bytes()).collect(),
        Format::F16 => weights.iter().flat_map(|&w| f16::from_f32(w).to_le_bytes()).collect(),
        Format::Bf16 => weights.iter().flat_map(|&w| bf16::from_f32(w).to_le_bytes()).collect(),
        Format::Q8_0 => blocks.iter().flat_map(q8_0).collect(),
        Format::Q4_0 => blocks.iter().flat_map(q4_0).collect(),
        Format::Q4_1 => blocks.iter().flat_map(q4_1).collect(),
        Format::Nf4 { double } => super::nf4::encode(weights, double),
        Format::Q4K | Format::Q6K => return None,
    })
}

/// 1 / d, or 0 where all weights are.
pub(super) fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

fn q8_0(block: &[f32; CHUNK]) -> [u8; 34] {
    let d = block.iter().fold(0.0, |a: f32, w| a.max(w.abs())) / 127.0;
    let id = inverse(d);
    let mut bytes = [0; 34];
    bytes[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    for (q, w) in bytes[2..].iter_mut().zip(block) {
        *q = ((w * id).round() as i8).cast_unsigned();
    }
    bytes
}

/// The weight of largest magnitude gets the code 0, which stands for -8: the longer side of the range.
fn q4_0(block: &[f32; CHUNK]) -> [u8; 18] {
    let largest = block.iter().fold(0.0, |a: f32, &w| if w.abs() > a.abs() { w } else { a });
    let d = largest / -8.0;
    let id = inverse(d);
    let mut bytes = [0; 18];
    bytes[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    nibbles(block, &mut bytes[2..], |w| w * id + 8.5);
    bytes
}

fn q4_1(block: &[f32; CHUNK]) -> [u8; 20] {
    let (min, max) = block.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), &w| (a.min(w), b.max(w)));
    let d = (max - min) / 15.0;
    let id = inverse(d);
    let mut bytes = [0; 20];
    bytes[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    bytes[2..4].copy_from_slice(&f16::from_f32(min).to_le_bytes());
    nibbles(block, &mut bytes[4..], |w| (w - min) * id + 0.5);
    bytes
}

/// Whole parts of `place`, at most 15; the first 16 in the low nibbles.
fn nibbles(block: &[f32; CHUNK], bytes: &mut [u8], place: impl Fn(f32) -> f32) {
    let code = |w: f32| (place(w) as u8).min(15);
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = code(block[i]) | code(block[i + 16]) << 4;
    }
}
