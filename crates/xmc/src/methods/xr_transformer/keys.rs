//! Meaning and allowed values of every setting of XR-Transformer.

use crate::config::{Group, Key};
use crate::methods::xr_linear::keys::{FILES, LABEL_FEATURES, RANKER, TREE_KEYS, VALUE, VECTORIZER};

const fn key(name: &'static str, meaning: &'static str, allowed: &'static str) -> Key {
    Key { name, meaning, allowed }
}

/// A setting that is on or off.
const ON_OFF: &str = "true or false";
/// A setting that counts.
pub(super) const COUNT: &str = "a whole number, 1 or more";
/// A setting that may differ by level of the preliminary tree.
macro_rules! per_level {
    ($allowed:literal) => {
        concat!($allowed, ", or a list with one for each level that trains")
    };
}

pub(super) const GROUPS: &[Group] = &[
    MODEL,
    VECTORIZER,
    LABEL_FEATURES,
    Group {
        name: "preliminary",
        meaning: "The label tree, grown from the sparse features, along which the encoder learns.",
        keys: TREE_KEYS,
    },
    TRAINING,
    MATCHER,
    Group {
        name: "cluster",
        meaning: "The refined label tree, grown from sparse features and embeddings, of the rankers that answer.",
        keys: TREE_KEYS,
    },
    RANKER,
    FILES,
];

const MODEL: Group = Group {
    name: "",
    meaning: "The model: an encoder, and rankers on a text's sparse features and its embedding side by side.",
    keys: &[
        key(
            "encoder",
            "Folder of the encoder to begin with: config.json, model.safetensors and tokenizer.json as Hugging Face writes them; or a model of dexml or xr-transformer, whose encoder is taken.",
            "a path",
        ),
        key(
            "pooling",
            "How the vectors of the tokens become one: their mean, the first, or the first behind the encoder's pooler (a fresh one if its folder has none). Unset: as the folder of the encoder says, else mean.",
            "\"mean\", \"cls\" or \"pooler\"",
        ),
        key(
            "value",
            "What the value of a label, such as 0.8, changes. weight: what a positive costs its ranker, unless files.relevance says it, and what its row adds to the label's features; the encoder learns right and wrong. ignore: nothing.",
            VALUE,
        ),
        key(
            "max_len",
            "Tokens of a text that are read, with the special ones.",
            "a whole number from 3 to 8192",
        ),
        key(
            "precision",
            "Operands of the products in training. auto: bf16 where the processor has instructions for it, else f32.",
            "\"auto\", \"f32\" or \"bf16\"",
        ),
        key("do_fine_tune", "Let the encoder learn; false uses it as it is.", ON_OFF),
        key(
            "only_encoder",
            "Stop when the encoder has learned, and write its folder instead of a model.",
            ON_OFF,
        ),
        key(
            "fix_clustering",
            "Let the rankers keep the preliminary tree instead of growing a new one.",
            ON_OFF,
        ),
        key(
            "max_match_clusters",
            "Levels of the preliminary tree with more nodes than this do not train the encoder.",
            COUNT,
        ),
        key(
            "trees",
            "Trees of rankers, each from a seed of its own: better and larger.",
            "a whole number from 1 to 100",
        ),
        key(
            "combine",
            "How the scores of several trees become one. average suits scores from 0 up, the others suit all.",
            "\"average\", \"rank-average\", \"sigmoid-average\", \"softmax-average\" or \"round-robin\"",
        ),
    ],
};

const TRAINING: Group = Group {
    name: "training",
    meaning: "How the encoder learns: level by level of the preliminary tree, each with a head of its own.",
    keys: &[
        key(
            "loss",
            "What a step minimises, on the mean over the active nodes of a row. weighted: a positive counts as often as it has labels of the row below it.",
            "\"squared-hinge\", \"hinge\", \"weighted-squared-hinge\", \"weighted-hinge\" or \"cross-entropy\"",
        ),
        key(
            "negatives",
            "Which nodes are active for a row, beside its own: the siblings of those (tfn), the children of what the level above finds (man), or both.",
            per_level!("\"tfn\", \"man\" or \"tfn+man\""),
        ),
        key(
            "max_active",
            "Active nodes of a row at most: its own, and a sample of the others in every step; 0 keeps all.",
            "a whole number",
        ),
        key(
            "bootstrap",
            "What the head of a level begins with. linear: rankers trained on the embeddings of the level above; weighted-linear: with positives weighted by the labels below. inherit: the weights of the parent. none: small random numbers, as at the first level.",
            "\"linear\", \"weighted-linear\", \"inherit\" or \"none\"",
        ),
        key("epochs", "Passes over the training rows.", per_level!("a number above 0")),
        key("max_steps", "Steps, instead of epochs; 0 counts epochs.", per_level!("a whole number")),
        key("batch_size", "Rows of a step.", COUNT),
        key("lr", "Learning rate of the encoder after the warm-up.", per_level!("a number above 0")),
        key(
            "head_lr",
            "Learning rate of the head; 0 takes that of the encoder.",
            per_level!("a number, 0 or more"),
        ),
        key("warmup_steps", "Steps in which the learning rate rises from 0.", per_level!("a whole number")),
        key("schedule", "How it falls to 0 afterwards.", "\"constant\", \"linear\" or \"cosine\""),
        key("weight_decay", "Decay of weights; biases and norms do not decay.", "a number, 0 or more"),
        key("adam_epsilon", "Keeps AdamW from dividing by zero.", "a number above 0"),
        key(
            "clip",
            "Gradients of encoder and head that are longer are shortened to this; 0 never shortens.",
            "a number, 0 or more",
        ),
        key("dropout", "Drop out within the encoder while training, as its config.json says.", ON_OFF),
        key(
            "tokens_per_batch",
            "Tokens that pass through the encoder at a time; the result is the same.",
            COUNT,
        ),
        key("checkpoint_minutes", "Minutes from one checkpoint to the next.", "a number, 0 or more"),
    ],
};

const MATCHER: Group = Group {
    name: "matcher",
    meaning: "How a level finds nodes for the training rows: the man of the next level's negatives.",
    keys: &[
        key("top_k", "Nodes kept for a row.", per_level!("a whole number, 1 or more")),
        key(
            "post_processor",
            "From margins to scores; see that of the rankers.",
            per_level!(
                "\"l3-hinge\" (or another digit), \"sigmoid\", \"log-l3-hinge\", \"log-sigmoid\" or \"noop\""
            ),
        ),
        key(
            "ensemble",
            "Whose scores count: those of encoder and head, those of linear rankers on sparse features and embedding, or both together.",
            per_level!(
                "\"transformer-only\", \"concat-only\", \"average\", \"rank-average\" or \"round-robin\""
            ),
        ),
        key(
            "cost_positive",
            "Cost of a row that has the node, for the linear rankers.",
            per_level!("a number above 0"),
        ),
        key("cost_negative", "Cost of a row that does not.", per_level!("a number above 0")),
        key("threshold", "Weights smaller than this are dropped.", per_level!("a number, 0 or more")),
        key("relevance", "Let a positive cost as much as it has labels of the row below it.", ON_OFF),
        key("relevance_norm", "How these costs are scaled in a row.", "\"none\", \"l1\", \"l2\" or \"max\""),
    ],
};
