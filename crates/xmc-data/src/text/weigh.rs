//! What is the value of a term in a text? `tf * idf`, then the row is scaled to its norm.
//!
//! Learning and using a vectorizer weigh rows with this one function, in the same order, so they give the same bits.

use super::config::{Idf, Norm, VectorizerConfig};

/// Inverse document frequency of a term in `df` of `n` texts; 1 for [`Idf::None`].
pub(super) fn idf(config: &VectorizerConfig, n: usize, df: u32) -> f32 {
    let (n, df, s) = (n as f64, f64::from(df), f64::from(u8::from(config.smooth_idf)));
    let log = match config.idf {
        Idf::None => return 1.0,
        Idf::Sklearn => ((n + s) / (df + s)).ln(),
        Idf::Libpecos => (n / (df + s)).ln().max(0.0),
    };
    (log + f64::from(u8::from(config.add_one_idf))) as f32
}

/// Sorts occurrences `(column, 1 or -1)` by column and adds up those of the same column.
pub(super) fn sum_by_column(row: &mut Vec<(u32, f32)>) {
    row.sort_unstable_by_key(|&(column, _)| column);
    row.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 += next.1;
        }
        same
    });
}

/// Turns a row of `(column, count)` into `(column, value)`; columns without an `idf` have 1, zeros go.
pub(super) fn weigh(config: &VectorizerConfig, idf: &[f32], row: &mut Vec<(u32, f32)>) {
    for (column, value) in row.iter_mut() {
        if config.binary {
            *value = 1.0;
        } else if config.sublinear_tf {
            *value = 1.0 + value.ln();
        }
        *value *= idf.get(*column as usize).copied().unwrap_or(1.0);
    }
    row.retain(|&(_, value)| value != 0.0);
    let length = match config.norm {
        Norm::None => return,
        Norm::L2 => row.iter().map(|&(_, v)| f64::from(v) * f64::from(v)).sum::<f64>().sqrt(),
        Norm::L1 => row.iter().map(|&(_, v)| f64::from(v).abs()).sum::<f64>(),
    };
    for (_, value) in row {
        *value = (f64::from(*value) / length) as f32;
    }
}

/// Scales one row to Euclidean length 1; a zero row stays zero.
pub(super) fn scale_to_one(values: &mut [f32]) {
    let length = values.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
    if length > 0.0 {
        for value in values {
            *value = (f64::from(*value) / length) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idf_formulas_give_the_numbers_done_by_hand() {
        let with = |idf, smooth_idf, add_one_idf| VectorizerConfig {
            idf,
            smooth_idf,
            add_one_idf,
            ..VectorizerConfig::default()
        };
        let of = |config: &VectorizerConfig| idf(config, 9, 4);
        assert_eq!(of(&with(Idf::Sklearn, true, true)), 2f64.ln() as f32 + 1.0);
        assert_eq!(of(&with(Idf::Sklearn, false, true)), 2.25f64.ln() as f32 + 1.0);
        assert_eq!(of(&with(Idf::Libpecos, true, false)), 1.8f64.ln() as f32);
        assert_eq!(idf(&with(Idf::Libpecos, true, true), 4, 4), 1.0);
        assert_eq!(of(&with(Idf::None, true, true)), 1.0);
    }

    #[test]
    fn a_row_of_counts_becomes_a_row_of_length_one() {
        let mut row = vec![(2, 1.0), (0, 1.0), (2, 1.0), (1, -1.0), (1, 1.0)];
        sum_by_column(&mut row);
        assert_eq!(row, [(0, 1.0), (1, 0.0), (2, 2.0)]);
        weigh(&VectorizerConfig::default(), &[3.0, 1.0, 2.0], &mut row);
        assert_eq!(row, [(0, 0.6), (2, 0.8)]);
    }
}
