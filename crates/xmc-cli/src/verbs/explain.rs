//! `xmc explain MODEL TEXT`: why did the text get its labels?

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Write};

use anyhow::{Context, Result};
use serde::Serialize;
use xmc::Model;
use xmc::explain::{ExplainOptions, Explanation, LabelExplanation, Step, explain};
use xmc_linear::PostProcessor;

use crate::Outcome;
use crate::args::Explain;
use crate::table::{Align, Table, listed};

/// Labels that stand for a node.
const EXAMPLES: usize = 3;

/// Columns for them.
const EXAMPLES_WIDTH: usize = 44;

pub(crate) fn run(verb: &Explain) -> Result<Outcome> {
    let model = Model::open_with(&verb.model, &verb.compute.options())?;
    let predict = verb.search.options(verb.top_k.get() as usize);
    let options = ExplainOptions { predict, examples: EXAMPLES };
    let found = explain(&model, &verb.text, &options).with_context(|| verb.model.display().to_string())?;
    let terms = verb.terms as usize;
    let text = if verb.json { as_json(&verb.text, found, terms)? } else { as_text(&found, terms) };
    io::stdout().write_all(text.as_bytes())?;
    Ok(Outcome::Done)
}

/// The answer for programs.
#[derive(Serialize)]
struct Answer<'a> {
    text: &'a str,
    #[serde(flatten)]
    found: Explanation,
}

/// Everything, with the largest `terms` contributions of every step.
fn as_json(text: &str, mut found: Explanation, terms: usize) -> Result<String> {
    let steps = found.labels.iter_mut().flat_map(|label| &mut label.path);
    steps.for_each(|step| step.terms.truncate(terms));
    Ok(serde_json::to_string_pretty(&Answer { text, found })? + "\n")
}

fn as_text(found: &Explanation, terms: usize) -> String {
    let mut text = String::new();
    for (place, label) in found.labels.iter().enumerate() {
        let _ = writeln!(text, "{}. {}   score {}\n", place + 1, label.label, number(label.score));
        if label.path.is_empty() {
            text.push_str("the first tree of the model does not hold this label\n\n");
            continue;
        }
        let _ = writeln!(text, "{}", path(label));
        let _ = writeln!(text, "{}", words(label, terms));
    }
    if let Some(step) = found.labels.iter().find_map(|label| label.path.last()) {
        text.push_str(&legend(found.trees, step));
    }
    text
}

/// The nodes from the root down, and what made their margins.
fn path(label: &LabelExplanation) -> String {
    let embeds = label.path.iter().any(|step| step.embedding.is_some());
    let mut columns = vec![
        ("level", Align::Right),
        ("node", Align::Right),
        ("labels", Align::Right),
        ("such as", Align::Left),
        ("words", Align::Right),
    ];
    if embeds {
        columns.push(("embedding", Align::Right));
    }
    columns.extend([("bias", Align::Right), ("margin", Align::Right), ("score", Align::Right)]);
    let mut table = Table::new(&columns);
    for step in &label.path {
        let is_label = step.labels == 1 && Some(step) == label.path.last();
        let names =
            if is_label { label.label.clone() } else { listed(&step.such_as, step.labels, EXAMPLES_WIDTH) };
        let mut row = vec![
            step.level.to_string(),
            format!("{} of {}", step.node, step.nodes),
            step.labels.to_string(),
            names,
            signed(step.words),
        ];
        row.extend(step.embedding.map(signed));
        row.extend([signed(step.bias), signed(step.margin), number(step.score)]);
        table.row(row);
    }
    table.render()
}

/// What every word added at each level: those that carried most, then the rest in one row.
fn words(label: &LabelExplanation, most: usize) -> String {
    // By feature: its name, and its contribution at every level.
    let mut shares: HashMap<u32, (&str, Vec<f32>)> = HashMap::new();
    for (t, step) in label.path.iter().enumerate() {
        for term in &step.terms {
            let empty = || (term.term.as_str(), vec![0.0; label.path.len()]);
            shares.entry(term.feature).or_insert_with(empty).1[t] = term.contribution;
        }
    }
    if shares.is_empty() {
        return "no word of the text is known to the rankers on this path\n".to_owned();
    }
    let largest = |levels: &[f32]| levels.iter().fold(0f32, |most, share| most.max(share.abs()));
    let mut sorted: Vec<(u32, (&str, Vec<f32>))> = shares.into_iter().collect();
    sorted.sort_by(|(a, (_, x)), (b, (_, y))| largest(y).total_cmp(&largest(x)).then(a.cmp(b)));
    let levels: Vec<String> = label.path.iter().map(|step| format!("level {}", step.level)).collect();
    let mut columns = vec![("word", Align::Left)];
    columns.extend(levels.iter().map(|level| (level.as_str(), Align::Right)));
    let mut table = Table::new(&columns);
    let mut row = |name: String, levels: &[f32]| {
        table.row(std::iter::once(name).chain(levels.iter().map(|&share| shown(share))));
    };
    let (first, rest) = sorted.split_at(most.min(sorted.len()));
    for (_, (name, levels)) in first {
        row((*name).to_owned(), levels);
    }
    if !rest.is_empty() {
        let mut sums = vec![0.0; label.path.len()];
        for (_, (_, levels)) in rest {
            sums.iter_mut().zip(levels).for_each(|(sum, share)| *sum += share);
        }
        row(format!("({} more)", rest.len()), &sums);
    }
    table.render()
}

/// What the numbers are.
fn legend(trees: usize, step: &Step) -> String {
    let sum = if step.embedding.is_some() { "words + embedding + bias" } else { "words + bias" };
    let by = step.post_processor;
    let becomes = if by == PostProcessor::Noop {
        "The score of a label is its margin; the levels above only choose which labels are looked at."
            .to_owned()
    } else if by.is_product() {
        format!("Margins become scores by {by}, which are multiplied on the way down.")
    } else {
        format!("Margins become scores by {by}, which are added on the way down.")
    };
    let mut text = format!(
        "A word's share is its tf-idf in the text times its weight at the node: above 0 it speaks for the node, below 0\n\
         against it. margin = {sum}. {becomes}\n"
    );
    if trees > 1 {
        let _ = writeln!(
            text,
            "The score of a label is that of {trees} trees together; the paths are those of the first."
        );
    }
    text
}

/// A score: three digits, more where they are all zero.
fn number(score: f32) -> String {
    if score != 0.0 && score.abs() < 0.001 { format!("{score:.1e}") } else { format!("{score:.3}") }
}

fn signed(value: f32) -> String {
    format!("{value:+.3}")
}

/// A share, or nothing where there is none.
fn shown(share: f32) -> String {
    if share == 0.0 { String::new() } else { signed(share) }
}
