//! Once its buffers are warm, answering single rows allocates nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;

use tempfile::TempDir;
use xmc::config;
use xmc::events::Silent;
use xmc::methods::TrainOptions;
use xmc::methods::xr_linear::{self, XrLinearConfig};
use xmc::model::{Model, PredictOptions};
use xmc_data::dataset::{Dataset, Part};
use xmc_data::{CsrBuilder, LabelSet, Strings};
use xmc_linear::search::{Query, SearchOptions, Searcher};

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

/// Allocations of this thread during `work`.
fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

/// Allocations of `answer` over many queries, once each of them was answered and the buffers fit the largest.
fn warm_allocations(queries: usize, mut answer: impl FnMut(usize)) -> usize {
    let cold = allocations(|| (0..queries).for_each(&mut answer));
    assert!(cold > 0, "nothing was counted");
    allocations(|| (0..queries).rev().for_each(&mut answer))
}

const LABELS: usize = 60;
const ROWS: usize = 400;

/// Texts of different lengths with words that give their two labels away.
fn texts() -> Strings {
    Strings::new((0..ROWS).map(|i| {
        let (a, b) = labels(i);
        let fillers: Vec<String> = (0..(ROWS - i) % 23).map(|j| format!("any{}", i * j % 97)).collect();
        format!("own{a} own{b} {}", fillers.join(" "))
    }))
}

fn labels(i: usize) -> (usize, usize) {
    let a = i % LABELS;
    (a, (a + 1 + i * 7 % (LABELS - 1)) % LABELS)
}

fn model(dir: &Path, trees: usize) -> Model {
    let mut y = CsrBuilder::new();
    for i in 0..ROWS {
        let (a, b) = labels(i);
        y.push([(a.min(b) as u32, 1.0), (a.max(b) as u32, 1.0)]);
    }
    let part =
        Part { texts: Some(texts()), features: None, y: y.finish(LABELS).unwrap(), filter: Vec::new() };
    let data = Dataset::new(Path::new("made"), LabelSet::numbered(LABELS), part, None).unwrap();
    let sets = [format!("trees={trees}"), "cluster.max_leaf_size=8".to_owned()];
    let config = config::load::<XrLinearConfig>(None, &sets).unwrap();
    let out = dir.join(format!("model.{trees}"));
    let options = TrainOptions { seed: 1, evaluate: false, ..TrainOptions::new(&out) };
    xr_linear::train(&data, &config, &options, &Silent).unwrap();
    Model::open(&out).unwrap()
}

fn ways() -> [PredictOptions; 3] {
    let top = PredictOptions::top(5);
    [top, PredictOptions { beam_size: Some(2), ..top }, PredictOptions { exact: true, ..top }]
}

#[test]
fn a_warm_session_answers_without_allocating() {
    let dir = TempDir::new().unwrap();
    let texts = texts();
    for trees in [1, 3] {
        let model = model(dir.path(), trees);
        let x = model.xr_linear().unwrap().vectorizer().unwrap().transform(&texts);
        for options in ways() {
            let mut session = model.session(options);
            let counted = warm_allocations(ROWS, |i| {
                assert!(!session.text(texts.get(i)).unwrap().is_empty());
            });
            assert_eq!(counted, 0, "texts, {trees} trees, {options:?}");
            let mut session = model.session(options);
            let counted = warm_allocations(ROWS, |i| {
                assert!(!session.features(x.row(i)).unwrap().is_empty());
            });
            assert_eq!(counted, 0, "features, {trees} trees, {options:?}");
        }
    }
}

#[test]
fn a_warm_searcher_scores_given_labels_without_allocating() {
    let dir = TempDir::new().unwrap();
    let model = model(dir.path(), 1);
    let x = model.xr_linear().unwrap().vectorizer().unwrap().transform(&texts());
    let mut searcher = Searcher::new(&model.xr_linear().unwrap().trees()[0]);
    let all: Vec<u32> = (0..LABELS as u32).rev().collect();
    let mut scores = Vec::new();
    let counted = warm_allocations(ROWS, |i| {
        let wanted = &all[i % LABELS..];
        searcher.score_labels(Query::from(x.row(i)), wanted, &SearchOptions::default(), &mut scores);
        assert_eq!(scores.len(), wanted.len());
    });
    assert_eq!(counted, 0);
}
