//! What does training read? Texts and label names as token ids, and rows set apart for validation.

use std::path::Path;

use xmc_data::LabelSet;
use xmc_data::Strings;
use xmc_data::dataset::Dataset;
use xmc_nn::hf::Tokenizer;
use xmc_nn::tokens::Tokens;
use xmc_nn::transformer::Config;

use super::config::DexmlConfig;
use super::model::tower_config;
use crate::encoder::{check_vocabulary, require_folder};
use crate::error::{Error, Result};
use crate::events::Events;
use crate::model::encoder_folder;
use crate::run::Artifact;

/// Token ids of training texts and of label names.
pub(in crate::methods) struct TokenSets {
    /// Of the training texts `[n]`.
    pub(in crate::methods) rows: Tokens,
    /// Of the label names `[L]`.
    pub(in crate::methods) labels: Tokens,
}

impl TokenSets {
    /// Reads texts and label names with the tokenizer of the encoder.
    pub(super) fn read(
        encoder: &Path,
        texts: &Strings,
        labels: &LabelSet,
        config: &DexmlConfig,
    ) -> Result<Self> {
        let transformer = Config::open(&encoder.join("config.json"))?;
        let most = transformer.max_positions();
        let tokenizer = Tokenizer::open(encoder, config.max_len.min(most))?;
        check_vocabulary(encoder, &tokenizer, &transformer)?;
        let rows = tokenizer.encode(texts)?;
        let labels = Tokenizer::open(encoder, config.label_max_len.min(most))?.encode(labels.names())?;
        Ok(TokenSets { rows, labels })
    }
}

impl Artifact for TokenSets {
    fn save(&self, dir: &Path) -> Result<()> {
        self.rows.save(&dir.join("rows"))?;
        Ok(self.labels.save(&dir.join("labels"))?)
    }

    fn load(dir: &Path) -> Result<Self> {
        Ok(TokenSets { rows: Tokens::open(&dir.join("rows"))?, labels: Tokens::open(&dir.join("labels"))? })
    }
}

/// Folder of the encoder and texts of the training rows; an error says what is missing.
pub(super) fn required<'a>(data: &'a Dataset, config: &'a DexmlConfig) -> Result<(&'a Path, &'a Strings)> {
    let unset = || {
        let expected = "the folder of an encoder (config.json, model.safetensors, tokenizer.json)";
        Error::from(xmc_data::Error::config("encoder", "nothing", expected))
    };
    let encoder = config.encoder.as_deref().ok_or_else(unset)?;
    require_folder(encoder)?;
    let no_texts =
        || Error::file(&data.path, "no texts for the training rows: DEXML reads texts, not features");
    let texts = data.train.texts.as_ref().ok_or_else(no_texts)?;
    if let Some(k) = config.fixed_k().filter(|&k| config.uses_topk() && k >= data.labels.len()) {
        let expected = format!("fewer than the {} labels", data.labels.len());
        return Err(xmc_data::Error::config("topk", k, expected).into());
    }
    Ok((encoder, texts))
}

/// Refuses labels without names where names are all there is, and warns of those that cannot be told apart.
/// `advice` is what else could be done.
pub(in crate::methods) fn check_names(labels: &LabelSet, advice: &str, events: &dyn Events) -> Result<()> {
    let empty = labels.iter().filter(|name| name.trim().is_empty()).count();
    let numbers = labels.iter().enumerate().all(|(l, name)| name.parse() == Ok(l));
    if empty == labels.len() || numbers && labels.len() > 1 {
        return Err(Error::Mismatch(format!(
            "the labels have no names to read, only numbers: add their names to the data (raw/Y.txt){advice}"
        )));
    }
    if empty > 0 {
        events.message(&format!("{empty} labels have an empty name: the encoder cannot tell them apart"));
    }
    let repeated = labels.repeated().saturating_sub(empty.saturating_sub(1));
    if repeated > 0 {
        events.message(&format!(
            "{repeated} label names occur more than once: labels of one name always score the same"
        ));
    }
    Ok(())
}

/// Says what the folder of an encoder holds and the settings leave out, if this program wrote it.
pub(super) fn check_start(encoder: &Path, config: &DexmlConfig, events: &dyn Events) -> Result<()> {
    if !encoder_folder::is_at(encoder) {
        return Ok(());
    }
    let (stored, asked) = (encoder_folder::stored_tower(encoder, None)?, tower_config(config));
    let shown = encoder.display();
    if let Some(values) = stored.projection.filter(|_| asked.projection.is_none()) {
        events.message(&format!(
            "{shown}: its projection to {values} values is left out; keep it with projection = {values}"
        ));
    }
    if stored.pooling != asked.pooling {
        let [was, is] = [stored.pooling, asked.pooling].map(|pooling| format!("{pooling:?}").to_lowercase());
        events.message(&format!(
            "{shown}: trained with pooling = \"{was}\", and used here with \"{is}\"; --set pooling={was} keeps it"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use xmc_nn::tower::{Pooling, TowerConfig};

    use super::*;
    use crate::encoder::PoolingKind;

    #[derive(Default)]
    struct Messages(Mutex<Vec<String>>);

    impl Events for Messages {
        fn message(&self, text: &str) {
            self.0.lock().unwrap().push(text.to_owned());
        }
    }

    #[test]
    fn what_training_leaves_out_of_an_encoder_is_said() {
        let tmp = tempfile::tempdir().unwrap();
        let transformer = Config::bert(4, 8, 1, 2, 16).to_json().to_string();
        std::fs::write(tmp.path().join("config.json"), transformer).unwrap();
        let said = |config: &DexmlConfig| {
            let messages = Messages::default();
            check_start(tmp.path(), config, &messages).unwrap();
            messages.0.into_inner().unwrap().join("; ")
        };
        assert_eq!(said(&DexmlConfig::default()), "");
        let tower = TowerConfig { pooling: Pooling::Cls, projection: Some(3), normalize: true };
        encoder_folder::describe(tmp.path(), tower, 24).unwrap();
        let both = said(&DexmlConfig::default());
        assert!(both.contains("projection to 3 values is left out"), "{both}");
        assert!(both.contains("pooling = \"cls\", and used here with \"mean\""), "{both}");
        let same = DexmlConfig { projection: Some(3), pooling: PoolingKind::Cls, ..DexmlConfig::default() };
        assert_eq!(said(&same), "");
    }

    #[test]
    fn names_that_say_nothing_are_reported() {
        let said = |names: &[&str]| {
            let messages = Messages::default();
            let result = check_names(&LabelSet::new(names), "", &messages);
            (result.is_ok(), messages.0.into_inner().unwrap().join("; "))
        };
        assert_eq!(said(&["sea", "hill"]), (true, String::new()));
        assert!(!said(&["0", "1", "2"]).0);
        assert!(!said(&["", " "]).0);
        assert!(said(&["sea", "", ""]).1.starts_with("2 labels have an empty name"));
        assert!(!said(&["sea", "", ""]).1.contains("more than once"));
        // Two names that are empty to a reader, and different ones.
        assert!(said(&["sea", "", "\u{a0}"]).1.starts_with("2 labels have an empty name"));
        assert!(said(&["sea", "sea"]).1.starts_with("1 label names occur more than once"));
    }
}
