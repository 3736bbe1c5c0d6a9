//! What does a label look like to a decoder? Two ways:
//!
//! ```text
//! tokemb   v_l = sum over tokens t of its name of idf_t E_t / sum of idf_t       E_t: the decoder's input embedding of t
//!          idf_t = ln((L + 1) / (df_t + 1)) + 1                                   df_t: labels whose names have t
//! llm      v_l = the last hidden state behind its name, without any prompt
//! ```
//!
//! The first reads one matrix and passes no layer; the second is a pass of the whole decoder over all names.

use rayon::prelude::*;
use xmc_data::Strings;
use xmc_nn::decoder::{Decoder, Prompted, PromptedConfig, Quantization, Source};
use xmc_nn::quant::QuantMatrix;
use xmc_nn::tokens::Tokens;

use super::LabelFeatures;
use crate::encoder::best_precision;
use crate::error::Result;

/// Tokens of a name that are read: names are short.
const LONGEST: usize = 64;

impl LabelFeatures {
    /// Weighted means of the decoder's input embeddings of the tokens of `names`.
    pub fn token_embeddings(names: &Strings, source: &Source) -> Result<Self> {
        let tokens = source.tokenizer(LONGEST)?.encode(names)?;
        let config = source.config();
        let table = source.matrix("model.embed_tokens.weight", config.vocab, config.hidden)?;
        Self::dense(names.len(), config.hidden, means(&tokens, &table))
    }

    /// Last hidden states of the decoder behind `names`.
    pub fn last_hidden(names: &Strings, source: &Source) -> Result<Self> {
        let tokens = source.tokenizer(LONGEST.min(source.config().positions))?.encode(names)?;
        let decoder = Decoder::open(source, Quantization::Stored, best_precision())?;
        let encoder = Prompted::new(decoder.into(), PromptedConfig::default(), &[], 0)?;
        let rows: Vec<u32> = (0..names.len() as u32).collect();
        let states = encoder.embed_rows(&tokens, &rows, Prompted::PASS, &|_, _| ())?;
        Self::dense(names.len(), encoder.dim(), states.into_host())
    }
}

/// v `[L, h]` of token ids and embeddings `[vocab, h]`.
fn means(tokens: &Tokens, table: &QuantMatrix) -> Vec<f32> {
    let rarity = rarity(tokens, table.rows());
    let h = table.cols();
    let mut means = vec![0f32; tokens.len() * h];
    means.par_chunks_mut(h).enumerate().for_each_init(
        || vec![0f32; h],
        |row, (l, mean)| {
            let ids = tokens.row(l);
            let total: f32 = ids.iter().map(|&id| rarity[id as usize]).sum();
            for id in ids {
                table.row(id as usize, row);
                let weight = rarity[id as usize] / total;
                for (sum, value) in mean.iter_mut().zip(row.iter()) {
                    *sum += weight * value;
                }
            }
        },
    );
    means
}

/// idf of every token `[vocab]`.
fn rarity(tokens: &Tokens, vocab: usize) -> Vec<f32> {
    let mut df = vec![0u32; vocab];
    for l in 0..tokens.len() {
        let mut ids = tokens.row(l);
        ids.sort_unstable();
        ids.dedup();
        for id in ids {
            df[id as usize] += 1;
        }
    }
    let n = tokens.len() as f64 + 1.0;
    df.into_iter().map(|df| ((n / (f64::from(df) + 1.0)).ln() + 1.0) as f32).collect()
}

#[cfg(test)]
mod tests {
    use xmc_nn::quant::Format;

    use super::*;

    #[test]
    fn rare_tokens_weigh_more_and_a_name_of_one_token_is_that_token() {
        let table: Vec<f32> = vec![1.0, 0.0, 0.0, 1.0, 2.0, 2.0];
        let table = QuantMatrix::quantize(&table, 3, 2, Format::F32).unwrap();
        let tokens = Tokens::new([vec![0, 1], vec![0, 0], vec![2]]);
        let v = means(&tokens, &table);
        assert_eq!(v[2..], [1.0, 0.0, 2.0, 2.0]);
        // Token 0 is in two names of three, token 1 in one.
        let (often, seldom) = ((4f64 / 3.0).ln() + 1.0, (4f64 / 2.0).ln() + 1.0);
        let want = [often / (often + seldom), seldom / (often + seldom)];
        assert!(v[..2].iter().zip(want).all(|(&a, b)| (f64::from(a) - b).abs() < 1e-6), "{v:?}");
    }
}
