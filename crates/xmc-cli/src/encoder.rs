//! Which folder does the name of an encoder mean?

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// The folder `name`, or what the hub has under this name.
pub(crate) fn folder(name: &str) -> Result<PathBuf> {
    let path = Path::new(name);
    if path.exists() {
        return Ok(path.to_owned());
    }
    if !is_hub_id(name) {
        bail!("{name}: no such folder; expected one with config.json, model.safetensors and tokenizer.json");
    }
    fetch(name)
}

/// `bert-base-uncased` or `sentence-transformers/all-MiniLM-L6-v2`: at most one slash, no dot before a name.
fn is_hub_id(name: &str) -> bool {
    let part = |part: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        part.starts_with(|c: char| c.is_ascii_alphanumeric()) && part.chars().all(allowed)
    };
    name.split('/').count() <= 2 && name.split('/').all(part)
}

#[cfg(feature = "hub")]
fn fetch(name: &str) -> Result<PathBuf> {
    Ok(xmc_nn::hf::hub::fetch(name)?)
}

#[cfg(not(feature = "hub"))]
fn fetch(name: &str) -> Result<PathBuf> {
    bail!(
        "{name}: no such folder; if this is the name of an encoder on the Hugging Face hub, build xmc with \
         `--features hub`, or get an encoder with `scripts/fetch-encoder`"
    )
}

#[cfg(test)]
mod tests {
    use super::is_hub_id;

    #[test]
    fn names_of_the_hub_are_told_from_paths() {
        for name in ["bert-base-uncased", "sentence-transformers/all-MiniLM-L6-v2"] {
            assert!(is_hub_id(name), "{name}");
        }
        for path in ["./encoder", "/tmp/encoder", "a/b/c", "a/", "..", "", "my encoder"] {
            assert!(!is_hub_id(path), "{path}");
        }
    }
}
