//! Which settings suit a known data set, or a laptop?
//!
//! The files of `configs/elias/` at the root of the repository, as part of the program: those that the authors published
//! for two data sets, those of the authors of LEVER (who trained ELIAS for comparison) for five, and `laptop`.

use xmc_data::{Error, Result};

use crate::config::Preset;

/// A file of `configs/elias/` by its name.
macro_rules! file {
    ($name:literal) => {
        Preset { name: $name, text: include_str!(concat!("../../../../../configs/elias/", $name, ".toml")) }
    };
}

/// All presets; the first one is used if none is named.
pub const PRESETS: [Preset; 8] = [
    file!("laptop"),
    file!("amazon-670k"),
    file!("lf-amazontitles-131k"),
    file!("lever-lf-amazontitles-131k"),
    file!("lever-lf-amazon-131k"),
    file!("lever-lf-wikiseealso-320k"),
    file!("lever-lf-wikipedia-500k"),
    file!("lever-lf-amazontitles-1.3m"),
];

/// The preset of this name.
pub fn preset(name: &str) -> Result<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name).ok_or_else(|| {
        let known: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
        Error::config("preset", name, format!("one of {}", known.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::load_preset;
    use crate::methods::elias::{EliasConfig, Stage};

    fn config(name: &str) -> EliasConfig {
        (*load_preset::<EliasConfig>(preset(name).unwrap(), None, &[]).unwrap()).clone()
    }

    #[test]
    fn every_file_of_the_folder_is_a_preset_and_valid() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/elias");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let mut known = PRESETS.map(|preset| format!("{}.toml", preset.name));
        known.sort();
        assert_eq!(files, known);
        for preset in PRESETS {
            let config = config(preset.name);
            assert_ne!(config, EliasConfig::default(), "{} says nothing", preset.name);
            assert!(config.does(Stage::Stage2), "{} ends too early", preset.name);
        }
    }

    #[test]
    fn what_all_published_settings_share_is_kept() {
        for preset in PRESETS.iter().filter(|preset| preset.name != "laptop") {
            let (config, usual) = (config(preset.name), EliasConfig::default());
            assert_eq!((config.index, config.cluster), (usual.index, usual.cluster), "{}", preset.name);
            assert_eq!(config.stage2.loss_lambda, 0.05, "{}", preset.name);
        }
    }

    #[test]
    fn an_unknown_preset_names_the_known_ones() {
        let message = preset("amazon").unwrap_err().to_string();
        assert!(message.contains("`preset` = amazon: expected one of laptop, amazon-670k"), "{message}");
    }
}
