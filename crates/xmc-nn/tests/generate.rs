//! What SmolLM2 writes and finds likely, where `XMC_DECODER` names its GGUF file; `scripts/fetch-decoder` gets it.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed, and says if it does not run"
)]

use xmc_nn::decoder::{Decoder, Quantization, Source};
use xmc_nn::generate::{Generator, Request, Sampling, log_likelihood};
use xmc_nn::{Batch, Precision};

const SENTENCES: [&str; 20] = [
    "The old harbour was quiet because all the boats had left before sunrise.",
    "She put the letter back into the drawer and closed it without a word.",
    "Water boils at a lower temperature on high mountains than at the sea.",
    "My neighbour feeds three cats that come to his door every evening.",
    "The committee will publish its report at the end of next month.",
    "Most birds leave the valley in autumn and return in early spring.",
    "He learned to play the piano when he was already sixty years old.",
    "A good map shows where you are as well as where you want to go.",
    "The train to the city stops at every small station on the way.",
    "Nobody in the room knew the answer to the last question.",
    "They built a bridge over the river so that children could walk to school.",
    "Fresh bread smells best when it has just come out of the oven.",
    "The museum has a large collection of paintings from the last century.",
    "If it rains tomorrow, we will play the game inside the house.",
    "Farmers in the north grow potatoes, while those in the south grow rice.",
    "The doctor asked him how long he had felt the pain in his back.",
    "Light travels faster than sound, so we see lightning before we hear thunder.",
    "The library is open from nine in the morning until eight at night.",
    "Her first book was sold in more than thirty countries.",
    "After dinner they sat by the fire and told each other stories.",
];

fn smollm2() -> Option<(Source, Decoder)> {
    let Some(path) = std::env::var_os("XMC_DECODER") else {
        println!("skipped: XMC_DECODER is not set; scripts/fetch-decoder gets such a file");
        return None;
    };
    let source = Source::open(path.as_ref()).unwrap();
    let decoder = Decoder::open(&source, Quantization::Stored, Precision::Bf16).unwrap();
    Some((source, decoder))
}

#[test]
fn greedy_text_is_that_of_the_weights_in_f32() {
    let Some((source, decoder)) = smollm2() else { return };
    let prompt = source.tokenizer(64).unwrap().encode_one("The capital of France is").unwrap();
    assert_eq!(prompt, [504, 3575, 282, 4649, 314]);
    let mut generator = Generator::new(&decoder, Sampling::GREEDY, 4, None).unwrap();
    let request = Request { prompt, max_new_tokens: 20, ..Request::default() };
    let mut found = Vec::new();
    generator
        .run(std::iter::repeat_n(request, 5), &mut |_, text| {
            found.push(text.ids);
            Ok(())
        })
        .unwrap();
    // What `bench/decoder/logits.py` finds with numpy.
    let want = [7042, 30, 198, 198, 504, 2988, 314, 42, 216, 34, 32, 33, 40, 29, 32, 33, 29, 34, 34, 216];
    assert_eq!(found, vec![want.to_vec(); 5]);
}

#[test]
fn sentences_are_likelier_than_their_words_in_another_order() {
    let Some((source, decoder)) = smollm2() else { return };
    let tokenizer = source.tokenizer(64).unwrap();
    let shuffled = |(i, sentence): (usize, &&str)| {
        let mut words: Vec<&str> = sentence.split(' ').collect();
        words.sort_by_key(|word| word.bytes().fold(i as u32, |hash, b| hash.wrapping_mul(31) ^ u32::from(b)));
        words.join(" ")
    };
    let perplexity = |texts: Vec<String>| {
        let batch = Batch::new(texts.iter().map(|text| tokenizer.encode_one(text).unwrap()));
        let sums = log_likelihood(&decoder, &batch, &vec![1; texts.len()], None).unwrap();
        (-sums.iter().sum::<f64>() / (batch.tokens() - batch.len()) as f64).exp()
    };
    let plain = perplexity(SENTENCES.map(str::to_owned).to_vec());
    let mixed = perplexity(SENTENCES.iter().enumerate().map(shuffled).collect());
    println!("perplexity {plain:.1}, shuffled {mixed:.1}");
    assert!(plain < 80.0 && mixed > 4.0 * plain, "{plain} {mixed}");
}
