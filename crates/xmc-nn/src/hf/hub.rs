//! How does an encoder come in by its name, such as `distilbert/distilbert-base-uncased`?
//!
//! Through the cache that all programs of Hugging Face share (`HF_HOME`, with `HF_TOKEN` for private models). What is
//! there already is not downloaded again.

use std::path::{Path, PathBuf};

use hf_hub::{HFClientSync, HFError, split_id};

use super::weights;
use crate::error::{Error, Result};

/// Downloads configuration, tokenizer and weights of the model `id`, and returns the folder that holds them.
pub fn fetch(id: &str) -> Result<PathBuf> {
    let failed = |e: &HFError| Error::file(Path::new(id), reason(e));
    let (owner, name) = split_id(id);
    let repository = HFClientSync::new().map_err(|e| failed(&e))?.model(owner, name);
    let config = repository.download_file().filename("config.json").send().map_err(|e| failed(&e))?;
    let Some(dir) = config.parent() else {
        return Err(Error::file(&config, "a cached file without a folder"));
    };
    // The folder is named by its commit; the other files must come from the same one.
    let commit = dir.file_name().map(|name| name.to_string_lossy().into_owned());
    let get = |file: &str| repository.download_file().filename(file).maybe_revision(commit.clone()).send();
    match get("tokenizer.json") {
        Err(HFError::EntryNotFound { .. }) => {
            get("vocab.txt").map_err(|e| failed(&e))?;
            // Without it a vocabulary is that of lower-cased BERT.
            match get("tokenizer_config.json") {
                Ok(_) | Err(HFError::EntryNotFound { .. }) => {}
                Err(e) => return Err(failed(&e)),
            }
        }
        other => _ = other.map_err(|e| failed(&e))?,
    }
    get(weights::FILE).map_err(|e| failed(&e))?;
    Ok(dir.to_owned())
}

/// What a user can do about it.
fn reason(problem: &HFError) -> String {
    let advice = match problem {
        HFError::EntryNotFound { .. } => {
            "this model has no file of that name; convert it to safetensors first"
        }
        HFError::RepoNotFound { .. } => "there is no such folder and no such model; check the name",
        HFError::AuthRequired { .. } | HFError::Forbidden { .. } => {
            "set HF_TOKEN to a token that may read it"
        }
        _ => "check the network, or download the folder elsewhere and give its path",
    };
    format!("cannot be downloaded: {problem}; {advice}")
}
