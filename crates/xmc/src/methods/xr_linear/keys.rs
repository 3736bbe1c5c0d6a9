//! Meaning and allowed values of every setting of XR-Linear.

use crate::config::{Group, Key};

const fn key(name: &'static str, meaning: &'static str, allowed: &'static str) -> Key {
    Key { name, meaning, allowed }
}

/// A setting that is on or off.
const ON_OFF: &str = "true or false";
/// Roles of the values of labels; rankers draw nothing and learn no probabilities.
pub(in crate::methods) const VALUE: &str = "\"weight\" or \"ignore\"";
/// A setting that may differ by level of the tree.
macro_rules! per_level {
    ($allowed:literal) => {
        concat!($allowed, ", or a list with one for each level from the root down")
    };
}

pub(super) const GROUPS: &[Group] = &[
    Group {
        name: "",
        meaning: "",
        keys: &[
            key(
                "features",
                "Which features describe a row. auto takes X.trn.npz if the data has it, else makes features of the texts.",
                "\"auto\", \"text\" or \"given\"",
            ),
            key(
                "value",
                "What the value of a label, such as 0.8, changes. weight: what a positive costs its ranker, unless files.relevance says it, and what its row adds to the label's features. ignore: nothing.",
                VALUE,
            ),
            key(
                "trees",
                "Trees of the ensemble, each from a seed of its own: better and larger.",
                "a whole number from 1 to 100",
            ),
            key(
                "combine",
                "How the scores of several trees become one. average suits scores from 0 up, the others suit all.",
                "\"average\", \"rank-average\", \"sigmoid-average\", \"softmax-average\" or \"round-robin\"",
            ),
        ],
    },
    VECTORIZER,
    LABEL_FEATURES,
    CLUSTER,
    RANKER,
    FILES,
];

pub(in crate::methods) const LABEL_FEATURES: Group = Group {
    name: "label_features",
    meaning: "What a label looks like when labels are grouped into a tree.",
    keys: &[
        key(
            "kind",
            "pifa: the sum of its training rows. text: the features of its name. mix: the weighted sum of both. given: a row of files.label_features.",
            "\"pifa\", \"text\", \"pifa+text\", \"mix\" or \"given\"",
        ),
        key("pifa_weight", "Share of pifa in mix.", "a number from 0 to 1"),
    ],
};

/// Settings of one tree.
pub(in crate::methods) const TREE_KEYS: &[Key] = &[
    key(
        "method",
        "balanced: repeated halving into groups of equal size. unbalanced: k-means with many parts and few levels, as in Bonsai.",
        "\"balanced\" or \"unbalanced\"",
    ),
    key(
        "branching",
        "Children of an inner node of a balanced tree; best a power of two.",
        "a whole number, 2 or more",
    ),
    key("max_leaf_size", "Labels that stay together at most.", "a whole number, 1 or more"),
    key("spherical", "Compare labels by angle (cosine) instead of by distance.", ON_OFF),
    key("max_iterations", "Rounds of k-means for one group at most.", "a whole number, 1 or more"),
    key(
        "min_codes",
        "Levels are added on top until at most this many nodes are below the root; 0 means as many as branching, 1 none at all.",
        "a whole number",
    ),
    key(
        "unbalanced_branching",
        "Children of an inner node of an unbalanced tree at most.",
        "a whole number, 2 or more",
    ),
    key(
        "unbalanced_depth",
        "Levels of an unbalanced tree at most; 1 is one-vs-all.",
        "a whole number, 1 or more",
    ),
];

const CLUSTER: Group =
    Group { name: "cluster", meaning: "How labels are grouped into a tree.", keys: TREE_KEYS };

pub(in crate::methods) const VECTORIZER: Group = Group {
    name: "vectorizer",
    meaning: "How a text becomes features. Repeat the table for several vectorizers side by side; with --set they are vectorizer.0, vectorizer.1 and so on.",
    keys: &[
        key(
            "preset",
            "Values of all settings of this table that are left out: those of scikit-learn's TfidfVectorizer or of libpecos.",
            "\"sklearn\" or \"libpecos\"",
        ),
        key(
            "kind",
            "tfidf learns a vocabulary; hashing needs none and keeps none.",
            "\"tfidf\" or \"hashing\"",
        ),
        key(
            "analyzer",
            "What a term is made of: words, characters, or characters within words.",
            "\"word\", \"char\" or \"char_wb\"",
        ),
        key(
            "token_pattern",
            "Where words end. sklearn: words are two or more letters, digits or underscores. whitespace: at the ASCII space only.",
            "\"sklearn\" or \"whitespace\"",
        ),
        key(
            "ngram_range",
            "Shortest and longest run of words or characters that is a term.",
            "[shortest, longest] from 1 to 20",
        ),
        key("lowercase", "Lower-case texts first.", ON_OFF),
        key("strip_accents", "Remove accents first.", ON_OFF),
        key(
            "stem",
            "Language whose Snowball stemmer reduces words; only for words.",
            "\"none\" or a language like \"english\" or \"german\"",
        ),
        key("stop_words", "Words to leave out; only for words.", "a list of strings"),
        key(
            "truncate_length",
            "Words (characters for the other analyzers) of a text to look at; 0 looks at all.",
            "a whole number",
        ),
        key(
            "min_df",
            "Leave out terms in fewer texts: a whole number counts texts, one with a point is a share.",
            "a whole number, or a share from 0.0 to 1.0",
        ),
        key("max_df", "Leave out terms in more texts.", "a whole number, or a share from 0.0 to 1.0"),
        key("max_features", "Most terms to keep; 0 keeps all.", "a whole number"),
        key(
            "max_features_by",
            "Keep the terms that occur most often (count), or in most texts (df).",
            "\"count\" or \"df\"",
        ),
        key("sublinear_tf", "Weigh a term that occurs tf times in a text as 1 + ln(tf).", ON_OFF),
        key("binary", "Count a term once in a text.", ON_OFF),
        key(
            "idf",
            "Weight of a term in df of n texts. sklearn: ln((n + s) / (df + s)) + a. libpecos: max(ln(n / (df + s)), 0) + a. none: 1.",
            "\"sklearn\", \"libpecos\" or \"none\"",
        ),
        key("smooth_idf", "s of that formula: 1 if true, else 0.", ON_OFF),
        key("add_one_idf", "a of that formula: 1 if true, else 0.", ON_OFF),
        key("norm", "What the length of every row is made 1 by.", "\"l2\", \"l1\" or \"none\""),
        key("n_features", "Columns of hashing.", "a whole number from 1 to 2147483647"),
        key(
            "alternate_sign",
            "Let the hash choose the sign too, so that collisions cancel on average.",
            ON_OFF,
        ),
    ],
};

pub(in crate::methods) const RANKER: Group = Group {
    name: "ranker",
    meaning: "How every level of the tree learns to rank its nodes, and how it is searched.",
    keys: &[
        key(
            "loss",
            "What a node minimises, by dual coordinate descent.",
            "\"squared-hinge\", \"hinge\" or \"logistic\"",
        ),
        key("cost_positive", "Cost of a row that has the label.", per_level!("a number above 0")),
        key("cost_negative", "Cost of a row that does not.", per_level!("a number above 0")),
        key("bias", "Value of the constant feature; 0 for none.", "a number, 0 or more"),
        key("epsilon", "A label is done when its gradients agree to this.", "a number above 0"),
        key("max_iterations", "Passes over the rows of a label at most.", "a whole number, 1 or more"),
        key(
            "threshold",
            "Weights smaller than this are dropped: larger is smaller and faster.",
            per_level!("a number, 0 or more"),
        ),
        key("max_nonzeros", "Weights kept for one label at most; 0 keeps all.", per_level!("a whole number")),
        key(
            "negatives",
            "Which rows train the children of a node without having one of them. tfn: rows that have the node. man: rows for which the model so far finds the node. usn: rows named in files.negatives.",
            per_level!("\"tfn\", \"man\", \"usn\" or several joined by +"),
        ),
        key(
            "relevance",
            "Costs of positives. disable: all equal. induce: files.relevance, or 1 a label, summed up the tree. ranker-only: only at the labels.",
            "\"disable\", \"induce\" or \"ranker-only\"",
        ),
        key(
            "relevance_norm",
            "How the relevances of a row are scaled at each level.",
            "\"none\", \"l1\", \"l2\" or \"max\"",
        ),
        key(
            "post_processor",
            "From margins to scores; scores of parent and child are multiplied (for log-… added, for noop the child's alone counts).",
            per_level!(
                "\"l3-hinge\" (or another digit), \"sigmoid\", \"log-l3-hinge\", \"log-sigmoid\" or \"noop\""
            ),
        ),
        key(
            "beam_size",
            "Nodes kept at every inner level of a search: larger is slower and finds more.",
            "a whole number, 1 or more",
        ),
        key(
            "weights",
            "Precision of the stored weights: smaller is faster to load. u8 keeps 256 different numbers a level.",
            "\"u8\", \"f16\" or \"f32\"",
        ),
    ],
};

pub(in crate::methods) const FILES: Group = Group {
    name: "files",
    meaning: "Further inputs, as .npz files of scipy. Paths are relative to where the program is started.",
    keys: &[
        key("label_features", "Label features [labels, any], for label_features.kind = \"given\".", "a path"),
        key(
            "tree",
            "A label tree to use instead of growing one: a code matrix [labels, groups], or a folder of them as libpecos writes it.",
            "a path",
        ),
        key("relevance", "Costs of the training labels [rows, labels], with the entries of Y.trn.", "a path"),
        key("negatives", "Labels to use as negatives of a row [rows, labels], for usn.", "a path"),
    ],
};
