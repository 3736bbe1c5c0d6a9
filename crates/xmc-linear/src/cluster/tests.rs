//! Balanced trees against recorded groups, and the properties that every tree must have.

use proptest::collection::vec;
use proptest::prelude::*;
use xmc_data::{Csr, CsrBuilder, Dense};

use super::*;

const GOLDEN: &str = include_str!("../../tests/golden/balanced_kmeans.json");
const PECOS: &str = include_str!("../../tests/golden/pecos_tree.json");

fn sparse(rows: &[Vec<f32>]) -> Features {
    let mut b = CsrBuilder::new();
    for row in rows {
        b.push(row.iter().enumerate().filter(|(_, v)| **v != 0.0).map(|(c, &v)| (c as u32, v)));
    }
    b.finish(rows.first().map_or(0, Vec::len)).unwrap().into()
}

fn dense(rows: &[Vec<f32>]) -> Features {
    let block = Dense::new(rows.len(), rows[0].len(), rows.concat()).unwrap();
    Features::new(Csr::empty(rows.len(), 0), Some(block)).unwrap()
}

/// Group of every label at the level above the labels.
fn groups(tree: &Tree) -> Vec<u32> {
    let parents = tree.parents(tree.depth());
    let mut groups = vec![u32::MAX; tree.num_labels()];
    for (&label, &parent) in tree.labels().iter().zip(&parents) {
        groups[label as usize] = parent;
    }
    groups
}

/// `num_labels` rows with Zipf-like features; every seventh row is empty and every fifth equals the row before.
fn zipf(num_labels: usize, cols: u32) -> Features {
    let mut state = 1u64;
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f32 / (1u64 << 31) as f32
    };
    let (mut rows, mut last) = (CsrBuilder::new(), Vec::new());
    for i in 0..num_labels {
        if i % 5 != 0 {
            last = (0..12).map(|_| ((cols as f32).powf(draw()) as u32 % cols, draw())).collect();
        }
        rows.push(if i % 7 == 3 { Vec::new() } else { last.clone() });
    }
    let mut z = rows.finish(cols as usize).unwrap();
    z.normalize_rows();
    z.into()
}

fn with_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

#[test]
fn groups_equal_the_recorded_ones() {
    let golden: serde_json::Value = serde_json::from_str(GOLDEN).unwrap();
    for case in golden["cases"].as_array().unwrap() {
        let rows: Vec<Vec<f32>> = serde_json::from_value(case["features"].clone()).unwrap();
        let expected: Vec<u32> = serde_json::from_value(case["codes_scaling_rng"].clone()).unwrap();
        let config = ClusterConfig {
            max_leaf_size: serde_json::from_value(case["max_leaf"].clone()).unwrap(),
            max_iterations: serde_json::from_value(case["max_iter"].clone()).unwrap(),
            spherical: serde_json::from_value(case["spherical"].clone()).unwrap(),
            ..ClusterConfig::default()
        };
        let seed = serde_json::from_value(case["seed"].clone()).unwrap();
        for z in [sparse(&rows), dense(&rows)] {
            let tree = build_tree(&z, &config, seed).unwrap();
            assert_eq!(groups(&tree), expected, "{}", case["name"]);
        }
    }
}

#[test]
fn groups_equal_those_of_libpecos() {
    #[derive(serde::Deserialize)]
    struct Case {
        max_leaf_size: usize,
        spherical: bool,
        seed: u64,
        rows: Vec<Vec<f32>>,
        codes: Vec<u32>,
    }
    let golden: serde_json::Value = serde_json::from_str(PECOS).unwrap();
    let cases: Vec<Case> = serde_json::from_value(golden["codes"].clone()).unwrap();
    assert_eq!(cases.len(), 5);
    for Case { max_leaf_size, spherical, seed, rows, codes } in cases {
        let config = ClusterConfig { max_leaf_size, spherical, ..ClusterConfig::default() };
        let tree = build_tree(&sparse(&rows), &config, seed).unwrap();
        assert_eq!(groups(&tree), codes, "{} labels, seed {seed}", rows.len());
    }
}

#[test]
fn levels_are_as_wide_as_those_of_libpecos() {
    type Case = (usize, usize, usize, usize, Option<Vec<usize>>);
    let golden: serde_json::Value = serde_json::from_str(PECOS).unwrap();
    let cases: Vec<Case> = serde_json::from_value(golden["shapes"].clone()).unwrap();
    for (num_labels, max_leaf_size, branching, min_codes, widths) in cases {
        let base = ClusterConfig { max_iterations: 1, ..ClusterConfig::default() };
        let config = ClusterConfig { branching, max_leaf_size, min_codes, ..base };
        let tree = build_tree(&zipf(num_labels, 20), &config, 0);
        let found = tree.ok().map(|tree| (1..=tree.depth()).map(|t| tree.width(t)).collect::<Vec<_>>());
        assert_eq!(found, widths, "{num_labels} labels, {config:?}");
    }
}

#[test]
fn one_and_two_and_four_threads_grow_the_same_tree() {
    // Large enough that the work inside the first groups is divided too.
    let z = zipf(20_000, 5_000);
    let dense = Dense::new(20_000, 3, (0..60_000).map(|i| (i as f32).sin()).collect::<Vec<_>>()).unwrap();
    let z = Features::new(z.into_parts().0, Some(dense)).unwrap();
    for method in [Method::Balanced, Method::Unbalanced] {
        let base = ClusterConfig { method, unbalanced_branching: 20, ..ClusterConfig::default() };
        let config = ClusterConfig { max_leaf_size: 40, max_iterations: 4, ..base };
        let tree = |threads| with_threads(threads, || build_tree(&z, &config, 5).unwrap());
        let one = tree(1);
        assert_eq!(one, tree(2));
        assert_eq!(one, tree(4));
        assert_ne!(one, build_tree(&z, &config, 6).unwrap());
    }
}

#[test]
fn few_labels_give_a_flat_tree() {
    let config = ClusterConfig { max_leaf_size: 10, ..ClusterConfig::default() };
    assert_eq!(build_tree(&zipf(10, 50), &config, 0).unwrap(), Tree::flat(10));
    assert_eq!(build_tree(&zipf(1, 50), &config, 0).unwrap(), Tree::flat(1));
    assert_eq!(build_tree(&zipf(11, 50), &config, 0).unwrap().depth(), 2);
}

#[test]
fn two_labels_can_be_divided() {
    let config = ClusterConfig { max_leaf_size: 1, ..ClusterConfig::default() };
    let tree = build_tree(&sparse(&[vec![1.0, 0.0], vec![0.0, 1.0]]), &config, 0).unwrap();
    assert_eq!((tree.width(1), tree.width(2)), (2, 2));
}

#[test]
fn rows_without_any_difference_are_divided_in_order_of_labels() {
    for row in [vec![0.0, 0.0], vec![0.6, 0.8]] {
        let z = sparse(&vec![row; 9]);
        let config = ClusterConfig { max_leaf_size: 3, ..ClusterConfig::default() };
        let tree = build_tree(&z, &config, 0).unwrap();
        assert_eq!(tree.labels(), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    }
}

#[test]
fn similar_rows_end_up_together() {
    let near = |i: usize| 0.01 * i as f32;
    let rows: Vec<Vec<f32>> =
        (0..8).map(|i| if i % 2 == 0 { vec![1.0, near(i)] } else { vec![near(i), 1.0] }).collect();
    let config = ClusterConfig { max_leaf_size: 4, ..ClusterConfig::default() };
    let groups = groups(&build_tree(&sparse(&rows), &config, 1).unwrap());
    assert!((0..8).all(|i| groups[i] == groups[i % 2]) && groups[0] != groups[1]);
}

#[test]
fn groups_that_cannot_be_filled_are_refused() {
    let config = ClusterConfig { max_leaf_size: 1, ..ClusterConfig::default() };
    let error = build_tree(&zipf(5, 20), &config, 0).unwrap_err().to_string();
    assert!(error.contains("5 labels do not fill 2^3"), "{error}");
}

proptest! {
    #[test]
    fn halves_differ_by_at_most_one_and_levels_have_the_branching(
        rows in vec(vec(prop_oneof![Just(0.0f32), -1.0f32..1.0], 4), 4..200),
        max_leaf_size in 2usize..20,
        branching in prop_oneof![Just(2usize), Just(3), Just(16), Just(32)],
        spherical: bool,
    ) {
        let config = ClusterConfig { branching, max_leaf_size, spherical, ..ClusterConfig::default() };
        let tree = build_tree(&sparse(&rows), &config, 3).unwrap();
        let depth = tree.depth();
        let mut labels = tree.labels().to_vec();
        labels.sort_unstable();
        prop_assert_eq!(labels, (0..rows.len() as u32).collect::<Vec<_>>());
        if depth > 1 {
            let halves = tree.width(depth - 1);
            prop_assert!(halves.is_power_of_two());
            for p in 0..halves {
                let size = tree.children(depth - 1, p).len();
                prop_assert!(size == rows.len() / halves || size == rows.len().div_ceil(halves));
                prop_assert!(size <= max_leaf_size);
            }
            for t in 1..depth - 1 {
                prop_assert_eq!(tree.width(t), tree.width(t + 1).div_ceil(branching));
            }
            prop_assert!(tree.width(1) <= branching);
        }
    }
}

#[test]
fn unbalanced_trees_cover_every_label_once_and_respect_the_depth() {
    let z = zipf(3_000, 500);
    for unbalanced_depth in 1..=4 {
        let base =
            ClusterConfig { method: Method::Unbalanced, unbalanced_branching: 8, ..ClusterConfig::default() };
        let config = ClusterConfig { unbalanced_depth, max_leaf_size: 20, ..base };
        let tree = build_tree(&z, &config, 2).unwrap();
        assert_eq!(tree.depth(), unbalanced_depth);
        let mut labels = tree.labels().to_vec();
        labels.sort_unstable();
        assert_eq!(labels, (0..3_000).collect::<Vec<_>>());
        for (t, level) in tree.statistics().levels.iter().enumerate() {
            assert!(level.min > 0 && (level.max <= 8 || t + 1 == unbalanced_depth));
        }
    }
}

#[test]
fn unbalanced_groups_without_any_difference_stay_whole() {
    let config = ClusterConfig { method: Method::Unbalanced, max_leaf_size: 3, ..ClusterConfig::default() };
    let tree = build_tree(&sparse(&vec![vec![0.6, 0.8]; 9]), &config, 0).unwrap();
    assert_eq!(tree, Tree::flat(9));
}
