//! Would the augmentation find pairs that are known and were hidden from it?
//!
//! Some pairs are hidden, the matrix is built again from the rest with the neighbours that are there, and what it adds is
//! looked through for the hidden pairs. Hiding is `uniform`, or `systematic`: a row loses all its labels of a cluster at
//! once, as happens where the knowledge of a connection is missing; or the hidden pairs are `given`, by a simulated bias.
//! Two answers to beat, with as many added pairs:
//!
//! * `random`: every source gets as many targets as it got, any of them. The expected recall, not a draw:
//!   `sum over sources of added_i hidden_i / (targets - known_i)`, divided by all hidden pairs;
//! * `propagation`: no generation. A source gets the targets nearest to those that it has, the nearest pairs first.
//!
//! Recall is the share of hidden pairs that was added; precision the share of added pairs that was hidden, which is low by
//! nature: what else was added may be just as right.

use serde::{Deserialize, Serialize};
use xmc_data::Csr;
use xmc_linear::Features;
use xmc_linear::cluster::{ClusterConfig, build_tree};
use xmc_linear::label_features::pifa;

use super::build::{BuildConfig, build};
use super::leaks::Guard;
use super::mapping::Mapping;
use super::provenance::Pair;
use crate::error::{Error, Result};
use crate::random::{Draws, Purpose};

/// How pairs were hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hiding {
    /// Each with the same probability.
    Uniform,
    /// All labels of a cluster of a row.
    Systematic,
    /// By somebody else.
    Given,
}

impl Hiding {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Hiding::Uniform => "uniform",
            Hiding::Systematic => "systematic",
            Hiding::Given => "given",
        }
    }
}

/// What was found again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recovery {
    /// How pairs were hidden.
    pub hiding: Hiding,
    /// Hidden pairs.
    pub hidden: usize,
    /// Pairs that were added to what was left.
    pub added: usize,
    /// Hidden pairs among those.
    pub found: usize,
    /// found / hidden
    pub recall: f64,
    /// found / added
    pub precision: f64,
    /// Expected recall of as many random pairs.
    pub random: f64,
    /// Recall of as many pairs by propagation, if neighbours of targets were given.
    pub propagation: Option<f64>,
}

/// Hides each pair of `y [n, L]` with probability `share`.
pub fn hide_uniform(y: &Csr, share: f64, seed: u64) -> Csr {
    let mut draws = Draws::new(seed, Purpose::Hidden, 0);
    y.filter(|_, _, _| f64::from(draws.unit()) < share)
}

/// Hides all pairs of a row with the labels of a cluster, for each row and cluster with probability `share`; `clusters [L]`
/// are those of [`clusters`].
pub fn hide_systematic(y: &Csr, clusters: &[u32], share: f64, seed: u64) -> Result<Csr> {
    if clusters.len() != y.cols() {
        let (found, labels) = (clusters.len(), y.cols());
        return Err(Error::Mismatch(format!("clusters of {found} labels, but there are {labels}")));
    }
    Ok(y.filter(|i, l, _| {
        // Place 0 is that of the uniform mode.
        let place = (i as u64 + 1) << 32 | u64::from(clusters[l as usize]);
        f64::from(Draws::new(seed, Purpose::Hidden, place).unit()) < share
    }))
}

/// The cluster of each label `[L]`, of at most `size` labels that look alike by the rows `x [n, d]` that have them.
pub fn clusters(x: Csr, y: &Csr, size: usize, seed: u64) -> Result<Vec<u32>> {
    let config = ClusterConfig { max_leaf_size: size.max(2), ..ClusterConfig::default() };
    let tree = build_tree(&pifa(&Features::from(x), y)?, &config, seed)?;
    let mut cluster_of = vec![0; y.cols()];
    for (&parent, &label) in tree.parents(tree.depth()).iter().zip(tree.labels()) {
        cluster_of[label as usize] = parent;
    }
    Ok(cluster_of)
}

/// What a build of `known` would find of `hidden`, both `[n, L]` without a pair in common, by the rule that the matrix is
/// built with. `propagation` are the neighbours of each target among the targets.
pub fn recover(
    hiding: Hiding,
    mapping: &Mapping<'_>,
    known: &Csr,
    hidden: &Csr,
    (config, guard): (&BuildConfig, &Guard),
    propagation: Option<&super::Neighbours>,
) -> Result<Recovery> {
    if (known.rows(), known.cols()) != (hidden.rows(), hidden.cols()) {
        let [a, b] = [known, hidden].map(|m| format!("[{}, {}]", m.rows(), m.cols()));
        return Err(Error::Mismatch(format!("known pairs {a}, but hidden pairs {b}: not of the same data")));
    }
    let pairs = build(mapping, known, config, guard)?.pairs;
    let is_hidden = |pair: &&Pair| hidden.row(pair.row as usize).indices.binary_search(&pair.label).is_ok();
    let (added, found) = (pairs.len(), pairs.iter().filter(is_hidden).count());
    let (known, hidden) = (mapping.by_source(known)?, mapping.by_source(hidden)?);
    let mut of_source = vec![0usize; mapping.sources()];
    for pair in &pairs {
        of_source[mapping.source(pair.row, pair.label) as usize] += 1;
    }
    let by_chance = |(i, &added): (usize, &usize)| {
        let free = (known.cols() - known.row(i).len()).max(1);
        added as f64 * hidden.row(i).len() as f64 / free as f64
    };
    let random: f64 = of_source.iter().enumerate().map(by_chance).sum();
    let total = hidden.nnz();
    let share = |part: f64, whole: usize| if whole == 0 { 0.0 } else { part / whole as f64 };
    let propagated = propagation.map(|near| propagate(near, &known, &hidden, added)).transpose()?;
    Ok(Recovery {
        hiding,
        hidden: total,
        added,
        found,
        recall: share(found as f64, total),
        precision: share(found as f64, added),
        random: share(random, total),
        propagation: propagated.map(|found| share(found as f64, total)),
    })
}

/// Hidden pairs among the `count` pairs of a source and a target near to one that it has; the nearest pairs first.
fn propagate(near: &super::Neighbours, known: &Csr, hidden: &Csr, count: usize) -> Result<usize> {
    if near.k == 0 || near.ids.len() != known.cols() * near.k || near.cosines.len() != near.ids.len() {
        let (found, targets) = (near.ids.len() / near.k.max(1), known.cols());
        return Err(Error::Mismatch(format!("neighbours of {found} targets, but there are {targets}")));
    }
    let order = |a: &Candidate, b: &Candidate| {
        b.cosine.total_cmp(&a.cosine).then(a.source.cmp(&b.source)).then(a.target.cmp(&b.target))
    };
    let mut best: Vec<Candidate> = Vec::new();
    for source in 0..known.rows() {
        let had = known.row(source);
        let mut mine: Vec<(u32, f32)> = Vec::new();
        for &target in had.indices {
            let range = target as usize * near.k..(target as usize + 1) * near.k;
            let pairs = near.ids[range.clone()].iter().zip(&near.cosines[range]);
            mine.extend(pairs.filter(|&(&id, _)| id >= 0).map(|(&id, &cosine)| (id.cast_unsigned(), cosine)));
        }
        mine.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
        mine.dedup_by_key(|pair| pair.0);
        let lost = hidden.row(source);
        best.extend(mine.into_iter().filter(|(t, _)| had.indices.binary_search(t).is_err()).map(
            |(target, cosine)| {
                let hit = lost.indices.binary_search(&target).is_ok();
                Candidate { cosine, source: source as u32, target, hit }
            },
        ));
        // Never more than twice what is asked for stays in memory.
        if best.len() > 2 * count.max(1024) {
            cut(&mut best, count, order);
        }
    }
    cut(&mut best, count, order);
    Ok(best.iter().filter(|candidate| candidate.hit).count())
}

struct Candidate {
    cosine: f32,
    source: u32,
    target: u32,
    hit: bool,
}

fn cut(
    best: &mut Vec<Candidate>,
    count: usize,
    order: impl Fn(&Candidate, &Candidate) -> std::cmp::Ordering,
) {
    if best.len() > count && count > 0 {
        best.select_nth_unstable_by(count - 1, order);
    }
    best.truncate(count);
}

/// Pairs of `y` that `hidden` does not have.
pub fn rest(y: &Csr, hidden: &Csr) -> Csr {
    y.filter(|i, l, _| i >= hidden.rows() || hidden.row(i).indices.binary_search(&l).is_err())
}

#[cfg(test)]
mod tests {
    use xmc_data::{CsrBuilder, Strings};

    use super::*;
    use crate::augment::embed::{Distinct, Embedder};
    use crate::augment::map::{MapConfig, map};
    use crate::augment::{Direction, Neighbours};
    use crate::events::Silent;
    use crate::index::Dtype;

    fn rule(k: usize, tau: f32) -> BuildConfig {
        BuildConfig { k, tau, ..BuildConfig::default() }
    }

    const ENTITIES: u32 = 60;
    const ALIASES: u32 = 5;

    /// Entities with phrases of their own; label e is entity e, and its page names its own phrases and those of the two
    /// entities that it is linked with. Rows are phrases; known are those of the label's own entity.
    struct World {
        rows: Strings,
        known: Csr,
        linked: Csr,
        pages: Strings,
        starts: Vec<u64>,
    }

    fn phrase(entity: u32, alias: u32) -> String {
        let word = |n: u32| -> String {
            let mut draws = Draws::new(u64::from(n), Purpose::Words, 0);
            let mut letter = |of: &[u8]| char::from(of[draws.below(of.len() as u64) as usize]);
            (0..4).flat_map(|_| [letter(b"bdfgklmnprstvz"), letter(b"aeiou")]).collect()
        };
        format!("{} {}", word(entity * ALIASES + alias), word(100_000 + entity * ALIASES + alias))
    }

    fn links(entity: u32) -> [u32; 2] {
        [(entity + 7) % ENTITIES, (entity * 3 + 11) % ENTITIES]
            .map(|e| if e == entity { (e + 1) % ENTITIES } else { e })
    }

    fn world() -> World {
        let rows = Strings::new((0..ENTITIES * ALIASES).map(|i| phrase(i / ALIASES, i % ALIASES)));
        let by = |entities: &dyn Fn(u32) -> Vec<u32>| {
            let mut y = CsrBuilder::new();
            for e in 0..ENTITIES {
                let mut of: Vec<u32> =
                    entities(e).into_iter().flat_map(|e| e * ALIASES..(e + 1) * ALIASES).collect();
                of.sort_unstable();
                of.dedup();
                y.push(of.into_iter().map(|i| (i, 1.0)));
            }
            y.finish(rows.len()).unwrap().transpose()
        };
        let known = by(&|e| vec![e]);
        let linked = by(&|e| links(e).to_vec());
        let (mut pages, mut starts) = (Strings::default(), vec![0]);
        for e in 0..ENTITIES {
            for of in [vec![e], links(e).to_vec()].concat() {
                (0..ALIASES).for_each(|alias| pages.push(&phrase(of, alias)));
            }
            pages.push("this page was written by somebody who knows");
            pages.push(&format!("page {e} of many"));
            starts.push(pages.len() as u64);
        }
        World { linked: rest(&linked, &known), rows, known, pages, starts }
    }

    fn mapped(world: &World) -> (Neighbours, Neighbours) {
        let words = Embedder::words(512).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let distinct = Distinct::new(&world.pages);
        let queries = words.matrix(&distinct.texts, Dtype::F32).unwrap();
        let targets = words.matrix(&world.rows, Dtype::F32).unwrap();
        let run = |queries, of: &[u32]| {
            map(queries, of, &targets, &MapConfig::default(), &dir.path().join("o"), &Silent)
                .unwrap()
                .neighbours
        };
        let all: Vec<u32> = (0..world.rows.len() as u32).collect();
        (run(&queries, &distinct.of), run(&targets, &all))
    }

    /// Pairs of both, which have none in common, with the value 1.
    fn union(a: &Csr, b: &Csr) -> Csr {
        let mut all = CsrBuilder::new();
        for (a, b) in a.iter().zip(b.iter()) {
            let mut labels = [a.indices, b.indices].concat();
            labels.sort_unstable();
            labels.dedup();
            all.push(labels.into_iter().map(|l| (l, 1.0)));
        }
        all.finish(a.cols()).unwrap()
    }

    #[test]
    fn what_pages_know_is_found_again_and_neither_chance_nor_propagation_finds_it() {
        let world = world();
        let (neighbours, propagation) = mapped(&world);
        let mapping = Mapping::new(Direction::Label, &world.starts, &neighbours, world.rows.len()).unwrap();
        let found = recover(
            Hiding::Given,
            &mapping,
            &world.known,
            &world.linked,
            (&rule(10, 0.8), &Guard::default()),
            Some(&propagation),
        )
        .unwrap();
        assert!(found.recall >= 0.95 && found.precision > 0.9, "{found:?}");
        assert!(found.random < 0.05 && found.propagation.unwrap() < 0.3, "{found:?}");
    }

    #[test]
    fn systematic_hiding_takes_whole_clusters_and_they_are_found_again() {
        let world = world();
        let (neighbours, _) = mapped(&world);
        let y = union(&world.known, &world.linked);
        let x = Csr::new(
            y.rows(),
            y.rows(),
            (0..=y.rows() as u64).collect::<Vec<_>>(),
            (0..y.rows() as u32).collect::<Vec<_>>(),
            vec![1.0; y.rows()],
        );
        let clusters = clusters(x.unwrap(), &y, 4, 1).unwrap();
        let hidden = hide_systematic(&y, &clusters, 0.2, 5).unwrap();
        let share = hidden.nnz() as f64 / y.nnz() as f64;
        assert!((0.12..0.28).contains(&share), "{share}");
        let left = rest(&y, &hidden);
        for i in 0..y.rows() {
            let cluster = |l: &u32| clusters[*l as usize];
            assert!(
                hidden.row(i).indices.iter().all(|l| !left
                    .row(i)
                    .indices
                    .iter()
                    .any(|k| cluster(k) == cluster(l)))
            );
        }
        let mapping = Mapping::new(Direction::Label, &world.starts, &neighbours, world.rows.len()).unwrap();
        let found =
            recover(Hiding::Systematic, &mapping, &left, &hidden, (&rule(10, 0.8), &Guard::default()), None)
                .unwrap();
        assert!(found.recall >= 0.8 && found.random < 0.05, "{found:?}");
        assert!(hide_systematic(&y, &[0], 0.2, 5).is_err());
    }

    #[test]
    fn numbers_of_a_small_case_are_right() {
        // Instance direction: source 0 has target 0 and lost 1; its text lies near 1 and 2; source 1 has nothing.
        let neighbours = Neighbours { k: 2, ids: vec![1, 2], cosines: vec![0.9, 0.7] };
        let mapping = Mapping::new(Direction::Instance, &[0, 1, 1], &neighbours, 4).unwrap();
        let known = Csr::new(2, 4, vec![0, 1, 1], vec![0], vec![1.0]).unwrap();
        let hidden = Csr::new(2, 4, vec![0, 1, 2], vec![1, 3], vec![1.0; 2]).unwrap();
        // Near to target 0: 1 with .8, 3 with .6.
        let near = Neighbours {
            k: 2,
            ids: vec![1, 3, 0, -1, -1, -1, -1, -1],
            cosines: vec![0.8, 0.6, 0.8, -1.0, -1.0, -1.0, -1.0, -1.0],
        };
        let found = recover(
            Hiding::Given,
            &mapping,
            &known,
            &hidden,
            (&rule(2, 0.8), &Guard::default()),
            Some(&near),
        )
        .unwrap();
        assert_eq!((found.hidden, found.added, found.found), (2, 2, 1));
        assert_eq!((found.recall, found.precision), (0.5, 0.5));
        assert!((found.random - 2.0 / 3.0 / 2.0).abs() < 1e-12);
        assert_eq!(found.propagation, Some(0.5));
        let one = recover(
            Hiding::Given,
            &mapping,
            &known,
            &hidden,
            (&rule(1, 0.8), &Guard::default()),
            Some(&near),
        )
        .unwrap();
        assert_eq!((one.added, one.propagation), (1, Some(0.5)));
        let none = recover(
            Hiding::Given,
            &mapping,
            &known,
            &hidden,
            (&rule(2, 1.1), &Guard::default()),
            Some(&near),
        )
        .unwrap();
        assert_eq!((none.added, none.recall, none.random, none.propagation), (0, 0.0, 0.0, Some(0.0)));
    }

    #[test]
    fn uniform_hiding_hides_about_its_share_and_the_rest_is_the_rest() {
        let world = world();
        let y = union(&world.known, &world.linked);
        let hidden = hide_uniform(&y, 0.3, 1);
        let left = rest(&y, &hidden);
        assert_eq!(hidden.nnz() + left.nnz(), y.nnz());
        assert!((hidden.nnz() as f64 / y.nnz() as f64 - 0.3).abs() < 0.06);
        assert_eq!(union(&hidden, &left), y);
        assert_eq!(hide_uniform(&y, 0.3, 1), hidden);
    }
}
