//! Meaning and allowed values of every setting of QUEST.

use crate::config::{Group, Key};
use crate::methods::dexml::METRICS;
use crate::sampling::SAMPLING;

const fn key(name: &'static str, meaning: &'static str, allowed: &'static str) -> Key {
    Key { name, meaning, allowed }
}

/// A setting that is on or off.
const ON_OFF: &str = "true or false";
/// A setting that counts.
const COUNT: &str = "a whole number, 1 or more";
/// The same that may be nothing.
const ANY_COUNT: &str = "a whole number, 0 or more";
/// A setting that measures.
const AMOUNT: &str = "a number above 0";
/// The same that may be nothing.
const ANY_AMOUNT: &str = "a number, 0 or more";

pub(super) const GROUPS: &[Group] = &[MODEL, ADAPTERS, LOSS, OPTIMISER, VALIDATION, SAMPLING];

const MODEL: Group = Group {
    name: "",
    meaning: "The model: a frozen decoder that reads texts and labels behind a prompt of a few learned vectors.",
    keys: &[
        key(
            "decoder",
            "The decoder (LLaMA, SmolLM2, Qwen2): a .gguf file, or a folder as Hugging Face writes it. It stays where it is.",
            "a path",
        ),
        key(
            "quantization",
            "How its matrices are held. stored: as in the file. nf4-double: as in the paper, 4.13 bits a weight.",
            "\"stored\", \"nf4\", \"nf4-double\", \"q4_0\", \"q8_0\", \"bf16\" or \"f32\"",
        ),
        key(
            "precision",
            "Operands of the products in training. auto: bf16 where the processor has instructions for it, else f32.",
            "\"auto\", \"f32\" or \"bf16\"",
        ),
        key(
            "prompt_tokens",
            "Vectors of the prompt; each has as many values as the decoder is wide.",
            "a whole number from 1 to 1024",
        ),
        key(
            "prompt_init",
            "What they begin with. first-tokens: embeddings of the tokens 1, 2, ... mean-noise: the mean of all token embeddings and noise. text: embeddings of the tokens of prompt_text, again and again. file: prompt_file.",
            "\"first-tokens\", \"mean-noise\", \"text\" or \"file\"",
        ),
        key("prompt_text", "For prompt_init = \"text\".", "a text"),
        key("prompt_file", "For prompt_init = \"file\": the prompt.safetensors of a model.", "a path"),
        key("text_template", "What the decoder reads of a text.", "a text with {text} once in it"),
        key("label_template", "What it reads of a label.", "a text with {label} once in it"),
        key(
            "pooling",
            "Where a text's vector is read. last: at its last token. eos: at an end-of-text token behind it. mean: the mean over its tokens. pad-last: at the last place of the padded batch, as the authors' program; embeddings then depend on their batch.",
            "\"last\", \"eos\", \"mean\" or \"pad-last\"",
        ),
        key("max_len", "Tokens of a text that are read.", "a whole number from 1 to 8192"),
        key("label_max_len", "Tokens of a label that are read.", "a whole number from 1 to 8192"),
    ],
};

const ADAPTERS: Group = Group {
    name: "",
    meaning: "Adapters of low rank beside the frozen matrices (LoRA): dearer than a prompt alone, and better.",
    keys: &[
        key("lora_rank", "Their rank; 0 trains the prompt alone.", "a whole number from 0 to 4096"),
        key("lora_alpha", "What they add is multiplied by this over the rank.", AMOUNT),
        key(
            "lora_dropout",
            "Share of their inputs that is dropped while training.",
            "a number from 0 to below 1",
        ),
    ],
};

const LOSS: Group = Group {
    name: "",
    meaning: "The loss: every pair of a text and one of its labels against the labels of the other pairs of the step.",
    keys: &[
        key("tau", "Temperature: cosines are divided by it.", AMOUNT),
        key(
            "symmetric",
            "Also let every label find its text among those of the step; the mean of both.",
            ON_OFF,
        ),
        key(
            "mask_known_positives",
            "Count no label as wrong for a text that has it, and each label once. Else as the authors' program.",
            ON_OFF,
        ),
        key(
            "negatives",
            "Further labels of every step, drawn from all; their embeddings are those of the beginning of the epoch.",
            ANY_COUNT,
        ),
        key(
            "hard_negatives",
            "Wrong labels that a row ranks highest at the beginning of an epoch, from the second one on; they join its steps.",
            ANY_COUNT,
        ),
    ],
};

const OPTIMISER: Group = Group {
    name: "",
    meaning: "How prompt and adapters move (AdamW).",
    keys: &[
        key("epochs", "Passes over the sampled pairs at most.", COUNT),
        key("batch_size", "Pairs of a step.", COUNT),
        key("lr", "Learning rate after the warm-up.", AMOUNT),
        key("weight_decay", "Decay of prompt and adapters.", ANY_AMOUNT),
        key("adam_epsilon", "Keeps AdamW from dividing by zero.", AMOUNT),
        key(
            "warmup",
            "Share of the training in which the learning rate rises from 0.",
            "a number from 0 to below 1",
        ),
        key("schedule", "How it falls to 0 afterwards.", "\"constant\", \"linear\" or \"cosine\""),
        key(
            "schedule_by",
            "Whether it changes with every step or with every epoch.",
            "\"step\" or \"epoch\"",
        ),
        key("clip", "Gradients with a larger norm are shortened to it; 0 never shortens.", ANY_AMOUNT),
        key("tokens_per_batch", "Tokens that pass through the decoder at a time.", COUNT),
        key(
            "tape_tokens",
            "Tokens of a step whose activations wait for the backward pass. Those beyond pass through the decoder twice: the same result with less memory, slower.",
            ANY_COUNT,
        ),
    ],
};

const VALIDATION: Group = Group {
    name: "",
    meaning: "When to stop, what to keep, and how.",
    keys: &[
        key(
            "validation",
            "Share of the training rows set aside to find the best epoch; 0 trains on all rows and keeps the last.",
            "a number from 0 to below 1",
        ),
        key("validation_rows", "Rows set aside at most.", COUNT),
        key("metric", "What decides which epoch is the best.", METRICS),
        key(
            "patience",
            "Stop after this many epochs without a better validation; 0 never stops early.",
            ANY_COUNT,
        ),
        key(
            "label_embeddings",
            "How the finished model stores label embeddings; int8 searches in bytes and ranks with bf16.",
            "\"f32\", \"bf16\" or \"int8\"",
        ),
        key(
            "checkpoint_minutes",
            "Minutes from one checkpoint to the next; the end of every epoch is one too.",
            ANY_AMOUNT,
        ),
    ],
};
