//! How are token files of DEXML's original program read?
//!
//! `NAME.dat` holds little-endian i64 ids `[rows, m]`, padded with 0; `NAME.dat.meta` is one line, `rows m int64`.

use std::path::Path;

use xmc_data::buffer::map_file;

use super::{Builder, Tokens};
use crate::error::{Error, Result};

/// Reads `NAME.dat` with the `NAME.dat.meta` beside it; padding is taken off.
pub fn read_padded(path: &Path) -> Result<Tokens> {
    let (rows, m) = shape(path)?;
    let map = map_file(path)?;
    let needed = rows.checked_mul(m).and_then(|n| n.checked_mul(8));
    if needed != Some(map.len()) {
        let found = map.len();
        return Err(Error::file(
            path,
            format!("{found} bytes are not the {rows} rows of {m} 64-bit ids that its .meta promises"),
        ));
    }
    let mut builder = Builder::default();
    let mut ids = Vec::with_capacity(m);
    for (i, row) in map.chunks_exact(8 * m).enumerate() {
        ids.clear();
        for bytes in row.as_chunks::<8>().0 {
            let id = i64::from_le_bytes(*bytes);
            ids.push(u32::try_from(id).map_err(|_| {
                Error::file(path, format!("row {i} holds {id}, expected a token id from 0 to {}", u32::MAX))
            })?);
        }
        let len = ids.iter().rposition(|&id| id != 0).map_or(0, |last| last + 1);
        if len == 0 {
            return Err(Error::file(
                path,
                format!("row {i} is all padding; even an empty text has special tokens"),
            ));
        }
        builder.push(&ids[..len]);
    }
    Ok(builder.finish())
}

/// Rows and width as the .meta says.
fn shape(path: &Path) -> Result<(usize, usize)> {
    let mut name = path.as_os_str().to_owned();
    name.push(".meta");
    let meta = Path::new(&name);
    let text = std::fs::read_to_string(meta).map_err(Error::io(meta))?;
    let fields: Vec<&str> = text.split_whitespace().collect();
    match fields[..] {
        [rows, m, "int64"] => rows.parse().ok().zip(m.parse().ok().filter(|&m| m > 0)),
        _ => None,
    }
    .ok_or_else(|| {
        let shown: String = text.chars().take(60).collect();
        Error::file(meta, format!("found `{}`, expected `ROWS WIDTH int64`", shown.trim_end()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(meta: &str, ids: &[i64]) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trn_X.bert-base-uncased_4.dat");
        std::fs::write(dir.path().join("trn_X.bert-base-uncased_4.dat.meta"), meta).unwrap();
        std::fs::write(&path, ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<_>>()).unwrap();
        (dir, path)
    }

    #[test]
    fn padding_goes_and_zeros_inside_stay() {
        let (_dir, path) = files("3 4 int64\n", &[101, 7, 102, 0, 0, 9, 0, 2, 101, 102, 0, 0]);
        let tokens = read_padded(&path).unwrap();
        assert_eq!(tokens, Tokens::new([vec![101, 7, 102], vec![0, 9, 0, 2], vec![101, 102]]));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (meta, ids, expected) in [
            ("3 4 int64", &[1i64; 8][..], "64 bytes are not the 3 rows of 4"),
            ("2 4 int32", &[1; 8], "found `2 4 int32`, expected"),
            ("0 0 int64", &[], "found `0 0 int64`, expected"),
            ("1 2 int64", &[1, -5], "row 0 holds -5"),
            ("2 1 int64", &[1, 0], "row 1 is all padding"),
        ] {
            let (_dir, path) = files(meta, ids);
            let message = read_padded(&path).unwrap_err().to_string();
            assert!(message.contains(".dat") && message.contains(expected), "{message}");
        }
    }
}
