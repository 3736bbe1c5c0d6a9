//! Meaning and allowed values of every setting of an augmentation.

use crate::config::{Group, Key};

const fn key(name: &'static str, meaning: &'static str, allowed: &'static str) -> Key {
    Key { name, meaning, allowed }
}

/// A setting that is on or off.
const ON_OFF: &str = "true or false";
/// A setting that counts.
const COUNT: &str = "a whole number, 1 or more";
/// A setting that limits.
const LIMIT: &str = "a whole number; 0 for no limit";
/// Allowed shares of hidden pairs.
pub(super) const SHARE: &str = "a number above 0 and below 1";
/// Allowed thresholds.
pub(super) const TAU: &str = "a number above 0; above 1 nothing is added";

pub(super) const GROUPS: &[Group] = &[RUN, GENERATOR, PARSE, ENCODER, MAP, BUILD, VALIDATE];

const RUN: Group = Group {
    name: "",
    meaning: "What is augmented.",
    keys: &[
        key(
            "direction",
            "Which side the metadata belong to. label: pages of labels; texts like rows are written, and rows near to them get the label. instance: pages of rows; texts like labels are written, and the row gets labels near to them.",
            "\"label\" or \"instance\"",
        ),
        key("data", "Folder of the data set.", "a path"),
        key(
            "meta",
            "What is known of the sources, one JSON object a line: {\"id\": name or number, \"text\", \"title\", \"body\", \"url\", \"known\": []}, all but the id optional. Sources without a line are written for from their own text.",
            "a path",
        ),
        key("seed", "Seed of every draw: the same seed gives the same files.", "a whole number"),
        key(
            "exclude_test",
            "Leave out training rows with the text of a test row as targets; false stops when there are any.",
            ON_OFF,
        ),
    ],
};

const GENERATOR: Group = Group {
    name: "generator",
    meaning: "What writes synthetic texts.",
    keys: &[
        key(
            "kind",
            "extractive: titles and telling phrases of the metadata, without a model. replay: texts that were written before, by any program.",
            "\"extractive\" or \"replay\"",
        ),
        key("path", "replay: a folder with raw_rewrites.txt and start_indices.npy.", "a path"),
    ],
};

const PARSE: Group = Group {
    name: "parse",
    meaning: "Which lines of answers become synthetic texts.",
    keys: &[key("max_per_item", "Synthetic texts of a source at most.", COUNT)],
};

const ENCODER: Group = Group {
    name: "encoder",
    meaning: "What compares synthetic texts with targets.",
    keys: &[
        key(
            "path",
            "Folder of an encoder, or of a model that has one (dexml, xr-transformer); unset compares words and runs of characters.",
            "a path",
        ),
        key("max_len", "Tokens of a text; unset takes what the encoder was trained with.", "3 or more"),
        key("dim", "Values of an embedding where words are compared.", "a whole number, 8 or more"),
    ],
};

const MAP: Group = Group {
    name: "map",
    meaning: "How the nearest targets are searched.",
    keys: &[
        key("k", "Neighbours of a text that are kept.", COUNT),
        key(
            "search",
            "exact: compare with every target. cells: look only where neighbours are likely; how many are missed is measured. auto: exact where it takes minutes.",
            "\"auto\", \"exact\" or \"cells\"",
        ),
        key("recall", "Share of the neighbours that cells must find.", "a share from 0 to 1"),
    ],
};

const BUILD: Group = Group {
    name: "build",
    meaning: "Which neighbours become pairs of the matrix.",
    keys: &[
        key(
            "tau",
            "Least sigma = (cosine + 1) / 2 of a new pair: 0.8 is a cosine of 0.6. sigma is also the value of the pair.",
            TAU,
        ),
        key("k", "Neighbours of a text that are used; 0 adds nothing.", "a whole number up to map.k"),
        key(
            "mutual",
            "A text must have one of the so many largest cosines that any text has with the target.",
            "a whole number; 0 for any",
        ),
        key("max_per_label", "New pairs of a label at most, the best.", LIMIT),
        key("max_per_row", "New pairs of a row at most, the best.", LIMIT),
        key("budget", "New pairs in all at most, the best.", LIMIT),
    ],
};

const VALIDATE: Group = Group {
    name: "validate",
    meaning: "What is measured before anything is trained.",
    keys: &[
        key("share", "Share of the known pairs that is hidden and looked for.", SHARE),
        key("coverage_k", "Neighbours of a text that count as covered, up to map.k.", COUNT),
        key("cluster_size", "Labels of a cluster that is hidden as one.", COUNT),
    ],
};
