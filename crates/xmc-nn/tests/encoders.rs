//! Encoders beside PyTorch: the golden files come from scripts/golden/encoders.py.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed"
)]

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use xmc_nn::optim::{AdamW, AdamWConfig};
use xmc_nn::transformer::Config;
use xmc_nn::{Batch, Device, DropoutKey, Pooling, Precision, Tensor, Tower, TowerConfig};

/// All families, and a BERT with its pooler.
const ENCODERS: [&str; 5] = ["bert", "distilbert", "roberta", "mpnet", "pooler"];

struct Golden {
    bytes: Vec<u8>,
}

impl Golden {
    fn open(name: &str) -> Self {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/encoders/{name}.safetensors"));
        Self::read(&path)
    }

    fn read(path: &Path) -> Self {
        Golden { bytes: std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())) }
    }

    fn metadata(&self, key: &str) -> String {
        SafeTensors::read_metadata(&self.bytes).unwrap().1.metadata().as_ref().unwrap()[key].clone()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let tensors = SafeTensors::deserialize(&self.bytes).unwrap();
        let data = tensors.tensor(name).unwrap().data();
        data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    fn integers(&self, name: &str) -> Vec<u32> {
        self.floats(name).into_iter().map(f32::to_bits).collect()
    }

    fn batch(&self) -> Batch {
        let ids = self.integers("ids");
        let mut rest = ids.as_slice();
        Batch::new(self.integers("lengths").into_iter().map(|len| {
            let (row, after) = rest.split_at(len as usize);
            rest = after;
            row
        }))
    }

    /// The tower of the file, with its parameters.
    fn tower(&self, precision: Precision) -> Tower {
        let json: serde_json::Value = serde_json::from_str(&self.metadata("config")).unwrap();
        let projection = self
            .bytes
            .windows(17)
            .any(|w| w == b"bottleneck.weight")
            .then(|| self.floats("param.bottleneck.bias").len());
        let pooling = serde_json::from_value(self.metadata("pooling").into()).unwrap();
        let config = TowerConfig { pooling, projection, normalize: true };
        let transformer = Config::from_json(&json).unwrap();
        let mut tower = Tower::random(transformer, config, 0, Device::Cpu, precision).unwrap();
        let params = self.in_order(&tower, "param");
        tower.set_params(&params).unwrap();
        tower
    }

    /// `KIND.NAME` of all parameters in the order of the tower.
    fn in_order(&self, tower: &Tower, kind: &str) -> Vec<f32> {
        let mut values = vec![f32::NAN; tower.layout().len()];
        for param in tower.layout().params() {
            values[param.range.clone()].copy_from_slice(&self.floats(&format!("{kind}.{}", param.name)));
        }
        values
    }

    /// The gradient of the golden loss with respect to the embeddings.
    fn weight(&self, tower: &Tower) -> Tensor {
        let weight = self.floats("weight");
        Tensor::from_host(weight.len() / tower.dim(), tower.dim(), weight, Device::Cpu).unwrap()
    }
}

fn close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= tolerance && found.iter().all(|v| v.is_finite()), "{what}: off by {worst}");
}

fn gradients(tower: &Tower, batch: &Batch, de: &Tensor, dropout: Option<DropoutKey>) -> (Vec<f32>, Vec<f32>) {
    let (e, tape) = tower.embed_train(batch, dropout).unwrap();
    let mut grads = vec![0.0; tower.layout().len()];
    tower.backward(batch, tape, de, &mut grads).unwrap();
    (e.into_host(), grads)
}

#[test]
fn embeddings_are_those_of_pytorch() {
    for name in ENCODERS {
        let golden = Golden::open(name);
        let tower = golden.tower(Precision::F32);
        let e = tower.embed(&golden.batch()).unwrap();
        close(name, e.host(), &golden.floats("embeddings"), 1e-5);
    }
}

#[test]
fn gradients_of_every_parameter_are_those_of_pytorch() {
    for name in ENCODERS {
        let golden = Golden::open(name);
        let tower = golden.tower(Precision::F32);
        let (e, grads) = gradients(&tower, &golden.batch(), &golden.weight(&tower), None);
        close(name, &e, &golden.floats("embeddings"), 1e-5);
        for param in tower.layout().params() {
            let expected = golden.floats(&format!("grad.{}", param.name));
            close(&format!("{name} {}", param.name), &grads[param.range.clone()], &expected, 1e-5);
            // Keys move all scores of a row alike, so their bias has no gradient but rounding.
            let key_bias = [".key.bias", ".k.bias", "k_lin.bias"].iter().any(|end| param.name.ends_with(end));
            let moved = grads[param.range.clone()].iter().any(|g| g.abs() > 1e-5);
            assert!(moved || key_bias, "{name} {} has no gradient", param.name);
        }
    }
}

#[test]
fn three_steps_of_adamw_lead_where_pytorch_goes() {
    for name in ENCODERS {
        let golden = Golden::open(name);
        let mut tower = golden.tower(Precision::F32);
        let (batch, de) = (golden.batch(), golden.weight(&tower));
        let config = AdamWConfig { eps: 1e-4, weight_decay: 0.0, ..AdamWConfig::default() };
        let mut optimizer = AdamW::new(tower.layout(), config);
        for _ in 0..3 {
            let (_, mut grads) = gradients(&tower, &batch, &de, None);
            optimizer.step(tower.params_mut(), &mut grads, 1e-3, 1.0).unwrap();
            tower.refresh();
        }
        let expected = golden.in_order(&tower, "step");
        for param in tower.layout().params() {
            let range = param.range.clone();
            let what = format!("{name} {}", param.name);
            close(&what, &tower.params()[range.clone()], &expected[range], 1e-5);
        }
    }
}

#[test]
fn gradients_are_added_to_what_is_there() {
    let golden = Golden::open("roberta");
    let tower = golden.tower(Precision::F32);
    let (batch, de) = (golden.batch(), golden.weight(&tower));
    let (_, once) = gradients(&tower, &batch, &de, None);
    let mut grads = once.clone();
    let (_, tape) = tower.embed_train(&batch, None).unwrap();
    tower.backward(&batch, tape, &de, &mut grads).unwrap();
    let twice: Vec<f32> = once.iter().map(|g| 2.0 * g).collect();
    close("twice", &grads, &twice, 1e-5);
}

#[test]
fn bfloat16_points_in_nearly_the_same_direction() {
    for name in ENCODERS {
        let golden = Golden::open(name);
        let (exact, rounded) = (golden.tower(Precision::F32), golden.tower(Precision::Bf16));
        let (batch, de) = (golden.batch(), golden.weight(&exact));
        let (e, g) = gradients(&exact, &batch, &de, None);
        let (e16, g16) = gradients(&rounded, &batch, &de, None);
        assert_ne!(e, e16);
        for (e, e16) in e.chunks(exact.dim()).zip(e16.chunks(exact.dim())) {
            assert!(cosine(e, e16) > 0.999, "{name} {}", cosine(e, e16));
        }
        assert!(cosine(&g, &g16) > 0.995, "{name} {}", cosine(&g, &g16));
    }
}

#[test]
fn bfloat16_embeddings_of_packed_texts_point_where_those_of_f32_do() {
    // Short and long texts side by side, weights as large as trained ones, no norm that would hide lengths.
    let config = Config::bert(500, 128, 4, 8, 256);
    for pooling in [Pooling::Mean, Pooling::Cls, Pooling::Pooler] {
        let shape = TowerConfig { pooling, projection: None, normalize: false };
        let tower = |precision| Tower::random(config.clone(), shape, 5, Device::Cpu, precision).unwrap();
        let (mut exact, mut rounded) = (tower(Precision::F32), tower(Precision::Bf16));
        let params: Vec<f32> = exact.params().iter().map(|p| if *p == 1.0 { 1.0 } else { p * 3.0 }).collect();
        exact.set_params(&params).unwrap();
        rounded.set_params(&params).unwrap();
        let batch = long_batch(500);
        let (e, e16) = (exact.embed(&batch).unwrap(), rounded.embed(&batch).unwrap());
        assert_ne!(e, e16);
        for (i, (e, e16)) in e.host().chunks(128).zip(e16.host().chunks(128)).enumerate() {
            let (cosine, length) = (cosine(e, e16), |e: &[f32]| e.iter().map(|v| v * v).sum::<f32>().sqrt());
            assert!(cosine > 0.999, "{pooling:?} {i}: {cosine}");
            assert!((length(e16) / length(e) - 1.0).abs() < 0.01, "{pooling:?} {i}");
        }
    }
}

fn cosine(x: &[f32], y: &[f32]) -> f64 {
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    dot(x, y) / (dot(x, x) * dot(y, y)).sqrt()
}

/// A batch of several groups of chunks, with short and long sequences.
fn long_batch(vocab: u32) -> Batch {
    let lengths = [1usize, 200, 90, 3, 300, 17, 64, 120].into_iter().cycle().take(48);
    let mut state = 1u32;
    Batch::new(lengths.map(|len| {
        let row = (0..len).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % vocab
        });
        row.collect::<Vec<_>>()
    }))
}

fn small(precision: Precision, seed: u64) -> Tower {
    small_with(Pooling::Mean, precision, seed)
}

fn small_with(pooling: Pooling, precision: Precision, seed: u64) -> Tower {
    let config = TowerConfig { pooling, projection: Some(12), normalize: true };
    Tower::random(Config::bert(100, 32, 3, 4, 80), config, seed, Device::Cpu, precision).unwrap()
}

#[test]
fn threads_do_not_change_a_bit() {
    for precision in [Precision::F32, Precision::Bf16] {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let tower = small(precision, 3);
                let batch = long_batch(100);
                let key = DropoutKey { seed: 5, step: 1, part: 0 };
                let (e, _) = tower.embed_train(&batch, Some(key)).unwrap();
                let (again, grads) = gradients(&tower, &batch, &e, Some(key));
                assert_eq!(e.host(), again, "the same key drops the same");
                (again, grads, tower.embed(&batch).unwrap().into_host())
            })
        };
        let one = run(1);
        assert!(one == run(2) && one == run(3));
        assert_ne!(one.0, one.2, "dropout changes something");
    }
}

#[test]
fn chunks_do_not_change_embeddings() {
    let tower = small(Precision::F32, 3);
    let batch = long_batch(100);
    let all = tower.embed(&batch).unwrap();
    for (i, e) in all.host().chunks(tower.dim()).enumerate() {
        let ends = &batch.cu_seqlens()[i..i + 2];
        let alone = tower.embed(&Batch::new([&batch.ids()[ends[0]..ends[1]]])).unwrap();
        close("alone", alone.host(), e, 2e-6);
    }
}

#[test]
fn gradients_with_dropout_are_those_of_finite_differences() {
    for pooling in [Pooling::Mean, Pooling::Pooler] {
        check_gradients_with_dropout(small_with(pooling, Precision::F32, 11));
    }
}

fn check_gradients_with_dropout(mut tower: Tower) {
    let batch = Batch::new([vec![3u32, 5, 7, 2, 9], vec![4], vec![8, 8, 1]]);
    let key = Some(DropoutKey { seed: 1, step: 2, part: 3 });
    // Larger weights: fresh ones are so small that nothing but rounding would be seen.
    let start: Vec<f32> = tower.params().iter().map(|p| if *p == 1.0 { 1.0 } else { p * 8.0 }).collect();
    tower.set_params(&start).unwrap();
    let target: Vec<f32> = (0..3 * tower.dim()).map(|i| ((i * 37 % 11) as f32 - 5.0) * 0.2).collect();
    let de = Tensor::from_host(3, tower.dim(), target.clone(), Device::Cpu).unwrap();
    let (_, grads) = gradients(&tower, &batch, &de, key);
    let layout = tower.layout().clone();
    for (i, param) in layout.params().iter().enumerate() {
        // Along a random direction within one parameter.
        let direction: Vec<f32> =
            (0..param.range.len()).map(|j| if (j * 7919 + i) % 3 == 0 { 1.0 } else { -1.0 }).collect();
        let step = 2e-3 / (direction.len() as f32).sqrt();
        let value = |sign: f32, tower: &mut Tower| {
            let mut params = start.clone();
            for (p, d) in params[param.range.clone()].iter_mut().zip(&direction) {
                *p += sign * step * d;
            }
            tower.set_params(&params).unwrap();
            let e = tower.embed_train(&batch, key).unwrap().0;
            e.host().iter().zip(&target).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
        };
        let slope = (value(1.0, &mut tower) - value(-1.0, &mut tower)) / (2.0 * f64::from(step));
        let expected: f64 = grads[param.range.clone()]
            .iter()
            .zip(&direction)
            .map(|(g, d)| f64::from(*g) * f64::from(*d))
            .sum();
        let tolerance = 0.01 * expected.abs() + 0.002 / f64::from(step) * 1e-3;
        assert!((slope - expected).abs() < tolerance, "{}: {slope} {expected}", param.name);
    }
}

#[test]
fn batches_that_cannot_be_computed_are_refused() {
    let tower = small(Precision::F32, 3);
    for (sequence, expected) in [
        (vec![], "sequence 1 of the batch has no tokens"),
        (vec![100], "token id 100; the encoder's vocabulary has 100"),
        (vec![1; 513], "has 513 tokens; the encoder takes up to 512"),
    ] {
        let batch = Batch::new([vec![1], sequence]);
        for error in [tower.embed(&batch).unwrap_err(), tower.embed_train(&batch, None).unwrap_err()] {
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
    let batch = Batch::new([vec![1], vec![2; 512]]);
    let (e, tape) = tower.embed_train(&batch, None).unwrap();
    let other = Tensor::zeros(3, e.cols(), Device::Cpu);
    let mut grads = vec![0.0; tower.layout().len()];
    assert!(tower.backward(&batch, tape, &other, &mut grads).is_err());
    assert_eq!(tower.embed(&Batch::default()).unwrap().rows(), 0);
}

#[test]
fn saved_towers_open_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let tower = small(Precision::F32, 3);
    tower.save(dir.path()).unwrap();
    let opened = Tower::open(dir.path(), tower.config(), Device::Cpu, Precision::F32).unwrap();
    assert_eq!((opened.params(), opened.layout()), (tower.params(), tower.layout()));
    let wider = TowerConfig { projection: Some(13), ..tower.config() };
    let error = Tower::open(dir.path(), wider, Device::Cpu, Precision::F32).unwrap_err().to_string();
    assert!(error.contains("`bottleneck.weight` has shape [12, 32]"), "{error}");
}

#[test]
fn a_pooler_is_read_if_there_is_one_fresh_if_not_and_left_out_if_not_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let asked = TowerConfig { pooling: Pooling::Pooler, projection: None, normalize: false };
    let open = |config| Tower::open(dir.path(), config, Device::Cpu, Precision::F32).unwrap();
    let config = || Config::bert(100, 32, 1, 4, 80);
    let without = TowerConfig { pooling: Pooling::Cls, ..asked };
    let tower = Tower::random(config(), without, 3, Device::Cpu, Precision::F32).unwrap();
    tower.save(dir.path()).unwrap();
    let mut fresh = open(asked);
    assert_eq!(fresh.fresh(), ["pooler.dense.weight", "pooler.dense.bias"]);
    assert!(open(without).fresh().is_empty());
    let [weight, bias] = ["weight", "bias"]
        .map(|name| fresh.layout().get(&format!("pooler.dense.{name}")).unwrap().range.clone());
    assert_eq!(fresh.params()[..weight.start], *tower.params());
    let square = fresh.params()[weight.clone()].iter().map(|w| w * w).sum::<f32>() / weight.len() as f32;
    assert!((square.sqrt() - 0.02).abs() < 0.002, "{square}");
    assert!(fresh.params()[bias.clone()].iter().all(|b| *b == 0.0));
    assert_eq!(open(asked).params(), fresh.params());

    let half = fresh.params()[weight.clone()].iter().map(|w| w * 0.5).collect::<Vec<_>>();
    fresh.params_mut()[weight.clone()].copy_from_slice(&half);
    fresh.params_mut()[bias].fill(0.25);
    fresh.refresh();
    fresh.save(dir.path()).unwrap();
    let again = open(asked);
    assert_eq!((again.params(), again.layout()), (fresh.params(), fresh.layout()));
    assert_eq!((open(without).params(), open(without).layout()), (tower.params(), tower.layout()));

    // tanh(W x + b), from the states of the first tokens.
    let batch = Batch::new([vec![3u32, 5, 7], vec![4]]);
    let (states, pooled) = (tower.embed(&batch).unwrap(), again.embed(&batch).unwrap());
    for (x, pooled) in states.host().chunks(32).zip(pooled.host().chunks(32)) {
        let expected: Vec<f32> = half
            .chunks(32)
            .map(|w| (w.iter().zip(x).map(|(w, x)| w * x).sum::<f32>() + 0.25).tanh())
            .collect();
        close("pooled", pooled, &expected, 1e-6);
    }
}

#[test]
fn sizes_that_no_memory_holds_are_refused_before_they_take_any() {
    let dir = tempfile::tempdir().unwrap();
    let tower = small(Precision::F32, 3);
    tower.save(dir.path()).unwrap();
    let path = dir.path().join("config.json");
    let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for (key, size) in [("hidden_size", 1 << 28), ("vocab_size", 1 << 28), ("intermediate_size", 1 << 28)] {
        let right = std::mem::replace(&mut json[key], size.into());
        std::fs::write(&path, json.to_string()).unwrap();
        let opened = Tower::open(dir.path(), tower.config(), Device::Cpu, Precision::F32);
        let error = opened.unwrap_err().to_string();
        assert!(error.contains("config.json asks for") && error.contains("268435456"), "{error}");
        json[key] = right;
    }
}

#[test]
fn a_real_encoder_gives_the_embeddings_of_pytorch() {
    let Some(dir) = std::env::var_os("XMC_ENCODER").map(PathBuf::from) else {
        return println!("skipped: XMC_ENCODER names no folder of an encoder");
    };
    let golden = Golden::read(&dir.join("golden_embeddings.safetensors"));
    let tower = Tower::open(&dir, TowerConfig::default(), Device::Cpu, Precision::F32).unwrap();
    let e = tower.embed(&golden.batch()).unwrap();
    close("embeddings", e.host(), &golden.floats("embeddings"), 1e-5);
    let rounded = Tower::open(&dir, TowerConfig::default(), Device::Cpu, Precision::Bf16).unwrap();
    let e16 = rounded.embed(&golden.batch()).unwrap();
    for (e, e16) in e.host().chunks(e.cols()).zip(e16.host().chunks(e.cols())) {
        assert!(cosine(e, e16) > 0.999, "{}", cosine(e, e16));
    }
}
