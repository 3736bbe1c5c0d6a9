//! Exact search equals brute force, bit for bit, on every path.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use xmc::data::{Csr, TopK};
use xmc::index::{Dtype, Filter, LabelEmbeddings, search, search_in};
use xmc::nn::{Device, Precision, Tensor};

const DTYPES: [Dtype; 3] = [Dtype::F32, Dtype::Bf16, Dtype::Int8];

fn tensor(cols: usize, values: &[f32]) -> Tensor {
    Tensor::from_host(values.len() / cols, cols, values.to_vec(), Device::Cpu).unwrap()
}

/// The score by its definition: lane j mod 32 adds the products of column j, then halves are added.
fn score(x: &[f32], y: &[f32]) -> f32 {
    let mut sums = [0f32; 32];
    for (j, (x, y)) in x.iter().zip(y).enumerate() {
        sums[j % 32] += x * y;
    }
    for half in [16, 8, 4, 2, 1] {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
    }
    sums[0]
}

/// All scores, sorted.
fn brute_force(queries: &Tensor, labels: &LabelEmbeddings, k: usize, excluded: &[(u32, u32)]) -> TopK {
    let mut top = TopK::new();
    for (i, x) in queries.host().chunks_exact(labels.dim()).enumerate() {
        let mut row: Vec<(u32, f32)> = (0..labels.rows() as u32)
            .filter(|&j| !excluded.contains(&(i as u32, j)))
            .map(|j| (j, score(x, &labels.row(j as usize))))
            .collect();
        row.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        row.truncate(k);
        top.push_ranked(&row);
    }
    top
}

/// Numbers in -1..1 from a counter.
fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(n).collect()
}

#[test]
fn the_golden_rankings_come_out() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/exact_search.json");
    let case: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let matrix = |key: &str| -> Vec<Vec<f32>> { serde_json::from_value(case[key].clone()).unwrap() };
    let (q, base, vals) = (matrix("q"), matrix("base"), matrix("vals"));
    let inds: Vec<Vec<u32>> = serde_json::from_value(case["inds"].clone()).unwrap();
    let k = case["k"].as_u64().unwrap() as usize;
    let labels = LabelEmbeddings::from_values(base[0].len(), &base.concat(), Dtype::F32).unwrap();
    let top = search(&tensor(q[0].len(), &q.concat()), &labels, k, &Filter::none()).unwrap();
    for i in 0..q.len() {
        assert_eq!(top.row(i).iter().map(|e| e.0).collect::<Vec<_>>(), inds[i]);
        for (ours, theirs) in top.row(i).iter().zip(&vals[i]) {
            assert!((ours.1 - theirs).abs() < 1e-6, "{ours:?}, expected {theirs}");
        }
    }
}

#[derive(Clone, Debug)]
struct Case {
    dim: usize,
    queries: Vec<f32>,
    labels: Vec<f32>,
    k: usize,
    excluded: Vec<(u32, u32)>,
}

/// Few different values make many ties; zeros, negative scores and rows of very different length occur.
fn cases() -> impl Strategy<Value = Case> {
    let value = prop_oneof![Just(0.0f32), (-3i8..4).prop_map(f32::from), -2.0f32..2.0, -1e-3f32..1e-3];
    (1usize..70, 1usize..14, 1usize..60).prop_flat_map(move |(dim, b, l)| {
        (
            vec(value.clone(), b * dim),
            vec(value.clone(), l * dim),
            vec(prop_oneof![Just(1.0f32), Just(0.0), Just(1e-6), Just(1e6)], l),
            1usize..80,
            vec((0..b as u32, 0..l as u32), 0..40),
            any::<bool>(),
        )
            .prop_map(move |(queries, mut labels, lengths, k, mut excluded, same)| {
                for (row, length) in labels.chunks_exact_mut(dim).zip(lengths) {
                    for v in row {
                        *v *= length;
                    }
                }
                if same {
                    let first = labels[..dim].to_vec();
                    labels.chunks_exact_mut(dim).step_by(2).for_each(|row| row.copy_from_slice(&first));
                }
                excluded.sort_unstable();
                excluded.dedup();
                Case { dim, queries, labels, k, excluded }
            })
    })
}

proptest! {
    #[test]
    fn every_path_equals_brute_force(case in cases()) {
        let queries = tensor(case.dim, &case.queries);
        for dtype in DTYPES {
            let labels = LabelEmbeddings::from_values(case.dim, &case.labels, dtype).unwrap();
            let expected = brute_force(&queries, &labels, case.k, &case.excluded);
            for precision in [Precision::F32, Precision::Bf16] {
                let found = search_in(precision, &queries, &labels, case.k, &Filter::pairs(&case.excluded));
                prop_assert_eq!(&found.unwrap(), &expected, "{} {:?}", dtype, precision);
            }
        }
    }
}

#[test]
fn large_searches_equal_brute_force_at_any_number_of_threads() {
    let (dim, l, b, k) = (48, 20_000, 300, 10);
    let queries = noise(b * dim, 1);
    let values = noise(l * dim, 2);
    for dtype in DTYPES {
        let labels = LabelEmbeddings::from_values(dim, &values, dtype).unwrap();
        for b in [1, 9, b] {
            let queries = tensor(dim, &queries[..b * dim]);
            let free = brute_force(&queries, &labels, k, &[]);
            // Each query is kept from its best labels.
            let mut excluded: Vec<(u32, u32)> =
                (0..b).flat_map(|i| free.row(i)[..3].iter().map(move |e| (i as u32, e.0))).collect();
            excluded.sort_unstable();
            let expected = brute_force(&queries, &labels, k, &excluded);
            for threads in [1, 2, 5] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                for precision in [Precision::F32, Precision::Bf16] {
                    let filter = Filter::pairs(&excluded);
                    let found = pool.install(|| search_in(precision, &queries, &labels, k, &filter).unwrap());
                    assert_eq!(found, expected, "{dtype}, {b} queries, {threads} threads, {precision:?}");
                }
            }
        }
    }
}

#[test]
fn when_the_band_is_too_wide_ties_still_go_to_the_lower_label() {
    // All labels are nearly equal: no coarse pass can tell them apart.
    let (dim, l, k) = (16, 9_000, 5);
    let mut values: Vec<f32> = noise(dim, 3).repeat(l);
    for (j, row) in values.chunks_exact_mut(dim).enumerate() {
        row[0] += (j % 7) as f32 * 1e-7;
    }
    let queries = tensor(dim, &noise(20 * dim, 4));
    for dtype in DTYPES {
        let labels = LabelEmbeddings::from_values(dim, &values, dtype).unwrap();
        for precision in [Precision::F32, Precision::Bf16] {
            let found = search_in(precision, &queries, &labels, k, &Filter::none()).unwrap();
            assert_eq!(found, brute_force(&queries, &labels, k, &[]), "{dtype} {precision:?}");
        }
    }
}

#[test]
fn filters_leave_what_they_do_not_name() {
    let labels = LabelEmbeddings::from_values(1, &[3.0, 2.0, 1.0], Dtype::F32).unwrap();
    let ids = |filter: &Filter<'_>, b: usize| -> Vec<Vec<u32>> {
        let top = search(&tensor(1, &vec![1.0; b]), &labels, 2, filter).unwrap();
        (0..b).map(|i| top.row(i).iter().map(|e| e.0).collect()).collect()
    };
    assert_eq!(ids(&Filter::pairs(&[(0, 0), (0, 1), (0, 2)]), 2), [vec![], vec![0, 1]]);
    assert_eq!(ids(&Filter::pairs(&[(5, 0)]).from_row(5), 1), [[1, 2]]);
    let known = Csr::new(2, 3, vec![0, 1, 2], vec![1, 0], vec![1.0, 1.0]).unwrap();
    assert_eq!(ids(&Filter::none().and_rows(&known), 3), [[0, 2], [1, 2], [0, 1]]);
    assert_eq!(ids(&Filter::pairs(&[(0, 0)]).and_rows(&known), 2), [vec![2], vec![1, 2]]);
}

#[test]
fn empty_searches_have_empty_rows() {
    let none = LabelEmbeddings::from_values(2, &[], Dtype::Int8).unwrap();
    let top = search(&tensor(2, &[1.0, 2.0]), &none, 3, &Filter::none()).unwrap();
    assert_eq!((top.rows(), top.row(0)), (1, &[][..]));
    let one = LabelEmbeddings::from_values(2, &[1.0, 1.0], Dtype::F32).unwrap();
    assert!(search(&tensor(2, &[1.0, 2.0]), &one, 0, &Filter::none()).unwrap().row(0).is_empty());
    assert_eq!(search(&tensor(2, &[]), &one, 1, &Filter::none()).unwrap().rows(), 0);
    assert_eq!(search(&tensor(2, &[1.0, 2.0]), &one, 9, &Filter::none()).unwrap().row(0), [(0, 3.0)]);
}

#[test]
fn what_does_not_fit_is_an_error_with_its_place() {
    let labels = LabelEmbeddings::from_values(2, &[1.0, 1.0], Dtype::F32).unwrap();
    let message = |cols, values: &[f32]| {
        search(&tensor(cols, values), &labels, 1, &Filter::none()).unwrap_err().to_string()
    };
    assert!(message(3, &[1.0; 3]).contains("queries have 3 dimensions, the label embeddings 2"));
    for wrong in [f32::NAN, f32::INFINITY, f32::MAX] {
        assert!(message(2, &[0.0, 0.0, 0.0, wrong]).starts_with("query 1: "), "{wrong}");
        let error = LabelEmbeddings::from_values(1, &[1.0, wrong], Dtype::Bf16).unwrap_err();
        assert!(error.to_string().starts_with("label 1: "), "{error}");
    }
}

fn saved(dtype: Dtype, dim: usize, values: &[f32]) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("label_embeddings");
    LabelEmbeddings::write(&path, values.len() / dim, dim, dtype, |out| {
        values.chunks(dim * 2).try_for_each(|rows| out.push(rows))
    })
    .unwrap();
    (dir, path)
}

fn same(a: &LabelEmbeddings, b: &LabelEmbeddings) -> bool {
    let queries = tensor(a.dim(), &noise(9 * a.dim(), 7));
    let rows = |m: &LabelEmbeddings| (0..m.rows()).flat_map(|i| m.row(i).into_owned()).collect::<Vec<_>>();
    let find = |m| search(&queries, m, 4, &Filter::none()).unwrap();
    (a.dtype(), a.bytes(), rows(a), find(a)) == (b.dtype(), b.bytes(), rows(b), find(b))
}

#[test]
fn labels_come_back_from_a_file_and_new_ones_stand_behind_them() {
    let (dim, values) = (5, noise(5 * 7, 5));
    for dtype in DTYPES {
        let (_dir, path) = saved(dtype, dim, &values[..5 * 4]);
        let opened = LabelEmbeddings::open(&path).unwrap();
        assert!(same(&opened, &LabelEmbeddings::from_values(dim, &values[..5 * 4], dtype).unwrap()));
        opened.append(&path, 3, |out| out.push(&values[5 * 4..])).unwrap();
        assert_eq!(opened.rows(), 4);
        let grown = LabelEmbeddings::open(&path).unwrap();
        assert!(same(&grown, &LabelEmbeddings::from_values(dim, &values, dtype).unwrap()));
        assert!(std::fs::metadata(&path).unwrap().len() < grown.bytes() + 6 * 64);
    }
}

#[test]
fn a_file_is_written_whole_or_not_at_all() {
    let (_dir, path) = saved(Dtype::F32, 2, &[1.0, 2.0]);
    let before = std::fs::read(&path).unwrap();
    let write =
        |rows, values: &[f32]| LabelEmbeddings::write(&path, rows, 2, Dtype::F32, |out| out.push(values));
    assert!(write(2, &[1.0, 2.0]).unwrap_err().to_string().contains("1 of 2 labels"));
    assert!(write(1, &[0.0; 4]).unwrap_err().to_string().contains("more than the 1 labels"));
    assert!(write(1, &[0.0; 3]).unwrap_err().to_string().contains("3 values are not whole rows of 2"));
    assert!(write(2, &[0.0, 0.0, f32::NAN, 0.0]).unwrap_err().to_string().contains("label 1: "));
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_file_cut_or_changed_in_its_header_is_refused() {
    for dtype in DTYPES {
        let (_dir, path) = saved(dtype, 3, &noise(12, 6));
        let bytes = std::fs::read(&path).unwrap();
        let refused = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            LabelEmbeddings::open(&path).unwrap_err().to_string()
        };
        for len in 0..bytes.len() {
            let message = refused(&bytes[..len]);
            assert!(message.contains("truncated") || message.contains("not a file"), "{len}: {message}");
        }
        for at in 0..64 {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(refused(&changed).starts_with(&path.display().to_string()));
        }
        assert!(refused(&[&bytes[..], &[0]].concat()).contains("truncated"));
        let mut newer = bytes.clone();
        newer[8] = 9;
        assert!(refused(&newer).contains("format 9"));
    }
}
