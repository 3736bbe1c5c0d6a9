use super::super::toy::{World, all, config};
use super::super::training::{LevelTask, Training};
use super::*;
use crate::events::Silent;
use crate::methods::xr_transformer::config::XrTransformerConfig;
use crate::methods::xr_transformer::plan::plan;
use crate::random::{Draws, Purpose};

const LOSSES: [HeadLoss; 5] = [
    HeadLoss::SquaredHinge,
    HeadLoss::Hinge,
    HeadLoss::WeightedSquaredHinge,
    HeadLoss::WeightedHinge,
    HeadLoss::CrossEntropy,
];

/// Runs `work` on a learner of the second level: children of the true parents, and a head of random weights.
fn at_second_level<R>(
    world: &World,
    config: &XrTransformerConfig,
    work: impl FnOnce(Learner<'_>, LevelTask<'_>) -> R,
) -> R {
    let options = world.options("x");
    let task = world.task(config, &options, &Silent);
    let levels = plan(config, &world.tree.widths(), 3).unwrap();
    let targets = xmc_linear::targets::levels(&world.y, &world.tree, None).unwrap();
    let nodes = ActiveNodes {
        targets: &targets[2],
        matching: Some(&targets[1]),
        offsets: world.tree.offsets(1),
        most: config.training.max_active,
        seed: levels[1].seed,
    };
    let of_level = LevelTask { task: &task, level: &levels[1], nodes, above: None };
    let tower = of_level.open(&world.start.dir).unwrap();
    let mut draws = Draws::new(1, Purpose::Head, 0);
    let weights = (0..6 * (tower.dim() + 1)).map(|_| draws.normal() * 0.3).collect();
    let learner = Learner::new(tower, weights, &config.training, &levels[1], nodes, &world.tokens, 10);
    work(learner, of_level)
}

#[test]
fn the_gradient_of_a_step_is_that_of_finite_differences() {
    let world = World::new();
    let rows: Vec<u32> = (0..20).collect();
    for loss in LOSSES {
        let mut config = config();
        (config.training.loss, config.training.tokens_per_batch, config.training.max_active) = (loss, 30, 3);
        at_second_level(&world, &config, |mut learner, _| {
            let (_, head, _) = learner.gradients(7, &rows).unwrap();
            let grads = learner.grads.clone();
            let (params, weights) = (learner.tower.params().to_vec(), learner.head.weights().to_vec());
            let mut at = |params: &[f32], weights: &[f32]| {
                learner.tower.set_params(params).unwrap();
                learner.head.set_weights(weights).unwrap();
                learner.gradients(7, &rows).unwrap().0
            };
            let mut check = |analytic: f32, shift: &dyn Fn(f32) -> (Vec<f32>, Vec<f32>)| {
                let e = 2e-3;
                let ([up, down], step) = ([shift(e), shift(-e)], f64::from(2.0 * e));
                let numeric = (at(&up.0, &up.1) - at(&down.0, &down.1)) / step;
                let wrong = (numeric - f64::from(analytic)).abs();
                // A hinge has a corner that a step may cross.
                let most =
                    if matches!(loss, HeadLoss::Hinge | HeadLoss::WeightedHinge) { 0.05 } else { 5e-3 };
                assert!(wrong < most * (1.0 + numeric.abs()), "{loss:?}: {numeric} {analytic}");
                analytic.abs()
            };
            let mut largest = [0f32; 2];
            // Along the gradient itself (a direction that uses every parameter), and single parameters.
            let norm = global_norm(&grads) as f32;
            let along = |e: f32| {
                (params.iter().zip(&grads).map(|(p, g)| p + e * g / norm).collect(), weights.clone())
            };
            check(norm, &along);
            for i in (0..params.len()).step_by(211) {
                let shift = |e: f32| {
                    let mut moved = params.clone();
                    moved[i] += e;
                    (moved, weights.clone())
                };
                largest[0] = largest[0].max(check(grads[i], &shift));
            }
            let cols = head.values.len() / head.ids.len();
            assert_eq!(head.ids, [0, 1, 2, 3, 4, 5]);
            for i in (0..weights.len()).step_by(7).chain([cols - 1, weights.len() - 1]) {
                let shift = |e: f32| {
                    let mut moved = weights.clone();
                    moved[i] += e;
                    (params.clone(), moved)
                };
                largest[1] = largest[1].max(check(head.values[i], &shift));
            }
            assert!(largest[0] > 0.003 && largest[1] > 0.01, "{loss:?}: {largest:?}");
        });
    }
}

#[test]
fn micro_batches_change_nothing_beyond_rounding() {
    let world = World::new();
    let learn = |tokens_per_batch| {
        let mut config = config();
        (config.training.tokens_per_batch, config.training.adam_epsilon) = (tokens_per_batch, 1e-3);
        at_second_level(&world, &config, |mut learner, _| {
            let losses: Vec<f64> =
                (0..4).map(|step| learner.step(step, &[1, 2, 5, 8, 9, 30, 31, 40]).unwrap().loss).collect();
            (losses, learner.tower.params().to_vec(), learner.head.weights().to_vec())
        })
    };
    let whole = learn(10_000);
    for budget in [1, 12] {
        let parts = learn(budget);
        assert!(whole.0.iter().zip(&parts.0).all(|(a, b)| (a - b).abs() < 1e-4), "{whole:?} {parts:?}");
        for (a, b) in whole.1.iter().chain(&whole.2).zip(parts.1.iter().chain(&parts.2)) {
            assert!((a - b).abs() < 2e-4, "{a} {b}");
        }
    }
}

#[test]
fn every_loss_falls() {
    let world = World::new();
    for loss in LOSSES {
        let mut config = config();
        (config.training.loss, config.training.max_steps) = (loss, all(60));
        at_second_level(&world, &config, |_, task| {
            let dir = world.dir.path().join("ongoing");
            std::fs::create_dir_all(&dir).unwrap();
            let mut training = Training::begin(task, &dir).unwrap();
            let losses: Vec<f64> = (0..60).map(|_| training.step().unwrap().loss).collect();
            let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
            let (first, last) = (mean(&losses[..10]), mean(&losses[50..]));
            assert!(last < 0.5 * first, "{loss:?}: {first} {last}");
        });
    }
}

#[test]
fn each_gradient_is_clipped_on_its_own_and_the_last_step_still_moves() {
    let world = World::new();
    let mut config = config();
    // So large an epsilon makes a step of AdamW proportional to the gradient.
    (config.training.adam_epsilon, config.training.warmup_steps) = (1e3, all(0));
    (config.training.lr, config.training.head_lr) = (all(100.0), all(100.0));
    let moved = |clip: f32, step: u64| {
        let config = XrTransformerConfig {
            training: TrainingConfig { clip, ..config.training.clone() },
            ..config.clone()
        };
        at_second_level(&world, &config, |mut learner, _| {
            let before = [learner.tower.params().to_vec(), learner.head.weights().to_vec()];
            let report = learner.step(step, &[1, 2, 5, 8]).unwrap();
            let after = [learner.tower.params(), learner.head.weights()];
            let norms: Vec<f64> = before
                .iter()
                .zip(after)
                .map(|(a, b)| global_norm(&a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<_>>()))
                .collect();
            (report.norms, [norms[0], norms[1]])
        })
    };
    let ((norms, free), (_, clipped)) = (moved(0.0, 0), moved(0.01, 0));
    for i in 0..2 {
        assert!(norms[i] > 0.1);
        let (got, want) = (clipped[i] / free[i], 0.01 / norms[i]);
        assert!((got / want - 1.0).abs() < 0.05, "{i}: {got} {want}");
    }
    let last = moved(0.0, 9).1;
    assert!(last[0] > 0.0 && last[1] > 0.0);
}
