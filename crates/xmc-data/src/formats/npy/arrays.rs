//! How are whole numpy arrays of one number type read and written: neighbours (i4), their scores (f4), offsets (i8)?
//!
//! Unlike a matrix of features, ids must come back exactly, so an array of floats is refused where integers are asked for.
//! Of a wide matrix the first columns can be read alone: nothing else is held in memory.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use super::{CHUNK, Checked, Header, expect_end, write_elements};
use crate::error::{Error, Result};
use crate::formats::atomic::write_atomically;

/// A number that an array may hold.
pub trait Element: Copy {
    /// Kind and bytes as numpy writes them.
    const KIND: (char, usize);

    /// From an element of any type, little-endian in the low bytes; says what is wrong.
    fn read(kind: char, size: usize, bytes: [u8; 8]) -> std::result::Result<Self, String>;

    /// Little-endian, in the low bytes.
    fn bytes(self) -> [u8; 8];
}

/// Any integer as i64.
fn integer(kind: char, size: usize, bytes: [u8; 8]) -> Checked<i64> {
    let shift = 64 - 8 * size as u32;
    match (kind, size) {
        ('i', 1 | 2 | 4 | 8) => Ok(i64::from_le_bytes(bytes) << shift >> shift),
        ('u', 1 | 2 | 4 | 8) => {
            let value = u64::from_le_bytes(bytes);
            i64::try_from(value).map_err(|_| format!("value {value}, expected at most {}", i64::MAX))
        }
        _ => Err(format!("an element of type `{kind}{size}`, expected an integer (i4 or i8)")),
    }
}

impl Element for i64 {
    const KIND: (char, usize) = ('i', 8);

    fn read(kind: char, size: usize, bytes: [u8; 8]) -> Checked<Self> {
        integer(kind, size, bytes)
    }

    fn bytes(self) -> [u8; 8] {
        self.to_le_bytes()
    }
}

impl Element for i32 {
    const KIND: (char, usize) = ('i', 4);

    fn read(kind: char, size: usize, bytes: [u8; 8]) -> Checked<Self> {
        let value = integer(kind, size, bytes)?;
        value.try_into().map_err(|_| format!("value {value}, expected one that fits 32 bits"))
    }

    fn bytes(self) -> [u8; 8] {
        i64::from(self).to_le_bytes()
    }
}

impl Element for f32 {
    const KIND: (char, usize) = ('f', 4);

    fn read(kind: char, size: usize, bytes: [u8; 8]) -> Checked<Self> {
        let value = match (kind, size) {
            ('f', 4) => f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
            ('f', 8) => f64::from_le_bytes(bytes) as f32,
            _ => return Err(format!("an element of type `{kind}{size}`, expected a real number (f4 or f8)")),
        };
        if value.is_finite() { Ok(value) } else { Err(format!("value {value}, expected a finite number")) }
    }

    fn bytes(self) -> [u8; 8] {
        u64::from(self.to_bits()).to_le_bytes()
    }
}

/// An array of any number of dimensions, row after row.
#[derive(Clone, Debug, PartialEq)]
pub struct Array<T> {
    /// Length of each dimension.
    pub shape: Vec<usize>,
    /// All elements.
    pub values: Vec<T>,
}

impl<T: Element> Array<T> {
    /// Puts the parts together.
    ///
    /// # Errors
    /// If the shape has not as many places as there are values.
    pub fn new(shape: &[usize], values: Vec<T>) -> Result<Self> {
        let places = shape.iter().try_fold(1usize, |n, &side| n.checked_mul(side));
        if places != Some(values.len()) {
            return Err(Error::Shape(format!("{} values for an array of shape {shape:?}", values.len())));
        }
        Ok(Array { shape: shape.to_vec(), values })
    }

    /// Reads a `.npy` file.
    pub fn read(path: &Path) -> Result<Self> {
        Array::read_columns(path, usize::MAX)
    }

    /// Reads the first `most` places of the last dimension of a `.npy` file; all if there are fewer.
    pub fn read_columns(path: &Path, most: usize) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        let bytes = file.metadata().map_err(Error::io(path))?.len();
        let mut reader = BufReader::with_capacity(CHUNK, file);
        let read = |reader: &mut dyn Read| {
            let header = Header::read(reader)?;
            let array = rows(reader, &header, bytes, most)?;
            expect_end(reader)?;
            Ok(array)
        };
        read(&mut reader).map_err(|problem: String| Error::file(path, problem))
    }

    /// Reads a file of numbers without a header, `width` a row, as `numpy.memmap` leaves it.
    pub fn read_headless(path: &Path, width: usize) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        let bytes = file.metadata().map_err(Error::io(path))?.len();
        let (kind, size) = T::KIND;
        let row = width.saturating_mul(size).max(1) as u64;
        if bytes % row != 0 {
            let problem = format!("{bytes} bytes, expected rows of {width} numbers of {size} bytes");
            return Err(Error::file(path, problem));
        }
        let header = Header::new(kind, size, &[bytes / row, width as u64]);
        let mut reader = BufReader::with_capacity(CHUNK, file);
        rows(&mut reader, &header, bytes, usize::MAX).map_err(|problem| Error::file(path, problem))
    }

    /// Writes a `.npy` file in C order.
    pub fn write(&self, path: &Path) -> Result<()> {
        let (kind, size) = T::KIND;
        let shape: Vec<u64> = self.shape.iter().map(|&side| side as u64).collect();
        write_atomically(path, |file| {
            Header::new(kind, size, &shape)
                .write(file)
                .and_then(|()| match size {
                    4 => write_elements(file, &self.values, |v| first_four(v.bytes())),
                    _ => write_elements(file, &self.values, T::bytes),
                })
                .map_err(Error::io(path))
        })
    }
}

fn first_four([a, b, c, d, ..]: [u8; 8]) -> [u8; 4] {
    [a, b, c, d]
}

/// Row after row, the first `most` elements of each; `limit` is the number of bytes that the source can hold.
fn rows<T: Element>(reader: &mut dyn Read, header: &Header, limit: u64, most: usize) -> Checked<Array<T>> {
    let size = header.size;
    if !(1..=8).contains(&size) || header.kind == 'U' {
        return Err(format!("elements of type `{}`, expected numbers", header.descr()));
    }
    if header.fortran && header.shape.len() > 1 {
        return Err("an array in Fortran order: save `numpy.ascontiguousarray(array)`".to_owned());
    }
    let fits = header.count().and_then(|n| n.checked_mul(size as u64)).is_some_and(|bytes| bytes <= limit);
    if !fits {
        return Err(format!("truncated or damaged: no room for an array of shape {:?}", header.shape));
    }
    let mut shape: Vec<usize> = header.shape.iter().map(|&side| side as usize).collect();
    let width = shape.last().copied().unwrap_or(1);
    let kept = width.min(most);
    let count = header.count().unwrap_or_default() as usize / width.max(1);
    let mut values = Vec::with_capacity(count * kept);
    // An array without elements says nothing about how wide its rows may be.
    let mut row = vec![0; if count == 0 { 0 } else { width * size }];
    for i in 0..count {
        reader.read_exact(&mut row).map_err(|e| format!("truncated or damaged in row {i}: {e}"))?;
        for (at, element) in row.chunks_exact(size).take(kept).enumerate() {
            let mut bytes = [0; 8];
            for (to, from) in bytes.iter_mut().zip(element) {
                *to = *from;
            }
            if header.big_endian {
                bytes[..size].reverse();
            }
            let value = T::read(header.kind, size, bytes);
            values.push(value.map_err(|problem| format!("element {}: {problem}", i * width + at))?);
        }
    }
    if let Some(last) = shape.last_mut() {
        *last = kept;
    }
    Ok(Array { shape, values })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn golden(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/npy").join(name)
    }

    proptest! {
        // Each case writes and syncs files.
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn arrays_come_back(rows in 0usize..5, cols in 1usize..4, most in 0usize..5, seed in any::<i32>()) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.npy");
            let ids: Vec<i32> = (1..).take(rows * cols).map(|i| seed.wrapping_mul(i)).collect();
            let wide: Vec<i64> = ids.iter().map(|&id| i64::from(id) << 31).collect();
            let reals: Vec<f32> = ids.iter().map(|&id| id as f32 / 7.0).collect();
            let a = Array::new(&[rows, cols], ids.clone()).unwrap();
            a.write(&path).unwrap();
            prop_assert_eq!(&Array::read(&path).unwrap(), &a);
            let first = Array::<i32>::read_columns(&path, most).unwrap();
            let expected: Vec<i32> = ids.chunks(cols).flat_map(|row| row.iter().take(most).copied()).collect();
            prop_assert_eq!((first.shape, first.values), (vec![rows, most.min(cols)], expected));
            let a = Array::new(&[rows * cols], wide).unwrap();
            a.write(&path).unwrap();
            prop_assert_eq!(&Array::read(&path).unwrap(), &a);
            let a = Array::new(&[rows, cols], reals).unwrap();
            a.write(&path).unwrap();
            prop_assert_eq!(&Array::read(&path).unwrap(), &a);
        }
    }

    #[test]
    fn files_of_numpy_are_read_and_written_alike() {
        let dir = tempfile::tempdir().unwrap();
        let same = |name: &str, write: &dyn Fn(&Path)| {
            let path = dir.path().join(name);
            write(&path);
            // The same but for blanks in the header.
            let [theirs, ours] = [golden(name), path].map(|path| std::fs::read(path).unwrap());
            assert_eq!(theirs.len(), ours.len(), "{name}");
            assert_eq!(theirs[128..], ours[128..], "{name}");
        };
        let ids = Array::new(&[2, 3], vec![0, 7, -1, i32::MAX, 2, -1]).unwrap();
        assert_eq!(Array::<i32>::read(&golden("i4.npy")).unwrap(), ids);
        same("i4.npy", &|path| ids.write(path).unwrap());
        let cosines = Array::new(&[2, 3], vec![0.9f32, 0.7, 0.0, 1.0, 0.6, -0.25]).unwrap();
        assert_eq!(Array::<f32>::read(&golden("f4.npy")).unwrap(), cosines);
        same("f4.npy", &|path| cosines.write(path).unwrap());
        let starts = Array::new(&[4], vec![0i64, 2, 2, 5_000_000_000]).unwrap();
        assert_eq!(Array::<i64>::read(&golden("i8.npy")).unwrap(), starts);
        same("i8.npy", &|path| starts.write(path).unwrap());
        let tokens = Array::<i64>::read_headless(&golden("tokens.dat"), 4).unwrap();
        assert_eq!(tokens, Array::new(&[2, 4], vec![101, 7, 102, 0, 101, 30_000, 8, 102]).unwrap());
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npy");
        let message = |e: Result<Array<i32>>| e.unwrap_err().to_string();
        Array::new(&[2], vec![1i64, 1 << 40]).unwrap().write(&path).unwrap();
        assert!(
            message(Array::read(&path)).contains("element 1: value 1099511627776, expected one that fits")
        );
        Array::new(&[1], vec![0.5f32]).unwrap().write(&path).unwrap();
        assert!(message(Array::read(&path)).contains("`f4`, expected an integer"));
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(message(Array::read(&path)).contains("truncated"));
        std::fs::write(&path, [0; 12]).unwrap();
        assert!(
            message(Array::read_headless(&path, 2)).contains("12 bytes, expected rows of 2 numbers of 4")
        );
        assert!(Array::new(&[2, 2], vec![1i32]).is_err());
        let mut empty = Vec::new();
        Header::new('i', 4, &[0, 1 << 62]).write(&mut empty).unwrap();
        std::fs::write(&path, empty).unwrap();
        assert!(Array::<i32>::read(&path).unwrap().values.is_empty());
    }
}
