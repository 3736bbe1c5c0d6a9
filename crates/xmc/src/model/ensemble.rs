//! How do several models answer as one?
//!
//! An ensemble is a model folder with the folders of its members in it, `member.0/`, `member.1/`, …, each complete. Every
//! member proposes labels, and a rule of [`xmc_data::topk::ensemble`] makes one ranking of them. Members may be of
//! different methods; they have the same labels in the same order.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xmc_data::formats::atomic::FolderAside;
use xmc_data::topk::ensemble::{EnsembleRule, merge_ranked};
use xmc_data::{Csr, LabelSet, Row, Strings, TopK};

use super::manifest::{self, DataSummary, Manifest};
use super::publish::{publish, refuse_foreign};
use super::{LABELS, Model, OpenOptions, PredictOptions, Predictor, session};
use crate::config::Settings as _;
use crate::error::{Error, Result};
use crate::methods::elias::Search;
use crate::methods::xr_linear::{VECTORIZER, XrLinearConfig};
use crate::run::{Claim, create};

/// Name of the method in `model.json`.
pub(crate) const METHOD: &str = "ensemble";

/// Labels that every member proposes at least: one that a single member ranks low may win the vote. Answers to at most so
/// many labels are the beginnings of one another.
const CANDIDATES: usize = 50;

/// What `model.json` says about an ensemble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    members: usize,
    combine: EnsembleRule,
}

/// Models that answer together.
pub struct Ensemble {
    members: Vec<Model>,
    rule: EnsembleRule,
}

impl Ensemble {
    /// Puts models together that know the same labels and read the same.
    pub fn new(members: Vec<Model>, rule: EnsembleRule) -> Result<Self> {
        go_together(&members.iter().map(Traits::of).collect::<Vec<_>>())?;
        Ok(Ensemble { members, rule })
    }

    /// Opens the members in a model folder whose files are checked already.
    pub(crate) fn open(dir: &Path, manifest: &Manifest, options: &OpenOptions) -> Result<Self> {
        let Settings { members, combine } = super::settings(dir, manifest)?;
        let members = (0..members).map(|i| Model::open_checked(&dir.join(member(i)), options));
        Ensemble::new(members.collect::<Result<_>>()?, combine)
    }

    /// The models, in the order in which ties are broken.
    pub fn members(&self) -> &[Model] {
        &self.members
    }

    /// How their rankings become one.
    pub fn rule(&self) -> EnsembleRule {
        self.rule
    }

    /// Number of labels L.
    pub fn num_labels(&self) -> usize {
        self.members.first().map_or(0, |model| model.labels().len())
    }

    /// Whether rows are texts; else they are features.
    pub(crate) fn reads_texts(&self) -> bool {
        self.members.iter().all(Model::reads_texts)
    }

    /// The best labels of every text.
    pub fn predict_texts(&self, texts: &Strings, options: &PredictOptions) -> Result<TopK> {
        self.merged(options, |model, asked| model.predict(texts, asked))
    }

    /// The best labels of every row of features `[n, d]`.
    pub fn predict_features(&self, x: &Csr, options: &PredictOptions) -> Result<TopK> {
        refuse_features(self.reads_texts())?;
        self.merged(options, |model, asked| model.predict_features(x, asked))
    }

    /// Answers single rows one after the other.
    pub fn session(&self, options: PredictOptions) -> Session<'_> {
        let members = self.members.iter().map(|model| model.session(self.asked(model, &options)));
        let answers = vec![Vec::new(); self.members.len()];
        let (members, rule, reads_texts) = (members.collect(), self.rule, self.reads_texts());
        Session { members, rule, options, reads_texts, answers, merged: Vec::new() }
    }

    fn merged(
        &self,
        options: &PredictOptions,
        predict: impl Fn(&Model, &PredictOptions) -> Result<TopK>,
    ) -> Result<TopK> {
        let answers = self.members.iter().map(|model| predict(model, &self.asked(model, options)));
        let answers: Vec<TopK> = answers.collect::<Result<_>>()?;
        Ok(merge_ranked(&answers, self.rule, wanted(options), options.top_k)?)
    }

    /// What `model` is asked. A beam is for those that have trees or clusters, a shortlist and edges are for those of ELIAS;
    /// if none has, they say that they cannot keep one.
    fn asked(&self, model: &Model, options: &PredictOptions) -> PredictOptions {
        let any = |takes: fn(&Model) -> bool| takes(model) || !self.members.iter().any(takes);
        let beam = any(|model| model.trees().is_some() || has_index(model));
        let index = any(has_index);
        PredictOptions {
            top_k: wanted(options),
            beam_size: options.beam_size.filter(|_| beam),
            shortlist: options.shortlist.filter(|_| index),
            edges: options.edges.filter(|_| index),
            ..*options
        }
    }
}

/// Whether a model follows edges from clusters to labels.
fn has_index(model: &Model) -> bool {
    model.elias().is_some_and(|model| matches!(model.search(), Search::Index(_)))
}

/// Labels that every member proposes.
fn wanted(options: &PredictOptions) -> usize {
    options.top_k.max(CANDIDATES)
}

/// Buffers to answer row after row.
pub struct Session<'m> {
    members: Vec<session::Session<'m>>,
    rule: EnsembleRule,
    options: PredictOptions,
    reads_texts: bool,
    answers: Vec<Vec<(u32, f32)>>,
    merged: Vec<(u32, f32)>,
}

impl<'m> Session<'m> {
    /// The best labels of a text, best first.
    pub fn text(&mut self, text: &str) -> Result<&[(u32, f32)]> {
        self.ask(|session, answer| {
            answer.extend_from_slice(session.text(text)?);
            Ok(())
        })
    }

    /// The best labels of a row of features, best first; ids that the members do not know are ignored.
    pub fn features(&mut self, row: Row<'_>) -> Result<&[(u32, f32)]> {
        refuse_features(self.reads_texts)?;
        self.ask(|session, answer| {
            answer.extend_from_slice(session.features(row)?);
            Ok(())
        })
    }

    fn ask(
        &mut self,
        mut answer: impl FnMut(&mut session::Session<'m>, &mut Vec<(u32, f32)>) -> Result<()>,
    ) -> Result<&[(u32, f32)]> {
        for (member, found) in self.members.iter_mut().zip(&mut self.answers) {
            found.clear();
            answer(member, found)?;
        }
        let rows = self.answers.iter().map(Vec::as_slice);
        self.rule.merge_row(rows, wanted(&self.options), &mut self.merged);
        self.merged.truncate(self.options.top_k);
        Ok(&self.merged)
    }
}

/// Says of the ensemble what its first member would say of itself.
fn refuse_features(reads_texts: bool) -> Result<()> {
    if !reads_texts {
        return Ok(());
    }
    let problem =
        "the members of this ensemble read texts, not features: give it the texts themselves".to_owned();
    Err(Error::Mismatch(problem))
}

/// A member as its folder describes it: labels and manifest are enough to say whether models go together.
struct Folder {
    path: PathBuf,
    manifest: Manifest,
    labels: LabelSet,
}

impl Folder {
    /// Reads the description of a model after checking all its files.
    fn open(dir: &Path) -> Result<Self> {
        Model::require(dir)?;
        if !dir.join(manifest::NAME).exists() {
            let problem = "a model of another program: an ensemble takes models of this one";
            return Err(Error::file(dir, problem));
        }
        let (manifest, labels) = (Manifest::open(dir)?, Strings::open(&dir.join(LABELS))?.into());
        Ok(Folder { path: dir.to_owned(), manifest, labels })
    }

    fn traits(&self) -> Traits<'_> {
        let method = self.manifest.method.as_str();
        Traits {
            path: &self.path,
            labels: &self.labels,
            reads_texts: method != XrLinearConfig::METHOD || self.manifest.has(VECTORIZER),
            is_ensemble: method == METHOD,
        }
    }
}

/// Writes to `out` the ensemble of the models in the folders `members`, whose files are copied.
pub fn ensemble(members: &[PathBuf], rule: EnsembleRule, out: &Path) -> Result<Manifest> {
    refuse_foreign(out)?;
    members.iter().try_for_each(|member| stands_apart(out, member))?;
    let _claim = Claim::new(out)?;
    let folders = members.iter().map(|dir| Folder::open(dir)).collect::<Result<Vec<_>>>()?;
    go_together(&folders.iter().map(Folder::traits).collect::<Vec<_>>())?;
    let config = Settings { members: members.len(), combine: rule };
    let manifest = Manifest {
        format: manifest::FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        method: METHOD.to_owned(),
        config: serde_json::to_value(config).map_err(|e| Error::Mismatch(e.to_string()))?,
        seed: 0,
        data: data(&folders),
        metrics: None,
        added_labels: 0,
        files: Vec::new(),
    };

    let aside = FolderAside::new(out)?;
    let dir = aside.path().join("model");
    create(&dir)?;
    for (i, folder) in folders.iter().enumerate() {
        copy(&folder.manifest, &folder.path, &dir.join(member(i)))?;
    }
    if let Some(first) = folders.first() {
        first.labels.names().save(&dir.join(LABELS))?;
    }
    let manifest = manifest.seal(&dir)?;
    publish(&dir, out, &aside.path().join("old"))?;
    Ok(manifest)
}

/// Refuses to write to `out` if a member lies there, in it or around it: what is there is replaced.
fn stands_apart(out: &Path, member: &Path) -> Result<()> {
    let Ok(model) = fs::canonicalize(member) else {
        return Ok(()); // That it does not exist is said when it is opened.
    };
    let target = place(out)?;
    let relation = if target == model {
        "is"
    } else if model.starts_with(&target) {
        "holds"
    } else if target.starts_with(&model) {
        "lies in"
    } else {
        return Ok(());
    };
    let problem = format!("{relation} the member {}: choose another --out", member.display());
    Err(Error::file(out, problem))
}

/// Where `path` lies, without links; of what does not exist yet, the part that does is followed.
fn place(path: &Path) -> Result<PathBuf> {
    let whole = std::path::absolute(path).map_err(Error::io(path))?;
    for start in whole.ancestors() {
        if let (Ok(place), Ok(rest)) = (fs::canonicalize(start), whole.strip_prefix(start)) {
            return Ok(if rest.as_os_str().is_empty() { place } else { place.join(rest) });
        }
    }
    Ok(whole)
}

/// Folder of member `i`.
fn member(i: usize) -> String {
    format!("member.{i}")
}

/// What decides whether models go together.
struct Traits<'a> {
    path: &'a Path,
    labels: &'a LabelSet,
    reads_texts: bool,
    is_ensemble: bool,
}

impl<'a> Traits<'a> {
    fn of(model: &'a Model) -> Self {
        Traits {
            path: model.path(),
            labels: model.labels(),
            reads_texts: model.reads_texts(),
            is_ensemble: model.ensemble().is_some(),
        }
    }
}

/// Refuses models that do not know the same labels or do not read the same.
fn go_together(members: &[Traits<'_>]) -> Result<()> {
    let Some((first, others)) = members.split_first() else {
        return Err(Error::Mismatch("an ensemble needs at least one model".to_owned()));
    };
    if let Some(nested) = members.iter().find(|member| member.is_ensemble) {
        return Err(Error::file(nested.path, "is an ensemble itself: name its members instead"));
    }
    for other in others {
        same_labels(first, other)?;
        if first.reads_texts != other.reads_texts {
            let reads = |texts| if texts { "texts" } else { "features" };
            let (here, there) = (reads(other.reads_texts), reads(first.reads_texts));
            let problem = format!("reads {here}, but {} reads {there}", first.path.display());
            return Err(Error::file(other.path, problem));
        }
    }
    Ok(())
}

/// Refuses models whose labels differ; says where.
fn same_labels(first: &Traits<'_>, other: &Traits<'_>) -> Result<()> {
    let (a, b) = (first.labels, other.labels);
    let fail = |problem: String| {
        let first = first.path.display();
        Err(Error::file(
            other.path,
            format!("{problem} {first}: members of an ensemble have the same labels"),
        ))
    };
    if let Some((l, (a, b))) = a.iter().zip(b.iter()).enumerate().find(|(_, (a, b))| a != b) {
        return fail(format!("label {l} is `{b}`, but `{a}` in"));
    }
    if a.len() == b.len() { Ok(()) } else { fail(format!("{} labels, but {} in", b.len(), a.len())) }
}

/// What the members were trained on: names without repetition, of sizes the largest.
fn data(members: &[Folder]) -> DataSummary {
    let all = || members.iter().map(|member| &member.manifest.data);
    let unique = |of: fn(&DataSummary) -> &str| {
        let mut names: Vec<&str> = Vec::new();
        all().map(of).for_each(|name| {
            if !names.contains(&name) {
                names.push(name);
            }
        });
        names.join(" + ")
    };
    let largest = |of: fn(&DataSummary) -> usize| all().map(of).max().unwrap_or(0);
    DataSummary {
        name: unique(|data| &data.name),
        rows: largest(|data| data.rows),
        labels: largest(|data| data.labels),
        features: largest(|data| data.features),
        fingerprint: unique(|data| &data.fingerprint),
    }
}

/// Copies the files of a model: two models share none, so that whoever changes one does not change the other.
fn copy(manifest: &Manifest, from: &Path, to: &Path) -> Result<()> {
    let names = manifest.files.iter().map(|file| file.name.as_str()).chain([manifest::NAME]);
    for name in names {
        let (from, to) = (from.join(name), to.join(name));
        if let Some(folder) = to.parent() {
            create(folder)?;
        }
        fs::copy(&from, &to).map_err(Error::io(&from))?;
    }
    Ok(())
}
