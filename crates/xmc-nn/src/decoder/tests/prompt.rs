//! Prompts, adapters, pooling and their gradients.

use super::*;
use crate::{DropoutKey, Tensor};

const PROMPT: usize = 3;

fn prompted(decoder: Decoder, config: PromptedConfig) -> Prompted {
    let h = decoder.config().hidden;
    let rows: Vec<f32> = (0..PROMPT * h).map(|i| (i as f32 * 0.37).sin()).collect();
    let mut prompted = Prompted::new(Arc::new(decoder), config, &rows, 5).unwrap();
    for (i, value) in prompted.params_mut().iter_mut().enumerate().skip(PROMPT * h) {
        *value += (i as f32 * 0.77).sin() * 0.1;
    }
    prompted.refresh();
    prompted
}

fn lora(dropout: f32) -> LoraConfig {
    LoraConfig { rank: 2, alpha: 4.0, dropout }
}

fn outer(b: usize, h: usize) -> Tensor {
    let values = (0..b * h).map(|i| (i as f32 * 1.7).cos()).collect();
    Tensor::from_host(b, h, values, crate::Device::Cpu).unwrap()
}

fn gradient(prompted: &Prompted, batch: &Batch, key: Option<DropoutKey>) -> Vec<f32> {
    let (_, tape) = prompted.embed_train(batch, key).unwrap();
    let mut grads = vec![0.0; prompted.layout().len()];
    prompted.backward(batch, tape, &outer(batch.len(), prompted.dim()), &mut grads).unwrap();
    grads
}

/// Some coordinates of the gradient against central differences.
fn check_slopes(prompted: &mut Prompted, batch: &Batch, key: Option<DropoutKey>) {
    let grads = gradient(prompted, batch, key);
    let outer = outer(batch.len(), prompted.dim());
    let scale = grads.iter().fold(0f32, |m, g| m.max(g.abs()));
    let places: Vec<usize> = (0..32)
        .map(|i| i * 3 % (PROMPT * prompted.dim()))
        .chain((PROMPT * prompted.dim()..grads.len()).step_by(61))
        .collect();
    for i in places {
        let mut loss = |step: f32| {
            let before = prompted.params()[i];
            prompted.params_mut()[i] = before + step;
            prompted.refresh();
            let (e, _) = prompted.embed_train(batch, key).unwrap();
            prompted.params_mut()[i] = before;
            prompted.refresh();
            e.host().iter().zip(outer.host()).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
        };
        let slope = ((loss(1e-2) - loss(-1e-2)) / 2e-2) as f32;
        let off = (grads[i] - slope).abs();
        assert!(off < 1e-2 * slope.abs().max(0.1 * scale), "{i}: {} {slope}", grads[i]);
    }
}

#[test]
fn gradients_of_the_prompt_are_slopes_through_quantised_weights() {
    for quantization in [Quantization::F32, Quantization::Q4_0, Quantization::Nf4 { double: true }] {
        for pooling in [Pooling::Last, Pooling::Mean, Pooling::Eos, Pooling::PadLast] {
            let decoder = decoder(Config { qkv_bias: true, ..tiny() }, quantization, Precision::F32);
            let config = PromptedConfig { pooling, normalize: true, lora: None };
            check_slopes(&mut prompted(decoder, config), &texts(&[6, 1, 12]), None);
        }
    }
}

#[test]
fn gradients_of_an_adapter_are_slopes() {
    let key = Some(DropoutKey { seed: 1, step: 2, part: 3 });
    for (dropout, key) in [(0.0, None), (0.3, key)] {
        let decoder = decoder(tiny(), Quantization::Q8_0, Precision::F32);
        let config = PromptedConfig { pooling: Pooling::Mean, normalize: true, lora: Some(lora(dropout)) };
        check_slopes(&mut prompted(decoder, config), &texts(&[6, 1, 12]), key);
    }
}

#[test]
fn a_shared_prompt_has_the_gradient_of_one_in_front_of_every_text() {
    let config = PromptedConfig { pooling: Pooling::Last, normalize: false, lora: None };
    let prompted = prompted(exact(tiny()), config);
    let batch = texts(&[6, 1, 12, 30]);
    let together = gradient(&prompted, &batch, None);
    let outer = outer(4, prompted.dim());
    let mut sum = vec![0.0; together.len()];
    for (i, ends) in batch.cu_seqlens().windows(2).enumerate() {
        let one = Batch::new([&batch.ids()[ends[0]..ends[1]]]);
        let (_, tape) = prompted.embed_train(&one, None).unwrap();
        let h = prompted.dim();
        let de = Tensor::from_host(1, h, outer.host()[i * h..][..h].to_vec(), crate::Device::Cpu).unwrap();
        prompted.backward(&one, tape, &de, &mut sum).unwrap();
    }
    assert!(worst(&together, &sum) < 1e-5);
}

#[test]
fn training_and_inference_give_the_same_bits() {
    for precision in [Precision::F32, Precision::Bf16] {
        for pooling in [Pooling::Last, Pooling::Mean, Pooling::Eos, Pooling::PadLast] {
            let decoder = decoder(tiny(), Quantization::Q4_0, precision);
            let config = PromptedConfig { pooling, normalize: true, lora: Some(lora(0.0)) };
            let prompted = prompted(decoder, config);
            let batch = texts(&[6, 1, 12]);
            let (trained, _) = prompted.embed_train(&batch, None).unwrap();
            assert_eq!(bits(trained.host()), bits(prompted.embed(&batch).unwrap().host()));
        }
    }
}

#[test]
fn gradients_have_the_same_bits_at_any_number_of_threads() {
    let config = PromptedConfig { pooling: Pooling::Mean, normalize: true, lora: Some(lora(0.1)) };
    let prompted = prompted(decoder(tiny(), Quantization::Q4_0, Precision::Bf16), config);
    let batch = texts(&[60, 60, 60, 60, 60, 30, 20, 10, 60, 60]);
    let key = Some(DropoutKey { seed: 1, step: 2, part: 3 });
    let one = threads(1, || gradient(&prompted, &batch, key));
    let three = threads(3, || gradient(&prompted, &batch, key));
    assert_eq!(bits(&one), bits(&three));
}

#[test]
fn embeddings_do_not_depend_on_the_batch_unless_read_at_padding() {
    for pooling in [Pooling::Last, Pooling::Eos, Pooling::Mean, Pooling::PadLast] {
        let config = PromptedConfig { pooling, normalize: true, lora: None };
        let prompted = prompted(exact(tiny()), config);
        let batch = texts(&[6, 1, 12]);
        let together = prompted.embed(&batch).unwrap();
        let alone = prompted.embed(&Batch::new([&batch.ids()[..6]])).unwrap();
        let same = bits(alone.host()) == bits(&together.host()[..prompted.dim()]);
        assert_eq!(same, pooling != Pooling::PadLast, "{pooling:?}");
        let norm: f32 = alone.host().iter().map(|v| v * v).sum();
        assert!((norm - 1.0).abs() < 1e-5);
    }
}

#[test]
fn pooling_reads_where_it_says() {
    let h = tiny().hidden;
    let ids = [7, 8, 9];
    let at = |pooling: Pooling| {
        let config = PromptedConfig { pooling, normalize: false, lora: None };
        let prompted = prompted(exact(tiny()), config);
        // The longest text has 5 tokens.
        let e = prompted.embed(&Batch::new([ids.to_vec(), vec![1; 5]])).unwrap();
        (e.host()[..h].to_vec(), prompted)
    };
    let (_, prompted) = at(Pooling::Last);
    let decoder = prompted.decoder();
    let states = |ids: &[u32], positions: &[usize], blind: Option<usize>| {
        let prompt = prompted.params()[..PROMPT * h].chunks(h);
        let mut x: Vec<Vec<f64>> = prompt.map(|row| row.iter().map(|&v| f64::from(v)).collect()).collect();
        x.extend(twin::inputs(decoder, ids));
        let x = twin::twin(decoder, &x, positions, |i, j| i != j || blind != Some(i));
        x.into_iter().map(|row| row.iter().map(|&v| v as f32).collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    let real = states(&ids, &[0, 1, 2, 3, 4, 5], None);
    assert!(worst(&at(Pooling::Last).0, &real[5]) < 1e-4);
    let mean: Vec<f32> = (0..h).map(|c| (real[3][c] + real[4][c] + real[5][c]) / 3.0).collect();
    assert!(worst(&at(Pooling::Mean).0, &mean) < 1e-4);
    let ended = states(&[7, 8, 9, 2], &[0, 1, 2, 3, 4, 5, 6], None);
    assert!(worst(&at(Pooling::Eos).0, &ended[6]) < 1e-4);
    let padded = states(&[7, 8, 9, 0], &[0, 1, 2, 3, 4, 5, 7], Some(6));
    assert!(worst(&at(Pooling::PadLast).0, &padded[6]) < 1e-4);
}

#[test]
fn an_adapter_is_the_same_as_its_product_added_to_the_weights() {
    let config = PromptedConfig { pooling: Pooling::Mean, normalize: true, lora: Some(lora(0.0)) };
    let prompted = prompted(exact(tiny()), config);
    let mut weights = prompted.decoder().weights().clone();
    for (i, layer) in weights.layers.iter_mut().enumerate() {
        for site in Site::ALL {
            let [rows, cols] = site.shape(&tiny());
            let name = |factor: &str| format!("layers.{i}.{}.lora_{factor}.weight", site.name());
            let values = |factor: &str| {
                &prompted.params()[prompted.layout().get(&name(factor)).unwrap().range.clone()]
            };
            let (a, b) = (values("A"), values("B"));
            let linear = &mut layer.linears[site as usize];
            let (mut merged, mut row) = (Vec::new(), vec![0.0; cols]);
            for out in 0..rows {
                linear.weight.row(out, &mut row);
                merged.extend(
                    (0..cols).map(|j| row[j] + 2.0 * (b[out * 2] * a[j] + b[out * 2 + 1] * a[cols + j])),
                );
            }
            linear.weight = QuantMatrix::quantize(&merged, rows, cols, Format::F32).unwrap();
        }
    }
    let merged = Decoder::with(tiny(), weights, Precision::F32);
    let prompt = prompted.params()[..PROMPT * 32].to_vec();
    let plain = PromptedConfig { lora: None, ..config };
    let merged = Prompted::new(Arc::new(merged), plain, &prompt, 0).unwrap();
    let batch = texts(&[6, 1, 12]);
    let (a, b) = (prompted.embed(&batch).unwrap(), merged.embed(&batch).unwrap());
    assert!(worst(a.host(), b.host()) < 1e-5);
    let fresh = Prompted::new(prompted.decoder().clone(), config, &prompt, 9).unwrap();
    let bare = Prompted::new(prompted.decoder().clone(), plain, &prompt, 0).unwrap();
    let (a, c) = (fresh.embed(&batch).unwrap(), bare.embed(&batch).unwrap());
    assert_eq!(a, c, "a fresh adapter changes nothing");
    assert!(worst(b.host(), c.host()) > 1e-3);
}

#[test]
fn learning_lowers_the_loss_and_leaves_the_decoder_as_it_was() {
    let config = PromptedConfig { pooling: Pooling::Last, normalize: true, lora: None };
    let mut prompted = prompted(decoder(tiny(), Quantization::Q4_0, Precision::F32), config);
    let bytes = |p: &Prompted| format!("{:?}", p.decoder().weights());
    let before = bytes(&prompted);
    let batch = texts(&[6, 1, 12]);
    let target = outer(3, prompted.dim());
    let loss = |p: &Prompted| {
        let e = p.embed(&batch).unwrap();
        e.host().iter().zip(target.host()).map(|(a, b)| a * b).sum::<f32>()
    };
    let first = loss(&prompted);
    for _ in 0..30 {
        let grads = gradient(&prompted, &batch, None);
        prompted.params_mut().iter_mut().zip(&grads).for_each(|(p, g)| *p -= 0.02 * g);
        prompted.refresh();
    }
    assert!(loss(&prompted) < first - 0.3, "{first} {}", loss(&prompted));
    assert_eq!(before, bytes(&prompted));
}

#[test]
fn parameters_are_counted_and_wrong_settings_refused() {
    let decoder = Arc::new(exact(tiny()));
    let config = PromptedConfig::default();
    for n in [0, 5, 20] {
        let prompted = Prompted::new(decoder.clone(), config, &vec![0.1; n * 32], 0).unwrap();
        assert_eq!((prompted.layout().len(), prompted.prompt_tokens()), (n * 32, n));
        assert_eq!(prompted.max_positions(), 64 - n);
        assert!(prompted.embed(&texts(&[64 - n])).is_ok() && prompted.embed(&texts(&[65 - n])).is_err());
    }
    assert!(Prompted::new(decoder.clone(), config, &[0.0; 33], 0).is_err());
    for wrong in [(0, 1.0, 0.0), (2, f32::NAN, 0.0), (2, 1.0, 1.0)] {
        let (rank, alpha, dropout) = wrong;
        let config = PromptedConfig { lora: Some(LoraConfig { rank, alpha, dropout }), ..config };
        assert!(Prompted::new(decoder.clone(), config, &[], 0).is_err());
    }
    let endless = Arc::new(exact(Config { eos: Vec::new(), ..tiny() }));
    let config = PromptedConfig { pooling: Pooling::Eos, ..config };
    let message = Prompted::new(endless, config, &[], 0).unwrap_err().to_string();
    assert!(message.contains("no token that ends texts"), "{message}");
}

#[test]
fn rows_of_many_texts_get_their_embeddings() {
    let prompted = prompted(exact(tiny()), PromptedConfig::default());
    let batch = texts(&[6, 1, 12, 4]);
    let tokens = crate::Tokens::new(batch.cu_seqlens().windows(2).map(|e| batch.ids()[e[0]..e[1]].to_vec()));
    let all = prompted.embed(&batch).unwrap();
    let found = prompted.embed_rows(&tokens, &[0, 2, 3], 8, &|_, _| ()).unwrap();
    for (place, row) in [0, 2, 3].into_iter().enumerate() {
        assert_eq!(found.host()[place * 32..][..32], all.host()[row * 32..][..32]);
    }
}
