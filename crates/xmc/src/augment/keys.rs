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
/// Known templates, or one's own.
pub(super) const TEMPLATE: &str = "\"instructed\", \"fields\" or a path that ends with .toml";
/// Fields of a request.
pub(super) const OBJECT: &str = "a JSON object in a text";
/// A number that may be 0.
pub(super) const FROM_ZERO: &str = "a number, 0 or more";
/// A number that may not.
pub(super) const ABOVE_ZERO: &str = "a number above 0";
/// What a generator needs.
pub(super) const PATH: &str = "a path: a decoder needs its file or folder, replay the texts";
/// What a generator behind HTTP needs.
pub(super) const ENDPOINT: &str = "the address (http.url) and the name of the model (http.model)";
/// Allowed numbers of requests.
pub(super) const CONCURRENCY: &str = "a whole number from 1 to 1024";
/// Allowed sizes of embeddings of words.
pub(super) const DIM: &str = "a multiple of 64";
/// What costs are counted with.
pub(super) const PRICES: &str = "prices to count the cost with: set http.prompt_price and http.answer_price";
/// A probability.
pub(super) const UP_TO_ONE: &str = "a number above 0, up to 1";
/// Allowed shares of hidden pairs.
pub(super) const SHARE: &str = "a number above 0 and below 1";
/// Allowed thresholds.
pub(super) const TAU: &str = "a number above 0; above 1 nothing is added";

pub(super) const GROUPS: &[Group] = &[RUN, GENERATOR, HTTP, PARSE, ENCODER, MAP, BUILD, VALIDATE];

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
            "extractive: titles and telling phrases of the metadata, without a model. decoder: a language model on this machine. http: one behind an OpenAI-compatible address. replay: texts that were written before, by any program.",
            "\"extractive\", \"decoder\", \"http\" or \"replay\"",
        ),
        key(
            "path",
            "decoder: a .gguf file, or a folder of Hugging Face. replay: a folder with raw_rewrites.txt and start_indices.npy, or JSON Lines of {\"source\": name or number, \"text\"}.",
            "a path",
        ),
        key(
            "template",
            "What a language model reads. instructed: instructions in a chat. fields: what is known, and a header to continue, for a model that was tuned on answers. Or a TOML file with `parts` (see `xmc augment generate --help`).",
            TEMPLATE,
        ),
        key("max_new_tokens", "Tokens of an answer at most.", COUNT),
        key("temperature", "Divides logits before a token is drawn; 0 takes the likeliest.", FROM_ZERO),
        key("top_k", "decoder: likeliest tokens that are drawn from; 0 for all.", "a whole number"),
        key("top_p", "Likeliest tokens that are drawn from have this probability together.", UP_TO_ONE),
        key("batch_size", "decoder: texts that are continued side by side. Changes no text.", COUNT),
    ],
};

const HTTP: Group = Group {
    name: "http",
    meaning: "Where a language model is asked, for generator.kind = \"http\".",
    keys: &[
        key("url", "Address up to the version, such as http://localhost:8080/v1.", "a text"),
        key("model", "Name of the model there.", "a text"),
        key("api", "chat: /chat/completions. completions: /completions.", "\"chat\" or \"completions\""),
        key(
            "key_env",
            "Environment variable that holds the key; the key itself is written nowhere.",
            "a text",
        ),
        key("extra", "Further fields of a request, such as {\"top_k\": 200}.", OBJECT),
        key("concurrency", "Requests under way at most.", CONCURRENCY),
        key("requests_per_minute", "Requests a minute at most; unset for any number.", COUNT),
        key("tokens_per_minute", "Tokens read and written a minute at most; unset for any number.", COUNT),
        key("attempts", "Times that a request is tried where another try makes sense.", COUNT),
        key("timeout", "Seconds that a reply may take.", ABOVE_ZERO),
        key("prompt_price", "Price of a million tokens read.", FROM_ZERO),
        key("answer_price", "Price of a million tokens written.", FROM_ZERO),
        key("max_tokens", "Stop when a call of the command has used so many tokens.", COUNT),
        key("max_cost", "Stop when its answers have cost so much.", ABOVE_ZERO),
        key("max_hours", "Stop after so many hours. What was answered is kept.", ABOVE_ZERO),
    ],
};

const PARSE: Group = Group {
    name: "parse",
    meaning: "Which lines of answers become synthetic texts.",
    keys: &[
        key("max_per_item", "Synthetic texts of a source at most.", COUNT),
        key("drop_known", "Drop texts that the metadata name as known already.", ON_OFF),
    ],
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
        key("dim", "Values of an embedding where words are compared.", DIM),
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
