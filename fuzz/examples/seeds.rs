//! Fills `corpus/` with what the fuzzers start from: golden files of the tests, the texts in `seeds/`, and small
//! models trained here.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use xmc_data::formats::{npy, npz, svmlight, xmc_text};
use xmc_data::text::{Vectorizer, VectorizerConfig};
use xmc_data::{Csr, CsrBuilder, Dense, Strings};
use xmc_fuzz::{MEMBERS, pecos_files};
use xmc_linear::ranker::{PerLevel, RankerConfig, TrainInput, train};
use xmc_linear::store::Precision;
use xmc_linear::{Features, Tree};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let corpus = |target: &str| -> Outcome<PathBuf> {
        let folder = root.join("corpus").join(target);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    };
    let npz_goldens = files(&root.join("../crates/xmc-data/tests/golden/npz"))?;
    seed_npz(&npz_goldens, &corpus("npz")?)?;
    for target in ["sparse_text", "records"] {
        let folder = corpus(target)?;
        for file in files(&root.join("seeds").join(target))? {
            fs::copy(&file, folder.join(file.file_name().ok_or("a name")?))?;
        }
    }
    seed_sparse_text(&corpus("sparse_text")?)?;
    for file in files(&root.join("../crates/xmc-nn/tests/golden/gguf"))? {
        if file.extension().is_some_and(|extension| extension == "gguf") {
            fs::copy(&file, corpus("gguf")?.join(file.file_name().ok_or("a name")?))?;
        }
    }
    seed_models(&corpus("models")?)
}

fn files(folder: &Path) -> Outcome<Vec<PathBuf>> {
    Ok(fs::read_dir(folder)?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?)
}

/// The golden files as they are, and their members without the zip around them.
fn seed_npz(goldens: &[PathBuf], folder: &Path) -> Outcome<()> {
    for file in goldens {
        let name = file.file_name().ok_or("a name")?.to_string_lossy().into_owned();
        fs::copy(file, folder.join(&name))?;
        let mut zip = zip::ZipArchive::new(fs::File::open(file)?)?;
        let mut packed = Vec::new();
        for (i, member) in MEMBERS.iter().enumerate() {
            let Ok(mut member) = zip.by_name(&format!("{member}.npy")) else { continue };
            let mut bytes = Vec::new();
            member.read_to_end(&mut bytes)?;
            packed.push(i as u8);
            packed.extend((bytes.len() as u16).to_le_bytes());
            packed.extend(bytes);
        }
        fs::write(folder.join(name + ".members"), packed)?;
    }
    Ok(npy::write_dense(&folder.join("dense.npy"), &Dense::new(2, 3, vec![0.5; 6])?)?)
}

fn seed_sparse_text(folder: &Path) -> Outcome<()> {
    let (x, y) = (matrix(20, 1)?, matrix(9, 0)?);
    for name in ["xmc.txt", "xmc.txt.gz", "xmc.txt.zst"] {
        xmc_text::write(&folder.join(name), &x, &y)?;
    }
    xmc_text::write_sparse(&folder.join("columns.txt"), &x)?;
    Ok(svmlight::write(&folder.join("rows.svm"), &x, &y)?)
}

/// Twelve rows of a few entries.
fn matrix(cols: u32, offset: u32) -> Outcome<Csr> {
    let mut builder = CsrBuilder::new();
    for i in 0..12u32 {
        builder.push((0..i % 4).map(|j| ((i * 7 + j * 5 + offset) % cols, 0.25 * (j + 1) as f32)));
    }
    Ok(builder.finish(cols as usize)?)
}

fn seed_models(folder: &Path) -> Outcome<()> {
    seed_trees(folder)?;
    Strings::new(["sea", "", "mountain", "größer"]).save(&folder.join("names.bin"))?;
    let texts = Strings::new(["The sea and the river", "the mountain, the größer sea", "ab ab river 12"]);
    let settings = [
        vec![r#"{}"#],
        vec![r#"{"analyzer": "char_wb", "ngram_range": [2, 3], "sublinear_tf": true}"#],
        vec![
            r#"{"kind": "hashing", "n_features": 1000}"#,
            r#"{"preset": "libpecos", "ngram_range": [1, 2]}"#,
        ],
        vec![r#"{"stem": "english", "stop_words": ["and"], "norm": "l1", "strip_accents": true}"#],
    ];
    for (i, settings) in settings.iter().enumerate() {
        let configs = settings
            .iter()
            .map(|s| serde_json::from_str::<VectorizerConfig>(s))
            .collect::<Result<Vec<_>, _>>()?;
        Vectorizer::fit(&configs, &texts)?.0.save(&folder.join(format!("vectorizer_{i}.bin")))?;
    }
    for (i, (_, file)) in pecos_files().into_iter().enumerate() {
        let mut bytes = vec![i as u8];
        bytes.extend(fs::read(file)?);
        fs::write(folder.join(format!("pecos_{i}")), bytes)?;
    }
    Ok(())
}

/// Trees of every precision, both packings, with and without a dense block.
fn seed_trees(folder: &Path) -> Outcome<()> {
    let y = matrix(9, 0)?;
    // More than 2^20 features make rows wide.
    for (name, weights, features, dense) in [
        ("f16", Precision::F16, 20, false),
        ("f32", Precision::F32, 20, true),
        ("u8", Precision::U8, 20, false),
        ("wide", Precision::F16, (1 << 20) + 5, true),
    ] {
        let x = matrix(20, 1)?;
        let x = Csr::new(x.rows(), features, x.indptr().to_vec(), x.indices().to_vec(), x.values().to_vec())?;
        let block = dense.then(|| Dense::new(x.rows(), 2, vec![0.5; 2 * x.rows()])).transpose()?;
        let x = Features::new(x, block)?;
        let tree = Tree::new(vec![vec![0, 2], vec![0, 5, 8]], vec![3, 1, 4, 0, 5, 8, 2, 6], 9)?;
        let config = RankerConfig { weights, threshold: PerLevel::All(0.01), ..RankerConfig::default() };
        let input = TrainInput { x: &x, y: &y, relevance: None, negatives: None };
        train(input, tree, &config, 1, &|_, _| {})?.save(&folder.join(format!("tree_{name}.bin")))?;
    }
    Ok(())
}
