//! How do the weights of an encoder come out of a folder, and back into one?
//!
//! `model.safetensors`, or several files with `model.safetensors.index.json`. A tensor is found by the name in the
//! [`Layout`], whatever class it was saved from: `bert.`, `distilbert.`, `roberta.` and `mpnet.` of classes with a
//! head, `tf.` of DEXML and `0.auto_model.` of sentence-transformers are taken off, and the old `gamma` and `beta` of
//! norms are read as `weight` and `bias`. 16-bit numbers become 32-bit ones. Tensors that the layout does not name
//! (heads, poolers) are ignored.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use safetensors::{SafeTensorError, SafeTensors};
use xmc_data::buffer::map_file;
use xmc_data::formats::atomic::write_atomically;

use crate::error::{Error, Result};
use crate::params::{Layout, Param};

/// Name of the file of weights.
pub const FILE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// What classes put before the names of their encoder; may be stacked.
const PREFIXES: [&str; 8] =
    ["bert.", "distilbert.", "roberta.", "mpnet.", "tf.", "0.auto_model.", "auto_model.", "module."];

/// Weights as other programs store them for PyTorch alone.
const PICKLES: [&str; 3] = ["pytorch_model.bin", "model.pt", "model.bin"];

/// The tensors of a folder, mapped and not yet read.
#[derive(Debug)]
pub struct Weights {
    files: Vec<(PathBuf, Arc<Mmap>)>,
    /// By name without prefixes.
    tensors: BTreeMap<String, Found>,
}

/// Where a tensor lies.
#[derive(Debug)]
struct Found {
    /// Its name in the file.
    name: String,
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    /// First byte in the file, and the one after the last.
    bytes: (usize, usize),
    /// A second tensor whose name means the same.
    rival: Option<String>,
}

/// A tensor as it is stored, not yet read.
pub(crate) struct Stored<'a> {
    pub(crate) path: &'a Path,
    pub(crate) map: &'a Arc<Mmap>,
    pub(crate) dtype: Dtype,
    pub(crate) shape: &'a [usize],
    /// First byte in the file, and the one after the last.
    pub(crate) bytes: (usize, usize),
}

impl Weights {
    /// Opens `model.safetensors` of a folder, or the files that its index lists.
    pub fn open(dir: &Path) -> Result<Self> {
        let mut weights = Weights { files: Vec::new(), tensors: BTreeMap::new() };
        let (single, index) = (dir.join(FILE), dir.join(INDEX));
        if single.is_file() {
            weights.add_file(single)?;
        } else if index.is_file() {
            for name in shards(&index)? {
                weights.add_file(dir.join(name))?;
            }
        } else {
            return Err(no_weights(dir));
        }
        Ok(weights)
    }

    /// The files that hold the tensors.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(path, _)| path.as_path())
    }

    /// Names of all tensors, without the prefixes of classes.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// All bytes of all files.
    pub(crate) fn maps(&self) -> impl Iterator<Item = &[u8]> {
        self.files.iter().map(|(_, map)| &map[..])
    }

    /// Where a tensor lies, if there is one of this name.
    pub(crate) fn stored(&self, name: &str) -> Option<Stored<'_>> {
        let found = self.tensors.get(name)?;
        let (path, map) = &self.files[found.file];
        Some(Stored { path, map, dtype: found.dtype, shape: &found.shape, bytes: found.bytes })
    }

    /// Refuses files that lack a parameter of `layout` or have it in another shape, and looks at no number.
    ///
    /// Returns the names of parameters that are not there and for which `optional` is true.
    pub fn check(&self, layout: &Layout, optional: impl Fn(&str) -> bool) -> Result<Vec<String>> {
        let (absent, lacking): (Vec<&str>, Vec<&str>) = layout
            .params()
            .iter()
            .map(|param| param.name.as_str())
            .filter(|name| !self.tensors.contains_key(*name))
            .partition(|name| optional(name));
        if !lacking.is_empty() {
            return Err(self.lacks(&lacking));
        }
        for param in layout.params() {
            if let Some(found) = self.tensors.get(&param.name) {
                self.check_one(param, found)?;
            }
        }
        Ok(absent.into_iter().map(str::to_owned).collect())
    }

    /// Copies every parameter of `layout` into `values`, which have its length.
    ///
    /// Returns the names of parameters that are not there and for which `optional` is true; their values stay as they
    /// are. Any other missing name, another shape or a number that is not finite is an error.
    pub fn fill(
        &self,
        layout: &Layout,
        values: &mut [f32],
        optional: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>> {
        layout.check(values)?;
        let absent = self.check(layout, optional)?;
        for param in layout.params() {
            if let Some(found) = self.tensors.get(&param.name) {
                self.read(found, &mut values[param.range.clone()])?;
            }
        }
        Ok(absent)
    }

    fn add_file(&mut self, path: PathBuf) -> Result<()> {
        let map = map_file(&path)?;
        let (header, metadata) = SafeTensors::read_metadata(&map).map_err(damaged(&path))?;
        let start = header + size_of::<u64>();
        let file = self.files.len();
        for name in metadata.offset_keys() {
            let Some(info) = metadata.info(&name) else { continue };
            let bytes = (start + info.data_offsets.0, start + info.data_offsets.1);
            let plain = plain_name(&name);
            let found =
                Found { name, file, dtype: info.dtype, shape: info.shape.clone(), bytes, rival: None };
            match self.tensors.get_mut(&plain) {
                Some(first) => first.rival = Some(found.name),
                None => _ = self.tensors.insert(plain, found),
            }
        }
        self.files.push((path, map));
        Ok(())
    }

    /// Refuses a tensor that is not, or may not be, the one that is wanted.
    fn check_one(&self, param: &Param, found: &Found) -> Result<()> {
        let (path, name) = (&self.files[found.file].0, &found.name);
        if let Some(rival) = &found.rival {
            return Err(Error::file(
                path,
                format!("tensors `{name}` and `{rival}` both mean `{}`", param.name),
            ));
        }
        if found.shape != param.shape {
            let (has, wants) = (&found.shape, &param.shape);
            return Err(Error::file(
                path,
                format!("tensor `{name}` has shape {has:?}, config.json asks for {wants:?}"),
            ));
        }
        Ok(())
    }

    /// Reads one tensor as 32-bit floats.
    fn read(&self, found: &Found, values: &mut [f32]) -> Result<()> {
        let (path, map) = &self.files[found.file];
        let name = &found.name;
        let bytes = &map[found.bytes.0..found.bytes.1];
        match found.dtype {
            Dtype::F32 => convert(bytes, values, f32::from_le_bytes),
            Dtype::F16 => convert(bytes, values, |b| f16::from_le_bytes(b).to_f32()),
            Dtype::BF16 => convert(bytes, values, |b| bf16::from_le_bytes(b).to_f32()),
            other => {
                return Err(Error::file(
                    path,
                    format!("tensor `{name}` is {other}, expected F32, F16 or BF16"),
                ));
            }
        }
        match values.iter().find(|value| !value.is_finite()) {
            Some(value) => {
                Err(Error::file(path, format!("tensor `{name}` holds {value}; every weight must be finite")))
            }
            None => Ok(()),
        }
    }

    fn lacks(&self, names: &[&str]) -> Error {
        let path = self.files.first().map_or(Path::new(FILE), |(path, _)| path.as_path());
        let shown = names.iter().take(6).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let more = if names.len() > 6 { format!(" and {} more", names.len() - 6) } else { String::new() };
        let example = self.tensors.values().next().map_or("none", |found| &found.name);
        let has = self.tensors.len();
        Error::file(
            path,
            format!(
                "no tensor {shown}{more}; it has {has} tensors, such as `{example}`: do config.json and weights belong together?"
            ),
        )
    }
}

/// Parameters of `layout` from a folder, in its order, and the names of optional ones that are not there (zero).
pub fn read_safetensors(
    dir: &Path,
    layout: &Layout,
    optional: impl Fn(&str) -> bool,
) -> Result<(Vec<f32>, Vec<String>)> {
    let weights = Weights::open(dir)?;
    weights.check(layout, &optional)?;
    let mut values = vec![0.0; layout.len()];
    let missing = weights.fill(layout, &mut values, optional)?;
    Ok((values, missing))
}

/// Writes `model.safetensors` into a folder that exists: 32-bit floats under the names of `layout`.
pub fn write_safetensors(dir: &Path, layout: &Layout, values: &[f32]) -> Result<()> {
    layout.check(values)?;
    let tensors: Vec<_> = layout
        .params()
        .iter()
        .map(|param| (param.name.as_str(), param.shape.as_slice(), &values[param.range.clone()]))
        .collect();
    // transformers reads only files that name this format.
    write_floats(&dir.join(FILE), &tensors, ("format", "pt".to_owned()))
}

/// Writes (name, shape, values) in their order, with one entry of metadata.
pub(crate) fn write_floats(
    path: &Path,
    tensors: &[(&str, &[usize], &[f32])],
    metadata: (&str, String),
) -> Result<()> {
    let shapes: Vec<(&str, &[usize])> = tensors.iter().map(|&(name, shape, _)| (name, shape)).collect();
    write_tensors(path, &shapes, Dtype::F32, metadata, |i, file| {
        file.write_all(bytemuck::cast_slice(tensors[i].2))
    })
}

/// Writes tensors (name, shape) of 16 or 32 bits in their order, with one entry of metadata; `write` is asked for the
/// bytes of one after the other, so that not all need to be in memory.
pub(crate) fn write_tensors(
    path: &Path,
    tensors: &[(&str, &[usize])],
    dtype: Dtype,
    metadata: (&str, String),
    write: impl Fn(usize, &mut dyn Write) -> std::io::Result<()>,
) -> Result<()> {
    let (mut end, width) = (0, if dtype == Dtype::F32 { 4 } else { 2 });
    let infos = tensors.iter().map(|&(name, shape)| {
        let start = end;
        end += shape.iter().product::<usize>() * width;
        (name.to_owned(), TensorInfo { dtype, shape: shape.to_vec(), data_offsets: (start, end) })
    });
    // One entry only: a map of several would be written in any order, and equal weights must give equal files.
    let metadata = [(metadata.0.to_owned(), metadata.1)].into();
    let header = Metadata::new(Some(metadata), infos.collect())
        .and_then(|header| Ok(serde_json::to_string(&header)?))
        .map_err(damaged(path))?;
    let padding = vec![b' '; header.len().next_multiple_of(8) - header.len()];
    write_atomically(path, |file| {
        let all = |file: &mut dyn Write| {
            file.write_all(&((header.len() + padding.len()) as u64).to_le_bytes())?;
            file.write_all(header.as_bytes())?;
            file.write_all(&padding)?;
            (0..tensors.len()).try_for_each(|i| write(i, file))
        };
        all(file).map_err(xmc_data::Error::io(path))
    })?;
    Ok(())
}

/// The name as the layout has it.
fn plain_name(name: &str) -> String {
    let mut plain = name;
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| plain.strip_prefix(prefix)) {
        plain = rest;
    }
    let (stem, last) = plain.rsplit_once('.').unwrap_or(("", plain));
    match last {
        "gamma" => format!("{stem}.weight"),
        "beta" => format!("{stem}.bias"),
        _ => plain.to_owned(),
    }
}

/// Numbers of N little-endian bytes, wherever they lie.
fn convert<const N: usize>(bytes: &[u8], values: &mut [f32], number: impl Fn([u8; N]) -> f32) {
    for (value, bytes) in values.iter_mut().zip(bytes.as_chunks::<N>().0) {
        *value = number(*bytes);
    }
}

/// The files of an index, each once.
fn shards(index: &Path) -> Result<Vec<String>> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let text = std::fs::read_to_string(index).map_err(Error::io(index))?;
    let found: Index = serde_json::from_str(&text)
        .map_err(|e| Error::file(index, format!("not an index of safetensors files: {e}")))?;
    let mut names: Vec<String> = found.weight_map.into_values().collect();
    names.sort_unstable();
    names.dedup();
    match names.iter().find(|name| Path::new(name).components().count() != 1 || name.starts_with('.')) {
        Some(name) => Err(Error::file(index, format!("lists `{name}`, which is no file of this folder"))),
        None => Ok(names),
    }
}

/// What to do about a folder without safetensors.
fn no_weights(dir: &Path) -> Error {
    match PICKLES.iter().map(|name| dir.join(name)).find(|path| path.is_file()) {
        Some(pickle) => Error::file(
            &pickle,
            format!(
                "a pickle of PyTorch, which can run code and is not read here; convert it once, in its folder: \
                 python -c \"import torch; from safetensors.torch import save_file; \
                 save_file({{k: v.contiguous().clone() for k, v in torch.load('{}', map_location='cpu', \
                 weights_only=True).items()}}, '{FILE}', {{'format': 'pt'}})\"",
                pickle.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned()),
            ),
        ),
        None => Error::file(
            dir,
            format!(
                "no {FILE} in this folder; expected a model folder of Hugging Face (config.json, tokenizer.json, {FILE})"
            ),
        ),
    }
}

fn damaged(path: &Path) -> impl Fn(SafeTensorError) -> Error + '_ {
    move |problem| Error::file(path, format!("truncated, damaged or no safetensors file: {problem}"))
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::TensorView;

    use super::*;

    fn layout() -> Layout {
        let mut layout = Layout::default();
        layout.push("embeddings.word_embeddings.weight", &[2, 3]);
        layout.push("embeddings.LayerNorm.weight", &[3]);
        layout
    }

    /// Writes (name, type, shape, bytes) as other programs do.
    fn foreign(path: &Path, tensors: &[(&str, Dtype, &[usize], Vec<u8>)]) {
        let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
            (*name, TensorView::new(*dtype, shape.to_vec(), bytes).unwrap())
        });
        std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
    }

    fn bytes_of(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    fn message(dir: &Path) -> String {
        read_safetensors(dir, &layout(), |_| false).unwrap_err().to_string()
    }

    #[test]
    fn what_is_written_is_read_back_to_the_bit_and_is_a_safetensors_file() {
        let dir = tempfile::tempdir().unwrap();
        let values: Vec<f32> = (0..9).map(|i| 0.1 * i as f32 - 0.3).collect();
        write_safetensors(dir.path(), &layout(), &values).unwrap();
        let (read, missing) = read_safetensors(dir.path(), &layout(), |_| false).unwrap();
        assert_eq!((read, missing.len()), (values, 0));
        let bytes = std::fs::read(dir.path().join(FILE)).unwrap();
        let (header, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(header % 8, 0);
        assert_eq!(metadata.metadata().as_ref().unwrap()["format"], "pt");
    }

    #[test]
    fn names_are_found_below_the_prefixes_of_other_programs_and_in_sixteen_bits() {
        let dir = tempfile::tempdir().unwrap();
        let values = [1.0, -2.0, 0.5, 0.25, 3.0, -0.125];
        let halves = values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect();
        let brains = [2.0, 4.0, -8.0].iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect();
        foreign(
            &dir.path().join(FILE),
            &[
                ("tf.distilbert.embeddings.word_embeddings.weight", Dtype::F16, &[2, 3], halves),
                ("tf.distilbert.embeddings.LayerNorm.gamma", Dtype::BF16, &[3], brains),
                ("cls.predictions.bias", Dtype::I64, &[1], vec![0; 8]),
            ],
        );
        let (read, _) = read_safetensors(dir.path(), &layout(), |_| false).unwrap();
        assert_eq!(read, [1.0, -2.0, 0.5, 0.25, 3.0, -0.125, 2.0, 4.0, -8.0]);
    }

    #[test]
    fn shards_are_read_through_their_index() {
        let dir = tempfile::tempdir().unwrap();
        let (words, norm) = ("embeddings.word_embeddings.weight", "embeddings.LayerNorm.weight");
        foreign(&dir.path().join("a.safetensors"), &[(words, Dtype::F32, &[2, 3], bytes_of(&[1.0; 6]))]);
        foreign(&dir.path().join("b.safetensors"), &[(norm, Dtype::F32, &[3], bytes_of(&[2.0; 3]))]);
        let index = serde_json::json!({"weight_map": {words: "a.safetensors", norm: "b.safetensors"}});
        std::fs::write(dir.path().join(INDEX), index.to_string()).unwrap();
        let (read, _) = read_safetensors(dir.path(), &layout(), |_| false).unwrap();
        assert_eq!(read, [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0]);
        let index = serde_json::json!({"weight_map": {words: "../a.safetensors"}});
        std::fs::write(dir.path().join(INDEX), index.to_string()).unwrap();
        assert!(message(dir.path()).contains("`../a.safetensors`, which is no file of this folder"));
    }

    #[test]
    fn missing_parameters_are_listed_or_returned_where_they_may_miss() {
        let dir = tempfile::tempdir().unwrap();
        write_safetensors(dir.path(), &layout(), &[0.5; 9]).unwrap();
        let mut wider = layout();
        wider.push("bottleneck.weight", &[1, 3]);
        wider.push("bottleneck.bias", &[1]);
        let error = read_safetensors(dir.path(), &wider, |_| false).unwrap_err().to_string();
        assert!(error.contains("no tensor `bottleneck.weight`, `bottleneck.bias`; it has 2"), "{error}");
        let mut values = vec![7.0; wider.len()];
        let weights = Weights::open(dir.path()).unwrap();
        let missing = weights.fill(&wider, &mut values, |name| name.starts_with("bottleneck.")).unwrap();
        assert_eq!(missing, ["bottleneck.weight", "bottleneck.bias"]);
        assert_eq!(values[8..], [0.5, 7.0, 7.0, 7.0, 7.0]);
    }

    #[test]
    fn wrong_shapes_types_numbers_and_rivals_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE);
        let (words, norm) = ("embeddings.word_embeddings.weight", "embeddings.LayerNorm.weight");
        let good =
            |name, n| (name, Dtype::F32, if n == 6 { &[2, 3][..] } else { &[3] }, bytes_of(&vec![1.0; n]));
        foreign(&file, &[(words, Dtype::F32, &[3, 2], bytes_of(&[1.0; 6])), good(norm, 3)]);
        assert!(
            message(dir.path()).contains(&format!("`{words}` has shape [3, 2], config.json asks for [2, 3]"))
        );
        foreign(&file, &[(words, Dtype::I32, &[2, 3], vec![0; 24]), good(norm, 3)]);
        assert!(message(dir.path()).contains("is I32, expected F32, F16 or BF16"));
        foreign(&file, &[good(words, 6), (norm, Dtype::F32, &[3], bytes_of(&[1.0, f32::NAN, 1.0]))]);
        assert!(message(dir.path()).contains(&format!("`{norm}` holds NaN")));
        foreign(&file, &[good(words, 6), good(norm, 3), good("bert.embeddings.LayerNorm.weight", 3)]);
        assert!(message(dir.path()).contains(&format!("both mean `{norm}`")));
    }

    #[test]
    fn a_folder_without_safetensors_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        assert!(message(dir.path()).contains("no model.safetensors in this folder"));
        std::fs::write(dir.path().join("pytorch_model.bin"), "pickle").unwrap();
        let text = message(dir.path());
        assert!(text.contains("pytorch_model.bin: a pickle") && text.contains("python -c"), "{text}");
    }

    #[test]
    fn a_file_cut_anywhere_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        write_safetensors(dir.path(), &layout(), &[0.5; 9]).unwrap();
        let file = dir.path().join(FILE);
        let bytes = std::fs::read(&file).unwrap();
        for len in 0..bytes.len() {
            std::fs::write(&file, &bytes[..len]).unwrap();
            let text = message(dir.path());
            assert!(text.contains("model.safetensors: ") && text.contains("truncated"), "{len}: {text}");
        }
    }
}
