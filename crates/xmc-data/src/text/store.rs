//! How does a vectorizer lie in a file?
//!
//! Little-endian, every part at a multiple of 8 bytes:
//! `xmcvecto`, u32 version, u32 length of the settings, u64 xxh3 of all that follows; the settings (JSON: one
//! configuration and three lengths for each vectorizer); then for each learnt vectorizer the table (u64), term offsets
//! (u32), inverse document frequencies (f32) and terms (bytes). Everything is used where it lies; opening reads the
//! file once to compare it with its checksum.

use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::config::{Kind, VectorizerConfig};
use super::vectorizer::{Block, Columns, Vectorizer};
use super::vocabulary::Vocabulary;
use crate::buffer::{Buffer, map_file};
use crate::error::{Error, Result};
use crate::formats::atomic::write_atomically;

const MAGIC: &[u8; 8] = b"xmcvecto";
const VERSION: u32 = 1;
const HEADER: usize = 24;
const ALIGN: usize = 8;

/// Settings of one vectorizer and the lengths of its arrays, all 0 if it hashes.
#[derive(Serialize, Deserialize)]
struct Entry {
    config: VectorizerConfig,
    slots: usize,
    terms: usize,
    bytes: usize,
}

/// Writes `vectorizer` to `path`.
pub(super) fn save(vectorizer: &Vectorizer, path: &Path) -> Result<()> {
    let mut entries = Vec::new();
    let mut arrays: Vec<&[u8]> = Vec::new();
    for block in vectorizer.blocks() {
        let (mut slots, mut terms, mut bytes) = (0, 0, 0);
        if let Columns::Learnt { vocabulary, idf } = &block.columns {
            (slots, terms, bytes) = (vocabulary.slots.len(), vocabulary.len(), vocabulary.bytes.len());
            arrays.push(bytemuck::cast_slice(&vocabulary.slots));
            arrays.push(bytemuck::cast_slice(&vocabulary.offsets));
            arrays.push(bytemuck::cast_slice(idf));
            arrays.push(&vocabulary.bytes);
        }
        entries.push(Entry { config: block.config.clone(), slots, terms, bytes });
    }
    let settings = serde_json::to_vec(&entries).map_err(|e| Error::file(path, e.to_string()))?;
    let parts: Vec<&[u8]> = std::iter::once(settings.as_slice()).chain(arrays).collect();
    let mut checksum = Xxh3::new();
    for part in &parts {
        checksum.update(part);
        checksum.update(padding(part.len()));
    }
    write_atomically(path, |file| {
        let mut write = || -> std::io::Result<()> {
            file.write_all(MAGIC)?;
            file.write_all(&VERSION.to_le_bytes())?;
            file.write_all(&(settings.len() as u32).to_le_bytes())?;
            file.write_all(&checksum.digest().to_le_bytes())?;
            for part in &parts {
                file.write_all(part)?;
                file.write_all(padding(part.len()))?;
            }
            Ok(())
        };
        write().map_err(Error::io(path))
    })
}

/// Zeros up to the next multiple of [`ALIGN`].
fn padding(len: usize) -> &'static [u8] {
    &[0; ALIGN][..len.next_multiple_of(ALIGN) - len]
}

/// Maps the vectorizer at `path`.
pub(super) fn open(path: &Path) -> Result<Vectorizer> {
    let map = map_file(path)?;
    let damaged = || Error::file(path, "truncated or damaged vectorizer: copy it again, or train again");
    let (Some(header), Some(content)) = (map.get(..HEADER), map.get(HEADER..)) else {
        return Err(damaged());
    };
    if !header.starts_with(MAGIC) {
        return Err(Error::file(path, "not a vectorizer of this program"));
    }
    let number =
        |at: usize| header.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes);
    let version = number(8);
    if version != VERSION {
        let problem = format!(
            "vectorizer version {version}, this program reads {VERSION}: use the program that wrote it"
        );
        return Err(Error::file(path, problem));
    }
    if header.get(16..) != Some(xxh3_64(content).to_le_bytes().as_slice()) {
        return Err(damaged());
    }
    let settings = content.get(..number(12) as usize).ok_or_else(damaged)?;
    let entries: Vec<Entry> = serde_json::from_slice(settings)
        .map_err(|e| Error::file(path, format!("settings of the vectorizer: {e}")))?;
    let mut at = (HEADER + settings.len()).next_multiple_of(ALIGN);
    // Where an array of so many bytes starts; lengths too large for the file are refused where it is mapped.
    let mut place = |bytes: usize| {
        let start = at;
        at = at.saturating_add(bytes).checked_next_multiple_of(ALIGN).unwrap_or(usize::MAX);
        start
    };
    let mut blocks = Vec::with_capacity(entries.len());
    for Entry { config, slots, terms, bytes } in entries {
        config.check()?;
        let columns = match config.kind {
            Kind::Hashing => Columns::Hashed,
            Kind::Tfidf => {
                let offsets = terms.saturating_add(1);
                let slots = Buffer::mapped(&map, place(slots.saturating_mul(8)), slots, path)?;
                let offsets = Buffer::mapped(&map, place(offsets.saturating_mul(4)), offsets, path)?;
                let idf = Buffer::mapped(&map, place(terms.saturating_mul(4)), terms, path)?;
                let bytes = Buffer::mapped(&map, place(bytes), bytes, path)?;
                Columns::Learnt { vocabulary: Vocabulary { slots, offsets, bytes }, idf }
            }
        };
        blocks.push(Block::new(config, columns));
    }
    Vectorizer::from_blocks(blocks)
}
