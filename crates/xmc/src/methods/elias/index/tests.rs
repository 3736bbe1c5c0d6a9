use proptest::prelude::*;
use xmc_nn::Device;

use super::*;

mod golden;

/// A number from -1 to 1 that depends on i and nothing else.
fn wave(i: usize) -> f32 {
    ((i as f32 + 0.3) * 12.9898).sin() * 0.99
}

fn options(precision: Precision) -> IndexOptions {
    IndexOptions { precision, seed: 3, ..IndexOptions::default() }
}

/// The adjacency of `clusters` clusters, in which label l hangs on clusters l and 2 l + 1, and some more.
fn adjacency(clusters: usize, labels: usize) -> Csr {
    let mut rows = vec![Vec::new(); clusters];
    for l in 0..labels {
        for c in [l % clusters, (2 * l + 1) % clusters, (l * l + 3) % clusters] {
            if !rows[c].contains(&(l as u32)) {
                rows[c].push(l as u32);
            }
        }
    }
    for row in &mut rows {
        row.sort_unstable();
    }
    let mut indptr = vec![0];
    indptr.extend(rows.iter().scan(0, |end, row| {
        *end += row.len() as u64;
        Some(*end)
    }));
    let indices = rows.concat();
    let values = vec![1.0; indices.len()];
    Csr::new(clusters, labels, indptr, indices, values).unwrap()
}

/// An index with weights everywhere.
fn index(clusters: usize, labels: usize, dim: usize, config: &IndexConfig) -> Index {
    let graph = Graph::learned(&adjacency(clusters, labels), config.beta, 5).unwrap();
    let mut index = Index::new(graph, dim, config, &options(Precision::F32)).unwrap();
    index.labels_mut().fill(|l, row| {
        row.iter_mut().enumerate().for_each(|(j, w)| *w = wave(l as usize * 31 + j));
    });
    let biases: Vec<f32> = (0..labels).map(|l| wave(l * 7) - 0.5).collect();
    index.labels_mut().set_biases(&biases).unwrap();
    let weights: Vec<f32> = (0..clusters * (dim + 1)).map(|i| 1.5 * wave(i * 3 + 1)).collect();
    index.set_clusters(&weights).unwrap();
    index
}

fn embeddings(rows: usize, dim: usize) -> Tensor {
    let values = (0..rows * dim).map(|i| wave(i * 5 + 2)).collect();
    Tensor::from_host(rows, dim, values, Device::Cpu).unwrap()
}

/// Labels of rows: none for every fifth, up to three for the others.
fn targets(rows: usize, labels: usize) -> Csr {
    let (mut indptr, mut indices) = (vec![0u64], Vec::new());
    for i in 0..rows {
        if i % 5 != 4 {
            let mut row: Vec<u32> = (0..=i % 3).map(|j| ((i * 7 + j * 11) % labels) as u32).collect();
            row.sort_unstable();
            row.dedup();
            indices.extend(row);
        }
        indptr.push(indices.len() as u64);
    }
    let values = (0..indices.len()).map(|i| if i % 4 == 3 { 0.5 } else { 1.0 }).collect::<Vec<f32>>();
    Csr::new(rows, labels, indptr, indices, values).unwrap()
}

fn part_of(x: &Tensor, y: &Csr, rows: std::ops::Range<usize>) -> (Tensor, Csr) {
    let values = x.host()[rows.start * x.cols()..rows.end * x.cols()].to_vec();
    let ids: Vec<u32> = (rows.start as u32..rows.end as u32).collect();
    (Tensor::from_host(ids.len(), x.cols(), values, Device::Cpu).unwrap(), y.select_rows(&ids))
}

fn close(found: &[f32], want: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), want.len(), "{what}");
    for (i, (found, want)) in found.iter().zip(want).enumerate() {
        assert!((found - want).abs() < tolerance, "{what}[{i}]: {found} {want}");
    }
}

/// Gradients of everything, dense: clusters `[C, d + 1]`, edges, classifiers `[L, d + 1]`.
fn dense(index: &Index, x: &Tensor, parts: &[&PartGradients]) -> [Vec<f32>; 3] {
    let (d, clusters) = (x.cols(), index.graph.clusters());
    let mut of_clusters = vec![0.0; clusters * (d + 1)];
    let mut of_labels = vec![0.0; index.graph.labels() * (d + 1)];
    for part in parts {
        for i in 0..part.rows() {
            let row: Vec<f32> = x.host()[i * d..(i + 1) * d].iter().copied().chain([1.0]).collect();
            for c in 0..clusters {
                let slope = part.cluster_slopes[i * clusters + c];
                row.iter().enumerate().for_each(|(j, x)| of_clusters[c * (d + 1) + j] += slope * x);
            }
            for at in part.indptr[i]..part.indptr[i + 1] {
                let (label, slope) = (part.labels[at] as usize, part.label_slopes[at]);
                row.iter().enumerate().for_each(|(j, x)| of_labels[label * (d + 1) + j] += slope * x);
            }
        }
    }
    let (touched, grads) = edge_slopes::gradients(&index.graph, parts.iter().map(|part| &part.edge_slopes));
    let mut of_edges = vec![0.0; index.graph.ids().len()];
    let mut rest = grads.as_slice();
    for c in touched {
        let (begin, end) = (index.graph.indptr()[c as usize], index.graph.indptr()[c as usize + 1]);
        of_edges[begin..end].copy_from_slice(&rest[..end - begin]);
        rest = &rest[end - begin..];
    }
    [of_clusters, of_edges, of_labels]
}

/// An index whose paths do not change with small steps: every label is met.
fn whole() -> (Index, Tensor, Csr, Scale) {
    let config = IndexConfig { alpha: 3.0, beta: 4.0, beam: 6, shortlist: 100, ..IndexConfig::default() };
    let (index, x, y) = (index(6, 13, 4, &config), embeddings(7, 4), targets(7, 13));
    (index, x, y, Scale { rows_of_step: 9, shortlist_count: 13, positives_count: 3, lambda: 0.3 })
}

#[test]
fn gradients_are_the_slopes_of_the_loss() {
    let (index, x, y, scale) = whole();
    let part = index.part(&x, &y, scale).unwrap();
    let loss = |index: &Index, x: &Tensor| index.part(x, &y, scale).unwrap().loss;
    let near = |found: f32, above: f64, below: f64, step: f32, what: &str| {
        let want = ((above - below) / f64::from(2.0 * step)) as f32;
        assert!((found - want).abs() < 2e-4 + 1e-2 * want.abs(), "{what}: {found} {want}");
    };
    let step = 1.0 / 256.0;
    for i in 0..x.host().len() {
        let moved = |by: f32| {
            let mut moved = x.clone();
            moved.host_mut()[i] += by;
            loss(&index, &moved)
        };
        near(part.dx.host()[i], moved(step), moved(-step), step, "x");
    }
    let [clusters, edges, labels] = dense(&index, &x, &[&part.gradients]);
    assert!(edges.iter().any(|g| g.abs() > 1e-3) && clusters.iter().any(|g| g.abs() > 1e-3));
    for i in 0..clusters.len() {
        let moved = |by: f32| {
            let (mut moved, ..) = whole();
            let mut weights = moved.clusters().to_vec();
            weights[i] += by;
            moved.set_clusters(&weights).unwrap();
            loss(&moved, &x)
        };
        near(clusters[i], moved(step), moved(-step), step, "clusters");
    }
    for i in 0..edges.len() {
        let moved = |by: f32| {
            let (mut moved, ..) = whole();
            moved.graph.logits_mut().unwrap()[i] += by;
            moved.graph.refresh_all();
            loss(&moved, &x)
        };
        near(edges[i], moved(step), moved(-step), step, "edges");
    }
    for l in 0..13 {
        for j in 0..5 {
            let moved = |by: f32| {
                let (mut moved, ..) = whole();
                if j == 4 {
                    let biases: Vec<f32> =
                        (0..13).map(|at| moved.labels.bias(at) + if at == l { by } else { 0.0 }).collect();
                    moved.labels_mut().set_biases(&biases).unwrap();
                } else {
                    moved.labels_mut().fill(|at, row| row[j] += if at == l { by } else { 0.0 });
                }
                loss(&moved, &x)
            };
            near(labels[l as usize * 5 + j], moved(step), moved(-step), step, "classifiers");
        }
    }
}

#[test]
fn scores_that_are_held_at_one_give_no_gradient_and_those_just_at_one_do() {
    // One cluster: its softmax is 1, and alpha decides where its score is.
    let config = |alpha| IndexConfig { alpha, beta: 0.5, beam: 1, ..IndexConfig::default() };
    let slopes = |alpha| {
        let graph = Graph::learned(&adjacency(1, 3), 0.5, 1).unwrap();
        let index = Index::new(graph, 2, &config(alpha), &options(Precision::F32)).unwrap();
        let (x, y) = (embeddings(1, 2), targets(1, 3));
        let logits = index.clusters.logits(x.host());
        let paths = index.search(None, None).paths(&logits, Some((&y, &index.parents)));
        let raw = paths.chosen[0].raw;
        let part = index.part(&x, &y, index.scale(1, 1, 0.1)).unwrap();
        (raw, part.gradients.edge_slopes, part.gradients.cluster_slopes)
    };
    assert_eq!(slopes(1.0).0, 0.0);
    assert!(slopes(2.0).0 > 0.0);
    // With two clusters the sum that goes back is seen: g (1 - softmax) of an open one, 0 of a held one.
    let graph = || Graph::fixed(&[0, 0, 1], 2).unwrap();
    for (alpha, open) in [(1.0, true), (2.0, true), (2.5, false)] {
        let mut index = Index::new(graph(), 2, &config(alpha), &options(Precision::F32)).unwrap();
        index.set_clusters(&[0.0; 6]).unwrap();
        let part = index.part(&embeddings(1, 2), &targets(1, 3), index.scale(1, 1, 0.1)).unwrap();
        // softmax = 1/2: exactly at one with alpha = 2.
        let moves = part.gradients.cluster_slopes.iter().any(|g| *g != 0.0);
        assert_eq!(moves, open, "alpha {alpha}");
    }
}

#[test]
fn gradients_stay_finite_where_scores_vanish_and_sigmoids_saturate() {
    let config = IndexConfig { alpha: 2.0, beta: 2.0, beam: 2, shortlist: 4, ..IndexConfig::default() };
    let mut index = index(6, 13, 4, &config);
    let weights: Vec<f32> = (0..30).map(|i| 300.0 * wave(i)).collect();
    index.set_clusters(&weights).unwrap();
    index.labels_mut().fill(|l, row| row.fill(200.0 * wave(l as usize)));
    index.graph.logits_mut().unwrap().iter_mut().enumerate().for_each(|(i, a)| *a = 150.0 * wave(i));
    index.graph.refresh_all();
    let (x, y) = (embeddings(9, 4), targets(9, 13));
    let part = index.part(&x, &y, index.scale(9, 3, 0.5)).unwrap();
    assert!(part.loss.is_finite() && part.loss > 0.0);
    let [clusters, edges, labels] = dense(&index, &x, &[&part.gradients]);
    for values in [part.dx.host(), &clusters, &edges, &labels] {
        assert!(values.iter().all(|v| v.is_finite()), "{values:?}");
    }
    index.apply(x.host(), &[part.gradients], Rates { clusters: 0.1, labels: 0.1 }, 1).unwrap();
    assert!(index.part(&x, &y, index.scale(9, 3, 0.5)).unwrap().loss.is_finite());
}

#[test]
fn every_label_of_a_row_that_has_an_edge_is_met() {
    // Few clusters, few labels: most own labels are behind the K best.
    let config = IndexConfig { beam: 1, shortlist: 2, ..IndexConfig::default() };
    let index = index(12, 90, 4, &config);
    let (x, y) = (embeddings(40, 4), targets(40, 90));
    let logits = index.clusters.logits(x.host());
    let paths = index.search(None, None).paths(&logits, Some((&y, &index.parents)));
    for i in 0..40 {
        let labels = &paths.labels[paths.indptr[i]..paths.indptr[i + 1]];
        assert!(labels.is_sorted_by(|a, b| a < b));
        for (label, value) in y.row(i).iter() {
            let at = labels.binary_search(&label).expect("a label of the row");
            assert_eq!(paths.targets[paths.indptr[i] + at], value);
        }
        let own = y.row(i).len();
        assert!((2..=2 + own).contains(&labels.len()));
        let targets = &paths.targets[paths.indptr[i]..paths.indptr[i + 1]];
        assert_eq!(targets.iter().filter(|t| **t > 0.0).count(), own);
    }
    // Path by path: the score is that of cluster and edge.
    let mut values = Vec::new();
    for i in 0..40 {
        for at in paths.indptr[i]..paths.indptr[i + 1] {
            let chosen = paths.chosen(i)[paths.slots[at] as usize];
            index.graph.log_values(chosen.cluster, &mut values);
            let edge = paths.edges[at] as usize;
            assert_eq!(index.graph.edges(chosen.cluster)[edge], paths.labels[at]);
            assert_eq!(paths.log_scores[at], chosen.log_score() + values[edge]);
        }
    }
}

#[test]
fn parts_of_a_step_add_up_and_move_the_index_as_one() {
    let config = IndexConfig { alpha: 3.0, beta: 4.0, beam: 3, shortlist: 9, ..IndexConfig::default() };
    let (x, y) = (embeddings(21, 4), targets(21, 30));
    let run = |cuts: &[usize], threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut index = index(8, 30, 4, &config);
            let mut losses = Vec::new();
            for step in 0..4 {
                let scale = index.scale(21, 3, 0.2);
                let parts: Vec<Part> = cuts
                    .windows(2)
                    .map(|cut| {
                        let (x, y) = part_of(&x, &y, cut[0]..cut[1]);
                        index.part(&x, &y, scale).unwrap()
                    })
                    .collect();
                losses.push(parts.iter().map(|part| part.loss).sum::<f64>());
                let parts: Vec<PartGradients> = parts.into_iter().map(|part| part.gradients).collect();
                index.apply(x.host(), &parts, Rates { clusters: 0.02, labels: 0.05 }, step).unwrap();
                index.renew_parents();
            }
            index.settle().unwrap();
            let state: Vec<(String, Vec<f32>)> =
                index.state().into_iter().map(|(name, run)| (name, run.to_vec())).collect();
            (losses, state)
        })
    };
    let bits = |run: &(Vec<f64>, Vec<(String, Vec<f32>)>)| {
        run.1.iter().flat_map(|(_, run)| run.iter().map(|v| v.to_bits())).collect::<Vec<u32>>()
    };
    let one = run(&[0, 21], 1);
    assert!(one.0.is_sorted_by(|a, b| a > b), "the loss falls: {:?}", one.0);
    assert_eq!(bits(&one), bits(&run(&[0, 21], 3)));
    let cut = [0, 2, 11, 21];
    assert_eq!(bits(&run(&cut, 1)), bits(&run(&cut, 2)));
    // In parts, sums have another order; but they are the same sums.
    let parts = run(&cut, 2);
    for ((name, a), (_, b)) in one.1.iter().zip(&parts.1).filter(|(a, _)| !a.0.contains('.')) {
        close(a, b, 2e-3, name);
    }
    for (a, b) in one.0.iter().zip(&parts.0) {
        assert!((a - b).abs() < 1e-4 * a, "{a} {b}");
    }
}

#[test]
fn a_restored_index_goes_on_to_the_bit() {
    let config = IndexConfig { alpha: 3.0, beta: 4.0, beam: 3, shortlist: 9, ..IndexConfig::default() };
    let (x, y) = (embeddings(20, 4), targets(20, 30));
    let step = |index: &mut Index, seed| {
        let part = index.part(&x, &y, index.scale(20, 3, 0.2)).unwrap();
        index.apply(x.host(), &[part.gradients], Rates { clusters: 0.02, labels: 0.05 }, seed).unwrap();
        part.loss
    };
    let mut index_a = index(8, 30, 4, &config);
    step(&mut index_a, 0);
    // Parents are those of the beginning of the epoch, not those of the edges as they are.
    let saved: Vec<(String, Vec<f32>)> =
        index_a.state().into_iter().map(|(name, run)| (name, run.to_vec())).collect();
    let take = |wanted: &str| saved.iter().find(|(name, _)| name == wanted).map(|(_, run)| run.clone());
    let mut index_b = index(8, 30, 4, &config);
    index_b.restore(take).unwrap();
    for seed in 1..4 {
        assert_eq!(step(&mut index_a, seed).to_bits(), step(&mut index_b, seed).to_bits());
    }
    let bits = |index: &Index| {
        index.state().iter().flat_map(|(_, run)| run.iter().map(|v| v.to_bits())).collect::<Vec<u32>>()
    };
    assert_eq!(bits(&index_a), bits(&index_b));
    for name in ["parents", "edges", "clusters", "labels.weights", "edges.adamw.m"] {
        let mut other = index(8, 30, 4, &config);
        assert!(other.restore(|wanted| if wanted == name { None } else { take(wanted) }).is_err(), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn with_all_clusters_and_labels_a_search_is_a_walk_over_all_paths(
        seed in 0usize..1000, clusters in 1usize..9, labels in 1usize..40, k in 1usize..12,
    ) {
        let config = IndexConfig { alpha: 2.0, beta: 3.0, ..IndexConfig::default() };
        let mut index = index(clusters, labels, 3, &config);
        let weights: Vec<f32> = (0..clusters * 4).map(|i| 2.0 * wave(i + seed)).collect();
        index.set_clusters(&weights).unwrap();
        let x = embeddings(3, 3);
        let top = index.predict(&x, k, Some(labels), Some(clusters)).unwrap();
        for i in 0..3 {
            let x = &x.host()[i * 3..][..3];
            let dot = |w: &[f32]| {
                w.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum::<f64>()
            };
            let logits: Vec<f64> = weights.chunks(4).map(|w| dot(&w[..3]) + f64::from(w[3])).collect();
            let sum: f64 = logits.iter().map(|z| z.exp()).sum();
            let mut best = vec![0f64; labels];
            for c in 0..clusters {
                let s_c = (2.0 * logits[c].exp() / sum).min(1.0);
                let range = index.graph.indptr()[c]..index.graph.indptr()[c + 1];
                let a = &index.graph.logits().unwrap()[range];
                let sum: f64 = a.iter().map(|a| f64::from(*a).exp()).sum();
                for (label, a) in index.graph.edges(c as u32).iter().zip(a) {
                    let mut row = [0.0; 3];
                    index.labels.row(*label, &mut row);
                    let z = dot(&row) + f64::from(index.labels.bias(*label));
                    let p = s_c * (3.0 * f64::from(*a).exp() / sum).min(1.0) / (1.0 + (-z).exp());
                    best[*label as usize] = best[*label as usize].max(p);
                }
            }
            let mut want = best.clone();
            want.sort_by(|a, b| b.total_cmp(a));
            prop_assert_eq!(top.row(i).len(), k.min(labels));
            for ((label, p), want) in top.row(i).iter().zip(want) {
                prop_assert!((f64::from(*p) - want).abs() < 1e-5 * want + 1e-9);
                prop_assert!((best[*label as usize] - want).abs() < 1e-5 * want + 1e-9);
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let config = IndexConfig::default();
    let mut index = index(4, 9, 4, &config);
    let scale = index.scale(2, 1, 0.1);
    let wrong = [
        index.part(&embeddings(2, 3), &targets(2, 9), scale).unwrap_err().to_string(),
        index.part(&embeddings(2, 4), &targets(2, 8), scale).unwrap_err().to_string(),
        index.apply(&[0.0; 4], &[], Rates { clusters: 0.1, labels: 0.1 }, 0).unwrap_err().to_string(),
    ];
    assert!(wrong[0].contains("expected [2, 4]"), "{}", wrong[0]);
    assert!(wrong[1].contains("for an index of 9 labels"), "{}", wrong[1]);
    assert!(wrong[2].contains("expected [0, 4]"), "{}", wrong[2]);
    let graph = Graph::fixed(&[], 3).unwrap();
    assert!(Index::new(graph, 4, &config, &options(Precision::F32)).is_err());
}
