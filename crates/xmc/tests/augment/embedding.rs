//! Embeddings of an encoder folder, and what they are found by.

use xmc::augment::embed::{Embedder, embed_file};
use xmc::data::Strings;
use xmc::events::Silent;
use xmc::index::Dtype;
use xmc::nn::{Device, Precision};

use crate::toy;

fn open(dir: &std::path::Path, max_len: Option<usize>) -> Embedder {
    Embedder::open(dir, max_len, Device::Cpu, Precision::F32).unwrap()
}

#[test]
fn an_embedding_does_not_depend_on_the_other_texts_and_has_length_1() {
    let dir = tempfile::tempdir().unwrap();
    let embedder = open(&toy::encoder(dir.path()), None);
    let texts: Vec<String> = (0..60)
        .map(|i| (0..=i % 9).map(|j| format!("a{}", (i * 5 + j) % 24)).collect::<Vec<_>>().join(" "))
        .collect();
    let all = embedder.embed(&Strings::new(&texts)).unwrap();
    let d = embedder.dim();
    let backwards = embedder.embed(&Strings::new(texts.iter().rev())).unwrap();
    for (i, row) in all.chunks_exact(d).enumerate() {
        let length: f32 = row.iter().map(|v| v * v).sum();
        assert!((length - 1.0).abs() < 1e-5, "{length}");
        for other in
            [&backwards[(59 - i) * d..(60 - i) * d], &embedder.embed(&Strings::new([&texts[i]])).unwrap()]
        {
            let cosine: f32 = row.iter().zip(other).map(|(a, b)| a * b).sum();
            assert!(cosine > 0.9999, "text {i}: {cosine}");
        }
    }
}

#[test]
fn an_encoder_is_known_by_what_it_computes_and_not_by_its_place() {
    let [a, b] = [0, 1].map(|_| tempfile::tempdir().unwrap());
    let (first, second) = (toy::encoder(a.path()), toy::encoder(b.path()));
    assert_eq!(open(&first, None).id(), open(&second, None).id());
    assert_ne!(open(&first, None).id(), open(&first, Some(5)).id());
    let path = a.path().join("targets");
    let texts = Strings::new(["a1 b2", "c3"]);
    let run = |embedder: &Embedder| embed_file(embedder, &texts, Dtype::F32, &path, &Silent).unwrap().1;
    assert!(run(&open(&first, None)));
    assert!(!run(&open(&second, None)), "the same encoder elsewhere embeds nothing again");
    assert!(run(&open(&first, Some(5))));
    let mut weights = std::fs::read(second.join("model.safetensors")).unwrap();
    let last = weights.len() - 2;
    weights[last] ^= 1;
    std::fs::write(second.join("model.safetensors"), weights).unwrap();
    assert_ne!(open(&first, None).id(), open(&second, None).id());
    let missing = Embedder::open(&a.path().join("nowhere"), None, Device::Cpu, Precision::F32);
    assert!(missing.err().unwrap().to_string().contains("nowhere"));
}
