//! A training that stops anywhere goes on as if it had not.

use std::sync::atomic::{AtomicU64, Ordering};

use xmc::events::{Events, Silent};

use crate::world::World;

/// Panics at a step, as a process that is killed.
struct Dies {
    left: AtomicU64,
}

impl Events for Dies {
    fn progress(&self, _: u64, _: u64) {
        assert!(self.left.fetch_sub(1, Ordering::SeqCst) > 1, "killed");
    }
}

#[test]
fn a_resumed_training_gives_the_same_bits() {
    let world = World::new();
    let ways = [
        &["validation=0.2", "negatives=5", "hard_negatives=2"][..],
        &["lora_rank=2", "lora_dropout=0.2", "sampling.ratio=0.5", "sampling.resample=true"],
    ];
    for (way, sets) in ways.into_iter().enumerate() {
        let sets = [&["epochs=3", "checkpoint_minutes=0"], sets].concat();
        let whole = format!("whole{way}");
        world.train(&whole, &sets, false, &Silent).unwrap();
        for steps in [1, 7, 14] {
            let name = format!("killed{way}.{steps}");
            let dies = Dies { left: AtomicU64::new(steps) };
            let run = || world.train(&name, &sets, false, &dies).is_ok();
            let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err();
            assert!(died, "{name}");
            world.train(&name, &sets, true, &Silent).unwrap();
            assert_eq!(world.learned(&name), world.learned(&whole), "{name}");
        }
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let world = World::new();
    let sets = ["epochs=2", "validation=0.2", "lora_rank=2"];
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| world.train(&format!("model{threads}"), &sets, false, &Silent).unwrap());
    }
    assert_eq!(world.learned("model1"), world.learned("model2"));
}
