//! Which targets does a source get, and with which weight?
//!
//! The neighbours of all synthetic texts of a source, one weight `sigma = (cosine + 1) / 2` for each target: the largest.

use xmc_data::Csr;

use super::{Direction, Neighbours};
use crate::error::{Error, Result};

/// A target that a synthetic text of a source lies near.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Which target.
    pub target: u32,
    /// Which synthetic text.
    pub text: u32,
    /// Place of the target among the neighbours of the text, from 1.
    pub rank: u32,
    /// Cosine of the two.
    pub cosine: f32,
}

/// Neighbours of synthetic texts, and whose texts they are.
#[derive(Clone, Copy, Debug)]
pub struct Mapping<'a> {
    direction: Direction,
    /// `[sources + 1]`: texts `starts[i]..starts[i + 1]` belong to source i.
    starts: &'a [u64],
    neighbours: &'a Neighbours,
    targets: usize,
}

impl<'a> Mapping<'a> {
    /// Puts the parts together after checking that they fit.
    pub fn new(
        direction: Direction,
        starts: &'a [u64],
        neighbours: &'a Neighbours,
        targets: usize,
    ) -> Result<Self> {
        let fail = |problem: String| Err(Error::Mismatch(problem));
        let (k, found) = (neighbours.k, neighbours.ids.len());
        let texts = starts.last().map_or(0, |&end| end as usize);
        if starts.is_empty() || !starts.is_sorted() {
            return fail("starts of the synthetic texts must rise from 0: parse again".to_owned());
        }
        if texts.checked_mul(k) != Some(found) || neighbours.cosines.len() != found {
            return fail(format!("neighbours of {found} / {k} texts, but there are {texts}: map again"));
        }
        let wrong = |&id: &i32| id != -1 && usize::try_from(id).map_or(true, |id| id >= targets);
        match neighbours.ids.iter().position(wrong) {
            Some(at) => {
                let (id, text) = (neighbours.ids[at], at / k.max(1));
                fail(format!("text {text} has neighbour {id}, but there are {targets} targets: map again"))
            }
            None => Ok(Mapping { direction, starts, neighbours, targets }),
        }
    }

    /// Number of sources.
    pub fn sources(&self) -> usize {
        self.starts.len() - 1
    }

    /// Number of targets.
    pub fn targets(&self) -> usize {
        self.targets
    }

    /// The matrix with a row for each source.
    pub fn by_source(&self, y: &Csr) -> Result<Csr> {
        let m = match self.direction {
            Direction::Label => y.transpose(),
            Direction::Instance => y.clone(),
        };
        if (m.rows(), m.cols()) == (self.sources(), self.targets) {
            return Ok(m);
        }
        Err(Error::Mismatch(format!(
            "a matrix of {} rows and {} labels does not fit {} sources and {} targets of this run",
            y.rows(),
            y.cols(),
            self.sources(),
            self.targets
        )))
    }

    /// Which side sources are on.
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// Neighbours that each text has.
    pub fn width(&self) -> usize {
        self.neighbours.k
    }

    /// Whether source `i` has no synthetic text.
    pub fn is_empty(&self, i: usize) -> bool {
        self.starts[i] == self.starts[i + 1]
    }

    /// Place in the matrix of a source and a target: row, label.
    pub fn place(&self, source: u32, target: u32) -> (u32, u32) {
        match self.direction {
            Direction::Label => (target, source),
            Direction::Instance => (source, target),
        }
    }

    /// The source of a pair.
    pub fn source(&self, row: u32, label: u32) -> u32 {
        match self.direction {
            Direction::Label => label,
            Direction::Instance => row,
        }
    }

    /// The first `k` neighbours of each text of source `i`, text by text, the nearest first.
    pub fn candidates(&self, i: usize, k: usize) -> impl Iterator<Item = Candidate> + use<'a> {
        let neighbours = self.neighbours;
        let width = neighbours.k;
        (self.starts[i] as usize..self.starts[i + 1] as usize).flat_map(move |text| {
            let range = text * width..text * width + k.min(width);
            let pairs = neighbours.ids[range.clone()].iter().zip(&neighbours.cosines[range]);
            pairs.zip(1..).filter(|&((&id, _), _)| id >= 0).map(move |((&id, &cosine), rank)| Candidate {
                target: id.cast_unsigned(),
                text: text as u32,
                rank,
                cosine,
            })
        })
    }

    /// Targets of source `i` among the first `k` neighbours of each of its texts, from sigma `tau` on; rising, each with its
    /// largest sigma.
    pub fn near(&self, i: usize, k: usize, tau: f32, into: &mut Vec<(u32, f32)>) {
        into.clear();
        let sigmas = self.candidates(i, k).map(|found| (found.target, sigma(found.cosine)));
        into.extend(sigmas.filter(|&(_, sigma)| sigma >= tau));
        into.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
        into.dedup_by_key(|pair| pair.0);
    }
}

/// From a cosine to 0 to 1.
pub fn sigma(cosine: f32) -> f32 {
    f32::midpoint(cosine, 1.0)
}

/// A matrix from its rows.
#[cfg(test)]
pub(super) fn matrix(rows: &[&[(u32, f32)]], cols: usize) -> Csr {
    let mut y = xmc_data::CsrBuilder::new();
    for row in rows {
        y.push(row.iter().copied());
    }
    y.finish(cols).unwrap()
}
