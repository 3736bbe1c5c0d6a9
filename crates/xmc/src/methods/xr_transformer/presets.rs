//! Which settings suit a known data set, or a laptop?
//!
//! The files of `configs/xr-transformer/` at the root of the repository, as part of the program. `laptop` wants to be
//! done within the hour on two cores with a small encoder; the others have the hyper-parameters that the authors of the
//! paper published for six data sets.

use xmc_data::{Error, Result};

use crate::config::Preset;

/// A file of `configs/xr-transformer/` by its name.
macro_rules! file {
    ($name:literal) => {
        Preset {
            name: $name,
            text: include_str!(concat!("../../../../../configs/xr-transformer/", $name, ".toml")),
        }
    };
}

/// All presets; the first one is used if none is named.
pub const PRESETS: [Preset; 7] = [
    file!("laptop"),
    file!("eurlex-4k"),
    file!("wiki10-31k"),
    file!("amazoncat-13k"),
    file!("wiki-500k"),
    file!("amazon-670k"),
    file!("amazon-3m"),
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

    use xmc_linear::cluster::balanced_widths;
    use xmc_linear::ranker::PerLevel;

    use super::*;
    use crate::config::load_preset;
    use crate::methods::xr_transformer::XrTransformerConfig;

    /// Labels of the data sets, and the levels of both trees over them.
    const LEVELS: [(&str, usize, &[usize], &[usize]); 6] = [
        ("eurlex-4k", 3956, &[16, 256, 3956], &[4, 32, 256, 3956]),
        ("wiki10-31k", 30_938, &[128, 2048, 30_938], &[8, 128, 2048, 30_938]),
        ("amazoncat-13k", 13_330, &[128, 1024, 13_330], &[128, 1024, 13_330]),
        ("wiki-500k", 501_070, &[64, 512, 4096, 32_768, 501_070], &[8, 256, 8192, 501_070]),
        ("amazon-670k", 670_091, &[128, 2048, 32_768, 670_091], &[8, 256, 8192, 670_091]),
        ("amazon-3m", 2_812_281, &[128, 2048, 32_768, 2_812_281], &[32, 1024, 32_768, 2_812_281]),
    ];

    fn config(name: &str) -> XrTransformerConfig {
        (*load_preset::<XrTransformerConfig>(preset(name).unwrap(), None, &[]).unwrap()).clone()
    }

    /// Whether a list, if it is one, has as many values as there are levels.
    fn fits<T: Clone>(values: &PerLevel<T>, levels: usize) -> bool {
        matches!(values, PerLevel::All(_)) || values.values().len() == levels
    }

    #[test]
    fn every_file_of_the_folder_is_a_preset_and_valid() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/xr-transformer");
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
            assert_ne!(config, XrTransformerConfig::default(), "{} says nothing", preset.name);
        }
    }

    #[test]
    fn lists_fit_the_levels_that_the_trees_of_the_data_have() {
        for (name, labels, preliminary, refined) in LEVELS {
            let config = config(name);
            assert_eq!(balanced_widths(labels, &config.preliminary).unwrap(), preliminary, "{name}");
            assert_eq!(balanced_widths(labels, &config.cluster).unwrap(), refined, "{name}");
            let train = preliminary.iter().filter(|&&nodes| nodes <= config.max_match_clusters).count();
            let (training, matcher, ranker) = (&config.training, &config.matcher, &config.ranker);
            assert!(matches!(&training.max_steps, PerLevel::Each(steps) if steps.len() == train), "{name}");
            assert!(fits(&training.negatives, train) && fits(&training.lr, train), "{name}");
            assert!(fits(&training.warmup_steps, train) && fits(&matcher.top_k, train), "{name}");
            assert!(fits(&matcher.ensemble, train) && fits(&matcher.threshold, train), "{name}");
            let depth = refined.len();
            assert!(fits(&ranker.cost_positive, depth) && fits(&ranker.cost_negative, depth), "{name}");
            assert!(fits(&ranker.threshold, depth) && fits(&ranker.negatives, depth), "{name}");
            assert!(fits(&ranker.post_processor, depth), "{name}");
        }
    }

    #[test]
    fn files_and_options_win_over_a_preset() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("mine.toml");
        std::fs::write(&file, "max_len = 99\n[ranker]\nbeam_size = 7\n").unwrap();
        let sets = ["ranker.beam_size=8".to_owned()];
        let preset = preset("wiki10-31k").unwrap();
        let config = load_preset::<XrTransformerConfig>(preset, Some(&file), &sets).unwrap();
        assert_eq!((config.max_len, config.ranker.beam_size, config.preliminary.min_codes), (99, 8, 128));
    }

    #[test]
    fn an_unknown_preset_names_the_known_ones() {
        let message = preset("eurlex").unwrap_err().to_string();
        assert!(
            message.contains("`preset` = eurlex: expected one of laptop, eurlex-4k, wiki10-31k"),
            "{message}"
        );
    }

    #[test]
    fn a_mistake_in_a_preset_is_named_with_its_line() {
        let wrong = Preset { name: "wrong", text: "max_len = 8\n[training]\nepocs = 3\n" };
        let message = load_preset::<XrTransformerConfig>(&wrong, None, &[]).unwrap_err().to_string();
        assert_eq!(
            message,
            "preset wrong:3: unknown setting `training.epocs`; did you mean `training.epochs`?"
        );
    }
}
