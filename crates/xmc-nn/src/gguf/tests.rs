//! Good files come out as they went in, damaged ones are refused and never believed.

use proptest::prelude::*;

use super::File;
use super::write::Writer;
use crate::quant::Format;

fn sample() -> Writer {
    let halves: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect();
    let blocks: Vec<u8> = (0..3).flat_map(|i| [&halves[..2], &[i; 32]].concat()).collect();
    Writer::default()
        .text("general.architecture", "llama")
        .size("n", 7)
        .number("x", 0.5)
        .flag("yes", true)
        .texts("names", &["a", "", "größer"])
        .integers("whole", &[-1, 2])
        .numbers("real", &[0.25, -8.0])
        .raw("signed", 11, &(-5i64).to_le_bytes())
        .floats("vector", &[3], &[1.0, 2.0, 3.0])
        .tensor("halves", &[1, 2], Format::F16, &halves)
        .tensor("blocks", &[3, 32], Format::Q8_0, &blocks)
        .raw_tensor("other", &[1, 32], 6, &[0; 22])
}

fn open(bytes: &[u8]) -> crate::Result<File> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    File::open(file.path())
}

#[test]
fn keys_and_tensors_come_out_as_they_went_in() {
    let file = open(&sample().bytes()).unwrap();
    assert_eq!(file.text("general.architecture").unwrap(), Some("llama"));
    assert_eq!((file.size("n").unwrap(), file.size("none").unwrap()), (Some(7), None));
    assert_eq!((file.number("x").unwrap(), file.number("n").unwrap()), (Some(0.5), Some(7.0)));
    assert_eq!(file.flag("yes").unwrap(), Some(true));
    assert_eq!(file.texts("names").unwrap().unwrap(), ["a", "", "größer"]);
    assert_eq!(file.numbers("whole").unwrap().unwrap(), [-1.0, 2.0]);
    assert_eq!(file.numbers("real").unwrap().unwrap(), [0.25, -8.0]);
    assert_eq!(file.tensors().collect::<Vec<_>>(), ["blocks", "halves", "other", "vector"]);
    assert_eq!(file.tensor("blocks").unwrap(), Some((&[3, 32][..], Format::Q8_0)));
    let row = |name, rows, cols, i| {
        let mut row = vec![0.0; cols];
        file.matrix(name, rows, cols).unwrap().row(i, &mut row);
        row
    };
    assert_eq!(row("vector", 1, 3, 0), [1.0, 2.0, 3.0]);
    assert_eq!(row("halves", 1, 2, 0), [1.5, -2.0]);
    assert_eq!(row("blocks", 3, 32, 2), [3.0; 32]);
}

#[test]
fn wrong_kinds_and_shapes_are_named() {
    let file = open(&sample().bytes()).unwrap();
    let text = |error: crate::Error| error.to_string();
    for (found, expected) in [
        (text(file.size("x").unwrap_err()), "key `x` is 0.5; expected a whole number"),
        (text(file.size("signed").unwrap_err()), "key `signed` is -5; expected a whole number"),
        (text(file.text("n").unwrap_err()), "key `n` is 7; expected a text"),
        (
            text(file.flag("names").unwrap_err()),
            "key `names` is a list of 3 values of kind Text; expected true",
        ),
        (
            text(file.texts("whole").unwrap_err()),
            "key `whole` is a list of 2 values of kind I32; expected a list of",
        ),
        (text(file.numbers("names").unwrap_err()), "expected a list of numbers"),
        (
            text(file.matrix("vector", 3, 1).unwrap_err()),
            "tensor `vector`: found the shape [3], expected [3, 1]",
        ),
        (text(file.matrix("lost", 3, 1).unwrap_err()), "has no tensor `lost` [3, 1]"),
        (
            text(file.tensor("other").unwrap_err()),
            "tensor `other` is stored as Q5_0, which is not supported; expected F32",
        ),
    ] {
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn what_the_file_does_not_back_is_refused() {
    let many = u64::MAX.to_le_bytes();
    let texts = [&8u32.to_le_bytes()[..], &many].concat();
    let words = [&4u32.to_le_bytes()[..], &many].concat();
    let deep = [9u32.to_le_bytes().as_slice(), &1u64.to_le_bytes()].concat().repeat(6);
    let good = sample();
    let with_version = |version: u32| {
        let mut bytes = good.bytes();
        bytes[4..8].copy_from_slice(&version.to_le_bytes());
        bytes
    };
    let shorter = good.clone().without("other").bytes();
    let huge = [usize::MAX / 2, 1 << 20];
    for (bytes, expected) in [
        (b"GGML....".to_vec(), "expected it to begin with `GGUF`"),
        (b"GGUF".to_vec(), "truncated or damaged"),
        (with_version(1), "GGUF version 1 (another version) is not supported"),
        (with_version(3u32.swap_bytes()), "big-endian"),
        (shorter[..shorter.len() - 1].to_vec(), "tensor `blocks`: 102 bytes at byte 64"),
        (good.clone().raw("k", 8, &many).bytes(), "key `k`: 18446744073709551615 bytes at byte"),
        (good.clone().raw("k", 9, &texts).bytes(), "key `k`"),
        (good.clone().raw("k", 9, &words).bytes(), "key `k`"),
        (good.clone().raw("k", 9, &deep).bytes(), "key `k`: lists lie more than 4 deep"),
        (good.clone().raw("k", 99, &[]).bytes(), "key `k`: has a value of kind 99"),
        (
            good.clone().size(super::ALIGNMENT, 48).bytes(),
            "key `general.alignment` is 48; expected a power of two",
        ),
        (good.clone().raw_tensor("t", &huge, 0, &[]).bytes(), "tensor `t`: the shape"),
        (
            good.clone().raw_tensor("t", &[1, 31], 2, &[]).bytes(),
            "cannot be stored as Q4_0: not whole blocks",
        ),
        (good.clone().raw_tensor("t", &[1; 5], 0, &[0; 4]).bytes(), "tensor `t`: has 5 dimensions"),
    ] {
        let error = open(&bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// Reads all there is.
fn read(file: &File) {
    let keys: Vec<&String> = file.metadata.keys().collect();
    for key in keys {
        let _ = (file.text(key), file.size(key), file.number(key), file.flag(key));
        let _ = (file.texts(key), file.numbers(key));
    }
    for name in file.tensors() {
        if let Ok(Some(&[rows, cols])) = file.tensor(name).map(|found| found.map(|(shape, _)| shape)) {
            let _ = file.matrix(name, rows, cols);
        }
    }
    let _ = super::tokenizer_files(file);
}

proptest! {
    #[test]
    fn no_damage_makes_a_panic(changes in prop::collection::vec((0usize..1200, any::<u8>()), 1..6), cut in 0usize..1400) {
        let mut bytes = sample().bytes();
        for (at, value) in changes {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        bytes.truncate(cut.max(24));
        if let Ok(file) = open(&bytes) {
            read(&file);
        }
    }
}
