//! How do millions of terms become small numbers without one allocation per term?
//!
//! All terms lie in one run of bytes; an open-addressing table of 16-byte slots finds them. A term of up to seven
//! bytes *is* its key, so most words and nearly all character n-grams are found without touching their bytes; a longer
//! one is keyed by 63 bits of its xxh3 hash and compared byte by byte, so two terms are never mixed up.

use xxhash_rust::xxh3::xxh3_64;

/// Marks the keys of terms longer than seven bytes; short keys carry their length (0 to 7) there.
const LONG: u64 = 1 << 63;
/// No term: the top byte of a short key is at most 7, and long keys have the top bit set.
const FREE: u64 = 0x7f << 56;
/// Slots of a new table.
const START: usize = 1 << 10;

/// Key of a term: equal terms have equal keys; unequal terms of up to seven bytes have unequal keys.
#[inline]
pub(super) fn key_of(term: &[u8]) -> u64 {
    if term.len() > 7 {
        return xxh3_64(term) | LONG;
    }
    let mut bytes = [0; 8];
    bytes[..term.len()].copy_from_slice(term);
    bytes[7] = term.len() as u8;
    u64::from_le_bytes(bytes)
}

/// Key of `text[start..end]`, the same as [`key_of`] in fewer steps where seven more bytes may be read.
#[inline]
pub(super) fn key_within(text: &[u8], start: usize, end: usize) -> u64 {
    let len = end - start;
    match text.get(start..start + 8).and_then(|b| <[u8; 8]>::try_from(b).ok()) {
        Some(bytes) if len <= 7 => {
            let kept = u64::from_le_bytes(bytes) & ((1u64 << (8 * len)) - 1);
            kept | ((len as u64) << 56)
        }
        _ => key_of(&text[start..end]),
    }
}

/// Spreads a key over 64 bits: a folded product, whose high and low halves both depend on every bit.
#[inline]
pub(super) fn spread(key: u64) -> u64 {
    let product = u128::from(key ^ 0x9e37_79b9_7f4a_7c15) * u128::from(0xa076_1d64_78bd_642f_u64);
    (product >> 64) as u64 ^ product as u64
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    key: u64,
    id: u32,
    /// For the caller: see [`Interner::entry`].
    note: u32,
}

const EMPTY: Slot = Slot { key: FREE, id: 0, note: 0 };

/// Terms and their ids 0, 1, 2, … in the order they were first seen.
#[derive(Clone, Debug)]
pub(super) struct Interner {
    /// Length a power of two, at most half full.
    slots: Vec<Slot>,
    terms: Terms,
}

/// The terms of an [`Interner`].
#[derive(Clone, Debug, Default)]
pub(super) struct Terms {
    keys: Vec<u64>,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Terms {
    /// Number of terms.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Key of term `id`.
    pub(super) fn key(&self, id: usize) -> u64 {
        self.keys[id]
    }

    /// Bytes of term `id`.
    pub(super) fn term(&self, id: usize) -> &[u8] {
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        &self.bytes[start..self.ends[id]]
    }
}

impl Default for Interner {
    fn default() -> Self {
        Interner::with_room(0)
    }
}

impl Interner {
    /// A table that takes so many terms before it grows.
    pub(super) fn with_room(terms: usize) -> Self {
        let slots = (2 * terms).next_power_of_two().max(START);
        Interner { slots: vec![EMPTY; slots], terms: Terms::default() }
    }

    /// The terms alone, without what finds them.
    pub(super) fn into_terms(self) -> Terms {
        self.terms
    }

    /// Id of a term, new or known.
    pub(super) fn intern(&mut self, term: &[u8]) -> u32 {
        self.entry(key_of(term), term).0
    }

    /// Id of the term with this key, and a number that the caller may leave with it (0 at first).
    #[inline]
    pub(super) fn entry(&mut self, key: u64, term: &[u8]) -> (u32, &mut u32) {
        if 2 * self.terms.len() >= self.slots.len() {
            self.grow();
        }
        let mask = self.slots.len() - 1;
        let mut at = spread(key) as usize & mask;
        loop {
            let slot = self.slots[at];
            if slot.key == key && (key & LONG == 0 || self.terms.term(slot.id as usize) == term) {
                break;
            }
            if slot.key == FREE {
                self.slots[at] = Slot { key, id: self.terms.len() as u32, note: 0 };
                self.terms.keys.push(key);
                self.terms.bytes.extend_from_slice(term);
                self.terms.ends.push(self.terms.bytes.len());
                break;
            }
            at = (at + 1) & mask;
        }
        let slot = &mut self.slots[at];
        (slot.id, &mut slot.note)
    }

    /// Doubles the table; the terms themselves stay where they are.
    #[cold]
    fn grow(&mut self) {
        let mask = 2 * self.slots.len() - 1;
        let old = std::mem::replace(&mut self.slots, vec![EMPTY; mask + 1]);
        for slot in old.into_iter().filter(|s| s.key != FREE) {
            let mut at = spread(slot.key) as usize & mask;
            while self.slots[at].key != FREE {
                at = (at + 1) & mask;
            }
            self.slots[at] = slot;
        }
    }

    /// Forgets all terms and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.slots.fill(EMPTY);
        self.terms.keys.clear();
        self.terms.bytes.clear();
        self.terms.ends.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ids_are_those_of_a_hash_map(terms in proptest::collection::vec("[ab\\x00é]{0,9}", 0..3000)) {
            let mut interner = Interner::default();
            let mut expected = HashMap::new();
            for term in &terms {
                let next = expected.len() as u32;
                let id = *expected.entry(term.clone()).or_insert(next);
                prop_assert_eq!(interner.intern(term.as_bytes()), id);
            }
            let terms = interner.into_terms();
            prop_assert_eq!(terms.len(), expected.len());
            for (term, &id) in &expected {
                prop_assert_eq!(terms.term(id as usize), term.as_bytes());
            }
        }

        #[test]
        fn a_key_is_the_same_wherever_its_term_stands(text in ".{0,30}", start in 0usize..30, len in 0usize..12) {
            let bytes = text.as_bytes();
            let start = start.min(bytes.len());
            let end = (start + len).min(bytes.len());
            prop_assert_eq!(key_within(bytes, start, end), key_of(&bytes[start..end]));
        }
    }

    #[test]
    fn short_terms_that_differ_in_trailing_zeros_differ_in_key() {
        assert_ne!(key_of(b"a"), key_of(b"a\0"));
        assert_ne!(key_of(b""), key_of(b"\0"));
    }

    #[test]
    fn a_cleared_interner_starts_again_at_zero() {
        let mut interner = Interner::default();
        interner.intern(b"sea");
        interner.clear();
        assert_eq!((interner.intern(b"mountain"), interner.intern(b"sea")), (0, 1));
    }
}
