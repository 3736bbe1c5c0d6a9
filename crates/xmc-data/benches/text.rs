//! How fast do texts become features? 10,000 texts of 40 words with Zipf-like frequencies.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rand::Rng;
use rand_pcg::Pcg32;
use xmc_data::Strings;
use xmc_data::text::{AnalyzerKind, Scratch, Vectorizer, VectorizerConfig};

const TEXTS: usize = 10_000;
const WORDS: usize = 40;
const VOCABULARY: f64 = 50_000.0;

/// A word whose rank has a Zipf-like frequency; frequent words are short.
fn word(random: &mut Pcg32) -> String {
    let share = f64::from(random.next_u32()) / f64::from(u32::MAX);
    let mut rank = VOCABULARY.powf(share) as u32 + 20;
    let mut word = String::new();
    while rank > 0 {
        word.push(char::from(b'a' + (rank % 5) as u8));
        rank /= 5;
    }
    word
}

fn texts() -> Strings {
    let random = &mut Pcg32::new(7, 1);
    Strings::new((0..TEXTS).map(|_| (0..WORDS).map(|_| word(random)).collect::<Vec<_>>().join(" ")))
}

fn configs() -> [(&'static str, VectorizerConfig); 3] {
    let words = VectorizerConfig::default();
    let pairs = VectorizerConfig { ngram_range: [1, 2], ..words.clone() };
    let characters =
        VectorizerConfig { analyzer: AnalyzerKind::CharWb, ngram_range: [2, 4], ..words.clone() };
    [("words", words), ("words and pairs", pairs), ("char_wb 2-4", characters)]
}

fn features(c: &mut Criterion) {
    let texts = texts();
    for (name, config) in configs() {
        let Ok((vectorizer, _)) = Vectorizer::fit(std::slice::from_ref(&config), &texts) else {
            continue;
        };
        let mut group = c.benchmark_group(name);
        group.sample_size(10).throughput(Throughput::Elements(TEXTS as u64));
        group.bench_function("fit and transform", |b| {
            b.iter_batched(
                || config.clone(),
                |config| Vectorizer::fit(&[config], black_box(&texts)),
                BatchSize::LargeInput,
            );
        });
        group.bench_function("transform", |b| b.iter(|| vectorizer.transform(black_box(&texts))));
        let mut scratch = Scratch::default();
        group.bench_function("transform one by one", |b| {
            b.iter(|| {
                texts.iter().map(|text| vectorizer.transform_one(text, &mut scratch).len()).sum::<usize>()
            });
        });
        group.finish();
    }
}

criterion_group!(benches, features);
criterion_main!(benches);
