//! Does a table of label classifiers compute and learn what its page says? Against the formulas in f64, against dense
//! AdamW, against itself at other places and with other threads.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use xmc_nn::Layout;
use xmc_nn::optim::{AdamW, AdamWConfig};
use xmc_nn::table::{LabelTable, Moments, Pairs, Place, Stored, TableConfig};

const ADAM: AdamWConfig = AdamWConfig { beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.4 };

/// Every way to store.
const CONFIGS: [TableConfig; 4] = [
    TableConfig { stored: Stored::F32, moments: Moments::Element, adam: ADAM },
    TableConfig { stored: Stored::F32, moments: Moments::Row, adam: ADAM },
    TableConfig { stored: Stored::Bf16, moments: Moments::Element, adam: ADAM },
    TableConfig { stored: Stored::Bf16, moments: Moments::Row, adam: ADAM },
];

/// A number in -1..1 for each place.
fn chance(seed: u64, place: usize) -> f32 {
    let mut x = (seed << 32 ^ place as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    for _ in 0..2 {
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x ^= x >> 27;
    }
    (x >> 40) as f32 / (1 << 23) as f32 - 1.0
}

fn many(seed: u64, n: usize) -> Vec<f32> {
    (0..n).map(|i| chance(seed, i)).collect()
}

/// Lists of labels, and slopes that stand for a loss.
struct Lists {
    indptr: Vec<usize>,
    ids: Vec<u32>,
    slopes: Vec<f32>,
}

impl Lists {
    fn new(b: usize, l: usize, seed: u64, listed: impl Fn(usize, usize) -> bool) -> Self {
        let (mut indptr, mut ids) = (vec![0], Vec::new());
        for text in 0..b {
            ids.extend((0..l).filter(|&label| listed(text, label)).map(|label| label as u32));
            indptr.push(ids.len());
        }
        let slopes = (0..ids.len()).map(|i| if i % 7 == 3 { 0.0 } else { chance(seed, i) }).collect();
        Lists { indptr, ids, slopes }
    }

    fn pairs(&self) -> Pairs<'_> {
        Pairs { indptr: &self.indptr, ids: &self.ids }
    }

    /// (text, label, slope) of every pair.
    fn each(&self) -> impl Iterator<Item = (usize, usize, f32)> {
        let texts = self
            .indptr
            .windows(2)
            .enumerate()
            .flat_map(|(text, ends)| (ends[0]..ends[1]).map(move |at| (text, at)));
        texts.map(|(text, at)| (text, self.ids[at] as usize, self.slopes[at]))
    }
}

fn table(l: usize, d: usize, config: TableConfig, place: Place<'_>) -> LabelTable {
    let mut table = LabelTable::new(l, d, config, place).unwrap();
    table.fill(|label, row| {
        row.iter_mut().enumerate().for_each(|(j, w)| *w = chance(11, label as usize * d + j));
    });
    table.set_biases(&many(12, l)).unwrap();
    table
}

fn row(table: &LabelTable, label: usize) -> Vec<f32> {
    let mut row = vec![0.0; table.dim()];
    table.row(label as u32, &mut row);
    row
}

fn weights(table: &LabelTable) -> Vec<f32> {
    (0..table.labels()).flat_map(|label| row(table, label)).collect()
}

#[test]
fn margins_slopes_and_dx_are_those_of_the_formulas() {
    for (b, l, d, some) in
        [(3, 5, 7, -1.0), (19, 40, 33, -1.0), (26, 700, 64, 0.6), (9, 5000, 50, 0.99), (4, 9, 1, 2.0)]
    {
        let (x, lists) =
            (many(1, b * d), Lists::new(b, l, 2, |text, label| chance(3, text * l + label) > some));
        for config in CONFIGS {
            let table = table(l, d, config, Place::Memory);
            let dot = |text: usize, label: usize| -> f64 {
                let weights = row(&table, label);
                let products = weights.iter().zip(&x[text * d..]).map(|(&w, &x)| f64::from(w) * f64::from(x));
                products.sum::<f64>() + f64::from(table.bias(label as u32))
            };
            let mut z = vec![9.0; lists.ids.len()];
            table.margins(&x, &lists.pairs(), &mut z).unwrap();
            for ((text, label, _), &z) in lists.each().zip(&z) {
                assert!((f64::from(z) - dot(text, label)).abs() < 1e-5, "{text} {label}");
            }
            let (mut slopes, mut dx) = (vec![0.0; z.len()], vec![0.5; b * d]);
            let slope = |first: usize, found: &mut [f32]| {
                assert_eq!(found, &z[first..first + found.len()]);
                found.copy_from_slice(&lists.slopes[first..first + found.len()]);
            };
            table.pass(&x, &lists.pairs(), &mut slopes, &mut dx, &slope).unwrap();
            assert_eq!(slopes, lists.slopes);
            let mut want = vec![0.5; b * d];
            for (text, label, slope) in lists.each() {
                let weights = row(&table, label);
                want[text * d..]
                    .iter_mut()
                    .zip(weights)
                    .for_each(|(sum, w)| *sum += f64::from(slope) * f64::from(w));
            }
            assert!(dx.iter().zip(&want).all(|(&a, b)| (f64::from(a) - b).abs() < 3e-5));
        }
    }
}

/// The loss sum of softplus(z): what `pass` says is its gradient, and a step goes down along it.
#[test]
fn gradients_are_those_of_finite_differences() {
    let (b, l, d) = (3, 12, 5);
    let (x, lists) = (many(4, b * d), Lists::new(b, l, 5, |text, label| (text + label) % 3 > 0));
    let config = TableConfig { adam: AdamWConfig { weight_decay: 0.0, beta1: 0.0, ..ADAM }, ..CONFIGS[0] };
    let mut table = table(l, d, config, Place::Memory);
    let loss = |table: &LabelTable, x: &[f32]| -> f64 {
        let mut z = vec![0.0; lists.ids.len()];
        table.margins(x, &lists.pairs(), &mut z).unwrap();
        z.iter().map(|&z| f64::from(z).exp().ln_1p()).sum()
    };
    let (mut slopes, mut dx) = (vec![0.0; lists.ids.len()], vec![0.0; b * d]);
    let sigmoid = |_: usize, z: &mut [f32]| z.iter_mut().for_each(|z| *z = 1.0 / (1.0 + (-*z).exp()));
    table.pass(&x, &lists.pairs(), &mut slopes, &mut dx, &sigmoid).unwrap();
    for i in 0..b * d {
        let [more, less] = [1e-2, -1e-2].map(|step| {
            let mut x = x.clone();
            x[i] += step;
            loss(&table, &x)
        });
        assert!(((more - less) / 2e-2 - f64::from(dx[i])).abs() < 1e-3, "{i}");
    }
    let steps: Vec<f64> = (0..l * d)
        .map(|i| {
            let [more, less] = [1e-2, -1e-2].map(|step| {
                let mut other = LabelTable::new(l, d, config, Place::Memory).unwrap();
                other.set_biases(&many(12, l)).unwrap();
                other.fill(|label, row| {
                    table.row(label, row);
                    if label as usize == i / d {
                        row[i % d] += step;
                    }
                });
                loss(&other, &x)
            });
            (more - less) / 2e-2
        })
        .collect();
    let before = weights(&table);
    table.step(&x, &lists.pairs(), &slopes, 1e-3, 0).unwrap();
    // Without beta1 the first step is the learning rate against the sign of the gradient.
    for ((now, before), slope) in weights(&table).iter().zip(before).zip(steps) {
        assert!(
            (f64::from(now - before) + 1e-3 * slope.signum()).abs() < 1e-6 || slope.abs() < 1e-3,
            "{slope}"
        );
    }
}

/// Dense gradients, added up as kernels do: by one multiplication and addition in the order of texts.
fn dense(x: &[f32], l: usize, d: usize, lists: &Lists) -> (Vec<f32>, Vec<f32>) {
    let (mut dw, mut db) = (vec![0.0; l * d], vec![0.0; l]);
    for (text, label, slope) in lists.each() {
        xmc_nn::ops::reduce::axpy(slope, &x[text * d..(text + 1) * d], &mut dw[label * d..(label + 1) * d]);
        db[label] += slope;
    }
    (dw, db)
}

#[test]
fn with_every_label_touched_it_is_dense_adamw_to_the_bit() {
    let (b, l, d) = (6, 150, 40);
    let mut sparse = table(l, d, CONFIGS[0], Place::Memory);
    let mut layouts = [Layout::default(), Layout::default()];
    layouts[0].push("weights", &[l, d]);
    layouts[1].push("biases", &[l]);
    let mut optimisers = layouts.each_ref().map(|layout| AdamW::new(layout, ADAM));
    let (mut w, mut biases) = (weights(&sparse), many(12, l));
    for s in 0..4 {
        let lists = Lists::new(b, l, s, |text, label| text == label % 6 || chance(s, text * l + label) > 0.3);
        let (x, lr) = (many(20 + s, b * d), 0.01 * (s + 1) as f32);
        let (mut dw, mut db) = dense(&x, l, d, &lists);
        optimisers[0].step(&mut w, &mut dw, lr, 1.0).unwrap();
        optimisers[1].step(&mut biases, &mut db, lr, 1.0).unwrap();
        sparse.step(&x, &lists.pairs(), &lists.slopes, lr, 0).unwrap();
    }
    assert_eq!(weights(&sparse), w);
    assert_eq!(sparse.state()[1].1, biases);
    assert_eq!(sparse.state()[2].1, optimisers[0].state()[0].1);
    assert_eq!(sparse.state()[3].1, optimisers[0].state()[1].1);
}

/// The documented rule of a weight, in f64: `grads` of the steps in which its label was touched, with the mean of squares
/// that goes to v.
fn twin(p: f32, decay: f64, touches: &[Option<(f32, f64)>], lr: f32) -> f64 {
    let (mut p, mut m, mut v, lr) = (f64::from(p), 0.0, 0.0, f64::from(lr));
    for (touch, t) in touches.iter().zip(1..) {
        p *= 1.0 - lr * decay;
        let (grad, square) = touch.map_or((0.0, 0.0), |(grad, square)| (f64::from(grad), square));
        m = ADAM.beta1 * m + (1.0 - ADAM.beta1) * grad;
        v = ADAM.beta2 * v + (1.0 - ADAM.beta2) * square;
        if touch.is_some() {
            let (mean, square) = (m / (1.0 - ADAM.beta1.powi(t)), v / (1.0 - ADAM.beta2.powi(t)));
            p -= lr * mean / (square.sqrt() + ADAM.eps);
        }
    }
    p
}

#[test]
fn labels_catch_up_when_touched_or_settled_with_a_v_for_each_weight_or_label() {
    let (b, l, d, steps, lr) = (4, 300, 37, 9, 0.02);
    for config in CONFIGS {
        let mut table = table(l, d, config, Place::Memory);
        let (start, first_biases) = (weights(&table), many(12, l));
        let mut touches = vec![Vec::new(); l * d];
        let mut bias_touches = vec![Vec::new(); l];
        for s in 0..steps {
            let x = many(30 + s, b * d);
            let lists = Lists::new(b, l, 40 + s, |text, label| (label * 7 + s as usize * 5 + text) % 11 < 2);
            let (dw, db) = dense(&x, l, d, &lists);
            let mut touched = vec![false; l];
            lists.each().for_each(|(_, label, _)| touched[label] = true);
            for label in 0..l {
                let grads = &dw[label * d..(label + 1) * d];
                let mean = grads.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>() / d as f64;
                for (j, &g) in grads.iter().enumerate() {
                    let own = if config.moments == Moments::Row { mean } else { f64::from(g).powi(2) };
                    touches[label * d + j].push(touched[label].then_some((g, own)));
                }
                bias_touches[label].push(touched[label].then_some((db[label], f64::from(db[label]).powi(2))));
            }
            let before = weights(&table);
            table.step(&x, &lists.pairs(), &lists.slopes, lr, 3).unwrap();
            let after = weights(&table);
            for label in (0..l).filter(|&label| !touched[label]) {
                assert_eq!(before[label * d..(label + 1) * d], after[label * d..(label + 1) * d]);
            }
        }
        table.settle();
        // bf16 keeps eight bits: each of nine steps may be off by one in the last of them, up or down alike.
        let tolerance = if config.stored == Stored::F32 { 3e-6 } else { 4e-2 };
        let mut off = 0.0;
        for (i, &found) in weights(&table).iter().enumerate() {
            let want = twin(start[i], ADAM.weight_decay, &touches[i], lr);
            assert!((f64::from(found) - want).abs() < tolerance, "{config:?} {i}: {found} {want}");
            off += f64::from(found) - want;
        }
        assert!((off / (l * d) as f64).abs() < 1e-4, "{config:?}: off by {off} in the sum");
        for label in 0..l {
            let want = twin(first_biases[label], 0.0, &bias_touches[label], lr);
            assert!((f64::from(table.bias(label as u32)) - want).abs() < 3e-6, "{label}");
        }
    }
}

#[test]
fn steps_far_below_the_last_place_of_bf16_add_up() {
    let (l, d, steps) = (64, 32, 100);
    let adam = AdamWConfig { weight_decay: 0.0, ..ADAM };
    let mut table = LabelTable::new(l, d, TableConfig { adam, ..CONFIGS[3] }, Place::Memory).unwrap();
    table.fill(|_, row| row.fill(1.0));
    let lists = Lists::new(1, l, 1, |_, _| true);
    // The last place of 1 is 1/128 (1/256 below), a step 1e-4: rounded to the nearest nothing would ever move.
    for seed in 0..steps {
        table.step(&vec![1.0; d], &lists.pairs(), &vec![1.0; l], 1e-4, seed).unwrap();
    }
    let mean = weights(&table).iter().map(|&w| f64::from(w)).sum::<f64>() / (l * d) as f64;
    assert!((mean - 0.99).abs() < 5e-4, "{mean}");
}

/// A few steps of everything; the state at the end.
fn run(config: TableConfig, place: Place<'_>) -> Vec<u32> {
    let (b, l, d) = (21, 9000, 24);
    let mut table = table(l, d, config, place);
    let mut bits = Vec::new();
    for s in 0..3 {
        let lists = Lists::new(b, l, s, |text, label| chance(s + 60, text * l + label) > 0.9);
        let (x, mut z, mut dx) = (many(s, b * d), vec![0.0; lists.ids.len()], vec![0.0; b * d]);
        let slope = |_: usize, z: &mut [f32]| z.iter_mut().for_each(|z| *z = z.tanh());
        table.pass(&x, &lists.pairs(), &mut z, &mut dx, &slope).unwrap();
        table.step(&x, &lists.pairs(), &z, 0.01, s).unwrap();
        bits.extend(dx.iter().chain(&z).map(|v| v.to_bits()));
    }
    table.settle();
    bits.extend(table.state().iter().flat_map(|(_, run)| run.iter().map(|v| v.to_bits())));
    bits
}

#[test]
fn bits_depend_neither_on_threads_nor_on_the_place() {
    let pool = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
    let (one, two) = (pool(1), pool(2));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("table");
    for config in CONFIGS {
        let want = one.install(|| run(config, Place::Memory));
        assert!(want == two.install(|| run(config, Place::Memory)), "{config:?}");
        assert!(want == run(config, Place::File(&path)), "{config:?}");
        assert!(!path.exists());
    }
}

#[test]
fn a_restored_table_goes_on_to_the_bit() {
    let (b, l, d) = (4, 33, 7);
    for config in CONFIGS {
        let step = |table: &mut LabelTable, s: u64| {
            let lists = Lists::new(b, l, s, |text, label| chance(s, text * l + label) > 0.2);
            table.step(&many(s, b * d), &lists.pairs(), &lists.slopes, 0.1, s).unwrap();
        };
        let mut first = table(l, d, config, Place::Memory);
        (0..3).for_each(|s| step(&mut first, s));
        let mut second = LabelTable::new(l, d, config, Place::Memory).unwrap();
        let stored = first.state();
        let take = |name: &str| stored.iter().find(|(other, _)| *other == name).map(|(_, run)| run.to_vec());
        second.restore(take).unwrap();
        let error = second.restore(|name| take(name).filter(|_| name != "m")).unwrap_err().to_string();
        assert_eq!(error, "the stored state has no `m`");
        second.restore(take).unwrap();
        step(&mut first, 3);
        step(&mut second, 3);
        let bits = |table: &LabelTable| -> Vec<Vec<u32>> {
            table.state().iter().map(|(_, run)| run.iter().map(|v| v.to_bits()).collect()).collect()
        };
        assert_eq!((bits(&first), 4), (bits(&second), second.steps()));
        let mut other = LabelTable::new(l + 1, d, config, Place::Memory).unwrap();
        let error =
            other.restore(|name| first.state().iter().find(|(n, _)| *n == name).map(|(_, r)| r.to_vec()));
        assert!(error.unwrap_err().to_string().contains("is it the state of another model?"));
    }
}

#[test]
fn what_does_not_fit_is_an_error() {
    let mut table = table(5, 3, CONFIGS[0], Place::Memory);
    let mut message = |x: &[f32], indptr: &[usize], ids: &[u32], lr: f32| {
        let pairs = Pairs { indptr, ids };
        table.step(x, &pairs, &vec![1.0; ids.len()], lr, 0).map_err(|e| e.to_string()).unwrap_err()
    };
    assert!(
        message(&[0.0; 6], &[0, 2, 3], &[0, 5, 1], 0.1)
            .contains("labels of text 0 must rise and lie below 5")
    );
    assert!(message(&[0.0; 6], &[0, 2, 3], &[1, 1, 1], 0.1).contains("labels of text 0 must rise"));
    assert!(message(&[0.0; 6], &[0, 2, 4], &[0, 1, 1], 0.1).contains("rising from 0 to 3"));
    assert!(message(&[0.0; 5], &[0, 2, 3], &[0, 1, 1], 0.1).contains("5 numbers of texts"));
    assert!(message(&[0.0; 6], &[0, 2, 3], &[0, 1, 1], 3.0).contains("must stay below 1"));
    assert!(message(&[], &[], &[], 0.1).contains("0 offsets for 0 texts"));
    assert_eq!(table.steps(), 0);
    assert!(table.set_biases(&[0.0; 4]).is_err());
    let pairs = Pairs { indptr: &[0, 1], ids: &[1] };
    assert!(table.margins(&[0.0; 3], &pairs, &mut [0.0; 2]).is_err());
    assert!(table.pass(&[0.0; 3], &pairs, &mut [0.0], &mut [0.0; 2], &|_, _| {}).is_err());
    assert!(LabelTable::new(3, 0, CONFIGS[0], Place::Memory).is_err());
    assert!(LabelTable::new(usize::MAX / 8, 9, CONFIGS[0], Place::Memory).is_err());
    // No labels, no texts, no pairs are no error, and a step is a step.
    let mut none = LabelTable::new(0, 3, CONFIGS[3], Place::Memory).unwrap();
    none.step(&[0.0; 3], &Pairs { indptr: &[0, 0], ids: &[] }, &[], 0.1, 0).unwrap();
    none.margins(&[], &Pairs { indptr: &[0], ids: &[] }, &mut []).unwrap();
    none.settle();
    assert_eq!((none.steps(), none.bias(7)), (1, 0.0));
}
