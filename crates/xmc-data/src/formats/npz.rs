//! How are scipy's sparse matrices (`.npz`) read and written?
//!
//! A zip of `.npy` members: `format` (csr, csc or coo, as bytes or text), `shape`, `data`, and either `indptr` and
//! `indices` or `row` and `col`. Members may be stored or deflated, indices i4 or i8, values any real type, rows
//! unsorted with repeated entries (which add up, as in scipy); all of it becomes one sorted [`Csr`] of f32.
//! Ids and values are unpacked side by side on two threads, straight into their final arrays.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter};

use super::atomic::write_atomically;
use super::npy::{Checked, Header, expect_end, read_floats, read_integers, write_elements};
use super::unsorted::csr_from_unsorted;
use crate::csr::Csr;
use crate::error::{Error, Result};

/// Deflate cannot make more than this many bytes out of one.
const MAX_INFLATION: u64 = 1032;
/// A side without this many entries per row (or column) in the mean is only believed up to [`PLAUSIBLE_SIDE`].
const MIN_DENSITY: f64 = 1.0 / 64.0;
const PLAUSIBLE_SIDE: usize = 1 << 24;

/// Reads a sparse matrix saved by scipy.
pub fn read(path: &Path) -> Result<Csr> {
    let mut archive = Archive::open(path)?;
    let format = archive.text("format")?;
    let (rows, cols) = archive.shape()?;
    let matrix = match format.as_str() {
        "csr" => archive.compressed(rows, cols),
        "csc" => archive.compressed(cols, rows).and_then(|m| {
            believe(path, rows, "rows", m.nnz())?;
            Ok(m.transpose())
        }),
        "coo" => archive.coordinates(rows, cols),
        other => Err(Error::file(
            path,
            format!("a sparse matrix in format `{other}`, expected csr, csc or coo: save `matrix.tocsr()`"),
        )),
    };
    matrix.map_err(|e| match e {
        Error::Shape(problem) => Error::file(path, format!("damaged: {problem}")),
        other => other,
    })
}

/// Writes a matrix as `scipy.sparse.load_npz` reads it: csr, f4 values, i4 indices where they suffice, deflated.
pub fn write(path: &Path, m: &Csr) -> Result<()> {
    write_atomically(path, |file| {
        write_members(file, m).map_err(|e| Error::Io { path: path.to_owned(), source: e.into() })
    })
}

fn write_members(file: &mut BufWriter<File>, m: &Csr) -> zip::result::ZipResult<()> {
    // A fixed date: the same matrix gives the same file.
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .last_modified_time(DateTime::default())
        .large_file(m.bytes() > u32::MAX as u64);
    let mut zip = ZipWriter::new(file);
    let wide = m.nnz().max(m.cols()).max(m.rows()) > i32::MAX as usize;
    let width = if wide { 8 } else { 4 };
    zip.start_file("indices.npy", options)?;
    Header::new('i', width, &[m.nnz() as u64]).write(&mut zip)?;
    if wide {
        write_elements(&mut zip, m.indices(), |c| u64::from(c).to_le_bytes())?;
    } else {
        write_elements(&mut zip, m.indices(), u32::to_le_bytes)?;
    }
    zip.start_file("indptr.npy", options)?;
    Header::new('i', width, &[m.indptr().len() as u64]).write(&mut zip)?;
    if wide {
        write_elements(&mut zip, m.indptr(), u64::to_le_bytes)?;
    } else {
        write_elements(&mut zip, m.indptr(), |at| (at as u32).to_le_bytes())?;
    }
    zip.start_file("format.npy", options)?;
    Header::new('S', 3, &[]).write(&mut zip)?;
    zip.write_all(b"csr")?;
    zip.start_file("shape.npy", options)?;
    Header::new('i', 8, &[2]).write(&mut zip)?;
    write_elements(&mut zip, &[m.rows() as u64, m.cols() as u64], u64::to_le_bytes)?;
    zip.start_file("data.npy", options)?;
    Header::new('f', 4, &[m.nnz() as u64]).write(&mut zip)?;
    write_elements(&mut zip, m.values(), f32::to_le_bytes)?;
    zip.finish().map(|_| ())
}

/// An open npz file.
struct Archive<'a> {
    path: &'a Path,
    zip: ZipArchive<BufReader<File>>,
    /// Bytes that all members together can unpack to.
    limit: u64,
}

impl<'a> Archive<'a> {
    fn open(path: &'a Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        let bytes = file.metadata().map_err(Error::io(path))?.len();
        let zip = ZipArchive::new(BufReader::new(file))
            .map_err(|e| Error::file(path, format!("not a readable .npz file, or truncated: {e}")))?;
        Ok(Archive { path, zip, limit: bytes.saturating_mul(MAX_INFLATION) })
    }

    /// Reads member `name` with `read`, to its very end so that its checksum is compared.
    fn member<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut dyn Read, &Header, u64) -> Checked<T>,
    ) -> Result<T> {
        let file_name = format!("{name}.npy");
        if self.zip.index_for_name(&file_name).is_none() {
            return Err(self.missing(&file_name));
        }
        let read_all = || {
            let member = self.zip.by_name(&file_name).map_err(|e| format!("damaged: {e}"))?;
            let limit = member.size().min(self.limit);
            let mut member = BufReader::with_capacity(1 << 16, member);
            let header = Header::read(&mut member)?;
            let value = read(&mut member, &header, limit)?;
            expect_end(&mut member)?;
            Ok(value)
        };
        read_all()
            .map_err(|problem: String| Error::file(self.path, format!("member `{file_name}`: {problem}")))
    }

    fn missing(&self, file_name: &str) -> Error {
        let mut found: Vec<String> =
            self.zip.file_names().filter_map(|n| n.ok().map(Cow::into_owned)).take(8).collect();
        found.sort();
        Error::file(
            self.path,
            format!(
                "no member `{file_name}` (found: {}), expected a matrix saved by scipy.sparse.save_npz",
                found.join(", ")
            ),
        )
    }

    fn text(&mut self, name: &str) -> Result<String> {
        self.member(name, |reader, header, limit| {
            if !matches!(header.kind, 'S' | 'U')
                || header.item_bytes() > limit.min(256)
                || header.count() != Some(1)
            {
                return Err(format!("an array of type `{}`, expected one short text", header.descr()));
            }
            let mut bytes = vec![0; header.item_bytes() as usize];
            reader.read_exact(&mut bytes).map_err(|e| format!("truncated or damaged: {e}"))?;
            // Format names are ASCII, so text of four bytes a letter differs from bytes by zeros only.
            Ok(bytes.into_iter().filter(|&b| b != 0).map(char::from).collect())
        })
    }

    fn shape(&mut self) -> Result<(usize, usize)> {
        let sides = self.integers("shape", |side| Ok(side as usize))?;
        match sides.as_slice() {
            &[rows, cols] => Ok((rows, cols)),
            other => Err(Error::file(self.path, format!("a shape of {} numbers, expected two", other.len()))),
        }
    }

    fn integers<T>(&mut self, name: &str, accept: impl Fn(u64) -> Checked<T>) -> Result<Vec<T>> {
        self.member(name, |reader, header, limit| read_integers(reader, header, limit, accept))
    }

    /// Ids below `end`.
    fn ids(&mut self, name: &str, end: usize) -> Result<Vec<u32>> {
        let end = (end as u64).min(u32::MAX as u64);
        self.integers(name, |id| {
            if id < end {
                Ok(id as u32)
            } else {
                Err(format!("index {id} is outside the shape, expected less than {end}"))
            }
        })
    }

    fn values(&mut self) -> Result<Vec<f32>> {
        self.member("data", |reader, header, limit| read_floats(reader, header, limit))
    }

    /// Members `indptr`, `indices`, `data` as the rows of a `[major, minor]` matrix.
    fn compressed(mut self, major: usize, minor: usize) -> Result<Csr> {
        let mut second = Archive::open(self.path)?;
        let (ids, values) = rayon::join(
            || {
                let indptr = self.integers("indptr", Ok)?;
                Ok((indptr, self.ids("indices", minor)?))
            },
            || second.values(),
        );
        let (indptr, indices) = ids?;
        csr_from_unsorted(major, minor, indptr, indices, values?)
    }

    /// Members `row`, `col`, `data`.
    fn coordinates(mut self, rows: usize, cols: usize) -> Result<Csr> {
        let mut second = Archive::open(self.path)?;
        let (ids, values) =
            rayon::join(|| Ok((self.ids("row", rows)?, self.ids("col", cols)?)), || second.values());
        let (row, col): (Vec<u32>, Vec<u32>) = ids?;
        let values = values?;
        if row.len() != col.len() || row.len() != values.len() {
            let (r, c, v) = (row.len(), col.len(), values.len());
            return Err(Error::Shape(format!("{r} row ids, {c} column ids and {v} values")));
        }
        believe(self.path, rows, "rows", values.len())?;
        from_coordinates(rows, cols, &row, &col, &values)
    }
}

/// The number of rows is the one size that csc and coo files do not back with data: a damaged one must not make us
/// ask for all memory. Nor does any file back the number of columns, which whoever needs an array by column asks about.
pub(crate) fn believe(path: &Path, side: usize, what: &str, nnz: usize) -> Result<()> {
    if side > PLAUSIBLE_SIDE && (nnz as f64) < side as f64 * MIN_DENSITY {
        return Err(Error::file(path, format!("damaged: a shape of {side} {what} for {nnz} entries")));
    }
    Ok(())
}

/// Counting sort by row, O(nnz + rows); entries of a row stay in the order given.
fn from_coordinates(rows: usize, cols: usize, row: &[u32], col: &[u32], values: &[f32]) -> Result<Csr> {
    let mut indptr = vec![0u64; rows + 1];
    for &r in row {
        indptr[r as usize + 1] += 1;
    }
    for r in 0..rows {
        indptr[r + 1] += indptr[r];
    }
    let mut next = indptr.clone();
    let (mut indices, mut sorted) = (vec![0; col.len()], vec![0.0; col.len()]);
    for ((&r, &c), &v) in row.iter().zip(col).zip(values) {
        let at = next[r as usize] as usize;
        next[r as usize] += 1;
        (indices[at], sorted[at]) = (c, v);
    }
    csr_from_unsorted(rows, cols, indptr, indices, sorted)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::csr::CsrBuilder;

    proptest! {
        // Each case writes and syncs files.
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn matrices_come_back(rows in vec(vec((0u32..30, -1e6f32..1e6), 0..9), 0..12)) {
            let mut builder = CsrBuilder::new();
            for row in &rows {
                builder.push(row.iter().copied());
            }
            let m = builder.finish(30).unwrap();
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("m.npz");
            write(&path, &m).unwrap();
            prop_assert_eq!(read(&path).unwrap(), m);
        }
    }

    #[test]
    fn the_same_matrix_gives_the_same_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a.npz"), dir.path().join("b.npz"));
        let m = Csr::new(1, 3, vec![0, 2], vec![0, 2], vec![1.5, 2.5]).unwrap();
        write(&a, &m).unwrap();
        write(&b, &m).unwrap();
        assert_eq!(std::fs::read(a).unwrap(), std::fs::read(b).unwrap());
    }

    #[test]
    fn coordinates_in_any_order_add_up() {
        let m = from_coordinates(3, 4, &[2, 0, 2, 2], &[1, 3, 0, 1], &[1.0, 2.0, 3.0, 4.0]).unwrap();
        let expected = Csr::new(3, 4, vec![0, 1, 1, 3], vec![3, 0, 1], vec![2.0, 3.0, 5.0]).unwrap();
        assert_eq!(m, expected);
    }

    #[test]
    fn rows_without_data_behind_them_are_not_believed() {
        assert!(believe(Path::new("m.npz"), 1 << 40, "rows", 10).is_err());
        assert!(believe(Path::new("m.npz"), 1 << 20, "rows", 0).is_ok());
    }
}
