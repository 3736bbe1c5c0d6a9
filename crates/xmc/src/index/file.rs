//! One file of label embeddings, used from the map as it is.
//!
//! ```text
//! 0   magic "XMCLABEM"
//! 8   u32 version, u32 byte-order mark 0x01020304
//! 16  u64 bytes of the whole file
//! 24  u64 labels l
//! 32  u64 dimensions d
//! 40  u32 dtype: 0 f32, 1 bf16, 2 int8; u32 zero
//! 48  u64 zero
//! 56  u64 xxh3 of bytes 0..56
//! 64  arrays, each at a multiple of 64:
//!     norms f32 [l], residuals f32 [l]
//!     f32:  values f32 [l, d]
//!     bf16: values bf16 [l, d]
//!     int8: scales f32 [l], codes i8 [l, d], values bf16 [l, d]
//! ```
//! Numbers are little-endian. The header alone says where everything stands; the integrity of the content is the
//! business of the model directory, and no damage can lead to a read outside the map.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use bytemuck::Pod;
use xmc_data::Buffer;
use xmc_data::buffer::map_file;
use xmc_data::formats::atomic::write_atomically;
use xxhash_rust::xxh3::xxh3_64;

use super::embeddings::{Encoded, LabelEmbeddings, Values};
use super::quantize::Dtype;
use crate::error::{Error, Result};

const MAGIC: &[u8; 8] = b"XMCLABEM";
const VERSION: u32 = 1;
const BYTE_ORDER: u32 = 0x0102_0304;
const ALIGN: u64 = 64;
const HEADER: usize = 64;
const DTYPES: [Dtype; 3] = [Dtype::F32, Dtype::Bf16, Dtype::Int8];

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Shape {
    rows: u64,
    dim: u64,
    dtype: Dtype,
}

/// Where the arrays begin.
struct Places {
    norms: u64,
    residuals: u64,
    scales: u64,
    codes: u64,
    values: u64,
    end: u64,
}

impl Shape {
    /// None if the sizes are beyond any file.
    fn places(self) -> Option<Places> {
        let mut end = HEADER as u64;
        let mut place = |width: u64, bytes: u64| {
            let start = if bytes == 0 { end } else { end.next_multiple_of(ALIGN) };
            end = self.rows.checked_mul(width)?.checked_mul(bytes)?.checked_add(start)?;
            (end < 1 << 60).then_some(start)
        };
        let int8 = u64::from(self.dtype == Dtype::Int8);
        let (norms, residuals) = (place(1, 4)?, place(1, 4)?);
        let (scales, codes) = (place(1, 4 * int8)?, place(self.dim, int8)?);
        let values = place(self.dim, if self.dtype == Dtype::F32 { 4 } else { 2 })?;
        Some(Places { norms, residuals, scales, codes, values, end })
    }

    fn header(self, bytes: u64) -> Vec<u8> {
        let mut header = MAGIC.to_vec();
        header.extend(VERSION.to_le_bytes());
        header.extend(BYTE_ORDER.to_le_bytes());
        for word in [bytes, self.rows, self.dim, self.dtype as u64, 0] {
            header.extend(word.to_le_bytes());
        }
        header.extend(xxh3_64(&header).to_le_bytes());
        header
    }

    fn read(map: &[u8], path: &Path) -> Result<(Self, Places)> {
        let wrong = |problem: String| Err(Error::file(path, problem));
        if !map.starts_with(MAGIC) {
            return wrong("not a file of label embeddings of xmc (its first bytes are others)".to_owned());
        }
        let word =
            |at: usize| map.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);
        let Some(header) = map.get(..HEADER) else {
            return wrong(format!("truncated: {} bytes, the header has {HEADER}", map.len()));
        };
        match word(8) as u32 {
            VERSION => {}
            v => {
                return wrong(format!(
                    "written in format {v}, this program reads {VERSION}: use the xmc that wrote it"
                ));
            }
        }
        if word(8) >> 32 != u64::from(BYTE_ORDER) || word(56) != xxh3_64(&header[..56]) {
            return wrong(
                "damaged header: its checksum does not fit; copy or write the file again".to_owned(),
            );
        }
        let Some(&dtype) = DTYPES.get(word(40) as usize) else {
            return wrong(format!("value type {} is unknown: use the xmc that wrote it", word(40)));
        };
        let shape = Shape { rows: word(24), dim: word(32), dtype };
        match shape.places().filter(|places| shape.dim > 0 && places.end == word(16)) {
            Some(places) if word(16) == map.len() as u64 => Ok((shape, places)),
            Some(_) => wrong(format!("truncated: {} bytes, expected {}", map.len(), word(16))),
            None => wrong("damaged header: its sizes do not fit each other".to_owned()),
        }
    }
}

/// Takes the rows of a file, in as many pieces as one likes.
pub struct Writer<'a> {
    file: &'a mut BufWriter<File>,
    path: &'a Path,
    shape: Shape,
    places: Places,
    done: u64,
}

impl Writer<'_> {
    /// Adds rows of d values.
    pub fn push(&mut self, rows: &[f32]) -> Result<()> {
        let mut encoded = Encoded::default();
        encoded.push(self.shape.dim as usize, rows, self.shape.dtype, self.done as usize)?;
        let count = encoded.norms.len() as u64;
        if self.done + count > self.shape.rows {
            return Err(Error::Mismatch(format!("more than the {} labels announced", self.shape.rows)));
        }
        self.write(self.places.norms, 1, &encoded.norms)?;
        self.write(self.places.residuals, 1, &encoded.residuals)?;
        self.write(self.places.scales, 1, &encoded.scales)?;
        let dim = self.shape.dim;
        self.write(self.places.codes, dim, &encoded.codes)?;
        self.write(self.places.values, dim, &encoded.floats)?;
        self.write(self.places.values, dim, &encoded.halves)?;
        self.done += count;
        Ok(())
    }

    /// Adds the rows of a matrix of the same shape as they are.
    fn copy(&mut self, old: &LabelEmbeddings) -> Result<()> {
        let dim = self.shape.dim;
        self.write(self.places.norms, 1, &old.norms)?;
        self.write(self.places.residuals, 1, &old.residuals)?;
        match &old.values {
            Values::F32(values) => self.write(self.places.values, dim, values)?,
            Values::Bf16(values) => self.write(self.places.values, dim, values)?,
            Values::Int8 { codes, scales, exact } => {
                self.write(self.places.scales, 1, scales)?;
                self.write(self.places.codes, dim, codes)?;
                self.write(self.places.values, dim, exact)?;
            }
        }
        self.done += old.rows() as u64;
        Ok(())
    }

    /// Writes a part of the array at `place`, whose rows have `width` values, below what is done.
    fn write<T: Pod>(&mut self, place: u64, width: u64, values: &[T]) -> Result<()> {
        if values.is_empty() {
            return Ok(());
        }
        let at = place + self.done * width * size_of::<T>() as u64;
        self.file
            .seek(SeekFrom::Start(at))
            .and_then(|_| self.file.write_all(bytemuck::cast_slice(values)))
            .map_err(Error::io(self.path))
    }
}

/// Writes aside and renames; `old` comes first, then what `fill` pushes.
fn write(
    path: &Path,
    shape: Shape,
    old: Option<&LabelEmbeddings>,
    fill: impl FnOnce(&mut Writer<'_>) -> Result<()>,
) -> Result<()> {
    let Some(places) = shape.places().filter(|_| shape.dim > 0) else {
        let Shape { rows, dim, .. } = shape;
        return Err(Error::Mismatch(format!("no file can hold {rows} labels of {dim} dimensions")));
    };
    // The writer below speaks the errors of data; the first of ours is kept aside.
    let mut failed = None;
    let written = write_atomically(path, |file| {
        file.write_all(&shape.header(places.end)).map_err(xmc_data::Error::io(path))?;
        let mut writer = Writer { file, path, shape, places, done: 0 };
        let filled = old.map_or(Ok(()), |old| writer.copy(old)).and_then(|()| fill(&mut writer));
        let filled = filled.and_then(|()| match writer.done {
            done if done == shape.rows => Ok(()),
            done => Err(Error::Mismatch(format!("{done} of {} labels announced", shape.rows))),
        });
        filled.map_err(|e| {
            failed = Some(e);
            xmc_data::Error::file(path, "not written")
        })
    });
    match failed {
        Some(e) => Err(e),
        None => Ok(written?),
    }
}

impl LabelEmbeddings {
    /// Writes a file of `rows` labels; `fill` pushes them in order, in pieces of any size.
    ///
    /// The file appears complete or, if anything fails, not at all.
    pub fn write(
        path: &Path,
        rows: usize,
        dim: usize,
        dtype: Dtype,
        fill: impl FnOnce(&mut Writer<'_>) -> Result<()>,
    ) -> Result<()> {
        write(path, Shape { rows: rows as u64, dim: dim as u64, dtype }, None, fill)
    }

    /// Writes these labels as they are and `rows` new ones behind them; `path` may be where these come from.
    pub fn append(
        &self,
        path: &Path,
        rows: usize,
        fill: impl FnOnce(&mut Writer<'_>) -> Result<()>,
    ) -> Result<()> {
        let rows = (self.rows() + rows) as u64;
        write(path, Shape { rows, dim: self.dim as u64, dtype: self.dtype() }, Some(self), fill)
    }

    /// Writes these labels.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.append(path, 0, |_| Ok(()))
    }

    /// Maps a file, in time that does not depend on its size.
    pub fn open(path: &Path) -> Result<Self> {
        let map = map_file(path)?;
        let (shape, places) = Shape::read(&map, path)?;
        let (rows, dim) = (shape.rows as usize, shape.dim as usize);
        let mapped = |place: u64| Buffer::mapped(&map, place as usize, rows, path);
        let values = places.values as usize;
        Ok(LabelEmbeddings {
            dim,
            norms: mapped(places.norms)?,
            residuals: mapped(places.residuals)?,
            values: match shape.dtype {
                Dtype::F32 => Values::F32(Buffer::mapped(&map, values, rows * dim, path)?),
                Dtype::Bf16 => Values::Bf16(Buffer::mapped(&map, values, rows * dim, path)?),
                Dtype::Int8 => Values::Int8 {
                    codes: Buffer::mapped(&map, places.codes as usize, rows * dim, path)?,
                    scales: mapped(places.scales)?,
                    exact: Buffer::mapped(&map, values, rows * dim, path)?,
                },
            },
        })
    }
}
