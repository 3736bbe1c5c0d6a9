//! `xmc similar MODEL TEXT`: which labels mean most nearly the same?

use std::io::{self, Write};

use anyhow::{Context, Result, bail};
use serde_json::json;
use xmc::index::LabelEmbeddings;
use xmc::model::{Model, Predictor};
use xmc_data::LabelId;

use crate::Outcome;
use crate::args::Similar;
use crate::table::{Align, Table};

pub(crate) fn run(verb: &Similar) -> Result<Outcome> {
    let model = Model::open_with(&verb.model, &verb.compute.options())?;
    let Some((encoder, labels)) = model.label_vectors() else {
        let shown = verb.model.display();
        bail!("{shown}: not a model of dexml, elias or quest, so it has no embeddings to compare");
    };
    let (vector, itself) = if verb.label {
        of_label(verb, &model, labels, encoder.dim())?
    } else {
        (encoder.embed_one(&verb.text)?.into_host(), None)
    };
    let k = verb.top_k.get() as usize;
    // One more, in case the label itself is among them.
    let found = labels.nearest(&vector, k + usize::from(itself.is_some()));
    let found: Vec<(u32, f32)> = found.into_iter().filter(|&(id, _)| Some(id) != itself).take(k).collect();
    let name = |id: u32| model.labels().get(LabelId(id)).unwrap_or_default();
    let text = if verb.json {
        let labels =
            found.iter().map(|&(id, cosine)| json!({ "label": name(id), "id": id, "cosine": cosine }));
        let whole = json!({ "text": verb.text, "labels": labels.collect::<Vec<_>>() });
        serde_json::to_string_pretty(&whole)? + "\n"
    } else {
        let mut table = Table::new(&[("label", Align::Left), ("cosine", Align::Right)]);
        for &(id, cosine) in &found {
            table.row([name(id).to_owned(), format!("{cosine:.3}")]);
        }
        table.render()
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(Outcome::Done)
}

/// The vector `[d]` of a label, and its id.
fn of_label(
    verb: &Similar,
    model: &Model,
    labels: &LabelEmbeddings,
    d: usize,
) -> Result<(Vec<f32>, Option<u32>)> {
    let id = model.labels().iter().position(|name| name == verb.text).with_context(|| {
        let (shown, text) = (verb.model.display(), &verb.text);
        format!("{shown}: no label is named `{text}`; without --label the text itself is compared")
    })?;
    // A bias behind the values that texts have too is no direction.
    Ok((labels.row(id).iter().take(d).copied().collect(), Some(id as u32)))
}
