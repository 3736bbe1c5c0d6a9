//! How fast is the loss over a few active labels of each text?
//!
//! ```text
//! cargo bench -p xmc-nn --bench active -- [--texts 32] [--labels 1024] [--active 1024] [--group 16] [--dim 384]
//!     [--criterion squared-hinge|cross-entropy] [--threads N] [--repeat 9]
//! ```
//! Active labels of a text are whole groups of siblings, drawn anew for each text. Prints one line of JSON: median and
//! smallest milliseconds, and GFLOP/s of the 6 b A h operations (fewer are made where a hinge finds margins right).
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program for the command line")]

use std::time::Instant;

use xmc_nn::loss::{Active, ActiveCriterion, active_loss};
use xmc_nn::{Device, Tensor};

/// The value after `--name`, or `default`.
fn argument<T: std::str::FromStr>(name: &str, default: T) -> T {
    let wanted = format!("--{name}");
    let value = std::env::args().skip_while(|a| *a != wanted).nth(1);
    value.and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// Pseudo-random numbers in 0..1.
fn chance(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32
    }
}

fn main() {
    let (b, l, h) = (argument("texts", 32), argument("labels", 1024), argument("dim", 384));
    let (wanted, group) = (argument("active", l), argument("group", 16));
    let criterion = match argument("criterion", "squared-hinge".to_owned()).as_str() {
        "cross-entropy" => ActiveCriterion::CrossEntropy,
        _ => ActiveCriterion::SquaredHinge,
    };
    let mut next = chance(1);
    let x = (0..b * h).map(|_| 2.0 * next() - 1.0).collect();
    let x = Tensor::from_host(b, h, x, Device::Cpu).unwrap();
    let weights: Vec<f32> = (0..l * (h + 1)).map(|_| 0.04 * (2.0 * next() - 1.0)).collect();
    let (mut indptr, mut ids) = (vec![0], Vec::new());
    for _ in 0..b {
        let groups = (0..l.div_ceil(group)).filter(|_| next() * (l as f32) < wanted as f32);
        ids.extend(groups.flat_map(|g| g * group..((g + 1) * group).min(l)).map(|label| label as u32));
        indptr.push(ids.len());
    }
    let targets: Vec<f32> = ids.iter().map(|_| if next() < 0.02 { 1.0 } else { 0.0 }).collect();
    let active = Active { indptr: &indptr, ids: &ids, targets: &targets };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(argument("threads", 0)).build().unwrap();
    let mut seconds = Vec::new();
    let mut touched = 0;
    for _ in 0..argument("repeat", 9) {
        let start = Instant::now();
        let result = pool.install(|| active_loss(&x, &weights, &active, criterion, false, b).unwrap());
        seconds.push(start.elapsed().as_secs_f64());
        touched = result.touched.len();
    }
    seconds.sort_by(f64::total_cmp);
    println!(
        "{{\"criterion\": \"{criterion:?}\", \"threads\": {}, \"active\": {}, \"touched\": {touched}, \"ms\": {:.3}, \
         \"min_ms\": {:.3}, \"gflops\": {:.1}}}",
        pool.current_num_threads(),
        ids.len(),
        seconds[seconds.len() / 2] * 1e3,
        seconds[0] * 1e3,
        6.0 * (ids.len() * h) as f64 / seconds[0] / 1e9
    );
}
