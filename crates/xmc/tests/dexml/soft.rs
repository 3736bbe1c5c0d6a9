//! What values of labels change in training.

use xmc::events::Silent;

use crate::world::World;

/// A world whose labels have the values 0.8 and 1 by turns, or all 1.
fn world(soft: bool) -> World {
    let mut world = World::new();
    let values = world.data.train.y.values_mut();
    values.iter_mut().enumerate().for_each(|(i, value)| *value = if soft && i % 2 == 0 { 0.8 } else { 1.0 });
    world
}

fn learned(world: &World, sets: &[&str]) -> [Vec<u8>; 2] {
    let sets = [&["negatives=all", "epochs=2"][..], sets].concat();
    world.train("model", &sets, false, &Silent).unwrap();
    world.learned("model")
}

/// S-25: `ignore` is the training on ones, bit for bit; the others are it where all values are 1, and only there.
#[test]
fn values_matter_as_the_settings_say() {
    let (soft, sure) = (world(true), world(false));
    let ones = learned(&sure, &["value=ignore"]);
    assert_eq!(learned(&soft, &["value=ignore"]), ones);
    for value in ["value=sample", "value=weight"] {
        assert_eq!(learned(&sure, &[value]), ones, "{value}");
        assert_ne!(learned(&soft, &[value]), ones, "{value}");
    }
    let bce = ["criterion=bce", "head=classifier", "tau=1"];
    let target = [&bce[..], &["value=target"]].concat();
    assert_eq!(learned(&sure, &target), learned(&sure, &bce));
    assert_ne!(learned(&soft, &target), learned(&sure, &bce));
}

#[test]
fn a_value_above_one_is_no_probability() {
    let mut world = world(false);
    world.data.train.y.values_mut()[0] = 2.0;
    let sets = ["criterion=bce", "head=classifier", "value=target"];
    let message = world.train("model", &sets, false, &Silent).unwrap_err().to_string();
    assert!(message.contains("training row 0 has label") && message.contains("with value 2"), "{message}");
    assert!(!world.out("model.run").exists());
}
