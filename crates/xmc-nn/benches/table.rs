//! How fast do the classifiers of very many labels compute and learn, and what would memory allow?
//!
//! ```text
//! cargo bench -p xmc-nn --bench table -- [--labels 1000000] [--texts 256] [--listed 2000] [--dim 384] [--groups 16]
//!     [--stored bf16|f32] [--moments row|element] [--repeat 5] [--threads N] [--copy 1]
//! ```
//! Lists are made of groups of siblings; with more `--groups` per list they are shorter and spread further. Prints one line
//! of JSON: the fewest CPU seconds (of all threads) of some rounds, pairs a CPU second, and GB a CPU second, where bytes are counted: for the
//! pass the weights of all pairs (`shared` those of the touched labels alone), for the step every array of the touched
//! labels in and out. `copy_gbps` (with `--copy 1`) is what one thread
//! reads and writes of a large array, for comparison; `rss_mb` the largest
//! memory so far.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program for the command line")]

use std::time::Instant;

use xmc_nn::table::{LabelTable, Moments, Pairs, Place, Stored, TableConfig};

/// The value after `--name`, or `default`.
fn argument<T: std::str::FromStr>(name: &str, default: T) -> T {
    let wanted = format!("--{name}");
    let value = std::env::args().skip_while(|a| *a != wanted).nth(1);
    value.and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// Pseudo-random whole numbers below n.
fn chance(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed;
    move |n| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((u128::from(state) * n as u128) >> 64) as usize
    }
}

/// CPU seconds of all threads of this process.
fn cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The largest memory of this process so far, in MB; 0 where the system does not say.
fn rss() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// GB/s of a thread that reads and writes every number of a large array.
fn copy() -> f64 {
    let mut values = vec![1.0f32; 1 << 27];
    let mut seconds = f64::INFINITY;
    for _ in 0..3 {
        let start = Instant::now();
        xmc_nn::ops::reduce::scale(&mut values, std::hint::black_box(1.0001));
        seconds = seconds.min(start.elapsed().as_secs_f64());
    }
    (values.len() * 8) as f64 / seconds / 1e9
}

fn main() {
    let (b, l, d) = (argument("texts", 256), argument("labels", 1_000_000), argument("dim", 384));
    let (listed, groups, repeat) = (argument("listed", 2000), argument("groups", 16), argument("repeat", 5));
    let (stored, weight) = match argument("stored", "bf16".to_owned()).as_str() {
        "f32" => (Stored::F32, 4),
        _ => (Stored::Bf16, 2),
    };
    let (moments, bytes) = match argument("moments", "row".to_owned()).as_str() {
        "element" => (Moments::Element, weight + 8),
        _ => (Moments::Row, 2 * weight),
    };
    let mut next = chance(1);
    let mut lists = || {
        let (mut indptr, mut ids) = (vec![0], Vec::<u32>::new());
        for _ in 0..b {
            let size = (listed / groups).max(1).min(l);
            let starts = (0..groups).map(|_| next(l - size + 1));
            let mut own: Vec<u32> = starts.flat_map(|s| s..s + size).map(|label| label as u32).collect();
            own.sort_unstable();
            own.dedup();
            ids.extend(own);
            indptr.push(ids.len());
        }
        (indptr, ids)
    };
    let x: Vec<f32> = (0..b * d).map(|i| (i as f32 * 0.37).sin()).collect();
    let copy = if argument("copy", 0) > 0 { copy() } else { 0.0 };
    let mut table =
        LabelTable::new(l, d, TableConfig { stored, moments, ..TableConfig::default() }, Place::Memory)
            .unwrap();
    table.fill(|label, row| {
        row.iter_mut().enumerate().for_each(|(j, w)| *w = 0.05 * ((label as usize * 7 + j) as f32).sin());
    });
    let pool = rayon::ThreadPoolBuilder::new().num_threads(argument("threads", 0)).build().unwrap();
    let (mut pass, mut step) = (Vec::new(), Vec::new());
    let (mut n, mut touched) = (0, 0);
    for round in 0..repeat {
        let (indptr, ids) = lists();
        let pairs = Pairs { indptr: &indptr, ids: &ids };
        let (mut z, mut dx) = (vec![0.0; ids.len()], vec![0.0; b * d]);
        let slope = |_: usize, z: &mut [f32]| z.iter_mut().for_each(|z| *z = 1e-3 / (1.0 + z.abs()));
        let start = cpu();
        pool.install(|| table.pass(&x, &pairs, &mut z, &mut dx, &slope)).unwrap();
        let middle = cpu();
        pool.install(|| table.step(&x, &pairs, &z, 1e-3, round)).unwrap();
        pass.push(middle - start);
        step.push(cpu() - middle);
        let mut all = ids.clone();
        all.sort_unstable();
        all.dedup();
        (n, touched) = (ids.len(), all.len());
    }
    pass.sort_by(f64::total_cmp);
    step.sort_by(f64::total_cmp);
    let (pass, step) = (pass[0], step[0]);
    let gbps = |rows: usize, bytes: usize, seconds: f64| (rows * bytes * d) as f64 / seconds / 1e9;
    println!(
        "{{\"labels\": {l}, \"stored\": \"{stored:?}\", \"moments\": \"{moments:?}\", \"threads\": {}, \"pairs\": {n}, \
         \"touched\": {touched}, \"pass_cpu_s\": {pass:.4}, \"pass_mpairs\": {:.2}, \"pass_gbps\": {:.1}, \"pass_shared_gbps\": {:.1}, \
         \"step_cpu_s\": {step:.4}, \"step_mlabels\": {:.2}, \"step_gbps\": {:.1}, \"copy_gbps\": {copy:.1}, \"rss_mb\": {}}}",
        pool.current_num_threads(),
        n as f64 / pass / 1e6,
        gbps(n, weight, pass),
        gbps(touched, weight, pass),
        touched as f64 / step / 1e6,
        gbps(touched, 2 * bytes, step),
        rss()
    );
}
