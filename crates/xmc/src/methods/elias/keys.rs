//! Meaning and allowed values of every setting of ELIAS.

use crate::config::{Group, Key};
use crate::methods::xr_linear::keys::VECTORIZER;

const fn key(name: &'static str, meaning: &'static str, allowed: &'static str) -> Key {
    Key { name, meaning, allowed }
}

const ON_OFF: &str = "true or false";
pub(super) const COUNT: &str = "a whole number, 1 or more";
pub(super) const ABOVE_ZERO: &str = "a number above 0";
pub(super) const FROM_ZERO: &str = "a number, 0 or more";
const PART: &str = "a number from 0 to less than 1";

pub(super) const GROUPS: &[Group] = &[
    MODEL,
    VECTORIZER,
    CLUSTER,
    INDEX,
    Group {
        name: "warmup",
        meaning: "The short stage 1 on clusters of words, after which labels are grouped again.",
        keys: PHASE,
    },
    Group {
        name: "stage1",
        meaning: "The training along fixed clusters, every label in one; also of heads without an index.",
        keys: PHASE,
    },
    Group {
        name: "stage2",
        meaning: "The training of everything, edges from clusters to labels too.",
        keys: PHASE,
    },
    TRAINING,
    CLASSIFIER,
    RANKER,
    FILES,
];

const MODEL: Group = Group {
    name: "",
    meaning: "The model: an encoder, clusters, edges from clusters to labels, and a classifier for every label.",
    keys: &[
        key(
            "encoder",
            "Folder of the encoder to begin with: config.json, model.safetensors and tokenizer.json as Hugging Face writes them; or a model of dexml, xr-transformer or elias, whose encoder is taken (of elias, with an index and these labels, also clusters, edges and classifiers, unless stages or files make other clusters first).",
            "a path",
        ),
        key(
            "pooling",
            "How the vectors of the tokens become one: their mean, the first, or the first behind the encoder's pooler (a fresh one if its folder has none). Unset: as the folder of the encoder says, else mean.",
            "\"mean\", \"cls\" or \"pooler\"",
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
        key(
            "train_encoder",
            "Let the encoder learn; false embeds every text once and trains the index alone, in a fraction of the time.",
            ON_OFF,
        ),
        key(
            "stages",
            "What is done. The last one says what comes out: a model, or the clusters or edges alone as a matrix.",
            "one or more of \"cluster\", \"warmup\", \"recluster\", \"stage1\", \"adjacency\", \"stage2\" and \"ranker\", in this order",
        ),
        key(
            "head",
            "What a text is compared with in training: the labels that the index finds, all labels, or those of the other rows of a step. The latter two have no index: searches are exact.",
            "\"index\", \"one-vs-all\" or \"batch\"",
        ),
        key(
            "validation_rows",
            "Rows set aside, whose labels neither clusters nor edges nor weights learn from: they show how training goes, and calibrate the ranker.",
            "a whole number",
        ),
        key(
            "label_embeddings",
            "Precision of the label matrix of the model.",
            "\"f32\", \"bf16\" or \"int8\"",
        ),
    ],
};

const CLUSTER: Group = Group {
    name: "cluster",
    meaning: "How labels are grouped: halved again and again by 2-means of the rows that have them.",
    keys: &[
        key(
            "max_leaf_size",
            "Labels of a cluster at most: there are 2^ceil(log2(labels / max_leaf_size)) clusters, but two at least.",
            COUNT,
        ),
        key("spherical", "Scale centroids to length one, so that the cosine counts.", ON_OFF),
        key("max_iterations", "Rounds of 2-means for one group at most.", COUNT),
    ],
};

const INDEX: Group = Group {
    name: "index",
    meaning: "From a text to the labels that are scored: a score of a cluster is min(1, alpha softmax), one of an edge min(1, beta softmax).",
    keys: &[
        key("alpha", "Gain of the clusters: about so many of them can have score 1.", ABOVE_ZERO),
        key("beta", "Gain of the edges: about so many labels of a cluster can have score 1.", ABOVE_ZERO),
        key("beam", "Clusters that a text goes to.", COUNT),
        key("shortlist", "Labels of these clusters, those with the best paths, that are scored.", COUNT),
        key(
            "kappa",
            "Edges of a cluster that the stage adjacency chooses at most. Each label keeps its best cluster, so labels kept may exceed it; files.adjacency is not cut.",
            COUNT,
        ),
        key(
            "frequency_power",
            "When edges are chosen, visits of a label's rows are divided by its frequency to this power: above 0, rare labels get more clusters.",
            FROM_ZERO,
        ),
        key(
            "first_edges",
            "What edges begin with. random: numbers from 0 to 1, so that all edges of a cluster are about alike. visits: the logarithm of their value in the adjacency. Edges of a model that goes on keep theirs.",
            "\"random\" or \"visits\"",
        ),
    ],
};

const PHASE: &[Key] = &[
    key("epochs", "Passes over the training rows.", ABOVE_ZERO),
    key("lr", "Learning rate of the encoder after the warm-up.", ABOVE_ZERO),
    key("cluster_lr", "Learning rate of the clusters.", ABOVE_ZERO),
    key("label_lr", "Learning rate of classifiers and edges.", ABOVE_ZERO),
    key(
        "loss_lambda",
        "Weight of the loss of paths that lead to right labels, beside that of the classifiers.",
        FROM_ZERO,
    ),
    key(
        "swa_start",
        "Epoch at whose end averaging of parameters (but not edges) begins; those of the last step are averaged too. 0 never averages.",
        "a whole number, no more than the epochs",
    ),
    key("swa_every", "Steps from one average to the next.", COUNT),
];

const TRAINING: Group = Group {
    name: "training",
    meaning: "What the trainings share.",
    keys: &[
        key("batch_size", "Rows of a step.", COUNT),
        key("warmup", "Part of the steps in which learning rates rise from 0.", PART),
        key("schedule", "How they fall to 0 afterwards.", "\"constant\", \"linear\" or \"cosine\""),
        key("weight_decay", "Decay of weights; biases and norms do not decay.", FROM_ZERO),
        key("adam_epsilon", "Keeps AdamW from dividing by zero.", ABOVE_ZERO),
        key(
            "clip",
            "Gradients of the encoder that are longer are shortened to this; 0 never shortens.",
            FROM_ZERO,
        ),
        key("dropout", "Drop out within the encoder while training, as its config.json says.", ON_OFF),
        key("embedding_dropout", "Part of an embedding that is dropped while training.", PART),
        key(
            "tokens_per_batch",
            "Tokens that pass through the encoder at a time; the result is the same.",
            COUNT,
        ),
        key("checkpoint_minutes", "Minutes from one checkpoint to the next.", FROM_ZERO),
    ],
};

const CLASSIFIER: Group = Group {
    name: "classifier",
    meaning: "The classifiers of the labels: how they begin, lie in memory and move. Only labels that a step meets cost time.",
    keys: &[
        key(
            "weights",
            "Number format of the weights. bf16: half the memory, rounded at random so that small steps count.",
            "\"f32\" or \"bf16\"",
        ),
        key(
            "moments",
            "What the optimiser remembers. element: two numbers of f32 for every weight, as AdamW. row: one for every weight, in the format of the weights, and one for a label.",
            "\"element\" or \"row\"",
        ),
        key(
            "mapped",
            "Keep weights and moments in a file beside the model instead of memory: for more labels than memory holds.",
            ON_OFF,
        ),
        key(
            "bias",
            "First biases. prior: by the frequency of the label. zero: 0, but for labels that training never compares.",
            "\"prior\" or \"zero\"",
        ),
        key(
            "keep",
            "Let a training go on from the classifiers of the one before it on the same clusters: stage 2 from those of stage 1, the first training from those of a model of elias. false, or other clusters: new ones.",
            ON_OFF,
        ),
    ],
};

const RANKER: Group = Group {
    name: "ranker",
    meaning: "The sparse re-ranker: a linear ranker on words and embedding for each label, for the labels that are found.",
    keys: &[
        key("top_k", "Labels of a row that it sees.", COUNT),
        key("cost", "Cost of a row of a label, right or wrong.", ABOVE_ZERO),
        key("epsilon", "A label is done when its gradients agree to this.", ABOVE_ZERO),
        key("max_iterations", "Passes over the rows of a label at most.", COUNT),
        key("threshold", "Weights smaller than this are dropped.", FROM_ZERO),
        key(
            "calibrate",
            "Let a small decision tree, learned on the validation rows, have a say in the score.",
            ON_OFF,
        ),
    ],
};

const FILES: Group = Group {
    name: "files",
    meaning: "Inputs in place of stages, as .npz files of scipy. Paths are relative to where the program is started.",
    keys: &[
        key("clusters", "Clusters of the labels [clusters, labels], one entry for a label.", "a path"),
        key("adjacency", "Edges from clusters to labels [clusters, labels] for stage 2.", "a path"),
    ],
};
