//! Are losses and gradients those of the reference values, for any block size?
//!
//! The files give scores; they become embeddings as x = scores, y = identity, so that d loss / d x is d loss / d score.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use serde::Deserialize;
use xmc_nn::loss::{Criterion, K, LossOptions, LossOutput, Targets, loss};
use xmc_nn::{Device, Tensor};

const BLOCKS: [usize; 6] = [1, 2, 5, 7, 12, 256];
const TOLERANCE: f64 = 1e-5;

type Matrix = Vec<Vec<f64>>;

#[derive(Deserialize)]
struct Cases<C> {
    cases: Vec<C>,
}

#[derive(Deserialize)]
struct Positives {
    target_inds: Vec<Vec<u32>>,
    target_vals: Vec<Vec<f32>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrName {
    Number(usize),
    Name(String),
}

#[derive(Deserialize)]
struct LossCase {
    name: String,
    criterion: String,
    sim: Matrix,
    #[serde(flatten)]
    positives: Positives,
    picked: Option<Vec<Vec<usize>>>,
    weighted: bool,
    alpha: Option<f32>,
    k: Option<NumberOrName>,
    loss: f64,
    dsim: Matrix,
}

fn tensor(matrix: &Matrix) -> Tensor {
    let values = matrix.iter().flatten().map(|&v| v as f32).collect();
    Tensor::from_host(matrix.len(), matrix[0].len(), values, Device::Cpu).unwrap()
}

fn identity(n: usize) -> Tensor {
    let mut tensor = Tensor::zeros(n, n, Device::Cpu);
    tensor.host_mut().iter_mut().step_by(n + 1).for_each(|v| *v = 1.0);
    tensor
}

fn criterion(name: &str, k: Option<&NumberOrName>, alpha: f32) -> Criterion {
    match (name, k) {
        ("softmax", _) => Criterion::Softmax,
        ("decoupled-softmax", _) => Criterion::DecoupledSoftmax,
        ("bce", _) => Criterion::Bce,
        ("topk", Some(NumberOrName::Number(k))) => Criterion::SoftTopK { k: K::Fixed(*k), alpha },
        ("topk", Some(NumberOrName::Name(name))) if name == "num_pos" => {
            Criterion::SoftTopK { k: K::Positives, alpha }
        }
        _ => panic!("{name}"),
    }
}

fn targets(positives: &Positives, weighted: bool) -> Targets {
    let rows = positives.target_inds.iter().zip(&positives.target_vals);
    Targets::from_rows(rows.map(|(i, v)| i.iter().copied().zip(v.iter().copied())), weighted)
}

fn assert_close<'a>(name: &str, got: &[f32], want: impl IntoIterator<Item = &'a f64>, tolerance: f64) {
    let want: Vec<f64> = want.into_iter().copied().collect();
    assert_eq!(got.len(), want.len());
    for (i, (&a, &b)) in got.iter().zip(&want).enumerate() {
        assert!((a as f64 - b).abs() <= tolerance, "{name} at {i}: {a}, expected {b}");
    }
}

#[test]
fn losses_and_gradients_of_scores() {
    let file: Cases<LossCase> = serde_json::from_str(include_str!("golden/dexml_losses.json")).unwrap();
    assert_eq!(file.cases.len(), 16);
    for case in file.cases {
        let mut targets = targets(&case.positives, case.weighted);
        if let Some(picked) = &case.picked {
            let label = |row: usize, &i: &usize| case.positives.target_inds[row][i];
            targets.keep(|row, t| picked[row].iter().any(|i| label(row, i) == t.label));
        }
        let (x, y) = (tensor(&case.sim), identity(case.sim[0].len()));
        let criterion = criterion(&case.criterion, case.k.as_ref(), case.alpha.unwrap_or(2.0));
        for block in BLOCKS {
            let options = LossOptions { block, ..LossOptions::new(criterion, 1.0) };
            let result = loss(&x, &y, None, &targets, &options).unwrap();
            let error = (result.loss - case.loss).abs();
            assert!(error < TOLERANCE, "{}: {}, expected {}", case.name, result.loss, case.loss);
            assert_close(&case.name, result.dx.host(), case.dsim.iter().flatten(), TOLERANCE);
            let dy = labels_gradient(&case.dsim, &case.sim);
            assert_close(&case.name, result.dy.host(), &dy, TOLERANCE);
            assert_eq!((result.rows, result.skipped, result.saturated), (case.sim.len(), 0, 0));
        }
    }
}

/// G^T X.
fn labels_gradient(g: &Matrix, x: &Matrix) -> Vec<f64> {
    let l = x[0].len();
    let entry = |i: usize| g.iter().zip(x).map(|(g, x)| g[i / l] * x[i % l]).sum();
    (0..l * l).map(entry).collect()
}

#[derive(Deserialize)]
struct SoftTopKCase {
    name: String,
    x: Matrix,
    k: serde_json::Value,
    alpha: f32,
    log_p: Matrix,
    upstream: Matrix,
    dx_of_log_p: Matrix,
}

/// One row against the identity, with all labels in `weights` above 0 as weighted positives.
fn soft_top_k(scores: &[f64], k: usize, alpha: f32, weights: &[f64], block: usize) -> LossOutput {
    let positives = weights.iter().enumerate().map(|(label, &w)| (label as u32, w as f32));
    let targets = Targets::from_rows([positives], true);
    let options =
        LossOptions { block, ..LossOptions::new(Criterion::SoftTopK { k: K::Fixed(k), alpha }, 1.0) };
    loss(&tensor(&vec![scores.to_vec()]), &identity(scores.len()), None, &targets, &options).unwrap()
}

/// The loss with one positive of weight 1 is -log p of it. With upstream gradients g of log p as weights it is
/// -(1/n) sum of g log p, for the positive and the negative part of g.
#[test]
fn the_soft_top_k_operator() {
    let file: Cases<SoftTopKCase> = serde_json::from_str(include_str!("golden/dexml_softtopk.json")).unwrap();
    assert_eq!(file.cases.len(), 5);
    for case in file.cases {
        for (row, scores) in case.x.iter().enumerate() {
            let k = case.k.as_f64().unwrap_or_else(|| case.k[row].as_f64().unwrap()) as usize;
            for block in BLOCKS {
                for label in 0..scores.len() {
                    let mut one = vec![0.0; scores.len()];
                    one[label] = 1.0;
                    let result = soft_top_k(scores, k, case.alpha, &one, block);
                    let error = (result.loss + case.log_p[row][label]).abs();
                    assert!(error < TOLERANCE, "{}: {} {}", case.name, result.loss, case.log_p[row][label]);
                    assert!(result.passes <= 12, "{} passes", result.passes);
                }
                let mut dx = vec![0.0_f32; scores.len()];
                for sign in [1.0, -1.0] {
                    let weights: Vec<f64> = case.upstream[row].iter().map(|g| (g * sign).max(0.0)).collect();
                    let n = weights.iter().filter(|w| **w > 0.0).count() as f32;
                    let result = soft_top_k(scores, k, case.alpha, &weights, block);
                    let part = result.dx.host().iter();
                    dx.iter_mut().zip(part).for_each(|(sum, v)| *sum -= sign as f32 * n * v);
                }
                assert_close(&case.name, &dx, &case.dx_of_log_p[row], TOLERANCE);
            }
        }
    }
}

#[derive(Deserialize)]
struct StepCase {
    name: String,
    norm_embs: bool,
    tau: f32,
    criterion: String,
    k: Option<NumberOrName>,
    alpha: f32,
    x_raw: Matrix,
    y_raw: Matrix,
    #[serde(flatten)]
    positives: Positives,
    loss: f64,
    dx_raw: Matrix,
    dy_raw: Matrix,
}

fn normalized(raw: &Matrix) -> Matrix {
    let norm = |row: &[f64]| row.iter().map(|v| v * v).sum::<f64>().sqrt().max(1e-12);
    raw.iter().map(|row| row.iter().map(|v| v / norm(row)).collect()).collect()
}

/// Through e = raw / |raw|: d raw = (d e - (d e · e) e) / |raw|.
fn through_norm(raw: &Matrix, de: &[f32]) -> Vec<f32> {
    let rows = raw.iter().zip(normalized(raw)).zip(de.chunks(raw[0].len()));
    let row = |((raw, e), de): ((&Vec<f64>, Vec<f64>), &[f32])| {
        let norm = raw.iter().map(|v| v * v).sum::<f64>().sqrt();
        let along: f64 = e.iter().zip(de).map(|(e, &d)| e * d as f64).sum();
        e.iter().zip(de).map(|(e, &d)| ((d as f64 - along * e) / norm) as f32).collect::<Vec<_>>()
    };
    rows.flat_map(row).collect()
}

#[test]
fn a_step_of_a_dual_encoder() {
    let text = include_str!("golden/dexml_dual_encoder_step.json");
    let file: Cases<StepCase> = serde_json::from_str(text).unwrap();
    assert_eq!(file.cases.len(), 4);
    for case in file.cases {
        let embed = |raw: &Matrix| if case.norm_embs { tensor(&normalized(raw)) } else { tensor(raw) };
        let (x, y, targets) = (embed(&case.x_raw), embed(&case.y_raw), targets(&case.positives, false));
        let criterion = criterion(&case.criterion, case.k.as_ref(), case.alpha);
        for block in BLOCKS {
            let options = LossOptions { block, ..LossOptions::new(criterion, case.tau) };
            let result = loss(&x, &y, None, &targets, &options).unwrap();
            let relative = (result.loss / case.loss - 1.0).abs();
            assert!(relative < 1e-6, "{}: {}, expected {}", case.name, result.loss, case.loss);
            let (mut dx, mut dy) = (result.dx.into_host(), result.dy.into_host());
            if case.norm_embs {
                (dx, dy) = (through_norm(&case.x_raw, &dx), through_norm(&case.y_raw, &dy));
            }
            assert_close(&case.name, &dx, case.dx_raw.iter().flatten(), TOLERANCE);
            assert_close(&case.name, &dy, case.dy_raw.iter().flatten(), TOLERANCE);
        }
    }
}

#[derive(Deserialize)]
struct Sharded {
    sim: Matrix,
    #[serde(flatten)]
    positives: Positives,
    shards: Vec<Shard>,
    global_loss: f64,
}

#[derive(Deserialize)]
struct Shard {
    labels: [usize; 2],
    local_loss: f64,
    dsim_local: Matrix,
}

/// Blocks stand for shards: the loss is the sum of theirs, and the last label of a shard is as good as any other.
#[test]
fn blocks_are_shards_of_one_loss() {
    let file: Sharded = serde_json::from_str(include_str!("golden/dexml_sharded_decoupled.json")).unwrap();
    let targets = targets(&file.positives, false);
    let l = file.sim[0].len();
    let options = LossOptions { block: l / 2, ..LossOptions::new(Criterion::DecoupledSoftmax, 1.0) };
    let result = loss(&tensor(&file.sim), &identity(l), None, &targets, &options).unwrap();
    assert!((result.loss - file.global_loss).abs() < TOLERANCE);
    assert!((result.loss - file.shards.iter().map(|s| s.local_loss).sum::<f64>()).abs() < TOLERANCE);
    for shard in &file.shards {
        let [start, end] = shard.labels;
        let dsim: Vec<f32> = result.dx.host().chunks(l).flat_map(|row| row[start..end].to_vec()).collect();
        assert_close("shard", &dsim, shard.dsim_local.iter().flatten(), TOLERANCE);
    }
}
