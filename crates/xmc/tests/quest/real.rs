//! What a real decoder learns. Needs the file of `scripts/fetch-decoder`, named by `XMC_DECODER`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use xmc::data::dataset::{Dataset, Part};
use xmc::data::{CsrBuilder, LabelSet, Strings};
use xmc::events::Silent;

use crate::world::World;

const KINDS: [&str; 10] = [
    "Wooden",
    "Electric",
    "Antique",
    "Portable",
    "Waterproof",
    "Silent",
    "Heavy",
    "Cheap",
    "Modern",
    "Striped",
];
const THINGS: [&str; 20] = [
    "chair", "guitar", "clock", "bicycle", "lamp", "jacket", "kettle", "camera", "boat", "piano", "table",
    "tent", "mirror", "hammer", "radio", "carpet", "wallet", "drum", "stove", "umbrella",
];
const ROWS: usize = 1000;

/// 200 things of a kind, and texts that have both words, but not beside each other.
fn offers() -> Dataset {
    let names = KINDS.iter().flat_map(|kind| THINGS.iter().map(move |thing| format!("{kind} {thing}")));
    let labels = LabelSet::new(names);
    let (mut texts, mut y) = (Vec::new(), CsrBuilder::new());
    for i in 0..ROWS {
        let label = i * 77 % 200;
        let (kind, thing) = (KINDS[label / 20].to_lowercase(), THINGS[label % 20]);
        texts.push(match i / 200 {
            0 => format!("I sell my {thing}, it is {kind} and works."),
            1 => format!("Looking for a {thing}. Must be {kind}, please call."),
            2 => format!("The {thing} my aunt left us is {kind}."),
            3 => format!("So {kind}! Best {thing} we ever had."),
            _ => format!("Is this {thing} really {kind}? I doubt it."),
        });
        y.push([(label as u32, 1.0)]);
    }
    let train = Part {
        texts: Some(Strings::new(texts)),
        features: None,
        y: y.finish(200).unwrap(),
        filter: Vec::new(),
    };
    Dataset::new(Path::new("offers"), labels, train, None).unwrap()
}

/// P@1 on the rows set apart, before the first step and after the last.
fn before_and_after(world: &World, name: &str) -> (f64, f64) {
    let text = fs::read_to_string(world.out(name).join("curves.jsonl")).unwrap();
    let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let found: Vec<f64> = records.filter_map(|record| record["validation"]["P@1"].as_f64()).collect();
    (found[0], found[found.len() - 1])
}

#[test]
fn fifty_steps_of_a_prompt_teach_a_real_decoder_something() {
    let Some(path) = std::env::var_os("XMC_DECODER") else { return };
    let mut world = World::new();
    (world.data, world.decoder) = (offers(), PathBuf::from(path));
    // 400 rows to learn from, 600 set apart.
    let frame = "\nIn one word, the subject is:";
    let (text, label) =
        (format!("text_template={{text}}{frame}"), format!("label_template={{label}}{frame}"));
    let sets = [
        "batch_size=8",
        "epochs=1",
        "validation=0.6",
        "max_len=32",
        "label_max_len=32",
        "lr=0.01",
        "prompt_init=text",
        "prompt_text=Topic of the text:",
        &text,
        &label,
    ];
    world.train("model", &sets, false, &Silent).unwrap();
    let (before, after) = before_and_after(&world, "model");
    println!("all labels: P@1 {before:.2} before, {after:.2} after");
    assert!(after >= before + 3.0, "{before} {after}");
    // As many steps on a quarter of the labels.
    let quarter = ["sampling.ratio=0.25", "sampling.ratio_of=labels", "epochs=4"];
    world.train("quarter", &[&sets[..], &quarter].concat(), false, &Silent).unwrap();
    let (_, sampled) = before_and_after(&world, "quarter");
    println!("a quarter of the labels: P@1 {sampled:.2} after");
    assert!(sampled >= before, "{before} {sampled}");
}
