//! Model folders that are damaged: always an error that names the file, never an answer.

use std::fs;

use crate::world::{World, stderr};
use xmc::model::Model;

const FILES: [&str; 4] = ["model.json", "labels", "vectorizer", "ranker.0"];

#[test]
fn every_flipped_bit_and_every_cut_is_found() {
    let world = World::with_model();
    for name in FILES {
        let path = world.path("model").join(name);
        let good = fs::read(&path).unwrap();
        let step = good.len().div_ceil(150);
        for at in (0..good.len()).step_by(step).chain([good.len() - 1]) {
            let mut flipped = good.clone();
            flipped[at] ^= 1 << (at % 8);
            for damaged in [&flipped[..], &good[..at]] {
                fs::write(&path, damaged).unwrap();
                let message = Model::open(&world.path("model")).map(|_| ()).unwrap_err().to_string();
                assert!(message.contains(name), "{name} at {at}: {message}");
            }
        }
        fs::write(&path, [&good[..], b"more"].concat()).unwrap();
        assert!(Model::open(&world.path("model")).is_err(), "{name} with more at its end");
        fs::remove_file(&path).unwrap();
        assert!(Model::open(&world.path("model")).is_err(), "{name} missing");
        fs::write(&path, &good).unwrap();
    }
    Model::open(&world.path("model")).unwrap();
}

#[test]
fn what_is_no_model_says_so_and_what_to_do() {
    let world = World::with_model();
    world.write("file", b"");
    world.write("new/model.json", b"{\"format\": 2, \"surprise\": []}");
    world.write("junk/model.json", b"\x00\x01");
    world.write("mixed/model.json", &world.read("model/model.json"));
    let cases = [
        ("nowhere", "nowhere: no such model folder"),
        ("file", "file: not a model folder"),
        ("data", "data: not a model folder"),
        ("new", "new/model.json: model format 2 is newer than this program, which reads up to 1: update xmc"),
        ("junk", "junk/model.json: damaged"),
        ("mixed", "No such file"),
    ];
    for (model, message) in cases {
        for verb in [&["predict", model][..], &["evaluate", model, "--data", "data"]] {
            let shown = stderr(&mut world.xmc(verb), 2);
            assert!(shown.contains(message), "{verb:?}: {shown}");
        }
    }
}
