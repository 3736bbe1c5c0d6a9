//! How do texts become rows, all at once and one at a time?

use std::path::Path;

use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};

use super::analyze::{Analysis, Analyzer};
use super::config::{Kind, VectorizerConfig};
use super::count::{Chunk, count};
use super::hashing::column_and_sign;
use super::rows::Rows;
use super::select::{NO_COLUMN, Selected, select};
use super::store;
use super::vocabulary::Vocabulary;
use super::weigh::{scale_to_one, sum_by_column, weigh};
use crate::buffer::Buffer;
use crate::csr::{Csr, Row};
use crate::error::{Error, Result};
use crate::strings::Strings;

/// Rows a parallel task transforms: enough to amortise its memory, few enough to balance threads.
const ROWS_PER_TASK: usize = 512;

/// One or more vectorizers side by side; see the [module](super) for what they compute.
pub struct Vectorizer {
    blocks: Vec<Block>,
}

/// One vectorizer and where its columns begin.
pub(super) struct Block {
    pub(super) config: VectorizerConfig,
    analyzer: Analyzer,
    pub(super) columns: Columns,
}

/// How terms find their columns.
pub(super) enum Columns {
    /// Those that were learnt, each with its inverse document frequency.
    Learnt { vocabulary: Vocabulary, idf: Buffer<f32> },
    /// Those that a hash says.
    Hashed,
}

/// Memory that [`Vectorizer::transform_one`] uses again for every text.
#[derive(Debug, Default)]
pub struct Scratch {
    analyses: Vec<Analysis>,
    row: Vec<(u32, f32)>,
    indices: Vec<u32>,
    values: Vec<f32>,
}

impl Vectorizer {
    /// Learns from `texts` and transforms them, cutting each into terms once for every configuration.
    ///
    /// The matrix has the bits that [`transform`](Self::transform) of the same texts gives, at any number of threads.
    /// Errors: a setting outside its range, or no term left within the limits.
    pub fn fit(configs: &[VectorizerConfig], texts: &Strings) -> Result<(Self, Csr)> {
        if configs.is_empty() {
            return Err(Error::config("vectorizer", "[]", "one or more vectorizers"));
        }
        configs.iter().try_for_each(VectorizerConfig::check)?;
        let mut blocks = Vec::with_capacity(configs.len());
        let mut joined: Option<Csr> = None;
        for config in configs {
            let (alone, x) = match config.kind {
                Kind::Tfidf => Self::learn(config, texts)?,
                Kind::Hashing => {
                    let alone = Vectorizer { blocks: vec![Block::new(config.clone(), Columns::Hashed)] };
                    let x = alone.transform(texts);
                    (alone, x)
                }
            };
            blocks.extend(alone.blocks);
            joined = Some(match joined {
                Some(left) => left.hstack(&x)?,
                None => x,
            });
        }
        let vectorizer = Vectorizer::from_blocks(blocks)?;
        let mut x = joined.unwrap_or_else(|| Csr::empty(texts.len(), 0));
        if configs.len() > 1 {
            let indptr = x.indptr().to_vec();
            let values = x.values_mut();
            for ends in indptr.windows(2) {
                scale_to_one(&mut values[ends[0] as usize..ends[1] as usize]);
            }
        }
        Ok((vectorizer, x))
    }

    /// One vectorizer with a vocabulary.
    fn learn(config: &VectorizerConfig, texts: &Strings) -> Result<(Self, Csr)> {
        let chunks = count(&Analyzer::new(config), texts);
        let Selected { vocabulary, idf, columns } = select(config, texts.len(), &chunks)?;
        let parts = chunks
            .into_par_iter()
            .zip(columns)
            .map(|(chunk, of)| weighed(config, &idf, chunk, &of))
            .collect();
        let x = Rows::join(parts, vocabulary.len());
        let columns = Columns::Learnt { vocabulary, idf: idf.into() };
        Ok((Vectorizer { blocks: vec![Block::new(config.clone(), columns)] }, x))
    }

    /// Puts checked blocks side by side.
    pub(super) fn from_blocks(blocks: Vec<Block>) -> Result<Self> {
        let columns: u64 = blocks.iter().map(|b| b.num_columns() as u64).sum();
        if columns > u64::from(u32::MAX) {
            return Err(Error::Shape(format!("{columns} features: at most {} are supported", u32::MAX)));
        }
        Ok(Vectorizer { blocks })
    }

    /// Number of columns d.
    pub fn num_features(&self) -> usize {
        self.blocks.iter().map(Block::num_columns).sum()
    }

    /// Settings, in column order.
    pub fn configs(&self) -> impl ExactSizeIterator<Item = &VectorizerConfig> {
        self.blocks.iter().map(|b| &b.config)
    }

    pub(super) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// The term behind a column; `None` if it is hashed or does not exist.
    pub fn feature_name(&self, id: u32) -> Option<String> {
        let mut id = id as usize;
        for block in &self.blocks {
            if id < block.num_columns() {
                return block.term(id as u32).map(|term| String::from_utf8_lossy(term).into_owned());
            }
            id -= block.num_columns();
        }
        None
    }

    /// Features of all texts, `[n, d]`, in parallel.
    pub fn transform(&self, texts: &Strings) -> Csr {
        let tasks = texts.len().div_ceil(ROWS_PER_TASK);
        let parts: Vec<Rows> = (0..tasks)
            .into_par_iter()
            .map_init(Scratch::default, |scratch, task| {
                let start = task * ROWS_PER_TASK;
                let mut rows = Rows::default();
                for i in start..(start + ROWS_PER_TASK).min(texts.len()) {
                    let row = self.transform_one(texts.get(i), scratch);
                    rows.push(row.iter());
                }
                rows
            })
            .collect();
        Rows::join(parts, self.num_features())
    }

    /// Features of one text. Nothing is allocated once `scratch` has seen texts of this length (and, with stemming,
    /// these words).
    pub fn transform_one<'a>(&self, text: &str, scratch: &'a mut Scratch) -> Row<'a> {
        scratch.indices.clear();
        scratch.values.clear();
        if scratch.analyses.len() < self.blocks.len() {
            scratch.analyses.resize_with(self.blocks.len(), Analysis::default);
        }
        let mut first_column = 0;
        for (block, analysis) in self.blocks.iter().zip(&mut scratch.analyses) {
            block.transform(text, analysis, &mut scratch.row);
            scratch.indices.extend(scratch.row.iter().map(|&(column, _)| first_column + column));
            scratch.values.extend(scratch.row.iter().map(|&(_, value)| value));
            first_column += block.num_columns() as u32;
        }
        if self.blocks.len() > 1 {
            scale_to_one(&mut scratch.values);
        }
        Row { indices: &scratch.indices, values: &scratch.values }
    }

    /// Writes one file; see the [module](super) for its layout.
    pub fn save(&self, path: &Path) -> Result<()> {
        store::save(self, path)
    }

    /// Maps a file written by [`Vectorizer::save`] after comparing it with its checksum.
    pub fn open(path: &Path) -> Result<Self> {
        store::open(path)
    }
}

impl Block {
    /// A vectorizer whose columns are known already.
    pub(super) fn new(config: VectorizerConfig, columns: Columns) -> Self {
        Block { analyzer: Analyzer::new(&config), config, columns }
    }

    fn num_columns(&self) -> usize {
        match &self.columns {
            Columns::Learnt { vocabulary, .. } => vocabulary.len(),
            Columns::Hashed => self.config.n_features as usize,
        }
    }

    fn term(&self, column: u32) -> Option<&[u8]> {
        match &self.columns {
            Columns::Learnt { vocabulary, .. } => vocabulary.term(column),
            Columns::Hashed => None,
        }
    }

    /// Fills `row` with the features of a text.
    fn transform(&self, text: &str, analysis: &mut Analysis, row: &mut Vec<(u32, f32)>) {
        row.clear();
        match &self.columns {
            Columns::Learnt { vocabulary, idf } => {
                self.analyzer.terms(text, analysis, |bytes, start, end| {
                    row.extend(vocabulary.find(bytes, start, end).map(|column| (column, 1.0)));
                });
                sum_by_column(row);
                weigh(&self.config, idf, row);
            }
            Columns::Hashed => {
                let signed = self.config.alternate_sign;
                self.analyzer.terms(text, analysis, |bytes, start, end| {
                    let (column, sign) = column_and_sign(&bytes[start..end], self.config.n_features);
                    row.push((column, if signed { sign } else { 1.0 }));
                });
                sum_by_column(row);
                weigh(&self.config, &[], row);
            }
        }
    }
}

/// The features of a chunk of rows, written over its counts.
fn weighed(config: &VectorizerConfig, idf: &[f32], chunk: Chunk, columns: &[u32]) -> Rows {
    let Chunk { mut ends, mut ids, mut counts, .. } = chunk;
    let mut row = Vec::new();
    let (mut start, mut written) = (0, 0);
    for end in &mut ends {
        let found = ids[start..*end].iter().zip(&counts[start..*end]);
        row.clear();
        row.extend(found.map(|(&id, &count)| (columns[id as usize], count)).filter(|&(c, _)| c != NO_COLUMN));
        sum_by_column(&mut row);
        weigh(config, idf, &mut row);
        // A row never grows, so this stays behind what is still to be read.
        for &(column, value) in &row {
            ids[written] = column;
            counts[written] = value;
            written += 1;
        }
        start = std::mem::replace(end, written);
    }
    ids.truncate(written);
    counts.truncate(written);
    Rows { ends, indices: ids, values: counts }
}
