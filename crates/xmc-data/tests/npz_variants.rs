//! Every way in which scipy and numpy save a sparse matrix is read as the same matrix, or refused with its reason.
//!
//! The files are made by `scripts/golden/npz_variants.py`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};

use xmc_data::Csr;
use xmc_data::formats::npz;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/npz")
}

fn matrix(scale: f32) -> Csr {
    let values: Vec<f32> = [1.5, -2.0, 4.0, 0.25, 8.0, 3.0].iter().map(|v| v * scale).collect();
    Csr::new(4, 5, vec![0, 2, 2, 5, 6], vec![0, 3, 1, 2, 4, 0], values).unwrap()
}

fn pattern() -> Csr {
    let mut m = matrix(1.0);
    m.values_mut().fill(1.0);
    m
}

#[test]
fn all_variants_are_the_same_matrix() {
    let mut read = 0;
    for entry in std::fs::read_dir(golden()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let expected = match name {
            refused if refused.starts_with("refused_") => continue,
            "csr_bool" => pattern(),
            "csr_int_values" => matrix(4.0),
            "empty" => Csr::empty(4, 5),
            _ => matrix(1.0),
        };
        assert_eq!(npz::read(&path).unwrap(), expected, "{name}");
        read += 1;
    }
    assert_eq!(read, 20);
}

#[test]
fn what_is_refused_is_named_with_file_and_member() {
    let cases = [
        ("dia", "a sparse matrix in format `dia`, expected csr, csc or coo"),
        ("bsr", "a sparse matrix in format `bsr`, expected csr, csc or coo"),
        ("negative", "member `indices.npy`: element 2: value -1, expected 0 or more"),
        ("past_shape", "member `indices.npy`: element 2: index 5 is outside the shape, expected less than 5"),
        ("nan", "member `data.npy`: element 2: value NaN, expected a finite number"),
        ("complex", "member `data.npy`: unsupported numpy type"),
        ("float_indices", "member `indices.npy`: elements of type `<f4`, expected integers"),
        ("indptr_falls", "row 2: its offset 5 is past that of the next row"),
        ("indptr_short", "row offsets must be 5 numbers"),
        ("values_short", "6 column ids and 5 values"),
        ("shape_of_three", "a shape of 3 numbers, expected two"),
        ("negative_shape", "member `shape.npy`: element 0: value -4"),
        (
            "dense",
            "no member `format.npy` (found: arr_0.npy), expected a matrix saved by scipy.sparse.save_npz",
        ),
        ("no_indptr", "no member `indptr.npy`"),
        ("huge_rows", "damaged: a shape of 1152921504606846976 rows for 12 entries"),
    ];
    for (name, expected) in cases {
        let file = format!("refused_{name}.npz");
        let message = npz::read(&golden().join(&file)).unwrap_err().to_string();
        assert!(message.contains(expected) && message.contains(&file), "{message}");
    }
}

/// A bit of every byte of stored and deflated files changed in turn: an error or a matrix, never a panic, and never a
/// matrix of another content (the checksums of the zip see to that).
#[test]
fn no_damaged_byte_is_believed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.npz");
    for name in ["csr_stored.npz", "coo_deflated.npz", "csc_deflated.npz"] {
        let bytes = std::fs::read(golden().join(name)).unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            std::fs::write(&path, &damaged).unwrap();
            if let Ok(m) = npz::read(&path) {
                assert_eq!(m, matrix(1.0), "{name}: byte {at}");
            }
        }
    }
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.npz");
    for name in ["csr_stored.npz", "coo_deflated.npz"] {
        let bytes = std::fs::read(golden().join(name)).unwrap();
        for len in 0..bytes.len() {
            std::fs::write(&path, &bytes[..len]).unwrap();
            let message = npz::read(&path).unwrap_err().to_string();
            assert!(message.contains("m.npz: "), "{name} cut to {len}: {message}");
        }
    }
}
