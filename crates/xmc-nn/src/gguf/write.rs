//! How is a small GGUF file written? Only tests need one.

use std::path::Path;

use crate::quant::Format;

/// Collects keys and tensors in memory.
#[derive(Clone, Default)]
pub(crate) struct Writer {
    keys: Vec<(String, Vec<u8>)>,
    tensors: Vec<(String, Vec<usize>, u32, Vec<u8>)>,
}

impl Writer {
    /// Sets a key to a value of a kind, given as its bytes; an earlier value is replaced.
    pub(crate) fn raw(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.keys.retain(|(name, _)| name != key);
        self.keys.push((key.to_owned(), [&kind.to_le_bytes(), value].concat()));
        self
    }

    pub(crate) fn size(self, key: &str, value: u32) -> Self {
        self.raw(key, 4, &value.to_le_bytes())
    }

    pub(crate) fn number(self, key: &str, value: f32) -> Self {
        self.raw(key, 6, &value.to_le_bytes())
    }

    pub(crate) fn flag(self, key: &str, value: bool) -> Self {
        self.raw(key, 7, &[u8::from(value)])
    }

    pub(crate) fn text(self, key: &str, value: &str) -> Self {
        self.raw(key, 8, &text(value))
    }

    pub(crate) fn texts(self, key: &str, values: &[&str]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|value| text(value)).collect();
        self.array(key, 8, values.len(), &bytes)
    }

    pub(crate) fn integers(self, key: &str, values: &[i32]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.array(key, 5, values.len(), &bytes)
    }

    pub(crate) fn numbers(self, key: &str, values: &[f32]) -> Self {
        self.array(key, 6, values.len(), bytemuck::cast_slice(values))
    }

    fn array(self, key: &str, kind: u32, len: usize, values: &[u8]) -> Self {
        let value = [&kind.to_le_bytes()[..], &(len as u64).to_le_bytes(), values].concat();
        self.raw(key, 9, &value)
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.keys.retain(|(key, _)| key != name);
        self.tensors.retain(|(tensor, ..)| tensor != name);
        self
    }

    /// Adds a tensor of a type of ggml, its shape outermost first.
    pub(crate) fn raw_tensor(mut self, name: &str, shape: &[usize], kind: u32, bytes: &[u8]) -> Self {
        self.tensors.retain(|(tensor, ..)| tensor != name);
        self.tensors.push((name.to_owned(), shape.to_vec(), kind, bytes.to_vec()));
        self
    }

    /// Adds a tensor of blocks.
    pub(crate) fn tensor(self, name: &str, shape: &[usize], format: Format, bytes: &[u8]) -> Self {
        let kind = (0..64).find(|&kind| super::types::format(kind) == Some(format));
        self.raw_tensor(name, shape, kind.expect("a format of GGUF"), bytes)
    }

    pub(crate) fn floats(self, name: &str, shape: &[usize], values: &[f32]) -> Self {
        self.tensor(name, shape, Format::F32, bytemuck::cast_slice(values))
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(3u32.to_le_bytes());
        file.extend((self.tensors.len() as u64).to_le_bytes());
        file.extend((self.keys.len() as u64).to_le_bytes());
        for (key, value) in &self.keys {
            file.extend(text(key));
            file.extend(value);
        }
        let mut data = Vec::new();
        for (name, shape, kind, bytes) in &self.tensors {
            data.resize(data.len().next_multiple_of(32), 0);
            file.extend(text(name));
            file.extend((shape.len() as u32).to_le_bytes());
            shape.iter().rev().for_each(|&size| file.extend((size as u64).to_le_bytes()));
            file.extend(kind.to_le_bytes());
            file.extend((data.len() as u64).to_le_bytes());
            data.extend(bytes);
        }
        file.resize(file.len().next_multiple_of(32), 0);
        file.extend(data);
        file
    }

    pub(crate) fn save(&self, path: &Path) {
        std::fs::write(path, self.bytes()).unwrap();
    }
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}
