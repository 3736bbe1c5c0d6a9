//! Settings of `finetune`.

use serde::{Deserialize, Serialize};
use xmc_data::{Error, Result};
use xmc_nn::decoder::LoraConfig;
use xmc_nn::tune::Export;

use crate::config::{Group, Key, Settings};
use crate::encoder::PrecisionChoice;
use crate::methods::quest::Bits;

/// Everything that can be set. The defaults are those of the paper's program where it has them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FinetuneConfig {
    /// How the decoder's matrices are held while the adapter learns.
    pub quantization: Bits,
    /// Precision of the products.
    pub precision: PrecisionChoice,
    /// Inner width of the adapter.
    pub rank: usize,
    /// What the adapter adds is multiplied by this over the rank.
    pub alpha: f32,
    /// Share of its inputs that is dropped.
    pub dropout: f32,
    /// Largest learning rate.
    pub lr: f32,
    /// Part of it that is left at the end.
    pub lr_end: f32,
    /// Share of the steps in which it rises.
    pub warmup: f32,
    /// Part of the matrices that a step takes off, times the learning rate.
    pub weight_decay: f32,
    /// How long the mean of squared gradients remembers.
    pub beta2: f32,
    /// Longest gradient; 0 is any.
    pub clip: f32,
    /// Examples of a step.
    pub batch_size: usize,
    /// How often every example is learned from.
    pub epochs: usize,
    /// Tokens of an example.
    pub max_len: usize,
    /// Tokens that pass at a time.
    pub tokens_per_batch: usize,
    /// Share of the examples that measures.
    pub held_out: f32,
    /// Steps between two measurements.
    pub validate_steps: u64,
    /// Minutes between two checkpoints.
    pub checkpoint_minutes: f32,
    /// Numbers of the decoder that comes out.
    pub export: Export,
}

impl Default for FinetuneConfig {
    fn default() -> Self {
        FinetuneConfig {
            quantization: Bits::default(),
            precision: PrecisionChoice::Auto,
            rank: 8,
            alpha: 16.0,
            dropout: 0.05,
            lr: 3e-4,
            lr_end: 0.1,
            warmup: 0.03,
            weight_decay: 0.01,
            beta2: 0.95,
            clip: 1.0,
            batch_size: 64,
            epochs: 2,
            max_len: 1024,
            tokens_per_batch: 2048,
            held_out: 0.05,
            validate_steps: 50,
            checkpoint_minutes: 10.0,
            export: Export::Bf16,
        }
    }
}

/// More tokens, columns of an adapter and epochs than make sense.
const MOST_TOKENS: usize = 1 << 20;
const MOST_RANK: usize = 4096;
const MOST_EPOCHS: usize = 1_000_000;

impl Settings for FinetuneConfig {
    const METHOD: &'static str = "finetune";
    const GROUPS: &'static [Group] = &[FINETUNE];

    fn check_values(&self) -> Result<()> {
        for (key, value, most) in [
            ("rank", self.rank, MOST_RANK),
            ("batch_size", self.batch_size, MOST_TOKENS),
            ("epochs", self.epochs, MOST_EPOCHS),
            ("max_len", self.max_len, MOST_TOKENS),
            ("tokens_per_batch", self.tokens_per_batch, MOST_TOKENS),
        ] {
            if !(1..=most).contains(&value) {
                return Err(Error::config(key, value, format!("a whole number from 1 to {most}")));
            }
        }
        let (positive, not_negative, share) =
            ("a number above 0", "a number, 0 or more", "a number from 0 to below 1");
        let below_1 = |value: f32| (0.0..1.0).contains(&value);
        for (key, value, fits, expected) in [
            ("alpha", self.alpha, self.alpha > 0.0, positive),
            ("dropout", self.dropout, below_1(self.dropout), share),
            ("lr", self.lr, self.lr > 0.0, positive),
            ("lr_end", self.lr_end, (0.0..=1.0).contains(&self.lr_end), "a number from 0 to 1"),
            ("warmup", self.warmup, below_1(self.warmup), share),
            ("weight_decay", self.weight_decay, self.weight_decay >= 0.0, not_negative),
            ("beta2", self.beta2, below_1(self.beta2), share),
            ("clip", self.clip, self.clip >= 0.0, not_negative),
            ("held_out", self.held_out, below_1(self.held_out), share),
            ("checkpoint_minutes", self.checkpoint_minutes, self.checkpoint_minutes >= 0.0, not_negative),
        ] {
            if !fits || !value.is_finite() {
                return Err(Error::config(key, value, expected));
            }
        }
        Ok(())
    }
}

impl FinetuneConfig {
    pub(super) fn lora(&self) -> LoraConfig {
        LoraConfig { rank: self.rank, alpha: self.alpha, dropout: self.dropout }
    }
}

const fn key(name: &'static str, meaning: &'static str, allowed: &'static str) -> Key {
    Key { name, meaning, allowed }
}

const SHARE: &str = "a number from 0 to below 1";

const FINETUNE: Group = Group {
    name: "",
    meaning: "How the decoder learns from a teacher's answers: an adapter of low rank beside its frozen weights, added to them at the end.",
    keys: &[
        key(
            "quantization",
            "How the decoder's matrices are held while the adapter learns. stored: as in the file.",
            "\"stored\", \"nf4\", \"nf4-double\", \"q4_0\", \"q8_0\", \"bf16\" or \"f32\"",
        ),
        key(
            "precision",
            "Operands of the products. auto: bf16 where the processor has instructions for it, else f32.",
            "\"auto\", \"f32\" or \"bf16\"",
        ),
        key("rank", "Inner width of the adapter.", "a whole number from 1 to 4096"),
        key("alpha", "What the adapter adds is multiplied by alpha / rank.", "a number above 0"),
        key("dropout", "Share of the adapter's inputs that is dropped in training.", SHARE),
        key("lr", "Largest learning rate.", "a number above 0"),
        key(
            "lr_end",
            "Part of lr that is left at the end; it falls as half a cosine.",
            "a number from 0 to 1",
        ),
        key("warmup", "Share of the steps in which the learning rate rises.", SHARE),
        key(
            "weight_decay",
            "Part of the adapter that a step takes off, times the rate.",
            "a number, 0 or more",
        ),
        key("beta2", "How long AdamW's mean of squared gradients remembers.", SHARE),
        key("clip", "Longest gradient of a step; 0 is any.", "a number, 0 or more"),
        key("batch_size", "Examples of a step.", "a whole number from 1 to 1048576"),
        key("epochs", "How often every example is learned from.", "a whole number from 1 to 1000000"),
        key(
            "max_len",
            "Most tokens of an example. A longer answer is cut; an example whose prompt leaves no room is left out.",
            "a whole number from 1 to 1048576",
        ),
        key(
            "tokens_per_batch",
            "Tokens that pass through the decoder at a time: less takes less memory, and gives the same but for rounding.",
            "a whole number from 1 to 1048576",
        ),
        key("held_out", "Share of the examples that measures, and finds the best step.", SHARE),
        key(
            "validate_steps",
            "Steps between two measurements; 0: after epochs only.",
            "a whole number, 0 or more",
        ),
        key(
            "checkpoint_minutes",
            "Minutes between two checkpoints; 0: after every step.",
            "a number, 0 or more",
        ),
        key("export", "Numbers of the decoder that comes out.", "\"f32\" or \"bf16\""),
    ],
};
