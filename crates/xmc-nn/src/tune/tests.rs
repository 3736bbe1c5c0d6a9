//! The loss against differences, the export against the adapter, and that a decoder learns.

use super::*;
use crate::Precision;
use crate::decoder::{Config, Quantization, RopeLayout, RopeScaling, Source};
use crate::generate::log_likelihood;
use crate::optim::{AdamW, AdamWConfig};

fn tiny() -> Config {
    Config { positions: 64, ..Config::llama(50, 32, 2, [4, 2], 64) }
}

/// A tiny decoder whose adapter has learned something.
fn tuned(config: Config, quantization: Quantization, dropout: f32) -> Tuned {
    let decoder = Decoder::random(config, 7, quantization, Precision::F32).unwrap();
    let lora = LoraConfig { rank: 2, alpha: 4.0, dropout };
    let mut tuned = Tuned::new(Arc::new(decoder), lora, 5).unwrap();
    tuned.params_mut().iter_mut().enumerate().for_each(|(i, value)| *value += (i as f32 * 0.77).sin() * 0.1);
    tuned.refresh();
    tuned
}

fn texts(lengths: &[usize]) -> Batch {
    let text = |(i, &len): (usize, &usize)| {
        (0..len).map(|j| ((i * 31 + j * 17 + i * j) % 50) as u32).collect::<Vec<_>>()
    };
    Batch::new(lengths.iter().enumerate().map(text))
}

fn gradient(tuned: &Tuned, batch: &Batch, from: &[usize], key: Option<DropoutKey>) -> Vec<f32> {
    let mut grads = vec![0.0; tuned.layout().len()];
    tuned.learn(batch, from, key, 1.0, &mut grads).unwrap();
    grads
}

fn worst(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn gradients_are_slopes_through_quantised_weights() {
    let key = Some(DropoutKey { seed: 1, step: 2, part: 3 });
    for (quantization, tied, key) in
        [(Quantization::F32, true, None), (Quantization::Q4_0, false, None), (Quantization::Q8_0, true, key)]
    {
        let config = Config { qkv_bias: true, tied, ..tiny() };
        let mut tuned = tuned(config, quantization, if key.is_some() { 0.3 } else { 0.0 });
        let (batch, from) = (texts(&[6, 3, 12]), [2, 1, 7]);
        let grads = gradient(&tuned, &batch, &from, key);
        let scale = grads.iter().fold(0f32, |m, g| m.max(g.abs()));
        for i in (0..grads.len()).step_by(61) {
            let mut loss = |step: f32| {
                let before = tuned.params()[i];
                tuned.params_mut()[i] = before + step;
                tuned.refresh();
                let loss = tuned.learn(&batch, &from, key, 1.0, &mut vec![0.0; grads.len()]).unwrap();
                tuned.params_mut()[i] = before;
                tuned.refresh();
                loss.sum
            };
            let slope = ((loss(1e-2) - loss(-1e-2)) / 2e-2) as f32;
            let off = (grads[i] - slope).abs();
            assert!(off < 1e-2 * slope.abs().max(0.1 * scale), "{i}: {} {slope}", grads[i]);
        }
    }
}

#[test]
fn the_loss_is_that_of_the_likelihood_and_prompts_are_masked() {
    let decoder = Arc::new(Decoder::random(tiny(), 7, Quantization::Q8_0, Precision::F32).unwrap());
    let fresh = Tuned::new(decoder.clone(), LoraConfig { rank: 2, alpha: 4.0, dropout: 0.0 }, 5).unwrap();
    let (batch, from) = (texts(&[6, 3, 12]), [2, 3, 0]);
    let loss = fresh.loss(&batch, &from).unwrap();
    let logs = log_likelihood(&decoder, &batch, &from, None).unwrap();
    // Four tokens of the first, none of the second, all but the first of the third.
    assert_eq!(loss.tokens, 4 + 11);
    assert!((loss.sum + logs.iter().sum::<f64>()).abs() < 1e-4, "{} {logs:?}", loss.sum);
    assert!((loss.mean() - loss.sum / 15.0).abs() < 1e-12);
    let nothing = fresh.loss(&batch, &[6, 3, 12]).unwrap();
    assert_eq!((nothing, nothing.mean()), (Loss::default(), 0.0));
    assert!(fresh.loss(&batch, &[1]).is_err());
    assert!(fresh.loss(&texts(&[65]), &[1]).is_err());
    assert!(fresh.learn(&batch, &from, None, 1.0, &mut [0.0]).is_err());
}

#[test]
fn neither_chunks_of_logits_nor_neighbours_nor_threads_change_a_bit() {
    let tuned = tuned(tiny(), Quantization::Q4_0, 0.0);
    let (batch, from) = (texts(&[60, 30, 20, 60]), [3, 1, 1, 20]);
    let hidden = tuned.decoder().hidden(&batch, None).unwrap();
    let places = followers(&batch, &from).unwrap();
    let run = |rows| {
        let mut dhidden = vec![0.0; hidden.len()];
        let gradient = loss::Gradient { scale: 0.5, dhidden: &mut dhidden };
        (loss::in_chunks(tuned.decoder(), &hidden, &places, Some(gradient), rows), dhidden)
    };
    let (whole, chunks) = (run(1000), run(7));
    assert!((whole.0.sum - chunks.0.sum).abs() < 1e-9 * whole.0.sum);
    assert_eq!(whole.1, chunks.1);
    let threads = |n: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
        pool.install(|| (tuned.loss(&batch, &from).unwrap(), gradient(&tuned, &batch, &from, None)))
    };
    assert_eq!(threads(1), threads(3));
    let parts: Vec<Loss> = [(&batch.ids()[..60], 3), (&batch.ids()[60..90], 1), (&batch.ids()[90..110], 1)]
        .into_iter()
        .chain([(&batch.ids()[110..], 20)])
        .map(|(ids, from)| tuned.loss(&Batch::new([ids]), &[from]).unwrap())
        .collect();
    let alone = parts.into_iter().fold(Loss::default(), Loss::and);
    let together = tuned.loss(&batch, &from).unwrap();
    assert_eq!(alone.tokens, together.tokens);
    assert!((alone.sum - together.sum).abs() < 1e-9 * together.sum);
}

#[test]
fn an_exported_decoder_computes_what_the_adapter_did() {
    let scaling = RopeScaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, positions: 16 };
    for (rope, qkv_bias, tied, rope_scaling) in [
        (RopeLayout::Halves, true, true, None),
        (RopeLayout::Pairs, false, false, Some(scaling)),
        (RopeLayout::Pairs, true, true, Some(RopeScaling::Linear(4.0))),
    ] {
        let config = Config { rope, qkv_bias, tied, rope_scaling, add_bos: false, ..tiny() };
        let tuned = tuned(config.clone(), Quantization::Q4_0, 0.1);
        let batch = texts(&[6, 1, 12]);
        let run = |adapter| {
            let packed = Packed::new(&batch, 0, 0);
            tuned.decoder().run(&packed, None, adapter, &mut |_, _, _| ())
        };
        let (adapted, bare) = (run(Some(tuned.adapter(None))), run(None));
        for (numbers, bound) in [(Export::F32, 1e-4), (Export::Bf16, 0.1)] {
            let dir = tempfile::tempdir().unwrap();
            tuned.export(dir.path(), numbers).unwrap();
            let source = Source::open(dir.path()).unwrap();
            assert_eq!(*source.config(), Config { rope: RopeLayout::Halves, ..config.clone() });
            let merged = Decoder::open(&source, Quantization::Stored, Precision::F32).unwrap();
            let hidden = merged.hidden(&batch, None).unwrap();
            assert!(worst(&hidden, &adapted) < bound, "{}", worst(&hidden, &adapted));
            assert!(worst(&hidden, &bare) > 0.1);
            let logits = merged.logits(&hidden[..32]).unwrap();
            assert!(worst(&logits, &tuned.decoder().logits(&adapted[..32]).unwrap()) < bound);
        }
    }
    let factors = Config { rope_scaling: Some(RopeScaling::Factors(vec![1.0; 4])), ..tiny() };
    let problem = tuned(factors, Quantization::F32, 0.0).export(std::path::Path::new("."), Export::F32);
    assert!(problem.unwrap_err().to_string().contains("config.json cannot hold"));
}

#[test]
fn thirty_steps_on_fifty_examples_lower_the_loss_and_leave_the_weights() {
    let decoder = Arc::new(Decoder::random(tiny(), 7, Quantization::Q8_0, Precision::F32).unwrap());
    let mut tuned = Tuned::new(decoder, LoraConfig { rank: 8, alpha: 16.0, dropout: 0.05 }, 5).unwrap();
    let frozen = |tuned: &Tuned| format!("{:?}", tuned.decoder().weights());
    let before = frozen(&tuned);
    // Behind the prompt [a, b] come a + 1, b + 1 and the end.
    let example = |i: u32| [3 + i % 40, 3 + i * 7 % 40, 4 + i % 40, 4 + i * 7 % 40, 2];
    let (batch, from) = (Batch::new((0..50).map(example)), [2; 50]);
    let first = tuned.loss(&batch, &from).unwrap();
    assert_eq!(first.tokens, 150);
    let mut optimizer = AdamW::new(tuned.layout(), AdamWConfig::default());
    let mut grads = vec![0.0; tuned.layout().len()];
    for step in 0..30 {
        let key = Some(DropoutKey { seed: 1, step, part: 0 });
        tuned.learn(&batch, &from, key, 1.0 / 150.0, &mut grads).unwrap();
        optimizer.step(tuned.params_mut(), &mut grads, 1e-2, 1.0).unwrap();
        tuned.refresh();
    }
    let last = tuned.loss(&batch, &from).unwrap();
    assert!(last.mean() < 0.7 * first.mean(), "{} {}", first.mean(), last.mean());
    assert_eq!(before, frozen(&tuned));
}
