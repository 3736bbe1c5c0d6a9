//! Forward against twins and against itself.

use super::*;

fn rearranged(decoder: &Decoder, layout: RopeLayout) -> Decoder {
    let config = Config { rope: layout, ..decoder.config().clone() };
    let (d, mut weights) = (config.head_dim, decoder.weights().clone());
    for layer in &mut weights.layers {
        for site in [Site::Query, Site::Key] {
            let linear = &mut layer.linears[site as usize];
            let [rows, cols] = site.shape(&config);
            let from = |i: usize| i / d * d + i % d / 2 + i % 2 * (d / 2);
            let (mut values, mut row) = (Vec::new(), vec![0.0; cols]);
            for i in 0..rows {
                linear.weight.row(from(i), &mut row);
                values.extend_from_slice(&row);
            }
            linear.weight = QuantMatrix::quantize(&values, rows, cols, Format::F32).unwrap();
            if !linear.bias.is_empty() {
                linear.bias = (0..rows).map(|i| linear.bias[from(i)]).collect();
            }
        }
    }
    Decoder::with(config, weights, decoder.precision())
}

#[test]
fn hidden_states_are_those_of_f64() {
    for (config, quantization) in [
        (tiny(), Quantization::F32),
        (Config { rope: RopeLayout::Pairs, ..tiny() }, Quantization::F32),
        (Config { qkv_bias: true, kv_heads: 1, tied: false, ..tiny() }, Quantization::F32),
        (Config { kv_heads: 4, head_dim: 16, ..tiny() }, Quantization::Q8_0),
        (tiny(), Quantization::Nf4 { double: true }),
    ] {
        let decoder = decoder(config, quantization, Precision::F32);
        let batch = texts(&[7, 1, 23]);
        let found = decoder.hidden(&batch, None).unwrap();
        let h = decoder.config().hidden;
        for ends in batch.cu_seqlens().windows(2) {
            let want = twin::hidden(&decoder, &batch.ids()[ends[0]..ends[1]]);
            let off = worst(&found[ends[0] * h..ends[1] * h], &want);
            assert!(off < 1e-4, "{quantization}: {off}");
        }
    }
}

#[test]
fn long_texts_are_taken_in_blocks() {
    let decoder = exact(Config { positions: 512, layers: 1, ..tiny() });
    let batch = texts(&[300]);
    let found = decoder.hidden(&batch, None).unwrap();
    assert!(worst(&found, &twin::hidden(&decoder, batch.ids())) < 1e-4);
}

#[test]
fn rope_layouts_with_rows_to_match_are_the_same_decoder() {
    let halves = exact(Config { qkv_bias: true, ..tiny() });
    let pairs = rearranged(&halves, RopeLayout::Pairs);
    let batch = texts(&[9, 17]);
    let (a, b) = (halves.hidden(&batch, None).unwrap(), pairs.hidden(&batch, None).unwrap());
    assert!(worst(&a, &b) < 1e-5);
    let wrong = rearranged(&halves, RopeLayout::Halves).hidden(&batch, None).unwrap();
    assert!(worst(&a, &wrong) > 1e-2);
}

#[test]
fn a_token_changes_nothing_before_it() {
    for precision in [Precision::F32, Precision::Bf16] {
        let decoder = decoder(tiny(), Quantization::Q4_0, precision);
        let (h, ids) = (decoder.config().hidden, texts(&[40]).ids().to_vec());
        let before = decoder.hidden(&Batch::new([&ids]), None).unwrap();
        for t in [0, 1, 20, 39] {
            let mut other = ids.clone();
            other[t] = (other[t] + 1) % 50;
            let after = decoder.hidden(&Batch::new([other]), None).unwrap();
            assert_eq!(bits(&before[..t * h]), bits(&after[..t * h]));
            assert_ne!(bits(&before[t * h..]), bits(&after[t * h..]));
        }
    }
}

#[test]
fn bits_depend_neither_on_other_texts_nor_on_threads() {
    for quantization in [Quantization::Q4_0, Quantization::Nf4 { double: false }, Quantization::Bf16] {
        for precision in [Precision::F32, Precision::Bf16] {
            let decoder = decoder(tiny(), quantization, precision);
            let h = decoder.config().hidden;
            let batch = texts(&[3, 60, 1, 17, 30, 60, 60, 60, 2, 5, 9, 60]);
            let one = threads(1, || decoder.hidden(&batch, None).unwrap());
            let two = threads(2, || decoder.hidden(&batch, None).unwrap());
            assert_eq!(bits(&one), bits(&two));
            for ends in batch.cu_seqlens().windows(2) {
                let alone = decoder.hidden(&Batch::new([&batch.ids()[ends[0]..ends[1]]]), None).unwrap();
                assert_eq!(
                    bits(&alone),
                    bits(&one[ends[0] * h..ends[1] * h]),
                    "{quantization} {precision:?}"
                );
            }
        }
    }
}

#[test]
fn a_prefix_of_tokens_is_those_tokens_in_front() {
    let decoder = exact(tiny());
    let (h, front) = (decoder.config().hidden, [4, 9, 11, 30]);
    let mut rows = vec![0.0; 4 * h];
    decoder.embed(&front, &mut rows);
    let prefix = decoder.prefix(&rows).unwrap();
    assert_eq!(prefix.len(), 4);
    let batch = texts(&[5, 1, 33]);
    let found = decoder.hidden(&batch, Some(&prefix)).unwrap();
    for ends in batch.cu_seqlens().windows(2) {
        let mut ids = front.to_vec();
        ids.extend_from_slice(&batch.ids()[ends[0]..ends[1]]);
        let whole = decoder.hidden(&Batch::new([&ids]), None).unwrap();
        assert!(worst(&whole[4 * h..], &found[ends[0] * h..ends[1] * h]) < 1e-5);
        assert!(worst(&whole, &twin::hidden(&decoder, &ids)) < 1e-4);
    }
    assert!(decoder.prefix(&[]).unwrap().is_empty());
    assert!(decoder.prefix(&rows[1..]).is_err());
}

#[test]
fn logits_are_products_with_the_output_matrix() {
    for tied in [true, false] {
        let decoder = exact(Config { tied, ..tiny() });
        let h = decoder.config().hidden;
        let hidden = decoder.hidden(&texts(&[3]), None).unwrap();
        let logits = decoder.logits(&hidden).unwrap();
        let mut row = vec![0.0; h];
        for (i, &found) in logits.iter().enumerate() {
            decoder.head().row(i % 50, &mut row);
            let want: f32 = row.iter().zip(&hidden[i / 50 * h..]).map(|(a, b)| a * b).sum();
            assert!((found - want).abs() < 1e-4);
        }
        assert_eq!(logits.len(), 3 * 50);
        assert!(decoder.logits(&hidden[1..]).is_err());
    }
}

#[test]
fn quantised_decoders_are_near_the_exact_one_and_smaller() {
    let config = Config { hidden: 64, head_dim: 16, intermediate: 128, ..tiny() };
    let exact = exact(config.clone());
    let batch = texts(&[20, 30]);
    let want = exact.hidden(&batch, None).unwrap();
    for (quantization, least) in [
        (Quantization::Bf16, 0.9999),
        (Quantization::Q8_0, 0.9999),
        (Quantization::Q4_0, 0.97),
        (Quantization::Nf4 { double: false }, 0.97),
        (Quantization::Nf4 { double: true }, 0.97),
    ] {
        let decoder = decoder(config.clone(), quantization, Precision::F32);
        assert!(decoder.bytes() < exact.bytes());
        let found = decoder.hidden(&batch, None).unwrap();
        let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        let cosine = product(&want, &found) / (product(&want, &want) * product(&found, &found)).sqrt();
        assert!(cosine > least, "{quantization}: {cosine}");
    }
}

#[test]
fn what_cannot_be_computed_is_refused() {
    let decoder = exact(tiny());
    for (batch, part) in [
        (Batch::new([vec![1], vec![]]), "sequence 1 of the batch has no tokens"),
        (Batch::new([vec![1; 65]]), "up to 64"),
        (Batch::new([vec![50]]), "vocabulary has 50"),
    ] {
        let message = decoder.hidden(&batch, None).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
    assert!(decoder.hidden(&Batch::default(), None).unwrap().is_empty());
    assert!(Decoder::random(Config { kv_heads: 3, ..tiny() }, 1, Quantization::F32, Precision::F32).is_err());
    let odd = Decoder::random(Config { hidden: 36, ..tiny() }, 1, Quantization::Q4_0, Precision::F32);
    assert!(odd.unwrap_err().to_string().contains("multiple of 32"));
    assert!("q5_0".parse::<Quantization>().is_err());
    assert_eq!("nf4-double".parse(), Ok(Quantization::Nf4 { double: true }));
}
