//! Meaning and allowed values of every setting of sampling.

use crate::config::{Group, Key};

const fn key(name: &'static str, meaning: &'static str, allowed: &'static str) -> Key {
    Key { name, meaning, allowed }
}

/// The table `sampling`.
pub const SAMPLING: Group = Group {
    name: "sampling",
    meaning: "Which labels and pairs are enough to learn from. Labels that are alike share a bucket, and every bucket gives a few.",
    keys: &[
        key("ratio", "Share of the training data that is kept; 1 keeps all.", "a number above 0, at most 1"),
        key(
            "ratio_of",
            "What it is a share of: pairs of a row and a label, labels, or rows.",
            "\"pairs\", \"labels\" or \"documents\"",
        ),
        key(
            "sampler",
            "How labels are told apart. simhash: by the sides of random planes that their features lie on. minhash: by words of their names. race: no buckets, a label is the likelier drawn the fewer are like it. random: not at all.",
            "\"simhash\", \"minhash\", \"race\" or \"random\"",
        ),
        key(
            "features",
            "What a label looks like, for simhash and race. tokemb: the decoder's input embeddings of its name. tfidf: words and characters of its name. llm: the decoder's last hidden state behind its name. file: a row of features_file. auto: tokemb where there is a decoder, else tfidf.",
            "\"auto\", \"tokemb\", \"tfidf\", \"llm\" or \"file\"",
        ),
        key("features_file", "For file: a matrix [L, d] as numpy writes it, .npy.", "a path"),
        key(
            "bits",
            "Bits of a hash (minhash: words of it). If not given, as few as make enough buckets for one label of each.",
            "a whole number from 1 to 30 (minhash: to 8)",
        ),
        key(
            "per_bucket",
            "Labels that every bucket gives; the share is then what it comes to. If not given, as the ratio says.",
            "a whole number, 1 or more",
        ),
        key(
            "within",
            "Which labels of a bucket are taken first. head: those of most rows. tail: those of fewest. medoid: those nearest to the middle.",
            "\"random\", \"head\", \"tail\" or \"medoid\"",
        ),
        key("max_positives", "Sampled labels of a row at most; 0 is all.", "a whole number, 0 or more"),
        key(
            "positives",
            "Which those are. random: others in every epoch. first: those with the lowest ids.",
            "\"random\" or \"first\"",
        ),
        key("keep_orphans", "Whether a row without a sampled label keeps its rarest label.", "true or false"),
        key("resample", "Whether every epoch takes other labels of the buckets.", "true or false"),
    ],
};
