//! A slice that is either owned or memory-mapped from a file.

use std::fs::File;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use bytemuck::Pod;
use memmap2::Mmap;

use crate::error::{Error, Result};

/// Numbers that live in memory or in a mapped file; both read as a slice.
#[derive(Clone, Debug)]
pub enum Buffer<T> {
    /// Owned by this process.
    Owned(Vec<T>),
    /// A part of a mapped file, shared by everything that was read from it.
    Mapped(Mapped),
}

/// `len` values that begin `offset` bytes into a mapped file.
#[derive(Clone, Debug)]
pub struct Mapped {
    map: Arc<Mmap>,
    offset: usize,
    bytes: usize,
}

impl<T: Pod> Buffer<T> {
    /// Views `len` values of a mapped file, or says that the file has no such part.
    pub fn mapped(map: &Arc<Mmap>, offset: usize, len: usize, path: &Path) -> Result<Self> {
        let bytes = len.checked_mul(size_of::<T>()).filter(|bytes| {
            offset.is_multiple_of(align_of::<T>())
                && offset.checked_add(*bytes).is_some_and(|end| end <= map.len())
        });
        match bytes {
            Some(bytes) => Ok(Buffer::Mapped(Mapped { map: Arc::clone(map), offset, bytes })),
            None => Err(Error::file(
                path,
                format!("truncated or damaged: no {len} values at byte {offset} of {}", map.len()),
            )),
        }
    }
}

impl<T: Pod> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Buffer::Owned(values) => values,
            // Range and alignment were checked by `mapped`; the map itself starts on a page.
            Buffer::Mapped(m) => bytemuck::cast_slice(&m.map[m.offset..m.offset + m.bytes]),
        }
    }
}

impl<T> From<Vec<T>> for Buffer<T> {
    fn from(values: Vec<T>) -> Self {
        Buffer::Owned(values)
    }
}

/// Maps a whole file for reading.
///
/// The file must not shrink while it is mapped. Everything this project writes is written aside and renamed into
/// place, so an open map keeps the old content.
pub fn map_file(path: &Path) -> Result<Arc<Mmap>> {
    let file = File::open(path).map_err(Error::io(path))?;
    // SAFETY: the map is read-only and only handed out as plain-old-data; see the contract above for truncation.
    let map = unsafe { Mmap::map(&file) }.map_err(Error::io(path))?;
    Ok(Arc::new(map))
}
