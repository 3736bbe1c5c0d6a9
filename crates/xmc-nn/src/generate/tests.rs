use super::*;
use crate::batch::Batch;
use crate::decoder::weights::{Site, Weights};
use crate::decoder::{Config, Quantization};
use crate::ops::matmul::Precision;
use crate::quant::Format;

const VOCAB: usize = 211;

fn config() -> Config {
    Config { positions: 64, ..Config::llama(VOCAB, 64, 3, [4, 2], 96) }
}

fn decoder(quantization: Quantization, qkv_bias: bool) -> Decoder {
    Decoder::random(Config { qkv_bias, ..config() }, 3, quantization, Precision::F32).unwrap()
}

fn requests(count: usize) -> Vec<Request> {
    let prompt = |i: usize| (0..=i * 5 % 17).map(|j| ((i * 31 + j * 7) % VOCAB) as u32).collect();
    (0..count)
        .map(|i| Request { prompt: prompt(i), seed: i as u64, max_new_tokens: i * 3 % 11, stop: vec![5, 6] })
        .collect()
}

/// Everything generated, by number of the request.
fn all(
    decoder: &Decoder,
    how: Sampling,
    slots: usize,
    prefix: Option<Prefix>,
    list: Vec<Request>,
) -> Vec<Generated> {
    let mut found = vec![None; list.len()];
    let mut generator = Generator::new(decoder, how, slots, prefix).unwrap();
    let usage = generator
        .run(list.into_iter(), &mut |i, generated| {
            assert!(found[i].is_none());
            found[i] = Some(generated);
            Ok(())
        })
        .unwrap();
    let found: Vec<Generated> = found.into_iter().map(Option::unwrap).collect();
    let tokens: usize = found.iter().map(|g| g.ids.len() + usize::from(g.finish == Finish::Stop)).sum();
    assert_eq!((usage.requests, usage.new_tokens), (found.len(), tokens));
    found
}

fn in_pool<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

const WARM: Sampling = Sampling { temperature: 1.0, top_k: 50, top_p: 0.95 };

#[test]
fn a_text_depends_on_its_request_alone() {
    for quantization in [Quantization::Q4_0, Quantization::Bf16] {
        let decoder = decoder(quantization, true);
        let mut rows = vec![0.0; 3 * 64];
        decoder.embed(&[9, 8, 7], &mut rows);
        let prefix = decoder.prefix(&rows).unwrap();
        let alone = in_pool(1, || all(&decoder, WARM, 1, Some(prefix.clone()), requests(20)));
        assert!(alone.iter().any(|g| g.ids.len() > 5));
        for (slots, threads) in [(8, 1), (8, 2), (3, 2), (1, 2)] {
            let together =
                in_pool(threads, || all(&decoder, WARM, slots, Some(prefix.clone()), requests(20)));
            assert_eq!(together, alone, "{quantization} {slots} {threads}");
        }
        let backwards = all(&decoder, WARM, 4, Some(prefix), requests(20).into_iter().rev().collect());
        assert!(backwards.into_iter().rev().eq(alone), "{quantization}");
    }
}

#[test]
fn steps_are_what_a_pass_over_the_whole_text_says() {
    // F32 weights are multiplied with f32 values in steps, too.
    for qkv_bias in [false, true] {
        let decoder = decoder(Quantization::F32, qkv_bias);
        let mut rows = vec![0.0; 2 * 64];
        decoder.embed(&[100, 20], &mut rows);
        for prefix in [None, Some(decoder.prefix(&rows).unwrap())] {
            assert_steps_are_passes(&decoder, prefix.as_ref());
        }
    }
}

#[test]
fn a_gate_and_what_it_gates_may_be_stored_in_different_formats() {
    // So wide that tasks of both have different numbers of outputs.
    let config = Config { intermediate: 300, ..config() };
    for site in [Site::Gate, Site::Up] {
        let mut weights = Weights::random(&config, 3, Quantization::F32).unwrap();
        for layer in &mut weights.layers {
            let weight = &mut layer.linears[site as usize].weight;
            *weight = weight.to_format(Format::Bf16).unwrap();
        }
        assert_steps_are_passes(&Decoder::with(config.clone(), weights, Precision::F32), None);
    }
}

/// What is continued greedily is what passes over the whole text find likeliest.
fn assert_steps_are_passes(decoder: &Decoder, prefix: Option<&Prefix>) {
    let request = Request { prompt: vec![1, 50, 7, 33], max_new_tokens: 12, ..Request::default() };
    let found = all(decoder, Sampling::GREEDY, 2, prefix.cloned(), vec![request.clone(); 3]);
    assert!(found[1..].iter().all(|g| *g == found[0]));
    let mut text = request.prompt;
    for &id in &found[0].ids {
        let hidden = decoder.hidden(&Batch::new([&text]), prefix).unwrap();
        let logits = decoder.logits(&hidden[hidden.len() - 64..]).unwrap();
        let best = (0..VOCAB).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
        assert_eq!(id as usize, best);
        text.push(id);
    }
    let sum = log_likelihood(decoder, &Batch::new([&text]), &[4], prefix).unwrap()[0];
    assert!((sum - found[0].log_likelihood).abs() < 1e-4, "{sum} {}", found[0].log_likelihood);
}

#[test]
fn sizes_need_not_be_those_of_kernels() {
    // Heads of 6 and 10 numbers, three of which share keys, and an inner width that no register divides.
    for (head_dim, heads) in [(6, [6, 2]), (10, [1, 1])] {
        let [heads, kv_heads] = heads;
        let config = Config { head_dim, heads, kv_heads, intermediate: 45, ..config() };
        let decoder = Decoder::random(config, 3, Quantization::F32, Precision::F32).unwrap();
        assert_steps_are_passes(&decoder, None);
    }
}

#[test]
fn texts_end_at_a_stop_token_or_at_their_length_or_with_the_positions() {
    let decoder = decoder(Quantization::Q8_0, false);
    let ask = |request: Request| all(&decoder, Sampling::GREEDY, 1, None, vec![request]).remove(0);
    let request = Request { prompt: vec![3, 4, 5], max_new_tokens: 20, ..Request::default() };
    let free = ask(request.clone());
    assert_eq!((free.ids.len(), free.finish), (20, Finish::Length));
    let stop = free.ids[6];
    let first = free.ids.iter().position(|&id| id == stop).unwrap();
    let stopped = ask(Request { stop: vec![stop, 210], ..request.clone() });
    assert_eq!((&stopped.ids[..], stopped.finish), (&free.ids[..first], Finish::Stop));
    let none = ask(Request { max_new_tokens: 0, ..request.clone() });
    assert_eq!(none, Generated { ids: vec![], finish: Finish::Length, log_likelihood: 0.0 });
    // 60 of 64 positions: four more are computed, and a fifth token is drawn behind the last.
    let long = ask(Request { prompt: vec![7; 60], max_new_tokens: usize::MAX, ..request });
    assert_eq!((long.ids.len(), long.finish), (5, Finish::Length));
}

#[test]
fn texts_end_where_they_are_complete_and_what_is_beside_them_goes_on() {
    let decoder = decoder(Quantization::Q8_0, false);
    let free = all(&decoder, WARM, 3, None, requests(12));
    let mut found = vec![None; free.len()];
    let usage = Generator::new(&decoder, WARM, 3, None)
        .unwrap()
        .run_until(requests(12).into_iter(), &|ids| ids.len() == 4, &mut |i, generated| {
            found[i] = Some(generated);
            Ok(())
        })
        .unwrap();
    let mut tokens = 0;
    for (free, found) in free.iter().zip(found.into_iter().map(Option::unwrap)) {
        let expected = if free.ids.len() < 4 { free.finish } else { Finish::Stop };
        assert_eq!((&found.ids[..], found.finish), (&free.ids[..free.ids.len().min(4)], expected));
        tokens += found.ids.len() + usize::from(found.ids.len() < 4 && found.finish == Finish::Stop);
    }
    assert!(free.iter().any(|text| text.ids.len() > 4));
    assert_eq!(usage.new_tokens, tokens);
}

#[test]
fn likelihoods_sum_over_the_tokens_from_a_place_on() {
    let decoder = decoder(Quantization::F32, false);
    let texts = [vec![4u32, 9, 2, 77], vec![1], vec![8, 8, 120]];
    let batch = Batch::new(&texts);
    let from_each = |from: [usize; 3]| log_likelihood(&decoder, &batch, &from, None).unwrap();
    let all = from_each([0, 0, 0]);
    assert_eq!(all, from_each([1, 1, 1]));
    assert_eq!(all[1], 0.0);
    let token = |t: usize| {
        let hidden = decoder.hidden(&Batch::new([&texts[0][..t]]), None).unwrap();
        let logits = decoder.logits(&hidden[hidden.len() - 64..]).unwrap();
        let sum: f64 = logits.iter().map(|&s| f64::from(s).exp()).sum();
        f64::from(logits[texts[0][t] as usize]) - sum.ln()
    };
    assert!((all[0] - (1..4).map(token).sum::<f64>()).abs() < 1e-5);
    assert!((from_each([3, 0, 2])[0] - token(3)).abs() < 1e-5);
    assert_eq!(from_each([4, 1, usize::MAX])[0], 0.0);
    assert!(log_likelihood(&decoder, &batch, &[0, 0], None).is_err());
    assert!(log_likelihood(&decoder, &Batch::new([[9999u32]]), &[0], None).is_err());
}

#[test]
fn requests_that_cannot_be_continued_are_refused_by_number() {
    let decoder = decoder(Quantization::Q8_0, false);
    let good = Request { prompt: vec![1], max_new_tokens: 1, ..Request::default() };
    for (prompt, word) in [(vec![], "no prompt"), (vec![211], "211"), (vec![1; 65], "65")] {
        let list = vec![good.clone(), Request { prompt, ..good.clone() }];
        let mut generator = Generator::new(&decoder, Sampling::GREEDY, 2, None).unwrap();
        let error = generator.run(list.into_iter(), &mut |_, _| Ok(())).unwrap_err().to_string();
        assert!(error.contains("request 1") && error.contains(word), "{error}");
        // And it goes on with others.
        let usage = generator.run([good.clone()].into_iter(), &mut |_, _| Ok(())).unwrap();
        assert_eq!((usage.requests, usage.prompt_tokens, usage.new_tokens, usage.steps), (1, 1, 1, 0));
    }
    let refused = Sampling { temperature: f32::NAN, ..WARM };
    assert!(Generator::new(&decoder, refused, 1, None).is_err());
}
