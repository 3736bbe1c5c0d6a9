//! What do the `param.json` files say?

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use xmc_data::{Error, Result};

use crate::post_processor::PostProcessor;

/// Levels that are looked for where the file does not say how many there are.
const MAX_DEPTH: usize = 64;

/// `ranker/param.json`.
pub(super) struct Ranker {
    folder: PathBuf,
    pub(super) depth: usize,
    pub(super) is_mmap: bool,
}

/// `ranker/{t}.model/param.json`.
pub(super) struct LevelParams {
    pub(super) folder: PathBuf,
    /// Value of the constant feature, 0 for none.
    pub(super) bias: f32,
    pub(super) keep: usize,
    pub(super) post_processor: PostProcessor,
}

#[derive(Deserialize)]
struct RankerJson {
    model: String,
    depth: Option<usize>,
    #[serde(default)]
    is_mmap: bool,
}

#[derive(Deserialize)]
struct LevelJson {
    bias: f32,
    pred_kwargs: PredictionJson,
}

#[derive(Deserialize)]
struct PredictionJson {
    only_topk: usize,
    post_processor: PostProcessorJson,
}

/// Older versions wrote true for the default and false or null for none.
#[derive(Deserialize)]
#[serde(untagged)]
enum PostProcessorJson {
    Name(String),
    Default(bool),
    Missing(()),
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read(path).map_err(Error::io(path))?;
    serde_json::from_slice(&text).map_err(|e| Error::file(path, format!("not as libpecos writes it: {e}")))
}

/// The folder with the levels: `path/ranker`, or `path` itself.
pub(super) fn ranker_folder(path: &Path) -> Option<PathBuf> {
    let is_ranker = |folder: &PathBuf| matches!(read::<RankerJson>(&folder.join("param.json")), Ok(r) if r.model == "HierarchicalMLModel");
    [path.join("ranker"), path.to_owned()].into_iter().find(is_ranker)
}

impl Ranker {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let Some(folder) = ranker_folder(path) else {
            let problem =
                "not an XR-Linear model of libpecos: no ranker/param.json that names a HierarchicalMLModel";
            return Err(Error::file(path, problem));
        };
        let file = folder.join("param.json");
        let json: RankerJson = read(&file)?;
        let level_exists = |t: &usize| folder.join(format!("{t}.model")).is_dir();
        let depth = json.depth.unwrap_or_else(|| (0..MAX_DEPTH).take_while(level_exists).count());
        if depth == 0 {
            return Err(Error::file(&file, "a model without levels"));
        }
        if let Some(t) = (0..depth).find(|t| !level_exists(t)) {
            return Err(Error::file(
                &folder,
                format!("no folder {t}.model, but the model has {depth} levels"),
            ));
        }
        Ok(Ranker { folder, depth, is_mmap: json.is_mmap })
    }

    pub(super) fn level(&self, t: usize) -> Result<LevelParams> {
        let folder = self.folder.join(format!("{t}.model"));
        let file = folder.join("param.json");
        let json: LevelJson = read(&file)?;
        let post_processor = match &json.pred_kwargs.post_processor {
            PostProcessorJson::Name(name) => {
                name.parse().map_err(|e: Error| Error::file(&file, e.to_string()))?
            }
            PostProcessorJson::Default(true) => PostProcessor::Hinge(3),
            PostProcessorJson::Default(false) | PostProcessorJson::Missing(()) => PostProcessor::Noop,
        };
        let keep = json.pred_kwargs.only_topk;
        if keep == 0 {
            return Err(Error::file(&file, "only_topk is 0, expected a number from 1"));
        }
        if !json.bias.is_finite() {
            return Err(Error::file(&file, "bias is not a finite number"));
        }
        Ok(LevelParams { folder, bias: json.bias.max(0.0), keep, post_processor })
    }
}
