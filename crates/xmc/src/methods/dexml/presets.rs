//! Which settings suit these data on this kind of machine?
//!
//! A preset is a whole configuration, made from the size of the data; a file and single settings are laid over it.
//! `laptop` wants to be done within the hour on two cores with a small encoder, `server` takes a day of many cores or
//! a GPU, and `paper` has the hyper-parameters of the DEXML repository for the data set nearest in kind.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use xmc_data::dataset::Dataset;
use xmc_data::{Error, Result};

use super::config::{DexmlConfig, Negatives, Positives};
use crate::encoder::PoolingKind;

/// A kind of machine, or of purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// A few cores, an hour.
    Laptop,
    /// Many cores or a GPU, a day.
    Server,
    /// As published.
    Paper,
}

impl FromStr for Preset {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "laptop" => Ok(Preset::Laptop),
            "server" => Ok(Preset::Server),
            "paper" => Ok(Preset::Paper),
            _ => Err(Error::config("preset", name, "laptop, server or paper")),
        }
    }
}

/// What a preset looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Training rows n.
    pub rows: usize,
    /// Labels L.
    pub labels: usize,
    /// Length that 19 of 20 texts do not exceed, in bytes; a character beyond ASCII counts as four, as it often is a
    /// token of its own.
    pub text_bytes: usize,
    /// The same of label names.
    pub label_bytes: usize,
}

/// Texts looked at for their length.
const SAMPLE: usize = 2000;

/// Bytes of one token of written language, about; on the safe side.
const BYTES_PER_TOKEN: usize = 4;

/// Texts up to this many bytes are titles.
const TITLE_BYTES: usize = 200;

impl Scale {
    /// Measures `data`.
    pub fn of(data: &Dataset) -> Self {
        let nearly_longest = |texts: &xmc_data::Strings| {
            let step = texts.len().div_ceil(SAMPLE).max(1);
            let mut lengths: Vec<usize> =
                (0..texts.len()).step_by(step).map(|i| length(texts.get(i))).collect();
            lengths.sort_unstable();
            lengths.get(lengths.len() * 19 / 20).copied().unwrap_or(0)
        };
        Scale {
            rows: data.train.rows(),
            labels: data.labels.len(),
            text_bytes: data.train.texts.as_ref().map_or(0, nearly_longest),
            label_bytes: nearly_longest(data.labels.names()),
        }
    }
}

/// Bytes of a text whose characters beyond ASCII are tokens.
fn length(text: &str) -> usize {
    text.chars().map(|c| if c.is_ascii() { 1 } else { BYTES_PER_TOKEN }).sum()
}

impl Preset {
    /// The settings for data of this size.
    pub fn config(self, scale: Scale) -> DexmlConfig {
        match self {
            Preset::Laptop => laptop(scale),
            Preset::Server => server(scale),
            Preset::Paper => paper(scale),
        }
    }
}

fn laptop(scale: Scale) -> DexmlConfig {
    DexmlConfig {
        max_len: tokens(scale.text_bytes, 128),
        label_max_len: tokens(scale.label_bytes, 32),
        negatives: match scale.labels {
            0..=1000 => Negatives::All,
            1001..=20_000 => Negatives::Pool(2048),
            _ => Negatives::Pool(768),
        },
        epochs: match scale.rows {
            0..10_000 => 15,
            10_000..50_000 => 6,
            50_000..200_000 => 3,
            _ => 2,
        },
        ..DexmlConfig::default()
    }
}

fn server(scale: Scale) -> DexmlConfig {
    DexmlConfig {
        max_len: tokens(scale.text_bytes, 256),
        label_max_len: tokens(scale.label_bytes, 64),
        negatives: if scale.labels <= 20_000 { Negatives::All } else { Negatives::Pool(8192) },
        epochs: if scale.rows < 200_000 { 20 } else { 10 },
        batch_size: 1024,
        tokens_per_batch: 32_768,
        tape_tokens: 131_072,
        ..DexmlConfig::default()
    }
}

/// Learning rates and batches are those of one process; the repository multiplies both by the number of GPUs.
fn paper(scale: Scale) -> DexmlConfig {
    let titles = scale.text_bytes <= TITLE_BYTES;
    let max_len = if titles { 32 } else { 128 };
    let base = DexmlConfig {
        pooling: PoolingKind::Cls,
        max_len,
        label_max_len: max_len,
        positives: Positives::Sample,
        negatives: Negatives::All,
        epochs: 100,
        clip: 0.0,
        evaluate_every: 5,
        patience: 0,
        ..DexmlConfig::default()
    };
    match scale.labels {
        // EURLex-4K
        0..20_000 => DexmlConfig { batch_size: 512, lr: 5e-5, ..base },
        // LF-AmazonTitles-131K
        20_000..300_000 => DexmlConfig { batch_size: 3000, lr: 3e-4, ..base },
        // LF-AmazonTitles-1.3M
        _ if titles => DexmlConfig { batch_size: 3000, lr: 3e-4, normalize: false, tau: 1.0, ..base },
        // LF-Wikipedia-500K
        _ => DexmlConfig { batch_size: 768, lr: 7e-5, normalize: false, tau: 1.0, evaluate_every: 1, ..base },
    }
}

/// Tokens for texts of so many bytes: in eights, from 16.
fn tokens(bytes: usize, most: usize) -> usize {
    (bytes / BYTES_PER_TOKEN + 2).next_multiple_of(8).clamp(16, most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    const SMALL: Scale = Scale { rows: 15_000, labels: 4000, text_bytes: 9000, label_bytes: 40 };

    #[test]
    fn every_preset_is_valid_for_every_size() {
        for preset in ["laptop", "server", "paper"] {
            let preset: Preset = preset.parse().unwrap();
            for rows in [1, 100_000, 10_000_000] {
                for labels in [1, 4000, 131_000, 1_300_000] {
                    for text_bytes in [0, 60, 9000] {
                        let scale = Scale { rows, labels, text_bytes, label_bytes: 20 };
                        preset.config(scale).check_values().unwrap();
                    }
                }
            }
        }
        let message = "pc".parse::<Preset>().unwrap_err().to_string();
        assert!(message.contains("laptop, server or paper"), "{message}");
    }

    #[test]
    fn the_paper_has_its_published_values() {
        let eurlex = Preset::Paper.config(SMALL);
        assert_eq!((eurlex.batch_size, eurlex.lr, eurlex.tau, eurlex.max_len), (512, 5e-5, 0.05, 128));
        let wiki = Preset::Paper.config(Scale { labels: 500_000, ..SMALL });
        assert_eq!((wiki.batch_size, wiki.lr, wiki.tau, wiki.normalize), (768, 7e-5, 1.0, false));
        let amazon = Preset::Paper.config(Scale { labels: 1_300_000, text_bytes: 90, ..SMALL });
        assert_eq!((amazon.batch_size, amazon.lr, amazon.tau, amazon.max_len), (3000, 3e-4, 1.0, 32));
    }

    #[test]
    fn a_laptop_reads_no_more_tokens_than_texts_have() {
        let config = Preset::Laptop.config(Scale { text_bytes: 90, ..SMALL });
        assert_eq!((config.max_len, config.label_max_len), (24, 16));
        assert_eq!(Preset::Laptop.config(SMALL).max_len, 128);
        // Every character of these may be a token.
        assert_eq!(tokens(length(&"\u{6f22}".repeat(60)), 128), 64);
        assert_eq!(tokens(length(&"word ".repeat(12)), 128), 24);
    }
}
