//! What is in a GGUF file?
//!
//! Metadata, a table of tensors, and the tensors themselves, mapped. Everything is checked when the file is opened:
//! the file backs every count and every place before anything is reserved or read, and nothing of the metadata is
//! copied until it is asked for. Little-endian files of versions 2 and 3 are read.
//!
//! Layout: `GGUF`, u32 version, u64 tensors, u64 keys; per key: text, u32 kind, value; per tensor: text, u32 dimensions,
//! u64 each (innermost first), u32 type, u64 offset; then, aligned, the bytes of the tensors. A text is its u64 length
//! and its bytes; an array is a u32 kind, a u64 length and its values.

mod cursor;
#[cfg(test)]
mod tests;
mod tokenizer;
mod types;
#[cfg(test)]
pub(crate) mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use xmc_data::Buffer;
use xmc_data::buffer::map_file;

use crate::error::{Error, Result};
use crate::quant::{Format, QuantMatrix};
use cursor::{Array, Cursor, Value};

pub(crate) use tokenizer::tokenizer_files;

const ALIGNMENT: &str = "general.alignment";

/// A GGUF file, mapped and checked.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    map: Arc<Mmap>,
    metadata: BTreeMap<String, Value>,
    tensors: BTreeMap<String, Tensor>,
}

/// Where a tensor lies.
#[derive(Debug)]
struct Tensor {
    /// Number of the type in ggml.
    kind: u32,
    /// Outermost first: rows, columns.
    shape: Vec<usize>,
    /// First byte in the file.
    start: usize,
}

impl File {
    /// Maps and checks a file.
    ///
    /// # Errors
    /// If it is not a GGUF file of a version that is read, is truncated, or says anything that the file does not back.
    pub fn open(path: &Path) -> Result<Self> {
        let map = map_file(path)?;
        let (metadata, tensors) = parse(&map).map_err(|problem| Error::file(path, problem))?;
        Ok(File { path: path.to_owned(), map, metadata, tensors })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// True if there is a value for `key`.
    pub fn has(&self, key: &str) -> bool {
        self.metadata.contains_key(key)
    }

    /// The text of a key.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Text(range)) => match std::str::from_utf8(&self.map[range.clone()]) {
                Ok(text) => Ok(Some(text)),
                Err(_) => Err(self.wrong(key, "is no UTF-8", "a text")),
            },
            Some(other) => Err(self.wrong(key, &format!("is {other}"), "a text")),
        }
    }

    /// The whole number of a key.
    pub fn size(&self, key: &str) -> Result<Option<usize>> {
        let value = self.metadata.get(key);
        let number = match value {
            Some(&Value::Unsigned(n)) => usize::try_from(n).ok(),
            Some(&Value::Signed(n)) => usize::try_from(n).ok(),
            _ => None,
        };
        match (value, number) {
            (Some(value), None) => Err(self.wrong(key, &format!("is {value}"), "a whole number")),
            _ => Ok(number),
        }
    }

    /// The number of a key.
    pub fn number(&self, key: &str) -> Result<Option<f32>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(&Value::Float(x)) if x.is_finite() => Ok(Some(x as f32)),
            Some(&Value::Unsigned(n)) => Ok(Some(n as f32)),
            Some(other) => Err(self.wrong(key, &format!("is {other}"), "a number")),
        }
    }

    /// The truth of a key.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(&Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(self.wrong(key, &format!("is {other}"), "true or false")),
        }
    }

    /// The texts of a key.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<&str>>> {
        let Some(array) = self.array(key, "a list of texts")? else { return Ok(None) };
        match array.texts(&self.map) {
            Ok(texts) => Ok(Some(texts)),
            Err(problem) => Err(self.wrong(key, &problem, "a list of texts")),
        }
    }

    /// The numbers of a key.
    pub fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>> {
        let Some(array) = self.array(key, "a list of numbers")? else { return Ok(None) };
        match array.numbers(&self.map) {
            Ok(numbers) => Ok(Some(numbers)),
            Err(problem) => Err(self.wrong(key, &problem, "a list of numbers")),
        }
    }

    fn array(&self, key: &str, expected: &str) -> Result<Option<&Array>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Array(array)) => Ok(Some(array)),
            Some(other) => Err(self.wrong(key, &format!("is {other}"), expected)),
        }
    }

    fn wrong(&self, key: &str, found: &str, expected: &str) -> Error {
        Error::file(&self.path, format!("key `{key}` {found}; expected {expected}"))
    }

    /// Names of all tensors, in the order of the alphabet.
    pub fn tensors(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Shape of a tensor, outermost first, and its format.
    ///
    /// # Errors
    /// If it is stored in a format that is not read.
    pub fn tensor(&self, name: &str) -> Result<Option<(&[usize], Format)>> {
        let Some(tensor) = self.tensors.get(name) else { return Ok(None) };
        match types::format(tensor.kind) {
            Some(format) => Ok(Some((&tensor.shape, format))),
            None => Err(Error::file(
                &self.path,
                format!(
                    "tensor `{name}` is stored as {}, which is not supported; expected {}: take the model in one of \
                     these, for example a file named Q4_K_M, Q8_0 or F16",
                    types::name(tensor.kind),
                    types::SUPPORTED
                ),
            )),
        }
    }

    /// A tensor as it is stored, without a copy: rows are all dimensions but the innermost.
    ///
    /// # Errors
    /// If there is none of this name and shape, it is stored in a format that is not read, or has scales that are not
    /// finite.
    pub fn matrix(&self, name: &str, rows: usize, cols: usize) -> Result<QuantMatrix> {
        let Some((shape, format)) = self.tensor(name)? else {
            return Err(Error::file(&self.path, format!("has no tensor `{name}` [{rows}, {cols}]")));
        };
        let problem = |problem: String| Error::file(&self.path, format!("tensor `{name}`: {problem}"));
        if matrix_shape(shape) != Some((rows, cols)) {
            return Err(problem(format!("found the shape {shape:?}, expected [{rows}, {cols}]")));
        }
        let bytes =
            format.bytes(rows, cols).ok_or_else(|| problem("rows are not whole blocks".to_owned()))?;
        let start = self.tensors.get(name).map_or(0, |tensor| tensor.start);
        let blocks = Buffer::mapped(&self.map, start, bytes, &self.path)?;
        QuantMatrix::from_blocks(format, rows, cols, blocks).map_err(|e| problem(e.to_string()))
    }
}

/// Rows and columns of a shape, outermost first; none beyond all memory.
fn matrix_shape(shape: &[usize]) -> Option<(usize, usize)> {
    let (&cols, outer) = shape.split_last()?;
    let rows = outer.iter().try_fold(1usize, |rows, &size| rows.checked_mul(size))?;
    Some((rows, cols))
}

type Parts = (BTreeMap<String, Value>, BTreeMap<String, Tensor>);

/// Takes a file apart; every place in the result lies within `bytes`.
fn parse(bytes: &[u8]) -> std::result::Result<Parts, String> {
    if !bytes.starts_with(b"GGUF") {
        return Err("no GGUF file: expected it to begin with `GGUF`".to_owned());
    }
    let mut cursor = Cursor::new(bytes, 4);
    let version = cursor.u32()?;
    if !(2..=3).contains(&version) {
        let swapped = (2..=3).contains(&version.swap_bytes());
        let why = if swapped { "big-endian numbers" } else { "another version" };
        return Err(format!(
            "GGUF version {version} ({why}) is not supported; expected 2 or 3, little-endian"
        ));
    }
    let (tensor_count, key_count) = (cursor.u64()?, cursor.u64()?);
    let mut metadata = BTreeMap::new();
    for _ in 0..key_count {
        let key = cursor.name("key")?;
        let value = cursor.value().map_err(|problem| format!("key `{key}`: {problem}"))?;
        if metadata.contains_key(&key) {
            return Err(format!("key `{key}` is there twice; the file is damaged"));
        }
        metadata.insert(key, value);
    }
    let mut tensors = BTreeMap::new();
    for _ in 0..tensor_count {
        let name = cursor.name("tensor")?;
        let tensor = read_tensor(&mut cursor).map_err(|problem| format!("tensor `{name}`: {problem}"))?;
        if tensors.contains_key(&name) {
            return Err(format!("tensor `{name}` is there twice; the file is damaged"));
        }
        tensors.insert(name, tensor);
    }
    let alignment = alignment(metadata.get(ALIGNMENT))?;
    let data = cursor.at().next_multiple_of(alignment);
    for (name, tensor) in &mut tensors {
        place(tensor, data, alignment, bytes.len())
            .map_err(|problem| format!("tensor `{name}`: {problem}"))?;
    }
    Ok((metadata, tensors))
}

fn alignment(value: Option<&Value>) -> std::result::Result<usize, String> {
    match value {
        None => Ok(32),
        Some(&Value::Unsigned(n)) if n.is_power_of_two() && n <= 1 << 16 => Ok(n as usize),
        Some(other) => Err(format!("key `{ALIGNMENT}` is {other}; expected a power of two up to 65536")),
    }
}

/// An entry of the table; `start` still counts from the first byte of all tensors.
fn read_tensor(cursor: &mut Cursor<'_>) -> std::result::Result<Tensor, String> {
    let dimensions = cursor.u32()?;
    if !(1..=4).contains(&dimensions) {
        return Err(format!("has {dimensions} dimensions; expected 1 to 4"));
    }
    let mut shape = Vec::with_capacity(4);
    for _ in 0..dimensions {
        let size = cursor.u64()?;
        shape.push(usize::try_from(size).map_err(|_| format!("has a dimension of {size}"))?);
    }
    shape.reverse();
    let kind = cursor.u32()?;
    let offset = cursor.u64()?;
    let start = usize::try_from(offset).map_err(|_| format!("begins at byte {offset}"))?;
    Ok(Tensor { kind, shape, start })
}

/// Finds the first byte in the file of a tensor, all of which must lie within.
fn place(tensor: &mut Tensor, data: usize, alignment: usize, len: usize) -> std::result::Result<(), String> {
    let shape = &tensor.shape;
    let bytes = match (types::format(tensor.kind), matrix_shape(shape)) {
        // What is not read only has to begin within the file.
        (None, _) => Some(0),
        (Some(format), Some((rows, cols))) => format.bytes(rows, cols),
        (Some(_), None) => None,
    };
    let bytes = bytes.ok_or_else(|| {
        format!(
            "the shape {shape:?} cannot be stored as {}: not whole blocks, or too large",
            types::name(tensor.kind)
        )
    })?;
    if !tensor.start.is_multiple_of(alignment) {
        return Err(format!("begins at byte {}, which is no multiple of {alignment}", tensor.start));
    }
    let start = data.checked_add(tensor.start);
    match start.filter(|start| start.checked_add(bytes).is_some_and(|end| end <= len)) {
        Some(start) => tensor.start = start,
        None => {
            return Err(format!(
                "{bytes} bytes at byte {} of the tensors do not lie in a file of {len} bytes; it is truncated or damaged",
                tensor.start
            ));
        }
    }
    Ok(())
}
