//! What a model does once it is trained.

use std::fs;

use xmc::Model;
use xmc::data::{LabelId, Strings};
use xmc::evaluation::{EvaluateOptions, evaluate};
use xmc::events::Silent;
use xmc::model::add_labels::add_labels;
use xmc::model::{OpenOptions, PredictOptions, Predictor};
use xmc::nn::Precision;

use crate::toy::LABELS;
use crate::world::World;

fn exactly() -> OpenOptions {
    OpenOptions { precision: Precision::F32, ..OpenOptions::default() }
}

#[test]
fn one_text_and_many_get_the_same_answers() {
    let world = World::new();
    world.train("model", &["pooling=mean", "epochs=2", "text_template=a1 {text}"], false, &Silent).unwrap();
    let model = Model::open_with(&world.out("model"), &exactly()).unwrap();
    let texts = world.data.train.texts.as_ref().unwrap();
    let found = model.predict(texts, &PredictOptions::top(5)).unwrap();
    let mut session = model.session(PredictOptions::top(5));
    for i in [0, 7, 31] {
        assert_eq!(session.text(texts.get(i)).unwrap(), found.row(i));
    }
    let message = model.check(&PredictOptions { shortlist: Some(3), ..PredictOptions::top(1) }).unwrap_err();
    assert!(message.to_string().contains("for models of elias"));
    let beam = PredictOptions { beam_size: Some(3), ..PredictOptions::top(1) };
    assert!(model.predict(texts, &beam).unwrap_err().to_string().contains("leave --beam out"));
}

#[test]
fn labels_are_read_as_far_as_texts() {
    let world = World::new();
    // A prompt that leaves four positions, which a name with its special tokens just fills.
    world.train("model", &["prompt_tokens=60", "epochs=1", "label_embeddings=f32"], false, &Silent).unwrap();
    let model = Model::open_with(&world.out("model"), &exactly()).unwrap();
    let found = model.predict(model.labels().names(), &PredictOptions::top(1)).unwrap();
    for label in 0..LABELS {
        let (first, score) = found.row(label)[0];
        assert!(first as usize == label && score > 0.9999, "{label}: {first} {score}");
    }
}

#[test]
fn new_labels_change_no_old_score_and_are_found() {
    let world = World::new();
    world.train("model", &["pooling=mean", "epochs=1", "label_embeddings=f32"], false, &Silent).unwrap();
    let out = world.out("more");
    let name = "a2 b9 noise3";
    let names = Strings::new([name, "c3 d0"]);
    let added = add_labels(&world.out("model"), &names, &out, &exactly(), &|_, _| ()).unwrap();
    assert_eq!((added.added, added.known, added.labels), (1, 1, LABELS + 1));
    let [old, new] = ["model", "more"].map(|name| Model::open_with(&world.out(name), &exactly()).unwrap());
    let texts = Strings::new([name, "a5 b1"]);
    let before = old.predict(&texts, &PredictOptions::top(LABELS)).unwrap();
    let after = new.predict(&texts, &PredictOptions::top(LABELS + 1)).unwrap();
    // A label with the title of a text ranks first, spec Q-24.
    assert_eq!(new.labels().get(LabelId(after.row(0)[0].0)), Some(name));
    for row in 0..2 {
        let kept: Vec<_> = after.row(row).iter().filter(|&&(l, _)| (l as usize) < LABELS).copied().collect();
        assert_eq!(kept, before.row(row));
    }
}

#[test]
fn a_label_that_is_the_text_itself_can_be_left_out() {
    let world = World::new();
    world.train("model", &["pooling=mean", "epochs=1"], false, &Silent).unwrap();
    let model = Model::open_with(&world.out("model"), &exactly()).unwrap();
    // Texts that are names: each finds itself first.
    let mut data = world.data.clone();
    data.train.texts =
        Some(Strings::new((0..data.train.rows()).map(|i| format!(" {} ", name_of(&model, i)))));
    let found = model.predict(data.train.texts.as_ref().unwrap(), &PredictOptions::top(1)).unwrap();
    let themselves = (0..found.rows()).filter(|&i| found.row(i)[0].0 as usize == i % LABELS).count();
    assert_eq!(themselves, found.rows());
    // Row i has the label i % L, so all are right with them, and none at the first place without.
    let with = evaluate(&model, &data, &data.train, &EvaluateOptions::at(&[1])).unwrap();
    let dropping = EvaluateOptions { drop_self: true, ..EvaluateOptions::at(&[1]) };
    let without = evaluate(&model, &data, &data.train, &dropping).unwrap();
    assert_eq!(with.values.get("P@1"), Some(100.0));
    assert!(without.values.get("P@1").unwrap() < 50.0);
}

fn name_of(model: &Model, row: usize) -> &str {
    model.labels().get(LabelId((row % LABELS) as u32)).unwrap()
}

#[test]
fn a_decoder_that_was_moved_or_changed_is_noticed() {
    let world = World::new();
    world.train("model", &["epochs=1"], false, &Silent).unwrap();
    let open = |options: &OpenOptions| {
        Model::open_with(&world.out("model"), options).map(|_| ()).map_err(|e| e.to_string())
    };
    let there = world.out("elsewhere");
    fs::rename(&world.decoder, &there).unwrap();
    let message = open(&exactly()).unwrap_err();
    assert!(message.contains("say where it is with --decoder PATH"), "{message}");
    let given = OpenOptions { decoder: Some(there.clone()), ..exactly() };
    open(&given).unwrap();
    // Beside the model, under the old name, without being told.
    fs::rename(&there, world.out("model").parent().unwrap().join("decoder")).unwrap();
    open(&exactly()).unwrap();
    // One bit of a weight.
    let path = world.decoder.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();
    let message = open(&exactly()).unwrap_err();
    assert!(message.contains("holds other weights"), "{message}");
}
