//! `xmc quickstart`: no files, no network, and again over the model of the last time.

use crate::world::{World, stdout};

#[test]
fn it_trains_answers_and_can_be_repeated() {
    let world = World::new();
    for _ in 0..2 {
        let output = world.xmc(&["quickstart"]).assert().success().get_output().clone();
        let answers = String::from_utf8(output.stdout).unwrap();
        for label in ["works with image", "devel library", "use gameplaying"] {
            assert!(answers.contains(label), "{label} is missing in\n{answers}");
        }
        let said = String::from_utf8(output.stderr).unwrap();
        for part in ["16530 rows to train", "P@1 8", "predict quickstart.xmc"] {
            assert!(said.contains(part), "{part} is missing in\n{said}");
        }
    }
    assert!(stdout(&mut world.xmc(&["inspect", "quickstart.xmc"])).contains("debian-debtags (16530 rows)"));
}
