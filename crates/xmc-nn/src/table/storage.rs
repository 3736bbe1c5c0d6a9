//! Where do arrays lie that may be larger than memory?
//!
//! In pages that the system hands out when they are first touched: anonymous ones, which are zero and cost nothing until
//! then, or those of a working file, which the system may write out and read again as it needs room.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use bytemuck::Pod;
use memmap2::{MmapMut, MmapOptions};

use crate::error::{Error, Result};

/// Arrays of a file begin at multiples of this: what every system accepts as a place to map from.
const PAGE: u64 = 1 << 16;

/// Where a table keeps its arrays.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// In memory.
    Memory,
    /// In a working file of this name, made anew (an older one is overwritten) and removed with the table. It is sparse:
    /// only what was touched takes room on the disk, which must not run full.
    File(&'a Path),
}

/// Hands out arrays of one table.
#[derive(Debug)]
pub(super) struct Arrays {
    file: Option<(File, Removed)>,
    used: u64,
}

/// A file that goes with its owner.
#[derive(Debug)]
pub(super) struct Removed(PathBuf);

/// An array of zeros to begin with.
#[derive(Debug)]
pub(super) struct Array {
    map: MmapMut,
    bytes: usize,
}

impl Arrays {
    pub(super) fn new(place: Place<'_>) -> Result<Self> {
        let file = match place {
            Place::Memory => None,
            Place::File(path) => {
                let mut options = OpenOptions::new();
                options.read(true).write(true).create(true).truncate(true);
                let file = options.open(path).map_err(Error::io(path))?;
                Some((file, Removed(path.to_owned())))
            }
        };
        Ok(Arrays { file, used: 0 })
    }

    /// An array of `len` numbers.
    pub(super) fn array<T: Pod>(&mut self, len: usize) -> Result<Array> {
        let too_large = || Error::Shape(format!("a table with {len} numbers is too large for this machine"));
        let bytes = len.checked_mul(size_of::<T>()).filter(|&bytes| bytes < isize::MAX as usize / 2);
        let bytes = bytes.ok_or_else(too_large)?;
        // Whole f32, so that any array can be stored as a run of them; and never nothing.
        let padded = bytes.next_multiple_of(4).max(4);
        let map = match &self.file {
            None => MmapMut::map_anon(padded).map_err(|_| too_large())?,
            Some((file, Removed(path))) => {
                let end = self.used + (padded as u64).next_multiple_of(PAGE);
                file.set_len(end).map_err(Error::io(path))?;
                // SAFETY: the file was made by this table, which alone maps this stretch of it.
                let map = unsafe { MmapOptions::new().offset(self.used).len(padded).map_mut(file) };
                self.used = end;
                map.map_err(Error::io(path))?
            }
        };
        // Rows are met in random order: small pages would cost a walk through the page table for each. Only a wish.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Array { map, bytes })
    }

    /// What removes the working file when it is dropped; to be kept as long as the arrays.
    pub(super) fn removed(self) -> Option<Removed> {
        self.file.map(|(_, removed)| removed)
    }
}

impl Drop for Removed {
    fn drop(&mut self) {
        // A file that cannot be removed is overwritten by the next table of its name.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Array {
    pub(super) fn get<T: Pod>(&self) -> &[T] {
        bytemuck::cast_slice(&self.map[..self.bytes])
    }

    pub(super) fn get_mut<T: Pod>(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(&mut self.map[..self.bytes])
    }

    /// All bits as a run of f32.
    pub(super) fn bits(&self) -> &[f32] {
        bytemuck::cast_slice(&self.map[..self.bytes.next_multiple_of(4)])
    }

    /// Replaces all bits by what [`Array::bits`] gave.
    pub(super) fn set_bits(&mut self, bits: &[f32]) {
        self.map[..self.bytes.next_multiple_of(4)].copy_from_slice(bytemuck::cast_slice(bits));
    }
}
