//! Label trees as tables and as a drawing.
//!
//! ```text
//! 592 labels
//! ├── 148 labels   role::program, interface::x11, …
//! │   ├── 10 labels   …
//! │   └── 9 more nodes
//! └── …
//! ```

use std::collections::HashMap;
use std::fmt::Write as _;

use serde_json::{Value, json};
use xmc::memory;
use xmc::methods::xr_linear::XrLinear;
use xmc_data::{LabelId, LabelSet};
use xmc_linear::TreeModel;

use crate::table::{Align, Table, counted, listed};

/// Labels that stand for a node.
const EXAMPLES: usize = 4;

/// Columns of a line of the drawing.
const WIDTH: usize = 100;

/// How much of a tree is drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    /// Levels below the root.
    pub(super) depth: usize,
    /// Children of a node.
    pub(super) width: usize,
}

/// Levels of all trees and a drawing of the first one.
pub(super) fn show(method: &XrLinear, labels: &LabelSet, extent: Extent) -> String {
    let mut text = String::new();
    for (i, tree) in method.trees().iter().enumerate() {
        let _ = writeln!(text, "\n{}", levels(&format!("tree {i}"), tree));
    }
    if let Some(first) = method.trees().first()
        && extent.depth > 0
    {
        let drawing = Drawing { model: first, labels, extent };
        if method.trees().len() > 1 {
            text.push_str("tree 0\n");
        }
        drawing.draw(0, 0, "", &mut text);
    }
    text
}

/// The same for programs.
pub(super) fn to_json(method: &XrLinear, labels: &LabelSet, extent: Extent) -> Value {
    let tree = |model: &TreeModel| {
        let levels: Vec<Value> = rows(model).iter().map(Row::to_json).collect();
        json!({
            "levels": levels,
            "pruned_labels": model.tree().num_labels() - model.tree().labels().len(),
            "root": Drawing { model, labels, extent }.to_json(0, 0),
        })
    };
    method.trees().iter().map(tree).collect()
}

/// One level of a tree, with the rankers of its nodes.
struct Row {
    nodes: usize,
    /// Least, mean and most children.
    children: Option<(usize, f64, usize)>,
    /// Weights and bytes of the rankers; the root has none.
    rankers: Option<(usize, usize)>,
}

impl Row {
    fn to_json(&self) -> Value {
        let mut row = json!({ "nodes": self.nodes });
        if let Some((least, mean, most)) = self.children {
            row["children"] = json!({ "least": least, "mean": mean, "most": most });
        }
        if let Some((weights, bytes)) = self.rankers {
            row["weights"] = weights.into();
            row["bytes"] = bytes.into();
        }
        row
    }
}

fn rows(model: &TreeModel) -> Vec<Row> {
    let tree = model.tree();
    let fan_out = tree.statistics().levels;
    let row = |t: usize| Row {
        nodes: tree.width(t),
        children: fan_out.get(t).map(|f| (f.min, f.children as f64 / f.nodes.max(1) as f64, f.max)),
        rankers: t.checked_sub(1).and_then(|above| model.levels().get(above)).map(|l| (l.nnz(), l.bytes())),
    };
    (0..=tree.depth()).map(row).collect()
}

fn levels(name: &str, model: &TreeModel) -> String {
    let right = ["nodes", "least", "mean", "most children", "weights", "size"];
    let columns: Vec<(&str, Align)> =
        std::iter::once((name, Align::Left)).chain(right.map(|name| (name, Align::Right))).collect();
    let mut table = Table::new(&columns);
    let last = model.tree().depth();
    for (t, row) in rows(model).iter().enumerate() {
        let level = match t {
            0 => "root".to_owned(),
            _ if t == last => "labels".to_owned(),
            _ => format!("level {t}"),
        };
        let [least, mean, most] = row.children.map_or_else(Default::default, |(least, mean, most)| {
            [least.to_string(), format!("{mean:.1}"), most.to_string()]
        });
        let [weights, size] = row.rankers.map_or_else(Default::default, |(weights, bytes)| {
            [weights.to_string(), memory::show(bytes as u64)]
        });
        table.row([level, row.nodes.to_string(), least, mean, most, weights, size]);
    }
    table.render()
}

struct Drawing<'a> {
    model: &'a TreeModel,
    labels: &'a LabelSet,
    extent: Extent,
}

impl Drawing<'_> {
    /// Writes node `node` of level `t` and, with `indent` before them, its children.
    fn draw(&self, t: usize, node: usize, indent: &str, text: &mut String) {
        let tree = self.model.tree();
        let below = tree.leaves(t, node).len();
        let room = WIDTH.saturating_sub(indent.chars().count() + 4);
        if t == tree.depth() {
            let _ = writeln!(text, "{}", listed(&self.examples(t, node), 1, room));
        } else {
            let count = format!("{}   ", counted(below, "label"));
            let names = listed(&self.examples(t, node), below, room.saturating_sub(count.len()));
            let _ = writeln!(text, "{}", format!("{count}{names}").trim_end());
        }
        if t >= self.extent.depth.min(tree.depth()) {
            return;
        }
        let children = self.children(t, node);
        let drawn = children.len().min(self.extent.width);
        let left = children.len() - drawn;
        for (i, child) in children.into_iter().take(drawn).enumerate() {
            let last = i + 1 == drawn && left == 0;
            let _ = write!(text, "{indent}{}", if last { "└── " } else { "├── " });
            self.draw(t + 1, child, &format!("{indent}{}", if last { "    " } else { "│   " }), text);
        }
        if left > 0 {
            let what = if t + 1 == tree.depth() { "label" } else { "node" };
            let _ = writeln!(text, "{indent}└── {left} more {what}{}", if left == 1 { "" } else { "s" });
        }
    }

    fn to_json(&self, t: usize, node: usize) -> Value {
        let tree = self.model.tree();
        let mut drawn = json!({
            "labels": tree.leaves(t, node).len(), "such_as": self.examples(t, node),
        });
        if t < self.extent.depth.min(tree.depth()) {
            let children = self.children(t, node).into_iter().take(self.extent.width);
            drawn["children"] = children.map(|child| self.to_json(t + 1, child)).collect();
        }
        drawn
    }

    /// The nodes below; labels with the likeliest first.
    fn children(&self, t: usize, node: usize) -> Vec<usize> {
        let tree = self.model.tree();
        let children = tree.children(t, node);
        if t + 1 < tree.depth() {
            return children.collect();
        }
        let leaves: HashMap<u32, usize> = children.clone().map(|leaf| (tree.labels()[leaf], leaf)).collect();
        let likeliest = self.model.example_labels(t, node, children.len());
        likeliest.into_iter().filter_map(|label| leaves.get(&label).copied()).collect()
    }

    fn examples(&self, t: usize, node: usize) -> Vec<String> {
        let ids = self.model.example_labels(t, node, EXAMPLES);
        ids.into_iter().map(|id| self.labels.get(LabelId(id)).unwrap_or_default().to_owned()).collect()
    }
}
