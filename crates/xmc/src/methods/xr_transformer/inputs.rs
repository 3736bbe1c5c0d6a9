//! Which settings need data that is not there? Asked before the encoder learns for hours.

use xmc_data::Csr;
use xmc_data::dataset::Dataset;
use xmc_data::text::Vectorizer;
use xmc_linear::label_features::LabelFeatureKind;

use super::config::XrTransformerConfig;
use super::plan::plan;
use crate::error::Result;
use crate::methods::xr_linear::inputs::{Extra, features, widths};
use crate::methods::xr_linear::{XrLinearConfig, within};
use crate::run::Run;

/// Whether training needs the tree that is grown before the encoder learns.
pub(super) fn needs_preliminary(config: &XrTransformerConfig) -> bool {
    config.do_fine_tune || config.fix_clustering
}

/// Whether training grows a tree from sparse features and embeddings.
fn needs_refined(config: &XrTransformerConfig) -> bool {
    !config.only_encoder && !config.fix_clustering
}

/// Refuses settings that contradict one another, each by its key.
pub(super) fn check(config: &XrTransformerConfig) -> Result<()> {
    let fail = |key: &str, value: String, expected: &str| -> Result<()> {
        Err(xmc_data::Error::config(key, value, expected).into())
    };
    let kind = config.label_features.kind;
    if let Some(tree) = config.files.tree.as_ref().filter(|_| !needs_preliminary(config)) {
        let expected = "do_fine_tune or fix_clustering, as nothing else reads this tree";
        return fail("files.tree", tree.display().to_string(), expected);
    }
    if config.vectorizer.is_empty() {
        let grows = needs_preliminary(config) && config.files.tree.is_none();
        if grows && kind != LabelFeatureKind::Given {
            let expected = "a label tree, because vectorizer = [] leaves no features to grow one from";
            return fail("files.tree", "nothing".to_owned(), expected);
        }
        if !matches!(kind, LabelFeatureKind::Pifa | LabelFeatureKind::Given) {
            let expected = "pifa or given, because vectorizer = [] makes no features of label names";
            return fail("label_features.kind", shown(kind), expected);
        }
    }
    let grows = needs_refined(config) || (needs_preliminary(config) && config.files.tree.is_none());
    if kind == LabelFeatureKind::Given && grows && config.files.label_features.is_none() {
        let expected = "a file, because label_features.kind = \"given\"";
        return fail("files.label_features", "nothing".to_owned(), expected);
    }
    if kind == LabelFeatureKind::Mix && needs_refined(config) {
        let expected =
            "pifa+text in place of mix, as rows of embeddings and of names do not add up; or fix_clustering";
        return fail("label_features.kind", shown(kind), expected);
    }
    Ok(())
}

fn shown(kind: LabelFeatureKind) -> String {
    serde_json::to_value(kind).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Further matrices; the tree among them is that of the settings `preliminary`.
pub(super) fn extra(config: &XrTransformerConfig, data: &Dataset) -> Result<Extra> {
    let cluster = config.preliminary.clone();
    Extra::read(&XrLinearConfig { cluster, ..config.linear() }, data)
}

/// Refuses sizes of groups that `num_labels` labels do not fill, and lists that do not fit the levels of their tree: those
/// of the tree that the encoder learns along, if it is known before it is grown, and those of the rankers, which come
/// after hours.
pub(super) fn check_levels(config: &XrTransformerConfig, extra: &Extra, num_labels: usize) -> Result<()> {
    let given = extra.tree.as_ref();
    let preliminary = needs_preliminary(config).then(|| widths(num_labels, &config.preliminary, given));
    let preliminary = preliminary.transpose().map_err(|e| within("preliminary", e))?.flatten();
    if let Some(widths) = preliminary.as_ref().filter(|_| config.do_fine_tune) {
        plan(config, widths, 0)?;
    }
    if config.only_encoder {
        return Ok(());
    }
    let ranked = if config.fix_clustering { preliminary } else { widths(num_labels, &config.cluster, None)? };
    let depth = ranked.map(|widths| widths.len());
    Ok(config.ranker.check_levels(depth).map_err(|e| within("ranker", e))?)
}

/// Sparse features `[n, d]` of the training texts, and the vectorizer that made them; no columns without one.
pub(super) fn sparse(
    run: &mut Run,
    data: &Dataset,
    config: &XrLinearConfig,
) -> Result<(Option<Vectorizer>, Csr)> {
    if config.vectorizer.is_empty() {
        return Ok((None, Csr::empty(data.train.rows(), 0)));
    }
    features(run, data, config)
}
