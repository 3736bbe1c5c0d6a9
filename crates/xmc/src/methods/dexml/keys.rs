//! Meaning and allowed values of every setting of DEXML.

use crate::config::{Group, Key};

const fn key(name: &'static str, meaning: &'static str, allowed: &'static str) -> Key {
    Key { name, meaning, allowed }
}

/// A setting that is on or off.
const ON_OFF: &str = "true or false";
/// Roles of the values of labels.
const VALUE: &str = "\"sample\", \"weight\", \"target\" or \"ignore\"";
/// A setting that counts.
const COUNT: &str = "a whole number, 1 or more";
/// A setting that measures.
const AMOUNT: &str = "a number above 0";
/// Which metrics can decide.
pub(in crate::methods) const METRICS: &str =
    "P@k, nDCG@k, PSP@k, PSnDCG@k, R@k, MRR@k, microF1@k, macroF1@k or coverage@k, k from 1";

pub(super) const GROUPS: &[Group] = &[MODEL, LOSS, NEGATIVES, OPTIMISER, VALIDATION];

const MODEL: Group = Group {
    name: "",
    meaning: "The model: one encoder for texts and label names; a label's score is the inner product of both embeddings.",
    keys: &[
        key(
            "encoder",
            "Folder of the encoder to begin with: config.json, model.safetensors and tokenizer.json as Hugging Face writes them.",
            "a path",
        ),
        key(
            "head",
            "What a label is scored with. label-text: the embedding of its name. classifier: weights of its own (one-vs-all), which know nothing of new or rare labels.",
            "\"label-text\" or \"classifier\"",
        ),
        key(
            "pooling",
            "How the vectors of the tokens become one: their mean, the first, or the first behind the encoder's pooler (a fresh one if its folder has none).",
            "\"mean\", \"cls\" or \"pooler\"",
        ),
        key(
            "projection",
            "Size of embeddings, by a linear layer after the pooling; unset keeps that of the encoder.",
            "a whole number from 1 to 65536",
        ),
        key("normalize", "Make every embedding one long, so that scores are cosines.", ON_OFF),
        key(
            "max_len",
            "Tokens of a text that are read, with the special ones.",
            "a whole number from 3 to 8192",
        ),
        key("label_max_len", "Tokens of a label name that are read.", "a whole number from 3 to 8192"),
        key(
            "precision",
            "Operands of the products in training. auto: bf16 where the processor has instructions for it, else f32.",
            "\"auto\", \"f32\" or \"bf16\"",
        ),
    ],
};

const LOSS: Group = Group {
    name: "",
    meaning: "The loss.",
    keys: &[
        key(
            "criterion",
            "decoupled-softmax: every positive against the negatives only. softmax: against all labels, other positives too. soft-topk: positives among the best topk. bce: every label for itself; seldom works.",
            "\"decoupled-softmax\", \"softmax\", \"soft-topk\" or \"bce\"",
        ),
        key(
            "tau",
            "Temperature: inner products are divided by it. 0.05 suits normalized embeddings, 1 others.",
            AMOUNT,
        ),
        key(
            "positives",
            "Positives of a row in a step: all, or a sample of one. soft-topk with a number samples that many in any case.",
            "\"all\" or \"sample\"",
        ),
        key(
            "value",
            "What the value of a label, such as 0.8, changes. sample: its chance to take part in a step (of a sample of positives, its share); for bce a label that does not is wrong in that step. weight: how much it counts in the loss; not for bce. target: the probability that bce learns. ignore: nothing.",
            VALUE,
        ),
        key(
            "topk",
            "k of soft-topk: a number, or as many as a row has positives.",
            "a whole number, 1 or more, or \"positives\"",
        ),
        key("topk_alpha", "Steepness of soft-topk.", AMOUNT),
    ],
};

const NEGATIVES: Group = Group {
    name: "",
    meaning: "Labels that a row is trained against.",
    keys: &[
        key(
            "negatives",
            "all: every label in every step; best and dearest. pool:N: the positives of the batch and N random labels. in-batch: the positives of the batch. hard: those and labels that the model wrongly ranks high.",
            "\"all\", \"hard\", \"in-batch\" or \"pool:N\" with a number N",
        ),
        key(
            "pool_by",
            "How the random labels of pool:N are drawn: all alike, or by the number of their positives.",
            "\"uniform\" or \"frequency\"",
        ),
        key(
            "logq",
            "Lower the score of a label of pool:N by the logarithm of its chance to be in the pool.",
            ON_OFF,
        ),
        key("num_negatives", "Mined labels of every row in a step, for negatives = \"hard\".", COUNT),
        key(
            "mine_after",
            "Epochs before the first mining; until then hard draws random labels.",
            "a whole number",
        ),
        key("mine_every", "Epochs from one mining to the next.", COUNT),
        key("mine_top", "Labels looked up for every row when mining, beside its positives.", COUNT),
    ],
};

const OPTIMISER: Group = Group {
    name: "",
    meaning: "How the parameters move (AdamW).",
    keys: &[
        key("epochs", "Passes over the training rows at most.", COUNT),
        key("batch_size", "Rows of a step.", COUNT),
        key("lr", "Learning rate after the warm-up; used as it stands.", AMOUNT),
        key("head_lr", "Learning rate of the weights of head = \"classifier\".", AMOUNT),
        key("weight_decay", "Decay of weights; biases and norms do not decay.", "a number, 0 or more"),
        key(
            "warmup",
            "Share of all steps in which the learning rate rises from 0.",
            "a number from 0 to below 1",
        ),
        key("schedule", "How it falls to 0 afterwards.", "\"constant\", \"linear\" or \"cosine\""),
        key(
            "clip",
            "Gradients with a larger norm are shortened to it; 0 never shortens.",
            "a number, 0 or more",
        ),
        key(
            "swa",
            "Average the parameters at the end of this many last epochs; 0 does not.",
            "a whole number up to that of the epochs",
        ),
        key("dropout", "Drop out within the encoder while training, as its config.json says.", ON_OFF),
        key("tokens_per_batch", "Tokens that pass through the encoder at a time.", COUNT),
        key(
            "tape_tokens",
            "Tokens of a step whose activations wait for the backward pass. Those beyond pass through the encoder twice: the same result with less memory, a third slower.",
            "a whole number",
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
        key("evaluate_every", "Epochs from one validation to the next.", COUNT),
        key(
            "patience",
            "Stop after this many validations without a better one; 0 never stops early.",
            "a whole number",
        ),
        key(
            "label_embeddings",
            "How the finished model stores label embeddings; int8 searches in bytes and ranks with bf16.",
            "\"f32\", \"bf16\" or \"int8\"",
        ),
        key(
            "checkpoint_minutes",
            "Minutes from one checkpoint to the next; the end of every epoch is one too.",
            "a number, 0 or more",
        ),
    ],
};
