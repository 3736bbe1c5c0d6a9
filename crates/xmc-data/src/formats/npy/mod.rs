//! How are dense numpy arrays read and written?
//!
//! Any real type (f4, f8, integers, bool) in either byte order, C or Fortran order, becomes f32 rows. Elements are
//! converted while they are read, so nothing is held twice, and no more is reserved than the file can contain.

mod arrays;
mod header;

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

pub use arrays::{Array, Element};
pub(crate) use header::Header;

use super::atomic::write_atomically;
use crate::dense::Dense;
use crate::error::{Error, Result};

/// A value, or what is wrong with the array it was read from; the caller knows the file and adds its name.
pub(crate) type Checked<T> = std::result::Result<T, String>;

/// Bytes converted at once.
const CHUNK: usize = 1 << 16;

/// Reads a two-dimensional `.npy` file.
pub fn read_dense(path: &Path) -> Result<Dense> {
    let file = File::open(path).map_err(Error::io(path))?;
    let bytes = file.metadata().map_err(Error::io(path))?.len();
    let mut reader = BufReader::with_capacity(CHUNK, file);
    let read = |reader: &mut dyn Read| {
        let header = Header::read(reader)?;
        let &[rows, cols] = header.shape.as_slice() else {
            return Err(format!("an array of shape {:?}, expected two dimensions", header.shape));
        };
        let values = read_floats(reader, &header, bytes)?;
        expect_end(reader)?;
        Ok((rows as usize, cols as usize, header.fortran, values))
    };
    let (rows, cols, fortran, mut values) =
        read(&mut reader).map_err(|problem| Error::file(path, problem))?;
    // Without the second test a damaged shape of 2^60 rows and no columns would be walked through.
    if fortran && !values.is_empty() {
        values = transposed(&values, cols, rows);
    }
    Dense::new(rows, cols, values).map_err(|e| Error::file(path, e.to_string()))
}

/// Writes a matrix as f4 in C order.
pub fn write_dense(path: &Path, m: &Dense) -> Result<()> {
    write_atomically(path, |file| {
        Header::new('f', 4, &[m.rows() as u64, m.cols() as u64])
            .write(file)
            .and_then(|()| write_elements(file, m.values(), f32::to_le_bytes))
            .map_err(Error::io(path))
    })
}

/// Writes a matrix whose number of rows shows only at its end, as f4 in C order.
///
/// ```
/// use std::io::Cursor;
/// use xmc_data::formats::npy::RowWriter;
/// let mut file = Cursor::new(Vec::new());
/// let mut rows = RowWriter::new(&mut file, 2)?;
/// rows.push(&[1.0, 2.0, 3.0, 4.0])?;
/// rows.push(&[5.0, 6.0])?;
/// assert_eq!(rows.finish()?, 3);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct RowWriter<'f, F> {
    file: &'f mut F,
    cols: usize,
    rows: u64,
}

impl<'f, F: Write + Seek> RowWriter<'f, F> {
    /// Begins at the start of `file`; rows have `cols` values.
    pub fn new(file: &'f mut F, cols: usize) -> io::Result<Self> {
        Header::new('f', 4, &[0, cols as u64]).write(file)?;
        Ok(RowWriter { file, cols, rows: 0 })
    }

    /// Appends whole rows.
    ///
    /// # Errors
    /// If the file cannot be written.
    ///
    /// # Panics
    /// If `values` are not whole rows.
    pub fn push(&mut self, values: &[f32]) -> io::Result<()> {
        assert!(values.len().is_multiple_of(self.cols.max(1)), "rows have {} values", self.cols);
        write_elements(self.file, values, f32::to_le_bytes)?;
        self.rows += (values.len() / self.cols.max(1)) as u64;
        Ok(())
    }

    /// Writes how many rows there were, and returns it.
    pub fn finish(self) -> io::Result<u64> {
        self.file.seek(SeekFrom::Start(0))?;
        self.header().write(self.file)?;
        self.file.seek(SeekFrom::End(0))?;
        Ok(self.rows)
    }

    /// As many bytes for any number of rows: two numbers of up to 20 digits fit into 128.
    fn header(&self) -> Header {
        Header::new('f', 4, &[self.rows, self.cols as u64])
    }
}

/// `[rows, cols]` to `[cols, rows]`, both row after row.
fn transposed(values: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    (0..cols).flat_map(|c| (0..rows).map(move |r| values[r * cols + c])).collect()
}

/// Reads all elements as f32; `limit` is the number of bytes that the source can hold.
pub(crate) fn read_floats(reader: &mut dyn Read, header: &Header, limit: u64) -> Checked<Vec<f32>> {
    let convert: fn([u8; 8]) -> f32 = match (header.kind, header.size) {
        ('f', 4) => |b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]),
        ('f', 8) => |b| f64::from_le_bytes(b) as f32,
        ('b' | 'u', 1) | ('u', 2 | 4 | 8) => |b| u64::from_le_bytes(b) as f32,
        ('i', 1) => |b| i8::from_le_bytes([b[0]]).into(),
        ('i', 2) => |b| i16::from_le_bytes([b[0], b[1]]).into(),
        ('i', 4) => |b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]) as f32,
        ('i', 8) => |b| i64::from_le_bytes(b) as f32,
        _ => return Err(format!("elements of type `{}`, expected real numbers (f4 or f8)", header.descr())),
    };
    read_elements(reader, header, limit, |bytes| {
        let value = convert(bytes);
        if value.is_finite() { Ok(value) } else { Err(format!("value {value}, expected a finite number")) }
    })
}

/// Reads all elements as integers that are at least 0, converted by `accept`, which may refuse them.
pub(crate) fn read_integers<T>(
    reader: &mut dyn Read,
    header: &Header,
    limit: u64,
    accept: impl Fn(u64) -> Checked<T>,
) -> Checked<Vec<T>> {
    let size = header.size;
    if !matches!((header.kind, size), ('i' | 'u', 1 | 2 | 4 | 8)) {
        return Err(format!("elements of type `{}`, expected integers (i4 or i8)", header.descr()));
    }
    let signed = header.kind == 'i';
    read_elements(reader, header, limit, |bytes| {
        let value = u64::from_le_bytes(bytes);
        // The sign is the top bit of the element, which stands in the low `size` bytes.
        if signed && value >> (8 * size - 1) & 1 == 1 {
            let negative = (value << (64 - 8 * size)).cast_signed() >> (64 - 8 * size);
            return Err(format!("value {negative}, expected 0 or more"));
        }
        accept(value)
    })
}

/// Reads elements of up to 8 bytes, each handed to `accept` little-endian in the low bytes.
fn read_elements<T>(
    reader: &mut dyn Read,
    header: &Header,
    limit: u64,
    accept: impl Fn([u8; 8]) -> Checked<T>,
) -> Checked<Vec<T>> {
    let size = header.size;
    let (count, bytes) = header
        .count()
        .and_then(|n| Some((n as usize, n.checked_mul(size as u64)?)))
        .filter(|&(_, bytes)| bytes <= limit)
        .ok_or_else(|| format!("truncated or damaged: no room for an array of shape {:?}", header.shape))?;
    let mut values = Vec::with_capacity(count);
    let mut chunk = vec![0; CHUNK];
    let mut left = bytes as usize;
    while left > 0 {
        let part = chunk.get_mut(..left.min(CHUNK)).unwrap_or_default();
        reader
            .read_exact(part)
            .map_err(|e| format!("truncated or damaged at element {}: {e}", values.len()))?;
        left -= part.len();
        for element in part.chunks_exact(size) {
            let mut bytes = [0; 8];
            bytes[..size].copy_from_slice(element);
            if header.big_endian {
                bytes[..size].reverse();
            }
            let at = values.len();
            values.push(accept(bytes).map_err(|problem| format!("element {at}: {problem}"))?);
        }
    }
    Ok(values)
}

/// Complains about bytes after the array; reading to the end also makes a zip member compare its checksum.
pub(crate) fn expect_end(reader: &mut dyn Read) -> Checked<()> {
    let mut byte = [0];
    match reader.read(&mut byte) {
        Ok(0) => Ok(()),
        Ok(_) => Err("damaged: bytes follow the end of the array".into()),
        Err(e) => Err(format!("damaged: {e}")),
    }
}

/// Writes elements in chunks.
pub(crate) fn write_elements<T: Copy, const B: usize>(
    writer: &mut dyn Write,
    values: &[T],
    to_bytes: impl Fn(T) -> [u8; B],
) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(CHUNK);
    for part in values.chunks(CHUNK / B) {
        bytes.clear();
        bytes.extend(part.iter().flat_map(|&v| to_bytes(v)));
        writer.write_all(&bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(header: &Header, elements: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npy");
        let mut bytes = Vec::new();
        header.write(&mut bytes).unwrap();
        bytes.extend_from_slice(elements);
        std::fs::write(&path, bytes).unwrap();
        (dir, path)
    }

    #[test]
    fn rows_in_pieces_make_the_same_file_whatever_their_number() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npy");
        for rows in [0, 1, 9, 12_345] {
            let values: Vec<f32> = (0..rows * 3).map(|i| i as f32).collect();
            let mut pieces = io::Cursor::new(Vec::new());
            let mut writer = RowWriter::new(&mut pieces, 3).unwrap();
            values.chunks(6).for_each(|piece| writer.push(piece).unwrap());
            assert_eq!(writer.finish().unwrap(), rows as u64);
            write_dense(&path, &Dense::new(rows, 3, values).unwrap()).unwrap();
            assert!(std::fs::read(&path).unwrap() == pieces.into_inner(), "{rows} rows");
        }
    }

    proptest! {
        // Each case writes and syncs files.
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn dense_matrices_come_back(rows in 0usize..5, cols in 1usize..4, seed in any::<u32>()) {
            let values: Vec<f32> = (0..rows * cols).map(|i| (seed as f32 + i as f32).sin()).collect();
            let m = Dense::new(rows, cols, values).unwrap();
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.npy");
            write_dense(&path, &m).unwrap();
            let back = read_dense(&path).unwrap();
            prop_assert_eq!((back.rows(), back.cols(), back.values()), (rows, cols, m.values()));
        }
    }

    #[test]
    fn fortran_order_and_big_endian_doubles_are_turned_into_rows() {
        let header = Header { big_endian: true, fortran: true, ..Header::new('f', 8, &[2, 3]) };
        let columns: Vec<u8> =
            [1.0f64, 4.0, 2.0, 5.0, 3.0, 6.0].iter().flat_map(|v| v.to_be_bytes()).collect();
        let (_dir, path) = file(&header, &columns);
        assert_eq!(read_dense(&path).unwrap().values(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    }

    #[test]
    fn integers_and_bools_become_numbers() {
        for (kind, size, bytes, expected) in [
            ('i', 1, vec![0xffu8, 2], [-1.0, 2.0]),
            ('i', 2, vec![0xff, 0xff, 2, 0], [-1.0, 2.0]),
            ('b', 1, vec![1, 0], [1.0, 0.0]),
            ('u', 4, vec![1, 0, 0, 0, 0, 1, 0, 0], [1.0, 256.0]),
        ] {
            let (_dir, path) = file(&Header::new(kind, size, &[1, 2]), &bytes);
            assert_eq!(read_dense(&path).unwrap().values(), expected);
        }
    }

    #[test]
    fn a_negative_integer_is_named_where_none_is_allowed() {
        let header = Header::new('i', 4, &[2]);
        let bytes = [1i32, -3].map(i32::to_le_bytes).concat();
        let message = read_integers(&mut bytes.as_slice(), &header, 8, Ok).unwrap_err();
        assert_eq!(message, "element 1: value -3, expected 0 or more");
    }
}
