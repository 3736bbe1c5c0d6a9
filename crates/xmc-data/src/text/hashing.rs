//! Which column and sign does a term have when nothing was learnt? Those of scikit-learn's `HashingVectorizer`.
//!
//! `h` = 32-bit MurmurHash3 (x86 variant, seed 0) of the term, read as a signed number; the column is `|h| mod n`,
//! the sign that of `h`.

/// Column below `n`, and 1 or -1.
#[inline]
pub(super) fn column_and_sign(term: &[u8], n: u32) -> (u32, f32) {
    let h = murmur3(term).cast_signed();
    (h.unsigned_abs() % n, if h < 0 { -1.0 } else { 1.0 })
}

/// MurmurHash3 x86_32 with seed 0 (Austin Appleby, public domain).
fn murmur3(bytes: &[u8]) -> u32 {
    let mix = |k: u32| k.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let (blocks, tail) = bytes.as_chunks::<4>();
    let mut h = 0u32;
    for block in blocks {
        h = (h ^ mix(u32::from_le_bytes(*block))).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    let rest = tail.iter().rev().fold(0u32, |rest, &byte| rest << 8 | u32::from(byte));
    if !tail.is_empty() {
        h ^= mix(rest);
    }
    h ^= bytes.len() as u32;
    h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
    h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
    h ^ (h >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_the_published_ones() {
        assert_eq!(murmur3(b""), 0);
        assert_eq!(murmur3(b"test"), 0xba6b_d213);
        assert_eq!(murmur3(b"Hello, world!"), 0xc036_3e43);
        assert_eq!(murmur3(b"The quick brown fox jumps over the lazy dog"), 0x2e4f_f723);
    }
}
