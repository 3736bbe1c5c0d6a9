//! Is the index that of the golden files, forwards and backwards?

use serde::Deserialize;
use xmc_nn::Device;

use super::super::super::graph::PAD;
use super::super::super::paths::Paths;
use super::*;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[allow(non_snake_case)]
struct Case {
    stage: u32,
    train: bool,
    emb: Vec<Vec<f32>>,
    WC_weight: Vec<Vec<f32>>,
    WC_bias: Vec<f32>,
    WL_weight: Vec<Vec<f32>>,
    WL_bias: Vec<f32>,
    alpha: f32,
    beta: f32,
    beam: usize,
    K: usize,
    num_labels: u32,
    A_inds: Vec<Vec<u32>>,
    A_param: Option<Vec<Vec<f32>>>,
    y_inds: Vec<Vec<u32>>,
    cluster_scores: Vec<Vec<f32>>,
    cluster_shortlist_inds: Vec<Vec<u32>>,
    cluster_shortlist_vals: Vec<Vec<f32>>,
    label_shortlist_inds: Vec<Vec<u32>>,
    label_shortlist_vals: Vec<Vec<f32>>,
    topk_inds: Vec<Vec<u32>>,
    topk_vals: Vec<Vec<f32>>,
    loss_lambda: Option<f32>,
    loss: Option<f64>,
    loss_classification: Option<f64>,
    loss_shortlist: Option<f64>,
    grads: Option<Gradients>,
}

#[derive(Deserialize)]
#[allow(non_snake_case)]
struct Gradients {
    emb: Vec<Vec<f32>>,
    WC_weight: Vec<Vec<f32>>,
    WC_bias: Vec<f32>,
    WL_weight: Vec<Vec<f32>>,
    WL_bias: Vec<f32>,
    A_param: Option<Vec<Vec<f32>>>,
}

fn golden() -> Vec<Case> {
    let golden: Golden =
        serde_json::from_str(include_str!("../../../../../tests/golden/elias_forward.json")).unwrap();
    golden.cases
}

impl Case {
    fn index(&self) -> Index {
        let labels = self.num_labels as usize;
        let graph = if let Some(logits) = &self.A_param {
            let indptr = (0..=logits.len()).map(|c| c * logits[0].len()).collect();
            let ids = self.A_inds.iter().flatten().map(|&l| if l == self.num_labels { PAD } else { l });
            let ids = ids.collect();
            Graph::from_parts(labels, indptr, ids, Some((logits.concat(), self.beta))).unwrap()
        } else {
            let mut of_label = vec![PAD; labels];
            for (c, ids) in (0..).zip(&self.A_inds) {
                ids.iter().filter(|&&l| l < self.num_labels).for_each(|&l| of_label[l as usize] = c);
            }
            Graph::fixed(&of_label, self.A_inds.len()).unwrap()
        };
        let config =
            IndexConfig { alpha: self.alpha, beam: self.beam, shortlist: self.K, ..IndexConfig::default() };
        let dim = self.emb[0].len();
        let mut index = Index::new(graph, dim, &config, &options(Precision::F32)).unwrap();
        let rows = self.WC_weight.iter().zip(&self.WC_bias);
        let weights: Vec<f32> = rows.flat_map(|(w, b)| w.iter().copied().chain([*b])).collect();
        index.set_clusters(&weights).unwrap();
        index.labels_mut().fill(|l, row| row.copy_from_slice(&self.WL_weight[l as usize]));
        index.labels_mut().set_biases(&self.WL_bias[..labels]).unwrap();
        index
    }

    fn x(&self) -> Tensor {
        Tensor::from_host(self.emb.len(), self.emb[0].len(), self.emb.concat(), Device::Cpu).unwrap()
    }

    /// Paths as they are in the file: clusters of a row drawn twice lead to their labels twice. The first copies of
    /// labels, or the second ones; those of the K best, or all others.
    fn paths(&self, index: &Index, copy: usize, among_best: bool) -> Paths {
        let logits = index.clusters.logits(self.x().host());
        let mut paths = Paths::new();
        for (i, logits) in logits.chunks_exact(index.graph.clusters()).enumerate() {
            let normaliser = beam::normaliser(logits);
            let shift = self.alpha.ln() - normaliser;
            let row = self.cluster_shortlist_inds[i].iter();
            let chosen: Vec<beam::Chosen> =
                row.map(|&c| beam::Chosen { cluster: c, raw: shift + logits[c as usize] }).collect();
            // (label, cluster of the row, edge, log score), best first as the file has them.
            let mut found: Vec<(u32, u32, u32, f32)> = Vec::new();
            for (slot, chosen) in (0..).zip(&chosen) {
                let list = index.graph.list(chosen.cluster, chosen.log_score());
                for label in index.graph.edges(chosen.cluster).iter().filter(|label| **label != PAD) {
                    let (edge, value) = list.find(*label).unwrap();
                    found.push((*label, slot, edge, value));
                }
            }
            found.sort_by(|a, b| b.3.total_cmp(&a.3));
            let mut seen = vec![0; self.num_labels as usize];
            let mut copies = Vec::new();
            for path in found {
                seen[path.0 as usize] += 1;
                // Stage 2 drops later copies.
                if self.stage == 1 || seen[path.0 as usize] == 1 {
                    copies.push((path, seen[path.0 as usize]));
                }
            }
            // Of equal scores the file has those that its sorting came upon.
            let best = |label: u32| self.topk_inds[i].iter().filter(|l| **l == label).count();
            let wanted =
                |(path, n): &((u32, u32, u32, f32), usize)| *n == copy && (*n <= best(path.0)) == among_best;
            let mut row: Vec<(u32, u32, u32, f32)> =
                copies.into_iter().filter(wanted).map(|(path, _)| path).collect();
            row.sort_by_key(|path| path.0);
            for (label, slot, edge, value) in row {
                paths.labels.push(label);
                paths.slots.push(slot);
                paths.edges.push(edge);
                paths.log_scores.push(value);
                paths.targets.push(f32::from(u8::from(self.y_inds[i].contains(&label))));
            }
            paths.indptr.push(paths.labels.len());
            paths.chosen.extend(chosen);
            paths.chosen_indptr.push(paths.chosen.len());
            paths.normalisers.push(normaliser);
        }
        paths
    }
}

#[test]
fn a_search_is_that_of_the_golden_file() {
    for case in golden().iter().filter(|case| !case.train) {
        let (index, x) = (case.index(), case.x());
        let all = index.best_clusters(&x, Some(case.A_inds.len())).unwrap();
        let best = index.best_clusters(&x, None).unwrap();
        let top = index.predict(&x, case.K, None, None).unwrap();
        let met = index.shortlist(&x, Some(1000), None).unwrap();
        for i in 0..x.rows() {
            for &(c, score) in all.row(i) {
                assert!((score - case.cluster_scores[i][c as usize]).abs() < 1e-5);
            }
            let ids: Vec<u32> = best.row(i).iter().map(|cluster| cluster.0).collect();
            assert_eq!(ids, case.cluster_shortlist_inds[i]);
            let scores: Vec<f32> = best.row(i).iter().map(|cluster| cluster.1).collect();
            close(&scores, &case.cluster_shortlist_vals[i], 1e-5, "clusters");

            let by_label = |ids: &[u32], values: &[f32]| {
                let pairs = ids.iter().copied().zip(values.iter().copied());
                let mut pairs: Vec<(u32, f32)> = pairs.filter(|(l, _)| *l < case.num_labels).collect();
                pairs.sort_by_key(|pair| pair.0);
                pairs.into_iter().unzip::<u32, f32, Vec<u32>, Vec<f32>>()
            };
            let want = by_label(&case.label_shortlist_inds[i], &case.label_shortlist_vals[i]);
            let range = met.indptr[i]..met.indptr[i + 1];
            assert_eq!(met.labels[range.clone()], want.0);
            let scores: Vec<f32> = met.log_scores[range].iter().map(|s| s.exp()).collect();
            close(&scores, &want.1, 1e-5, "paths");
            let want = by_label(&case.topk_inds[i], &case.topk_vals[i]);
            let (ids, scores): (Vec<u32>, Vec<f32>) = top.row(i).iter().copied().unzip();
            let found = by_label(&ids, &scores);
            assert_eq!(found.0, want.0);
            close(&found.1, &want.1, 1e-5, "labels");
        }
    }
}

#[test]
fn losses_and_all_gradients_are_those_of_the_golden_file() {
    for case in golden().iter().filter(|case| case.train) {
        let (index, x) = (case.index(), case.x());
        let counts = |shortlist_count| Scale {
            rows_of_step: 3,
            shortlist_count,
            positives_count: 3,
            lambda: case.loss_lambda.unwrap(),
        };
        let mut parts = Vec::new();
        for copy in [1, 2] {
            // The original scores the K best alone; the others have the shortlist loss only.
            for (among_best, scale) in [(true, counts(case.K)), (false, counts(usize::MAX))] {
                let paths = case.paths(&index, copy, among_best);
                let logits = index.clusters.logits(x.host());
                parts.push(index.scored(&x, logits, &paths, scale).unwrap());
            }
        }
        let sum = |f: fn(&Part) -> f64| parts.iter().map(f).sum::<f64>();
        for (found, want) in [
            (sum(|part| part.loss), case.loss),
            (sum(|part| part.classification), case.loss_classification),
            (sum(|part| part.shortlist), case.loss_shortlist),
        ] {
            assert!((found - want.unwrap()).abs() < 1e-5, "stage {}: {found} {want:?}", case.stage);
        }
        let want = case.grads.as_ref().unwrap();
        let mut dx = vec![0.0; x.host().len()];
        for part in &parts {
            dx.iter_mut().zip(part.dx.host()).for_each(|(sum, v)| *sum += v);
        }
        close(&dx, &want.emb.concat(), 1e-5, "x");
        let gradients: Vec<&PartGradients> = parts.iter().map(|part| &part.gradients).collect();
        let [clusters, edges, labels] = dense(&index, &x, &gradients);
        let with_bias = |weights: &[Vec<f32>], biases: &[f32]| {
            let rows = weights.iter().zip(biases);
            rows.flat_map(|(w, b)| w.iter().copied().chain([*b])).collect::<Vec<f32>>()
        };
        close(&clusters, &with_bias(&want.WC_weight, &want.WC_bias), 1e-5, "clusters");
        let n = case.num_labels as usize;
        close(&labels, &with_bias(&want.WL_weight[..n], &want.WL_bias[..n]), 1e-5, "classifiers");
        if let Some(want) = &want.A_param {
            close(&edges, &want.concat(), 1e-5, "edges");
        }
    }
}
