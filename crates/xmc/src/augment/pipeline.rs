//! Which stage reads and writes what? One folder holds a run; every stage reads the files of the stages before it, so each
//! can be done alone and again.
//!
//! ```text
//! run.toml                          settings
//! generated/                        generate: answers, kept for ever
//! synthetic.jsonl, raw_rewrites.txt, start_indices.npy     parse
//! embeddings/{synthetic,targets}    embed: distinct synthetic texts, targets
//! ngbr_{indices,scores}_mat.npy     map
//! trn_X_Y_skim.npz, provenance.jsonl                       build
//! report.json                       validate
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use xmc_data::dataset::Dataset;
use xmc_data::formats::{lines, npz};
use xmc_data::text::{Vectorizer, VectorizerConfig};
use xmc_data::{Csr, LabelId, Strings};
use xmc_nn::{Device, Precision};

use super::asking::{Asking, Estimate, Kept};
use super::build::{BuildReport, build};
use super::cache::Cache;
use super::config::{AugmentConfig, GeneratorKind, ParseConfig};
use super::embed::{Distinct, Embedder, embed_file};
use super::files::AUGMENTED;
use super::http::check_key_env;
use super::items::{items, targets};
use super::leaks::{Guard, Leaks, TestRows};
use super::map::{MapConfig, MapReport, map};
use super::mapping::Mapping;
use super::parse::{Counts, Parser, Rules};
use super::provenance::{Explanation, explain};
use super::questions::{self, GenerateReport};
use super::recovery::clusters;
use super::sweep::{Point, sweep};
use super::teach::{Prompts, TeachReport, draw, teach};
use super::template::Template;
use super::validate::{Inputs, Report, ValidateConfig, validate};
use super::{Direction, Item, Neighbours, Synthetic};
use crate::config::{self, Checked};
use crate::error::{Error, Result};
use crate::events::Events;
use crate::fingerprint::Fingerprint;
use crate::index::{Dtype, LabelEmbeddings};
use crate::run::{create, write_json};

/// Settings of a run.
pub const SETTINGS: &str = "run.toml";
/// Report of a validation.
pub const REPORT: &str = "report.json";
/// What the neighbours were made of.
const MAPPED: &str = "map.json";
/// Folder of answers, and the file with the key of each source in it.
const GENERATED: &str = "generated";
const KEYS: &str = "keys.txt";
/// Folder of embeddings.
const EMBEDDINGS: &str = "embeddings";
/// Targets up to which labels are propagated between all of them, to compare with.
const PROPAGATED: usize = 200_000;

/// A run, opened.
pub struct Pipeline<'e> {
    dir: PathBuf,
    config: Checked<AugmentConfig>,
    data: Dataset,
    events: &'e dyn Events,
}

/// What is known beside the data.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evidence<'a> {
    /// A matrix of pairs that are true and not in the data.
    pub hidden: Option<&'a Path>,
    /// Another augmented matrix.
    pub other: Option<&'a Path>,
}

/// What was parsed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ParseReport {
    /// What is written for.
    pub sources: usize,
    /// Sources with a synthetic text.
    pub with_texts: usize,
    /// Synthetic texts.
    pub texts: usize,
    /// Texts of a source: the least of a tenth of them, the median, the most of nine tenths.
    pub per_source: [usize; 3],
    /// What became of the lines of answers.
    pub lines: Counts,
}

/// What was embedded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EmbedReport {
    /// What made embeddings.
    pub encoder: String,
    /// Synthetic texts.
    pub texts: usize,
    /// Distinct ones.
    pub distinct: usize,
    /// Targets.
    pub targets: usize,
    /// Values of an embedding.
    pub dim: usize,
    /// Texts that had to be embedded; the others were there.
    pub computed: usize,
}

/// A pair with its names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explained {
    /// Text of the row.
    pub row_text: Option<String>,
    /// Name of the label.
    pub label_name: String,
    /// Where it comes from.
    #[serde(flatten)]
    pub pair: Explanation,
}

impl<'e> Pipeline<'e> {
    /// Begins a run in `dir`: writes its settings, and checks what it will read.
    pub fn init(dir: &Path, config: Checked<AugmentConfig>, events: &'e dyn Events) -> Result<Self> {
        let path = dir.join(SETTINGS);
        if path.exists() {
            return Err(Error::file(&path, "is there already: change it, or choose another folder"));
        }
        // A key that was given for the name of its variable must not get into the file.
        config.http.key_env.as_deref().map_or(Ok(()), check_key_env)?;
        let data = open_data(&config)?;
        items(&data, config.direction, config.meta.as_deref())?;
        targets(&data, config.direction)?;
        create(dir)?;
        let title = "# Settings of this run; `xmc augment` reads them in every stage.\n";
        fs::write(&path, format!("{title}{}", config::file(&*config))).map_err(Error::io(&path))?;
        Ok(Pipeline { dir: dir.to_owned(), config, data, events })
    }

    /// Opens the run in `dir`, with `sets` over its settings.
    pub fn open(dir: &Path, sets: &[String], events: &'e dyn Events) -> Result<Self> {
        let path = dir.join(SETTINGS);
        if !path.exists() {
            return Err(Error::file(&path, "no such file: `xmc augment init` begins a run"));
        }
        let config = config::load::<AugmentConfig>(Some(&path), sets)?;
        let data = open_data(&config)?;
        Ok(Pipeline { dir: dir.to_owned(), config, data, events })
    }

    /// The settings.
    pub fn config(&self) -> &AugmentConfig {
        &self.config
    }

    /// The data.
    pub fn data(&self) -> &Dataset {
        &self.data
    }

    /// What is written for.
    pub fn items(&self) -> Result<Vec<Item>> {
        items(&self.data, self.config.direction, self.config.meta.as_deref())
    }

    /// Has the generator answer for every source that has no answer yet, and with `retry` for those where it failed.
    pub fn generate(&self, retry: bool) -> Result<GenerateReport> {
        let items = self.items()?;
        if self.config.generator.kind == GeneratorKind::Replay {
            return Ok(GenerateReport { sources: items.len(), ..GenerateReport::default() });
        }
        let asking = Asking::new(&self.config)?;
        let cut = |text: &str, tokens| asking.cut(text, tokens);
        let questions = asking.questions(&cut)?;
        let (mut cache, mut generator) = (self.cache()?, asking.generator()?);
        let (report, keys) =
            questions::generate(items, &questions, &mut cache, &mut *generator, retry, self.events)?;
        lines::write(&self.dir.join(GENERATED).join(KEYS), &Strings::new(keys))?;
        Ok(report)
    }

    /// What that would cost.
    pub fn estimate(&self, retry: bool) -> Result<Estimate> {
        Asking::new(&self.config)?.estimate(self.items()?, &self.cache()?, retry)
    }

    /// Asks about `n` sources, rare and frequent ones evenly, and writes the answers as examples into `out`, from which a
    /// decoder learns to answer for the others. What it will read is the template `fields`.
    pub fn teach(&self, n: usize, out: &Path) -> Result<TeachReport> {
        let items = self.items()?;
        let y = &self.data.train.y;
        let frequencies: Vec<u64> = match self.config.direction {
            Direction::Label => y.transpose().iter().map(|row| row.len() as u64).collect(),
            Direction::Instance => y.iter().map(|row| row.len() as u64).collect(),
        };
        let drawn = draw(&frequencies, n, self.config.seed);
        let asking = Asking::new(&self.config)?;
        let cut = |text: &str, tokens| asking.cut(text, tokens);
        let (questions, fields) = (asking.questions(&cut)?, Template::fields(self.config.direction));
        let asked = drawn.iter().filter_map(|&source| items.get(source as usize).cloned()).collect();
        let (mut cache, mut generator) = (self.cache()?, asking.generator()?);
        questions::generate(asked, &questions, &mut cache, &mut *generator, false, self.events)?;
        let prompts = Prompts {
            teacher: &|item| questions.prompt(item.clone()),
            student: &|item| fields.fill(item, &cut),
        };
        teach(out, &items, &drawn, &prompts, &mut Kept(&mut cache), self.events)
    }

    fn cache(&self) -> Result<Cache> {
        let cache = Cache::open(&self.dir.join(GENERATED))?;
        if cache.damaged() > 0 {
            self.events.message(&format!("{} damaged answers will be asked for again", cache.damaged()));
        }
        Ok(cache)
    }

    /// Cuts answers into synthetic texts, each once for a source; or takes those that were written before.
    pub fn parse(&self) -> Result<ParseReport> {
        let (synthetic, counts) = match self.config.generator.kind {
            GeneratorKind::Replay => (self.replayed()?, Counts::default()),
            _ => self.parsed()?,
        };
        let mut sizes: Vec<usize> = (0..synthetic.sources()).map(|i| synthetic.of(i).len()).collect();
        sizes.sort_unstable();
        let size = |tenths| sizes.get(sizes.len() * tenths / 10).copied().unwrap_or(0);
        let report = ParseReport {
            sources: sizes.len(),
            with_texts: sizes.iter().filter(|&&size| size > 0).count(),
            texts: synthetic.texts.len(),
            per_source: [size(1), size(5), size(9)],
            lines: counts,
        };
        synthetic.write(&self.dir)?;
        Ok(report)
    }

    fn parsed(&self) -> Result<(Synthetic, Counts)> {
        let (items, path) = (self.items()?, self.dir.join(GENERATED).join(KEYS));
        let (keys, mut cache) = (lines::read(&path)?, self.cache()?);
        let asking = Asking::new(&self.config)?;
        let ParseConfig { max_per_item, drop_known } = self.config.parse;
        let mut parser = Parser::new(Rules { max_per_item, drop_known }, asking.lines());
        let (mut texts, mut levels, mut starts) = (Strings::default(), Vec::new(), vec![0]);
        if keys.len() != items.len() {
            let problem =
                format!("keys of {} sources, but the data have {}: generate again", keys.len(), items.len());
            return Err(Error::file(&path, problem));
        }
        for (item, key) in items.iter().zip(keys.iter()) {
            let missing =
                || Error::file(&path, format!("no answer for source {}: generate again", item.source));
            for (text, level) in parser.parse(&cache.get(key)?.ok_or_else(missing)?, item) {
                texts.push(&text);
                levels.push(level);
            }
            starts.push(texts.len() as u64);
        }
        Ok((Synthetic::new(texts, starts, levels)?, parser.counts().clone()))
    }

    fn replayed(&self) -> Result<Synthetic> {
        let unset = || xmc_data::Error::config("generator.path", "nothing", "the folder to replay");
        let path = self.config.generator.path.as_deref().ok_or_else(unset)?;
        let (synthetic, sources) = (Synthetic::read(path)?, self.items()?.len());
        if synthetic.sources() != sources {
            let problem = format!("texts of {} sources, but the data have {sources}", synthetic.sources());
            return Err(Error::file(path, problem));
        }
        Ok(synthetic)
    }

    /// Turns distinct synthetic texts and targets into embeddings, where that is not done.
    pub fn embed(&self) -> Result<EmbedReport> {
        Ok(self.embeddings()?.report)
    }

    /// Finds the nearest targets of synthetic texts; nothing is searched again if nothing has changed.
    pub fn map(&self) -> Result<MapReport> {
        let embedded = self.embeddings()?;
        let made_of = self.made_of(&embedded)?;
        let path = self.dir.join(MAPPED);
        let known = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Done>(&bytes).ok());
        if let Some(done) = known.filter(|done| done.made_of == made_of)
            && self.neighbours().is_ok()
        {
            return Ok(MapReport { resumed: done.report.queries, ..done.report });
        }
        let Embedded { queries, of, targets, .. } = embedded;
        let ongoing = self.dir.join("map.ongoing");
        let mapped = map(&queries, &of, &targets, &self.map_config(), &ongoing, self.events)?;
        let (_, report) = mapped.keep(|neighbours| {
            // An old record must not stand beside new neighbours, whenever the process ends.
            if path.exists() {
                fs::remove_file(&path).map_err(Error::io(&path))?;
            }
            neighbours.write(&self.dir)
        })?;
        write_json(&path, &Done { made_of, report: report.clone() })?;
        Ok(report)
    }

    /// Adds the pairs, and writes where each comes from; with `out` a data set on which every method trains, too.
    pub fn build(&self, out: Option<&Path>) -> Result<BuildReport> {
        let (synthetic, neighbours) = (self.synthetic()?, self.neighbours()?);
        let mapping = self.mapping(&synthetic, &neighbours)?;
        let built = build(&mapping, &self.data.train.y, &self.config.build, &self.guard(&synthetic)?)?;
        built.write(&self.dir, &synthetic.texts)?;
        if let Some(out) = out {
            built.save_dataset(&self.data, out)?;
        }
        Ok(built.report)
    }

    /// Builds with each of `taus` and of `ks` (those of the settings if there are none); with pairs that are true and not
    /// in the data, says how many each finds.
    pub fn sweep(&self, taus: &[f32], ks: &[usize], hidden: Option<&Path>) -> Result<Vec<Point>> {
        let (synthetic, neighbours) = (self.synthetic()?, self.neighbours()?);
        let mapping = self.mapping(&synthetic, &neighbours)?;
        let usual = [self.config.build.k];
        let ks = if ks.is_empty() { &usual[..] } else { ks };
        let truth = hidden.map(npz::read).transpose()?;
        let (y, guard) = (&self.data.train.y, self.guard(&synthetic)?);
        sweep(&mapping, y, &self.config.build, (ks, taus), truth.as_ref(), &guard)
    }

    /// Says where the pair of `row` and `label` comes from, or why it is not there.
    pub fn explain(&self, row: u32, label: u32) -> Result<Explained> {
        let (synthetic, neighbours) = (self.synthetic()?, self.neighbours()?);
        let mapping = self.mapping(&synthetic, &neighbours)?;
        let augmented = npz::read(&self.dir.join(AUGMENTED))?;
        let matrices = [&self.data.train.y, &augmented];
        let found = explain(&mapping, &synthetic.texts, matrices, &self.config.build, row, label)?;
        let text = self.data.train.texts.as_ref().map(|texts| texts.get(row as usize).to_owned());
        let name = self.data.labels.get(LabelId(label)).unwrap_or_default().to_owned();
        Ok(Explained { row_text: text, label_name: name, pair: found })
    }

    /// What must get no new pair: training rows that are test rows.
    fn guard(&self, synthetic: &Synthetic) -> Result<Guard> {
        let test = self.data.test.as_ref().and_then(|test| test.texts.as_ref());
        let (Some(train), Some(test)) = (&self.data.train.texts, test) else { return Ok(Guard::default()) };
        let leaks = Leaks::find(self.config.direction, train, test, synthetic);
        if !leaks.texts.is_empty() {
            self.events.message(&format!(
                "{} synthetic texts are texts of test rows, the first that of row {}",
                leaks.texts.len(),
                leaks.texts[0].test
            ));
        }
        let rows = if self.config.exclude_test { TestRows::Exclude } else { TestRows::Refuse };
        leaks.guard(rows)
    }

    /// Says whether the augmentation helped, and writes that down.
    pub fn validate(&self, evidence: &Evidence<'_>) -> Result<Report> {
        let (synthetic, neighbours) = (self.synthetic()?, self.neighbours()?);
        let mapping = self.mapping(&synthetic, &neighbours)?;
        let augmented = npz::read(&self.dir.join(AUGMENTED))?;
        let [hidden, other] = [evidence.hidden, evidence.other].map(|path| path.map(npz::read).transpose());
        let (hidden, other) = (hidden?, other?);
        let propagation = self.propagation()?;
        let clusters = self.clusters()?;
        let inputs = Inputs {
            original: &self.data.train.y,
            augmented: &augmented,
            mapping,
            propagation: propagation.as_ref(),
            clusters: clusters.as_deref(),
            hidden: hidden.as_ref(),
            other: other.as_ref(),
        };
        let report = validate(&inputs, &self.validate_config())?;
        write_json(&self.dir.join(REPORT), &report)?;
        Ok(report)
    }

    fn synthetic(&self) -> Result<Synthetic> {
        Synthetic::read(&self.dir)
    }

    fn neighbours(&self) -> Result<Neighbours> {
        Neighbours::read(&self.dir, self.config.map.k)
    }

    fn mapping<'a>(&self, synthetic: &'a Synthetic, neighbours: &'a Neighbours) -> Result<Mapping<'a>> {
        let targets = targets(&self.data, self.config.direction)?.len();
        Mapping::new(self.config.direction, &synthetic.starts, neighbours, targets)
    }

    fn embeddings(&self) -> Result<Embedded> {
        let embedder = self.embedder()?;
        let synthetic = self.synthetic()?;
        let Distinct { texts, of } = Distinct::new(&synthetic.texts);
        let targets = targets(&self.data, self.config.direction)?;
        let folder = self.dir.join(EMBEDDINGS);
        create(&folder)?;
        let file =
            |texts, name: &str| embed_file(&embedder, texts, Dtype::F32, &folder.join(name), self.events);
        let (queries, first) = file(&texts, "synthetic")?;
        let (rows, second) = file(targets, "targets")?;
        let computed = [(first, texts.len()), (second, targets.len())];
        let report = EmbedReport {
            encoder: embedder.id().to_owned(),
            texts: of.len(),
            distinct: texts.len(),
            targets: targets.len(),
            dim: embedder.dim(),
            computed: computed.iter().filter(|(computed, _)| *computed).map(|(_, n)| n).sum(),
        };
        Ok(Embedded { queries, of, targets: rows, report })
    }

    fn embedder(&self) -> Result<Embedder> {
        let config = &self.config.encoder;
        match &config.path {
            Some(path) => Embedder::open(path, config.max_len, Device::Cpu, Precision::F32),
            None => Embedder::words(config.dim),
        }
    }

    fn map_config(&self) -> MapConfig {
        let config = &self.config.map;
        MapConfig { k: config.k, search: config.search, recall: config.recall, seed: self.config.seed }
    }

    fn validate_config(&self) -> ValidateConfig {
        let AugmentConfig { build, validate, map, seed, .. } = &*self.config;
        ValidateConfig {
            k: build.k,
            tau: build.tau,
            share: validate.share,
            coverage_k: validate.coverage_k.min(map.k),
            seed: *seed,
        }
    }

    /// All that neighbours depend on.
    fn made_of(&self, embedded: &Embedded) -> Result<Value> {
        let mut print = Fingerprint::new();
        print.ids(&embedded.of);
        let record = |name: &str| -> Result<Value> {
            let path = self.dir.join(EMBEDDINGS).join(name);
            let bytes = fs::read(&path).map_err(Error::io(&path))?;
            serde_json::from_slice(&bytes).map_err(|problem| Error::file(&path, problem.to_string()))
        };
        let [queries, targets] = [record("synthetic.json")?, record("targets.json")?];
        let settings = self.map_config();
        Ok(json!({ "of": print.finish(), "queries": queries, "targets": targets, "settings": settings }))
    }

    /// Neighbours of targets among the targets, unless there are very many.
    fn propagation(&self) -> Result<Option<Neighbours>> {
        let embedded = self.embeddings()?;
        let targets = embedded.targets;
        if targets.rows() > PROPAGATED {
            self.events.message(&format!(
                "{} targets: labels are not propagated between them for comparison (up to {PROPAGATED} are)",
                targets.rows()
            ));
            return Ok(None);
        }
        let of: Vec<u32> = (0..targets.rows() as u32).collect();
        let ongoing = self.dir.join("propagation.ongoing");
        let mapped = map(&targets, &of, &targets, &self.map_config(), &ongoing, self.events)?;
        Ok(Some(mapped.keep(|_| Ok(()))?.0))
    }

    /// Labels whose rows have words in common; none if there are no texts.
    fn clusters(&self) -> Result<Option<Vec<u32>>> {
        let Some(texts) = &self.data.train.texts else { return Ok(None) };
        let (_, x) = Vectorizer::fit(&[VectorizerConfig::default()], texts)?;
        let y: &Csr = &self.data.train.y;
        clusters(x, y, self.config.validate.cluster_size, self.config.seed).map(Some)
    }
}

/// Embeddings, and which belongs to which text.
struct Embedded {
    queries: LabelEmbeddings,
    of: Vec<u32>,
    targets: LabelEmbeddings,
    report: EmbedReport,
}

/// A finished mapping.
#[derive(Serialize, Deserialize)]
struct Done {
    made_of: Value,
    report: MapReport,
}

fn open_data(config: &AugmentConfig) -> Result<Dataset> {
    let unset = || xmc_data::Error::config("data", "nothing", "the folder of a data set");
    Ok(Dataset::open(config.data.as_deref().ok_or_else(unset)?)?)
}
