//! Which settings are the paper's, which the release's, and which do we recommend?
//!
//! The files of `configs/quest/` at the root of the repository, as part of the program.

use xmc_data::{Error, Result};

use crate::config::Preset;

/// A file of `configs/quest/` by its name.
macro_rules! file {
    ($name:literal) => {
        Preset { name: $name, text: include_str!(concat!("../../../../../configs/quest/", $name, ".toml")) }
    };
}

/// All presets; the first one is used if none is named.
pub const PRESETS: [Preset; 4] = [file!("laptop"), file!("paper"), file!("release"), file!("recommended")];

/// The preset of this name.
pub fn preset(name: &str) -> Result<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name).ok_or_else(|| {
        let known: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
        Error::config("preset", name, format!("one of {}", known.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_preset;
    use crate::methods::quest::{DecoderPooling, QuestConfig};

    fn config(name: &str) -> QuestConfig {
        (*load_preset::<QuestConfig>(preset(name).unwrap(), None, &[]).unwrap()).clone()
    }

    #[test]
    fn every_preset_is_valid_and_the_published_ones_have_their_values() {
        for preset in PRESETS {
            config(preset.name);
        }
        let paper = config("paper");
        // 5 x 4096 = 20,480: "about twenty thousand".
        assert_eq!(
            (paper.prompt_tokens, paper.sampling.ratio, paper.pooling),
            (5, 0.25, DecoderPooling::Last)
        );
        let release = config("release");
        assert_eq!((release.prompt_tokens, release.batch_size, release.sampling.ratio), (20, 18, 1.0));
        assert_eq!((release.pooling, release.mask_known_positives), (DecoderPooling::PadLast, false));
        assert_eq!((release.adam_epsilon, paper.adam_epsilon), (1e-6, 1e-6));
        assert!(preset("pc").unwrap_err().to_string().contains("laptop, paper, release, recommended"));
    }
}
