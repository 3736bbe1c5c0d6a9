//! Bad input of every reader gives an error that names the file and says what was expected; damaged files give an
//! error wherever they are cut. Nothing panics.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use xmc_data::dataset::Dataset;
use xmc_data::formats::fields::{FieldOptions, Record};
use xmc_data::formats::import::{Format, ImportOptions, load};
use xmc_data::formats::jsonl::{self, Jsonl};
use xmc_data::formats::source::write_text;
use xmc_data::formats::table::{Delimiter, Table};
use xmc_data::formats::{lines, npy, npz, open_lines, svmlight, xmc_text};
use xmc_data::{Csr, LabelSet, Strings, filter};

type Outcome = Result<(), xmc_data::Error>;
type Reader = fn(&Path) -> Outcome;

fn read_csv(path: &Path) -> Outcome {
    let mut table = Table::open(path, Delimiter::Comma, &FieldOptions::default())?;
    let mut record = Record::default();
    while table.read(&mut record)? {}
    Ok(())
}

fn read_tsv(path: &Path) -> Outcome {
    let mut table = Table::open(path, Delimiter::Tab, &FieldOptions::default())?;
    let mut record = Record::default();
    while table.read(&mut record)? {}
    Ok(())
}

fn read_jsonl(path: &Path) -> Outcome {
    let mut file = Jsonl::open(path, &FieldOptions::default())?;
    let mut record = Record::default();
    while file.read(&mut record)? {}
    Ok(())
}

fn read_lines(path: &Path) -> Outcome {
    lines::read(path).map(drop)
}

fn read_xmc(path: &Path) -> Outcome {
    xmc_text::read(path).map(drop)
}

fn read_sparse(path: &Path) -> Outcome {
    xmc_text::read_sparse(path).map(drop)
}

fn read_svmlight(path: &Path) -> Outcome {
    svmlight::read(path, None).map(drop)
}

fn read_npz(path: &Path) -> Outcome {
    npz::read(path).map(drop)
}

fn read_npy(path: &Path) -> Outcome {
    npy::read_dense(path).map(drop)
}

fn read_filter(path: &Path) -> Outcome {
    filter::read(path, 3, 2).map(drop)
}

fn read_strings(path: &Path) -> Outcome {
    Strings::open(path).map(drop)
}

fn read_any(path: &Path) -> Outcome {
    Dataset::open(path).map(drop)
}

fn npy_bytes(dict: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((dict.len() as u16).to_le_bytes());
    bytes.extend(dict.as_bytes());
    bytes.extend(data);
    bytes
}

/// Reader, content, what the message must hold besides the name of the file.
type Case = (Reader, Vec<u8>, &'static str);

fn text_cases() -> Vec<Case> {
    let case = |read: Reader, content: &str, expected| (read, content.as_bytes().to_vec(), expected);
    vec![
        case(read_xmc, "", "empty, expected a first line `n d L`"),
        case(read_xmc, "1 2\n0 1:1\n", ":1: found `1 2`, expected a first line `n d L`"),
        case(read_xmc, "one 2 3\n", ":1: found `one 2 3`"),
        case(read_xmc, "-1 2 3\n", ":1: found `-1 2 3`"),
        case(read_xmc, "1 2 3\n7 0:1\n", ":2: found `7`, expected a label from 0, less than 3"),
        case(read_xmc, "1 2 3\n-1 0:1\n", ":2: found `-1`, expected a label"),
        case(read_xmc, "1 2 3\na,b 0:1\n", ":2: found `a`, expected a label"),
        case(read_xmc, "1 2 3\n0 2:1\n", ":2: found `2:1`, expected a feature from 0, less than 2"),
        case(read_xmc, "1 2 3\n0 1:x\n", ":2: found `1:x`, expected a finite number"),
        case(read_xmc, "1 2 3\n0 1:NaN\n", ":2: found `1:NaN`, expected a finite number"),
        case(read_xmc, "1 2 3\n0 1:inf\n", "expected a finite number"),
        case(read_xmc, "1 2 3\n0 1:1e60\n", "expected a finite number"),
        case(read_xmc, "1 2 3\n0 1\n", ":2: found `1`, expected `feature:value`"),
        case(read_xmc, "3 2 3\n0 1:1\n", "1 rows, but the first line says 3: truncated?"),
        case(read_xmc, "1 2 3\n0 1:1\n0 1:1\n", ":3: found `0 1:1`, expected the end, after the 1 rows"),
        case(read_xmc, "1 2 99999999999\n0 1:1\n", "99999999999 columns: at most"),
        case(read_sparse, "1 2 3\n", ":1: found `1 2 3`, expected a first line `n d`"),
        case(read_sparse, "1 2\n2:1\n", ":2: found `2:1`, expected a column from 0, less than 2"),
        case(read_svmlight, "", "empty, expected rows"),
        case(read_svmlight, "x 1:1\n", ":1: found `x`, expected a label"),
        case(read_svmlight, "1 1:1\n2 1:\n", ":2: found `1:`, expected a finite number"),
        case(read_svmlight, "1 -1:1\n", ":1: found `-1:1`, expected a feature"),
        case(read_csv, "", "empty, expected a table"),
        case(read_csv, "text\none\n", ":1: found `text`, expected two columns or more"),
        case(read_csv, "a,b,c\nd,e,f\n", "no field with a usual name for the text among `1`, `2`, `3`"),
        case(read_csv, "text,b,c\nd,e,f\n", "no field with a usual name for the labels"),
        case(
            read_csv,
            "text,labels\nx,y,z\n",
            ":2: found `x,y,z`, expected 2 columns as in the first line, not 3",
        ),
        case(
            read_csv,
            "text,labels\n\"x, y\",\"a\"\"\",z\n",
            ":2: found `\"x, y\",\"a\"\"\",z`, expected 2 columns",
        ),
        case(read_tsv, "text\tlabels\nx\t\"y\tz\n", ":2: found `x\t\"y\tz`, expected 2 columns"),
        case(read_csv, "labels,text\na,\"x\nb,y\n", ":2: found `\"`, expected a closing quotation mark"),
        case(read_tsv, "text\tlabels\nx\n", ":2: found `x`, expected 2 columns"),
        case(read_jsonl, "", "empty, expected one JSON object a line"),
        case(read_jsonl, "\n\n", "empty, expected one JSON object a line"),
        case(
            read_jsonl,
            "{\"text\":\"a\",\"labels\":[]}\n{\"text\"\n",
            ":2: found `{\"text\"`, expected one JSON object",
        ),
        case(read_jsonl, "[1,2]\n", "expected one JSON object a line"),
        case(read_jsonl, "[\n", "jq -c '.[]'"),
        case(
            read_jsonl,
            "{\"a\":1,\"b\":2,\"c\":3}\n",
            "no field with a usual name for the text among `a`, `b`, `c`",
        ),
        case(read_jsonl, "{\"text\":true,\"labels\":[]}\n", ":1: found `true`, expected text under `text`"),
        case(
            read_jsonl,
            "{\"text\":\"a\",\"labels\":true}\n",
            ":1: found `true`, expected under `labels` a list",
        ),
        case(read_jsonl, "{\"text\":\"a\",\"labels\":[null]}\n", ":1: found `[null]`"),
        case(read_jsonl, "{\"text\":\"a\",\"labels\":{\"x\":0}}\n", "weight above 0"),
        case(read_filter, "0\n", ":1: found `0`, expected two numbers"),
        case(read_filter, "0 1 2\n", ":1: found `0 1 2`, expected two numbers"),
        case(read_filter, "0 1\n-1 1\n", ":2: found `-1 1`, expected two numbers"),
        case(read_filter, "3 1\n", ":1: found `3 1`, expected a row below 3 and a label below 2"),
        case(read_filter, "0 2\n", "expected a row below 3 and a label below 2"),
        case(read_any, "", "empty, expected rows with labels"),
        case(read_any, "just words\n", ":1: found `just words`, expected a first line of csv"),
        case(read_any, "2 3\n0:1\n", "a matrix without labels"),
        case(read_any, "text,labels\nx,\n", "no labels: there is nothing to learn"),
        case(read_any, "0 2 3\n", "no training rows"),
        case(read_any, "1 2 4000000000\n0 1:1\n", "4000000000 labels without names"),
    ]
}

fn binary_cases() -> Vec<Case> {
    let latin1 = b"fine,a\ncaf\xe9,b\n".to_vec();
    let json_latin1 = b"{\"text\":\"caf\xe9\",\"labels\":[]}\n".to_vec();
    let dict = |descr: &str, shape: &str| {
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}")
    };
    vec![
        (
            read_lines,
            latin1.clone(),
            ":2: found `caf\u{fffd},b`, expected UTF-8 text (if the file is Latin-1",
        ),
        (read_lines, b"\xff\xfet\0".to_vec(), "this file is UTF-16"),
        (read_csv, latin1, ":2: found `caf\u{fffd}`, expected UTF-8 text"),
        (read_jsonl, json_latin1, ":1: found"),
        (read_xmc, b"1 2 3\n0 1:\xff\n".to_vec(), ":2: found"),
        (read_lines, b"\x1f\x8b\x08\x00".to_vec(), "truncated: "),
        (read_lines, b"\x1f\x8b\x07garbage".to_vec(), "damaged: "),
        (read_lines, b"\x28\xb5\x2f\xfdgarbage and more of it".to_vec(), "damaged: "),
        (read_npz, b"".to_vec(), "not a readable .npz file"),
        (read_npz, b"PK\x03\x04".to_vec(), "not a readable .npz file"),
        (read_npz, b"1 2 3\n".to_vec(), "not a readable .npz file"),
        (read_npy, b"".to_vec(), "truncated or damaged header"),
        (read_npy, b"1 2 3\n4 5 6\n".to_vec(), "not a numpy array"),
        (read_npy, b"\x93NUMPY\x09\x00".to_vec(), "numpy format version 9"),
        (
            read_npy,
            b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(),
            "damaged header: it claims to have 4294967295 bytes",
        ),
        (read_npy, npy_bytes("{}", b""), "unsupported numpy type or damaged header `{}`"),
        (read_npy, npy_bytes(&dict("|O", "(1, 1)"), b""), "unsupported numpy type"),
        (read_npy, npy_bytes(&dict("<c8", "(1, 1)"), b""), "unsupported numpy type"),
        (
            read_npy,
            npy_bytes(&dict("<U4", "(1, 1)"), &[0; 16]),
            "elements of type `<U4`, expected real numbers",
        ),
        (
            read_npy,
            npy_bytes(&dict("<f4", "(2,)"), &[0; 8]),
            "an array of shape [2], expected two dimensions",
        ),
        (read_npy, npy_bytes(&dict("<f4", "(2, 2)"), &[0; 15]), "truncated or damaged at element 0"),
        (read_npy, npy_bytes(&dict("<f4", "(1, 2)"), &[0; 9]), "bytes follow the end"),
        (read_npy, npy_bytes(&dict("<f4", "(1099511627776, 4)"), &[0; 16]), "no room for an array"),
        (read_npy, npy_bytes(&dict("<f4", "(4611686018427387904, 4)"), &[0; 16]), "no room for an array"),
        (read_npy, npy_bytes(&dict("<f4", "(1, 1)"), &f32::NAN.to_le_bytes()), "element 0: value NaN"),
        (read_npy, npy_bytes(&dict("<f8", "(1, 1)"), &1e300f64.to_le_bytes()), "element 0: value inf"),
        (read_strings, b"sea\nmountain\n".to_vec(), "not a file of texts of this program"),
    ]
}

#[test]
fn every_bad_input_is_named_and_explained() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("input");
    let cases: Vec<Case> = text_cases().into_iter().chain(binary_cases()).collect();
    assert!(cases.len() >= 75);
    for (read, content, expected) in cases {
        std::fs::write(&path, &content).unwrap();
        let shown = String::from_utf8_lossy(&content);
        let message = read(&path).expect_err(&shown).to_string();
        assert!(
            message.contains("/input:") && message.contains(expected),
            "{shown}\n  gave: {message}\n  not: {expected}"
        );
    }
}

#[test]
fn files_that_are_missing_folders_or_not_what_their_name_says_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let readers: [Reader; 9] = [
        read_lines,
        read_csv,
        read_jsonl,
        read_xmc,
        read_svmlight,
        read_npz,
        read_npy,
        read_filter,
        read_strings,
    ];
    for read in readers {
        let message = read(&dir.path().join("nowhere")).unwrap_err().to_string();
        assert!(message.contains("nowhere: No such file"), "{message}");
        assert!(read(dir.path()).is_err());
    }
    for name in ["plain.txt.gz", "plain.txt.zst"] {
        for content in ["not packed\n", ""] {
            let path = dir.path().join(name);
            std::fs::write(&path, content).unwrap();
            let message = read_lines(&path).unwrap_err().to_string();
            assert!(message.contains("but the content is not such data"), "{message}");
        }
    }
}

#[test]
fn settings_out_of_range_are_named() {
    let file = Path::new("input.csv").to_owned();
    let load = |options: ImportOptions| load(std::slice::from_ref(&file), &options).unwrap_err().to_string();
    for fraction in [-0.1, 1.0, f64::NAN] {
        let message = load(ImportOptions { test_fraction: fraction, ..ImportOptions::default() });
        assert!(message.contains("`test_fraction` = "), "{message}");
    }
    let message = Format::named("xlsx").unwrap_err().to_string();
    assert_eq!(message, "`format` = xlsx: expected one of csv, tsv, jsonl, xmc, svmlight");
}

/// Files packed or saved whole must be refused wherever they end early.
#[test]
fn packed_files_cut_anywhere_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let texts: Vec<String> = (0..40).map(|i| format!("text {i} {}", "sea ".repeat(i % 7))).collect();
    for name in ["a.txt.gz", "a.txt.zst"] {
        let path = dir.path().join(name);
        write_text(&path, |w| texts.iter().try_for_each(|t| writeln!(w, "{t}"))).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(lines::read(&path).unwrap().len(), texts.len());
        for len in 0..bytes.len() {
            std::fs::write(&path, &bytes[..len]).unwrap();
            let message = lines::read(&path).unwrap_err().to_string();
            assert!(message.contains(name), "cut to {len}: {message}");
        }
    }
}

/// A changed byte of a packed file is found by its checksum or does not change the content.
#[test]
fn packed_files_with_a_changed_byte_never_give_other_lines() {
    let dir = tempfile::tempdir().unwrap();
    let texts: Vec<String> = (0..40).map(|i| format!("text {i} {}", "sea ".repeat(i % 7))).collect();
    for name in ["a.txt.gz", "a.txt.zst"] {
        let path = dir.path().join(name);
        write_text(&path, |w| texts.iter().try_for_each(|t| writeln!(w, "{t}"))).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        // The first bytes say which packing it is; without them these are other files.
        for at in 4..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            std::fs::write(&path, &damaged).unwrap();
            if let Ok(read) = lines::read(&path) {
                assert_eq!(read, Strings::new(&texts), "{name}: byte {at}");
            }
        }
    }
}

/// Text formats have no checksum: a cut or changed file may be another valid one, but never a panic.
#[test]
fn text_files_cut_or_changed_anywhere_never_panic() {
    let dir = tempfile::tempdir().unwrap();
    let texts = Strings::new(["one \"two\"", "", "three, four"]);
    let labels = LabelSet::new(["sea", "größe"]);
    let y = Csr::new(3, 2, vec![0, 2, 2, 3], vec![0, 1, 1], vec![1.0, 0.5, 1.0]).unwrap();
    let x = Csr::new(3, 4, vec![0, 1, 1, 3], vec![3, 0, 1], vec![0.25, -1.0, 2.0]).unwrap();
    let path = dir.path().join("input");
    let mut files: Vec<(Vec<u8>, Vec<Reader>)> = Vec::new();
    let content = |path: &Path| std::fs::read(path).unwrap();
    jsonl::write(&path, &texts, &y, &labels).unwrap();
    files.push((content(&path), vec![read_jsonl, read_any]));
    xmc_data::formats::table::write(&path, Delimiter::Comma, &texts, &y, &labels).unwrap();
    files.push((content(&path), vec![read_csv, read_tsv, read_any]));
    xmc_text::write(&path, &x, &y).unwrap();
    files.push((content(&path), vec![read_xmc, read_sparse, read_svmlight, read_any]));
    svmlight::write(&path, &x, &y).unwrap();
    files.push((content(&path), vec![read_svmlight, read_any]));
    for (bytes, readers) in files {
        for at in 0..bytes.len() {
            for byte in [b'9', b'"', b'\n', b',', 0xff] {
                let mut changed = bytes.clone();
                changed[at] = byte;
                std::fs::write(&path, &changed).unwrap();
                for read in &readers {
                    let _ = read(&path);
                }
            }
            std::fs::write(&path, &bytes[..at]).unwrap();
            for read in &readers {
                let _ = read(&path);
            }
        }
    }
    assert!(open_lines(&path).is_ok());
}
