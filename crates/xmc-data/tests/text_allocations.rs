//! Once its scratch is warm, transforming a text allocates nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use xmc_data::Strings;
use xmc_data::text::{Scratch, Vectorizer, VectorizerConfig};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system allocator unchanged; counting touches a thread's own constant-initialised cell.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's contract is that of `System.alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is that of `System.dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's contract is that of `System.realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn a_warm_scratch_makes_transforming_free_of_allocations() {
    let configs: Vec<VectorizerConfig> = [
        r#"{"ngram_range": [1, 2], "strip_accents": true, "stop_words": ["the"]}"#,
        r#"{"stem": "english"}"#,
        r#"{"analyzer": "char_wb", "ngram_range": [2, 4]}"#,
        r#"{"analyzer": "char", "ngram_range": [3, 3]}"#,
        r#"{"kind": "hashing"}"#,
    ]
    .iter()
    .map(|json| serde_json::from_str(json).unwrap())
    .collect();
    let texts =
        Strings::new(["The rivers are flowing to the sea", "Größe ΟΔΟΣ İstanbul 中文 e\u{301} 😀 flows", ""]);
    let (vectorizer, _) = Vectorizer::fit(&configs, &texts).unwrap();
    let mut scratch = Scratch::default();
    let mut run = || {
        let before = ALLOCATIONS.with(Cell::get);
        for text in texts.iter() {
            vectorizer.transform_one(text, &mut scratch);
        }
        ALLOCATIONS.with(Cell::get) - before
    };
    assert!(run() > 0);
    assert_eq!(run(), 0);
}
