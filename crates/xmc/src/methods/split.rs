//! Which training rows train, and which find the best epoch?

use std::collections::HashMap;

use xmc_data::{Csr, Strings};

use crate::error::{Error, Result};
use crate::random::{Draws, Purpose};

/// Rows with labels, set apart; ids rise.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Split {
    /// Rows that train.
    pub(super) learn: Vec<u32>,
    /// Rows that validate.
    pub(super) validate: Vec<u32>,
    /// Rows without labels: they take no part.
    pub(super) unlabelled: usize,
}

impl Split {
    /// Draws the rows that validate, this share of all and so many at most; at least one row always trains. Rows of the
    /// same text stay together: a text that was learned by heart says nothing about others.
    pub(super) fn new(y: &Csr, texts: &Strings, (validation, most): (f32, usize), seed: u64) -> Result<Self> {
        let mut rows: Vec<u32> = (0..y.rows() as u32).filter(|&i| !y.row(i as usize).is_empty()).collect();
        let unlabelled = y.rows() - rows.len();
        if rows.is_empty() {
            return Err(Error::Mismatch(format!("none of the {unlabelled} training rows has a label")));
        }
        let share = (f64::from(validation) * rows.len() as f64).round() as usize;
        let set_apart = share.min(most).min(rows.len() - 1);
        Draws::new(seed, Purpose::Split, 0).shuffle(&mut rows);
        let (mut validate, mut learn) = divide(&rows, texts, set_apart);
        learn.sort_unstable();
        validate.sort_unstable();
        Ok(Split { learn, validate, unlabelled })
    }
}

/// The first of `rows` by text, up to `count` of them, and the others: a text goes with all its rows, or stays if they
/// are too many.
fn divide(rows: &[u32], texts: &Strings, count: usize) -> (Vec<u32>, Vec<u32>) {
    if count == 0 {
        return (Vec::new(), rows.to_vec());
    }
    let mut sizes: HashMap<&str, usize> = HashMap::with_capacity(rows.len());
    for &row in rows {
        *sizes.entry(texts.get(row as usize)).or_default() += 1;
    }
    let (mut left, mut chosen) = (count, HashMap::new());
    rows.iter().partition(|&&row| {
        let text = texts.get(row as usize);
        *chosen.entry(text).or_insert_with(|| {
            let size = sizes.get(text).copied().unwrap_or(0);
            let fits = size <= left;
            left -= if fits { size } else { 0 };
            fits
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_takes_every_labelled_row_once() {
        let y = Csr::new(5, 2, vec![0, 1, 1, 2, 3, 4], vec![0, 1, 0, 1], vec![1.0; 4]).unwrap();
        let config = (0.25, 2000);
        let texts = Strings::new(["a", "b", "c", "d", "e"]);
        let split = Split::new(&y, &texts, config, 1).unwrap();
        assert_eq!((split.learn.len(), split.validate.len(), split.unlabelled), (3, 1, 1));
        let mut all = [split.learn.clone(), split.validate.clone()].concat();
        all.sort_unstable();
        assert_eq!(all, [0, 2, 3, 4]);
        assert_eq!(Split::new(&y, &texts, config, 1).unwrap(), split);
        let capped = (0.9, 2);
        assert_eq!(Split::new(&y, &texts, capped, 1).unwrap().validate.len(), 2);
        let none = (0.0, 2000);
        assert!(Split::new(&y, &texts, none, 1).unwrap().validate.is_empty());
        assert!(Split::new(&Csr::empty(3, 2), &texts, none, 1).is_err());
    }

    #[test]
    fn rows_of_one_text_are_not_divided() {
        let rows = 60;
        let indptr: Vec<u64> = (0..=rows as u64).collect();
        let y = Csr::new(rows, 1, indptr, vec![0; rows], vec![1.0; rows]).unwrap();
        let texts = Strings::new((0..rows).map(|i| format!("text {}", i % 20)));
        let config = (0.3, 2000);
        let split = Split::new(&y, &texts, config, 1).unwrap();
        assert_eq!((split.validate.len(), split.learn.len()), (18, 42));
        assert!(split.validate.iter().all(|v| split.learn.iter().all(|l| l % 20 != v % 20)));
        // One text for all: nothing can be set apart.
        let same = Strings::new((0..rows).map(|_| "text"));
        assert!(Split::new(&y, &same, config, 1).unwrap().validate.is_empty());
    }
}
