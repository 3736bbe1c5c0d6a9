//! Neither interruptions nor threads change a bit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use xmc::events::{Events, Silent};

use crate::world::World;

/// Dies when so many steps are done, and remembers with which step it began.
struct Mortal {
    death: u64,
    first: AtomicU64,
}

impl Mortal {
    fn new(death: u64) -> Self {
        Mortal { death, first: AtomicU64::new(u64::MAX) }
    }
}

impl Events for Mortal {
    fn progress(&self, done: u64, _total: u64) {
        self.first.fetch_min(done, Ordering::Relaxed);
        assert!(done < self.death, "power cut");
    }
}

#[test]
fn an_interrupted_training_ends_with_the_same_bits() {
    let world = World::new();
    // 128 rows learn: 8 steps an epoch.
    let common = ["epochs=4", "dropout=true", "validation=0.2", "batch_size=16", "swa=2"];
    for kind in [
        &["negatives=hard", "mine_after=1", "mine_every=1"][..],
        &["negatives=pool:8", "positives=sample"],
        &["negatives=pool:8", "head=classifier", "head_lr=0.03", "normalize=false"],
    ] {
        let sets = [&common[..], kind].concat();
        world.train("whole", &sets, false, &Silent).unwrap();
        // Checkpoints after every step, and after epochs only; (steps of death, first steps of the lives).
        for (minutes, deaths, births) in [
            ("checkpoint_minutes=0", [1, 9, 13], [1, 1, 9, 13]),
            ("checkpoint_minutes=9", [3, 16, 25], [1, 1, 9, 25]),
        ] {
            let sets = [&sets[..], &[minutes]].concat();
            for (i, steps) in deaths.into_iter().enumerate() {
                let life = Mortal::new(steps);
                let died = catch_unwind(AssertUnwindSafe(|| world.train("cut", &sets, i > 0, &life)));
                assert!(died.is_err(), "{steps}");
                assert_eq!(life.first.into_inner(), births[i], "{sets:?}");
            }
            let life = Mortal::new(u64::MAX);
            world.train("cut", &sets, true, &life).unwrap();
            assert_eq!(life.first.into_inner(), births[3], "{sets:?}");
            assert!(world.learned("whole") == world.learned("cut"), "{sets:?}");
        }
    }
}

#[test]
fn another_path_to_the_encoder_or_rhythm_of_checkpoints_continues() {
    let world = World::new();
    let sets = ["epochs=2", "negatives=all", "checkpoint_minutes=0"];
    let life = Mortal::new(3);
    assert!(catch_unwind(AssertUnwindSafe(|| world.train("cut", &sets, false, &life))).is_err());
    let other = format!("encoder={}/../encoder", world.encoder.display());
    let life = Mortal::new(u64::MAX);
    world.train("cut", &["epochs=2", "negatives=all", "checkpoint_minutes=7", &other], true, &life).unwrap();
    assert_eq!(life.first.into_inner(), 3);
    let manifest = std::fs::read_to_string(world.out("cut").join("model.json")).unwrap();
    assert!(manifest.contains("/../encoder"), "{manifest}");
}

#[test]
fn a_damaged_checkpoint_comes_with_advice() {
    let world = World::new();
    let sets = ["epochs=2", "negatives=all", "checkpoint_minutes=0"];
    let life = Mortal::new(3);
    assert!(catch_unwind(AssertUnwindSafe(|| world.train("cut", &sets, false, &life))).is_err());
    std::fs::write(world.out("cut.run").join("train.ongoing/checkpoint.safetensors"), "junk").unwrap();
    let message = world.train("cut", &sets, true, &Silent).unwrap_err().to_string();
    assert!(message.contains("train.ongoing or train without --resume"), "{message}");
}

#[test]
fn threads_do_not_change_a_bit() {
    let world = World::new();
    for kind in ["negatives=hard", "negatives=all"] {
        let sets =
            [kind, "mine_after=1", "epochs=3", "dropout=true", "validation=0.2", "tokens_per_batch=60"];
        for threads in [1, 2] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| world.train(&threads.to_string(), &sets, false, &Silent)).unwrap();
        }
        assert!(world.learned("1") == world.learned("2"), "{kind}");
    }
}

#[test]
fn micro_batches_that_pass_twice_change_no_bit() {
    let world = World::new();
    let sets = ["negatives=all", "epochs=3", "dropout=true", "tokens_per_batch=60"];
    for (name, tape) in
        [("once", "tape_tokens=100000"), ("some", "tape_tokens=300"), ("twice", "tape_tokens=0")]
    {
        world.train(name, &[&sets[..], &[tape]].concat(), false, &Silent).unwrap();
    }
    assert!(world.learned("once") == world.learned("some"));
    assert!(world.learned("once") == world.learned("twice"));
}
