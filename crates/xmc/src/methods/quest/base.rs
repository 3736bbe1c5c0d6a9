//! Where is the decoder that a model was trained with, and is it still the same? A model holds a prompt of a few
//! kilobytes; the decoder stays where it is, and what it holds is remembered.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xmc_data::formats::atomic::write_atomically;
use xmc_nn::Precision;
use xmc_nn::decoder::{Decoder, Source};

use super::config::Bits;
use crate::error::{Error, Result};

/// Name of the file in a model that describes its decoder.
pub(crate) const BASE: &str = "decoder.json";

/// A decoder as a model remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// Where it was when the model was trained; in a model that has it inside, its name there.
    pub path: PathBuf,
    /// A hash of its weights: the same for a copy. Another quantisation of the same decoder has another.
    pub fingerprint: String,
}

impl Base {
    /// Describes `source`, opened at `path`.
    pub(super) fn of(source: &Source, path: &Path) -> Result<Self> {
        let path = fs::canonicalize(path).map_err(Error::io(path))?;
        Ok(Base { path, fingerprint: source.fingerprint()? })
    }

    /// Writes the description into the folder of a model.
    pub(super) fn save(&self, dir: &Path) -> Result<()> {
        let path = dir.join(BASE);
        let json = serde_json::to_vec_pretty(self).map_err(|e| Error::Mismatch(e.to_string()))?;
        Ok(write_atomically(&path, |file| file.write_all(&json).map_err(xmc_data::Error::io(&path)))?)
    }

    /// Reads what `save` wrote.
    pub(super) fn load(dir: &Path) -> Result<Self> {
        let path = dir.join(BASE);
        let text = fs::read(&path).map_err(Error::io(&path))?;
        serde_json::from_slice(&text).map_err(|e| Error::file(&path, format!("damaged: {e}")))
    }

    /// Opens the decoder of the model in `dir`: at `given` if it is, else in the model's folder, where it was, or beside it.
    pub(super) fn find(&self, dir: &Path, given: Option<&Path>) -> Result<Source> {
        let place = match given {
            Some(given) => given.to_owned(),
            None => self.candidates(dir).find(|place| place.exists()).ok_or_else(|| self.missing(dir))?,
        };
        let source = Source::open(&place)?;
        let found = source.fingerprint()?;
        if found == self.fingerprint {
            return Ok(source);
        }
        Err(Error::file(
            &place,
            format!(
                "holds other weights (fingerprint {found}) than the decoder that {} was trained with ({}): name that \
                 one, and not another quantisation of it, with --decoder PATH",
                dir.display(),
                self.fingerprint
            ),
        ))
    }

    fn candidates(&self, dir: &Path) -> impl Iterator<Item = PathBuf> {
        let name = self.path.file_name().map(PathBuf::from).unwrap_or_default();
        let beside = dir.parent().map(|parent| parent.join(&name));
        [dir.join(&name), self.path.clone()].into_iter().chain(beside)
    }

    fn missing(&self, dir: &Path) -> Error {
        let path = self.path.display();
        Error::file(
            dir,
            format!("its decoder is not at {path} any more: say where it is with --decoder PATH"),
        )
    }
}

/// Reads the weights of `source`.
pub(super) fn read(source: &Source, bits: Bits, precision: Precision) -> Result<Arc<Decoder>> {
    Ok(Arc::new(Decoder::open(source, bits.0, precision)?))
}
