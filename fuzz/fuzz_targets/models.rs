//! Files of a model: trees, label names, vectorizers, models of libpecos. Whatever opens must be usable: no panic, no
//! endless loop, no memory that the file does not back.
//!
//! The first bytes say what the file is; sizes and checksums over the whole file are corrected first, so that
//! mutations reach what lies behind them. Anything else replaces one file of a small libpecos model: the first byte
//! says which.
#![no_main]

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use xmc_data::Strings;
use xmc_data::csr::Row;
use xmc_data::text::{Scratch, Vectorizer};
use xmc_fuzz::{pecos_files, scratch, with_file};
use xmc_linear::search::{Query, SearchOptions, Searcher};
use xmc_linear::{PostProcessor, TreeModel, pecos};
use xxhash_rust::xxh3::xxh3_64;

/// Names looked at, and labels asked for: enough to meet every branch.
const SOME: usize = 64;

fuzz_target!(|data: &[u8]| {
    let mut bytes = data.to_vec();
    let len = bytes.len() as u64;
    if bytes.starts_with(b"XMCTREE\0") {
        overwrite(&mut bytes, 16, &len.to_le_bytes());
        if let Ok(model) = with_file(&bytes, TreeModel::open) {
            search(&model);
        }
    } else if bytes.starts_with(b"xmcstrng") {
        with_file(&bytes, look_up);
    } else if bytes.starts_with(b"xmcvecto") {
        let checksum = xxh3_64(bytes.get(24..).unwrap_or_default());
        overwrite(&mut bytes, 16, &checksum.to_le_bytes());
        if let Ok(vectorizer) = with_file(&bytes, Vectorizer::open) {
            vectorize(&vectorizer);
        }
    } else if let Some((&which, content)) = data.split_first() {
        replaced_in_pecos(usize::from(which), content);
    }
});

fn overwrite(bytes: &mut [u8], at: usize, new: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + new.len()) {
        place.copy_from_slice(new);
    }
}

/// Every search with several queries and settings.
fn search(model: &TreeModel) {
    let dense: Vec<f32> = (0..model.features().1.min(SOME)).map(|i| i as f32 - 1.0).collect();
    let every: Vec<u32> = (0..80).collect();
    let (ones, large) = (vec![1.0; every.len()], vec![3e38; every.len()]);
    let far = [0, 255, 256, 65_535, 65_536, 1 << 20, u32::MAX - 1];
    let queries = [
        Query { sparse: Row { indices: &every, values: &ones }, dense: &dense },
        Query { sparse: Row { indices: &every, values: &large }, dense: &dense },
        Query { sparse: Row { indices: &far, values: &ones[..far.len()] }, dense: &dense },
        Query { sparse: Row { indices: &[], values: &[] }, dense: &[] },
    ];
    let labels: Vec<u32> = (0..SOME as u32).rev().chain([u32::MAX]).collect();
    let mut searcher = Searcher::new(model);
    let mut scores = Vec::new();
    for query in queries {
        for post_processor in [None, Some(PostProcessor::Sigmoid), Some(PostProcessor::LogHinge(2))] {
            for (beam_size, top_k) in [(None, None), (Some(1), Some(1)), (Some(usize::MAX), Some(usize::MAX))]
            {
                let options = SearchOptions { beam_size, top_k, post_processor };
                searcher.beam(query, &options);
                let _ = searcher.exact(query, &options);
            }
            let options = SearchOptions { post_processor, ..SearchOptions::default() };
            searcher.score_labels(query, &labels, &options, &mut scores);
            assert_eq!(scores.len(), labels.len());
        }
    }
}

fn look_up(path: &Path) {
    let Ok(mut strings) = Strings::open(path) else { return };
    strings.iter().take(SOME).for_each(drop);
    let last = strings.len().saturating_sub(1) as u32;
    let _ = strings.select(&[last, 0, last]);
    let _ = strings.verify(path);
    strings.push("one more");
}

fn vectorize(vectorizer: &Vectorizer) {
    let mut scratch = Scratch::default();
    let d = vectorizer.num_features() as u32;
    for text in
        ["", "The sea, the mountain and the größer river sea", "\u{0}\u{301}é 12 _a b", &"ab ".repeat(50)]
    {
        let row = vectorizer.transform_one(text, &mut scratch);
        assert!(row.indices.is_sorted_by(|a, b| a < b) && row.indices.iter().all(|&c| c < d));
    }
    for id in (0..SOME as u32).chain([d.wrapping_sub(1), d, u32::MAX]) {
        let _ = vectorizer.feature_name(id);
    }
}

/// The folder with the copies, and all their files.
fn pecos_copies() -> &'static [(PathBuf, PathBuf, Vec<u8>)] {
    static COPIES: OnceLock<Vec<(PathBuf, PathBuf, Vec<u8>)>> = OnceLock::new();
    COPIES.get_or_init(|| {
        let copy = |(model, file): (PathBuf, PathBuf)| {
            let content = std::fs::read(&file).expect("a golden file");
            let folder = scratch().join(model.file_name().expect("a model has a name"));
            let place = folder.join(file.strip_prefix(&model).expect("a file of the model"));
            std::fs::create_dir_all(place.parent().expect("a file in a folder")).expect("a folder");
            std::fs::write(&place, &content).expect("a temporary file");
            (folder, place, content)
        };
        pecos_files().into_iter().map(copy).collect()
    })
}

fn replaced_in_pecos(which: usize, content: &[u8]) {
    let copies = pecos_copies();
    let (model, file, original) = &copies[which % copies.len()];
    std::fs::write(file, content).expect("a temporary file");
    if let Ok(model) = pecos::open(model) {
        search(&model);
    }
    std::fs::write(file, original).expect("a temporary file");
}
