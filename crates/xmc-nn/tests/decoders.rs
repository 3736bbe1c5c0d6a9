//! Decoders beside transformers: hidden states, logits, embeddings behind a prompt and the prompt's gradient.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use xmc_nn::decoder::{Config, Decoder, Prompted, PromptedConfig, Quantization, Source};
use xmc_nn::{Batch, Device, Precision, Tensor};

fn floats(json: &Value) -> Vec<f32> {
    json.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
}

fn near(found: &[f32], want: &[f32], within: f32) {
    assert_eq!(found.len(), want.len());
    for (i, (a, b)) in found.iter().zip(want).enumerate() {
        assert!((a - b).abs() <= within, "{i}: {a}, expected {b}");
    }
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/decoders").join(name)
}

#[test]
fn llama_and_qwen2_are_those_of_transformers() {
    for name in ["llama", "qwen2"] {
        let golden: Value =
            serde_json::from_str(&std::fs::read_to_string(folder(name).join("golden.json")).unwrap())
                .unwrap();
        let texts = golden["texts"].as_array().unwrap();
        let batch = Batch::new(texts.iter().map(|text| {
            text.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect::<Vec<_>>()
        }));
        let source = Source::open(&folder(name)).unwrap();
        let decoder = Decoder::open(&source, Quantization::Stored, Precision::F32).unwrap();
        let hidden = decoder.hidden(&batch, None).unwrap();
        near(&hidden, &floats(&golden["hidden"]), 1e-4);
        near(&decoder.logits(&hidden).unwrap(), &floats(&golden["logits"]), 1e-4);

        let config = PromptedConfig::default();
        let prompted = Prompted::new(Arc::new(decoder), config, &floats(&golden["prompt"]), 0).unwrap();
        let (embeddings, tape) = prompted.embed_train(&batch, None).unwrap();
        near(embeddings.host(), &floats(&golden["embeddings"]), 1e-5);
        let outer = (0..embeddings.host().len()).map(|i| (1.7 * i as f32).cos()).collect();
        let outer = Tensor::from_host(batch.len(), prompted.dim(), outer, Device::Cpu).unwrap();
        let mut grads = vec![0.0; prompted.layout().len()];
        prompted.backward(&batch, tape, &outer, &mut grads).unwrap();
        near(&grads, &floats(&golden["gradient"]), 1e-4);
    }
}

/// Needs the file of `scripts/fetch-decoder`.
#[test]
fn a_real_decoder_prefers_sentences_to_shuffled_words() {
    let Some(path) = std::env::var_os("XMC_DECODER") else { return };
    let source = Source::open(Path::new(&path)).unwrap();
    let tokenizer = source.tokenizer(64).unwrap();
    // Mean log-losses are those of transformers with the weights of SmolLM2-135M-Instruct.Q4_1 unpacked, in f32.
    let sentences = [
        (
            4.679_034,
            ["The children walked to school in the rain.", "rain. school The walked in to the children"],
        ),
        (6.842_508, ["Water boils at one hundred degrees.", "hundred boils one degrees. at Water"]),
    ];
    for (precision, within) in [(Precision::F32, 1e-4), (Precision::Bf16, 0.02)] {
        let decoder = Decoder::open(&source, Quantization::Stored, precision).unwrap();
        for (loss, texts) in sentences {
            let [good, bad] = texts.map(|text| {
                let ids = tokenizer.encode_one(text).unwrap();
                let logits = decoder.logits(&decoder.hidden(&Batch::new([&ids]), None).unwrap()).unwrap();
                let vocab = decoder.config().vocab;
                let each = ids[1..].iter().zip(logits.chunks(vocab)).map(|(&id, row)| {
                    let sum: f64 = row.iter().map(|&v| f64::from(v).exp()).sum();
                    sum.ln() - f64::from(row[id as usize])
                });
                each.sum::<f64>() / (ids.len() - 1) as f64
            });
            assert!((good - loss).abs() < within && good + 1.0 < bad, "{texts:?}: {good} {bad}");
        }
    }
}

#[test]
fn a_prompt_has_a_number_for_each_token_and_dimension() {
    for (tokens, hidden, count) in [(5, 4096, 20_480), (20, 4096, 81_920), (5, 576, 2_880)] {
        let sizes = Config { head_dim: 8, ..Config::llama(4, hidden, 1, [1, 1], 8) };
        let decoder = Decoder::random(sizes, 1, Quantization::F32, Precision::F32).unwrap();
        let prompt = vec![0.5; tokens * hidden];
        let prompted = Prompted::new(Arc::new(decoder), PromptedConfig::default(), &prompt, 0).unwrap();
        assert_eq!((prompted.layout().len(), prompted.params().len()), (count, count));
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Indices of the ten rows of `all` nearest to row i, itself aside.
fn nearest(all: &[f32], dim: usize, i: usize) -> Vec<usize> {
    let row = |j: usize| &all[j * dim..][..dim];
    let mut others: Vec<usize> = (0..all.len() / dim).filter(|&j| j != i).collect();
    others.sort_by(|&a, &b| cosine(row(i), row(b)).total_cmp(&cosine(row(i), row(a))));
    others.truncate(10);
    others
}

/// Needs the file of `scripts/fetch-decoder`.
#[test]
fn embeddings_of_a_real_decoder_survive_fewer_bits() {
    let Some(path) = std::env::var_os("XMC_DECODER") else { return };
    let source = Source::open(Path::new(&path)).unwrap();
    let tokenizer = source.tokenizer(64).unwrap();
    let things = [
        "The whale",
        "A violin",
        "Fresh bread",
        "The glacier",
        "Her old car",
        "This novel",
        "The bank",
        "A virus",
    ];
    let deeds = [
        "was sold last year",
        "is larger than we thought",
        "needs water",
        "was found in Norway",
        "sounds sad",
        "is gone",
        "is made by hand",
        "costs too much",
    ];
    let texts = things.iter().flat_map(|thing| deeds.iter().map(move |deed| format!("{thing} {deed}.")));
    let batch = Batch::new(texts.map(|text| tokenizer.encode_one(&text).unwrap()));
    let embed = |quantization| {
        let decoder = Arc::new(Decoder::open(&source, quantization, Precision::F32).unwrap());
        let mut prompt = vec![0.0; 5 * decoder.config().hidden];
        decoder.embed(&[1, 2, 3, 4, 5], &mut prompt);
        let prompted = Prompted::new(decoder, PromptedConfig::default(), &prompt, 0).unwrap();
        (prompted.dim(), prompted.embed(&batch).unwrap().host().to_vec())
    };
    let (dim, exact) = embed(Quantization::F32);
    for (quantization, least) in
        [(Quantization::Q8_0, 0.99), (Quantization::Q4_0, 0.93), (Quantization::Nf4 { double: false }, 0.95)]
    {
        let (_, rough) = embed(quantization);
        let rows = batch.len() as f32;
        let mean = exact.chunks(dim).zip(rough.chunks(dim)).map(|(a, b)| cosine(a, b)).sum::<f32>() / rows;
        let shared = (0..batch.len()).map(|i| {
            let same = nearest(&exact, dim, i);
            nearest(&rough, dim, i).iter().filter(|j| same.contains(j)).count()
        });
        let overlap = shared.sum::<usize>() as f32 / (10.0 * rows);
        println!("{quantization}: mean cosine {mean:.5}, overlap of the nearest ten {overlap:.3}");
        assert!(mean >= least, "{quantization}: {mean}");
    }
}
