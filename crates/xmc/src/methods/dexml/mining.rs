//! Which labels does the model wrongly rank high?
//!
//! Every few epochs all learning rows and all labels are embedded as they are then, and the best labels of every row,
//! its positives taken out, are its shortlist. Steps draw negatives from it. (spec: DEXML, 3.5)

use std::path::Path;

use xmc_data::dataset::Dataset;
use xmc_nn::{Tensor, checkpoint};

use crate::error::{Error, Result};
use crate::index::{Filter, LabelEmbeddings, search};
use crate::random::{Draws, Purpose};

/// Rows embedded and searched together: bounds the memory for their embeddings.
const ROWS: usize = 8192;

/// Hard negatives of rows.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::methods) struct Shortlist {
    /// Ids of the rows, rising.
    rows: Vec<u32>,
    /// Labels of row i are `labels[indptr[i]..indptr[i + 1]]`.
    indptr: Vec<u64>,
    labels: Vec<u32>,
}

impl Shortlist {
    /// Keeps the `labels` of every one of `rows` (rising).
    pub(in crate::methods) fn new(rows: Vec<u32>, labels: impl IntoIterator<Item = Vec<u32>>) -> Self {
        let mut list = Shortlist { rows, indptr: vec![0], labels: Vec::new() };
        for labels in labels {
            list.labels.extend(labels);
            list.indptr.push(list.labels.len() as u64);
        }
        list
    }

    fn of(&self, row: u32) -> &[u32] {
        match self.rows.binary_search(&row) {
            Ok(i) => &self.labels[self.indptr[i] as usize..self.indptr[i + 1] as usize],
            Err(_) => &[],
        }
    }

    /// `count` different labels of each of `rows`, or all it has.
    pub(in crate::methods) fn draw(&self, rows: &[u32], count: usize, seed: u64, step: u64) -> Vec<u32> {
        let mut draws = Draws::new(seed, Purpose::Mined, step);
        let mut drawn = Vec::new();
        for &row in rows {
            let labels = self.of(row);
            drawn.extend(draws.distinct(count, labels.len()).iter().map(|&i| labels[i as usize]));
        }
        drawn
    }

    /// Writes it as one file.
    pub(in crate::methods) fn save(&self, path: &Path) -> Result<()> {
        let parts = [
            ("rows", bytemuck::cast_slice(&self.rows)),
            ("indptr", bytemuck::cast_slice(&self.indptr)),
            ("labels", bytemuck::cast_slice(&self.labels)),
        ];
        Ok(checkpoint::save(path, &parts, &serde_json::Value::Null)?)
    }

    /// Reads what `save` wrote.
    pub(in crate::methods) fn load(path: &Path) -> Result<Self> {
        let mut saved = checkpoint::load(path)?;
        let mut part = |name: &str| {
            let values = saved.take(name).ok_or_else(|| Error::file(path, format!("no `{name}` in it")))?;
            Ok::<_, Error>(values.into_iter().map(f32::to_bits).collect::<Vec<u32>>())
        };
        // Numbers of 64 bits stand as pairs of 32.
        let indptr = part("indptr")?;
        let indptr = indptr.as_chunks::<2>().0.iter().map(|&pair| bytemuck::cast(pair)).collect();
        let list = Shortlist { rows: part("rows")?, indptr, labels: part("labels")? };
        let sound = list.indptr.len() == list.rows.len() + 1
            && list.indptr.is_sorted()
            && list.indptr.last().map(|&end| end as usize) == Some(list.labels.len());
        if sound { Ok(list) } else { Err(Error::file(path, "damaged: its parts do not fit together")) }
    }
}

/// The best `top` labels of each of the rows `learn` of `data`, without its positives and the pairs of its filter.
/// `embed` gives embeddings of rows, `labels` has those of labels.
pub(in crate::methods) fn mine(
    embed: &dyn Fn(&[u32]) -> Result<Tensor>,
    labels: &LabelEmbeddings,
    data: &Dataset,
    learn: &[u32],
    top: usize,
) -> Result<Shortlist> {
    let mut found = Vec::with_capacity(learn.len());
    for rows in learn.chunks(ROWS) {
        let (positives, pairs) = (data.train.y.select_rows(rows), filter_of(&data.train.filter, rows));
        let filter = Filter::pairs(&pairs).and_rows(&positives);
        let best = search(&embed(rows)?, labels, top.min(labels.rows()), &filter)?;
        found
            .extend((0..rows.len()).map(|i| best.row(i).iter().map(|&(label, _)| label).collect::<Vec<_>>()));
    }
    Ok(Shortlist::new(learn.to_vec(), found))
}

/// The pairs (row, label) of `rows` (rising), with places in `rows` instead of ids.
pub(in crate::methods) fn filter_of(pairs: &[(u32, u32)], rows: &[u32]) -> Vec<(u32, u32)> {
    pairs.iter().filter_map(|&(row, label)| Some((rows.binary_search(&row).ok()? as u32, label))).collect()
}

#[cfg(test)]
mod tests {
    use xmc_data::dataset::Part;
    use xmc_data::{CsrBuilder, LabelSet};
    use xmc_nn::tokens::Tokens;
    use xmc_nn::transformer::Config;
    use xmc_nn::{Device, Pooling, Precision, Tower, TowerConfig};

    use super::super::inputs::TokenSets;
    use super::super::scoring::Scorer;
    use super::*;

    #[test]
    fn draws_come_from_the_lists_of_their_rows_and_differ_by_step() {
        let list = Shortlist::new(vec![2, 5, 9], [vec![10, 11, 12, 13], vec![20], vec![]]);
        let drawn = list.draw(&[2, 5, 9], 2, 1, 1);
        assert_eq!(drawn.len(), 3);
        assert!(drawn[..2].iter().all(|l| (10..14).contains(l)) && drawn[0] != drawn[1] && drawn[2] == 20);
        assert!((2..20).any(|step| list.draw(&[2, 5, 9], 2, 1, step) != drawn));
    }

    #[test]
    fn a_list_comes_back_from_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shortlist");
        let list = Shortlist::new(vec![2, 5], [vec![10, u32::MAX, 12], vec![]]);
        list.save(&path).unwrap();
        assert_eq!(Shortlist::load(&path).unwrap(), list);
    }

    #[test]
    fn positives_and_filtered_labels_are_never_mined() {
        let shape = TowerConfig { pooling: Pooling::Mean, projection: None, normalize: true };
        let tower =
            Tower::random(Config::bert(40, 16, 1, 2, 32), shape, 3, Device::Cpu, Precision::F32).unwrap();
        let texts = |n: u32| Tokens::new((0..n).map(|i| [i % 40, (i * 3) % 40, 5]));
        let tokens = TokenSets { rows: texts(9), labels: texts(12) };
        let mut y = CsrBuilder::new();
        (0..9).for_each(|i| y.push([(i % 5, 1.0), (i % 5 + 3, 1.0), (9, 1.0)]));
        let filter: Vec<(u32, u32)> = (0..9).map(|i| (i, 11)).collect();
        let names = LabelSet::new((0..12).map(|l| format!("label {l}")));
        let given = (0..9).map(|i| format!("text {i}"));
        let part = Part { texts: Some(given.collect()), features: None, y: y.finish(12).unwrap(), filter };
        let data = Dataset::new(Path::new("made"), names, part, None).unwrap();
        let scorer = Scorer { tower: &tower, tokens: &tokens, classifier: None, budget: 7 };
        let learn = [0, 2, 3, 4, 8];
        let (x, labels) = (scorer.rows(&learn).unwrap(), scorer.label_embeddings().unwrap());
        let mined = mine(&|rows| scorer.rows(rows), &labels, &data, &learn, 5).unwrap();
        let ranked = search(&x, &labels, 12, &Filter::none()).unwrap();
        for (i, &row) in learn.iter().enumerate() {
            let positives = data.train.y.row(row as usize).indices;
            let expected: Vec<u32> = ranked.row(i).iter().map(|&(label, _)| label).collect();
            let expected = expected.iter().filter(|label| !positives.contains(label) && **label != 11);
            assert_eq!(mined.of(row), expected.copied().take(5).collect::<Vec<_>>());
        }
        assert!(mined.of(1).is_empty());
    }
}
