//! A tree file whose header claims what its arrays do not hold is refused, whatever the numbers.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;

use xmc_data::CsrBuilder;
use xmc_linear::ranker::{RankerConfig, TrainInput, train};
use xmc_linear::{Features, Tree, TreeModel};

/// Offset of the header, and what its length and that of the file are rounded to.
const FIXED: usize = 32;
const ALIGN: usize = 64;

fn saved(path: &Path) -> Vec<u8> {
    let (mut x, mut y) = (CsrBuilder::new(), CsrBuilder::new());
    for i in 0..8u32 {
        x.push([(i % 4, 1.0), (4 + i % 3, 0.5)]);
        y.push([(i % 4, 1.0)]);
    }
    let (x, y) = (Features::from(x.finish(7).unwrap()), y.finish(4).unwrap());
    let tree = Tree::new(vec![vec![0, 2], vec![0, 2, 4]], vec![2, 0, 1, 3], 4).unwrap();
    let input = TrainInput { x: &x, y: &y, relevance: None, negatives: None };
    train(input, tree, &RankerConfig::default(), 1, &|_, _| {}).unwrap().save(path).unwrap();
    fs::read(path).unwrap()
}

/// The file with a piece of its header replaced and all lengths made to fit.
fn edited(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let end = FIXED + u64::from_le_bytes(bytes[24..32].try_into().unwrap()) as usize;
    let header = std::str::from_utf8(&bytes[FIXED..end]).unwrap().trim_end();
    assert!(header.contains(from), "no {from} in {header}");
    let mut new = bytes[..FIXED].to_vec();
    new.extend(header.replacen(from, to, 1).bytes());
    new.resize(new.len().next_multiple_of(ALIGN), b' ');
    let header_len = (new.len() - FIXED) as u64;
    new.extend(&bytes[end..]);
    let total = new.len() as u64;
    new[16..24].copy_from_slice(&total.to_le_bytes());
    new[24..32].copy_from_slice(&header_len.to_le_bytes());
    new
}

#[test]
fn numbers_that_the_arrays_do_not_back_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tree.bin");
    let sound = saved(&path);
    for (from, to, problem) in [
        (
            r#""num_labels":4"#,
            r#""num_labels":4611686018427387904"#,
            "4 leaves for 4611686018427387904 labels",
        ),
        (r#""num_labels":4"#, r#""num_labels":3"#, "label 3 is outside the 3 labels"),
        (r#""dense_features":0"#, r#""dense_features":18446744073709551615"#, "level 0: dense weights"),
        (r#""dense_features":0"#, r#""dense_features":1"#, "level 0: dense weights"),
        (r#""labels":[0,16]"#, r#""labels":[18446744073709551612,16]"#, "truncated or damaged"),
        (r#""labels":[0,16]"#, r#""labels":[0,18446744073709551612]"#, "truncated or damaged"),
        (r#""labels":[0,16]"#, r#""labels":[0,12]"#, "does not cover"),
    ] {
        fs::write(&path, edited(&sound, from, to)).unwrap();
        let message = TreeModel::open(&path).unwrap_err().to_string();
        assert!(message.contains("tree.bin") && message.contains(problem), "{to}: {message}");
    }
    fs::write(&path, edited(&sound, r#""num_labels":4"#, r#""num_labels":4 "#)).unwrap();
    assert!(TreeModel::open(&path).is_ok());
}
