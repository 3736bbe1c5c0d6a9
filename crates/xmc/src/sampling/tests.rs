use proptest::prelude::*;

use super::*;
use crate::config::{Group, Settings, checks};

/// Settings of a method that samples.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Method {
    sampling: SampleConfig,
}

impl Settings for Method {
    const METHOD: &'static str = "sampling";
    const GROUPS: &'static [Group] = &[SAMPLING];

    fn check_values(&self) -> xmc_data::Result<()> {
        self.sampling.check().map_err(|problem| match problem {
            xmc_data::Error::Config { key, value, expected } => {
                xmc_data::Error::Config { key: format!("sampling.{key}"), value, expected }
            }
            other => other,
        })
    }
}

#[test]
fn settings_are_documented_printed_and_checked() {
    checks::documentation_is_complete::<Method>();
    checks::printed_file_gives_the_defaults::<Method>();
    checks::wrong_kinds_are_refused::<Method>();
    checks::are_refused::<Method>(&[
        "sampling.ratio=0",
        "sampling.ratio=1.5",
        "sampling.ratio=nan",
        "sampling.ratio_of=words",
        "sampling.sampler=lsh",
        "sampling.features=file",
        "sampling.features_file=a.npy",
        "sampling.bits=0",
        "sampling.bits=31",
        "sampling.per_bucket=0",
        "sampling.max_positives=-1",
    ]);
    let together = |sets: [&str; 2]| {
        let sets = sets.map(str::to_owned);
        crate::config::load::<Method>(None, &sets).unwrap_err().to_string()
    };
    for (sets, expected) in [
        (["sampling.sampler=random", "sampling.within=head"], "`sampling.within` = head: expected random"),
        (["sampling.sampler=race", "sampling.bits=8"], "`sampling.bits` = 8: expected none"),
        (["sampling.sampler=minhash", "sampling.bits=9"], "from 1 to 8"),
        (["sampling.sampler=minhash", "sampling.within=medoid"], "random, head or tail"),
    ] {
        let message = together(sets);
        assert!(message.contains(expected), "{message}");
    }
}

/// A row for each label.
fn one_row_each(labels: usize) -> Csr {
    let indptr: Vec<u64> = (0..=labels as u64).collect();
    let ids: Vec<u32> = (0..labels as u32).collect();
    Csr::new(labels, labels, indptr, ids, vec![1.0; labels]).unwrap()
}

/// 4,000 vectors of length 1 in 600 clusters whose sizes fall as 1 / rank^1.1, and the cluster of each.
fn clusters(seed: u64) -> (LabelFeatures, Vec<usize>) {
    const D: usize = 64;
    let mut draws = Draws::new(seed, Purpose::Order, 7);
    let centres: Vec<Vec<f32>> = (0..600).map(|_| (0..D).map(|_| draws.normal()).collect()).collect();
    let weights: Vec<f32> = (1..=600).map(|rank| (rank as f32).powf(-1.1)).collect();
    let total: f32 = weights.iter().sum();
    let (mut values, mut cluster_of) = (Vec::new(), Vec::new());
    for _ in 0..4000 {
        let mut rest = draws.unit() * total;
        let cluster = weights.iter().position(|&weight| {
            rest -= weight;
            rest < 0.0
        });
        let cluster = cluster.unwrap_or(599);
        values.extend(centres[cluster].iter().map(|&c| c + 0.4 * draws.normal()));
        cluster_of.push(cluster);
    }
    (LabelFeatures::dense(4000, D, values).unwrap(), cluster_of)
}

/// Share of the clusters of which a label is taken.
fn clusters_hit(config: &SampleConfig, seed: u64) -> f64 {
    let (features, cluster_of) = clusters(seed);
    let sample = sample(&one_row_each(4000), Some(&features), config, seed, 0).unwrap();
    assert_eq!(sample.labels.len(), 1000);
    let distinct = |ids: &mut dyn Iterator<Item = usize>| ids.collect::<std::collections::HashSet<_>>().len();
    let hit = distinct(&mut sample.labels.iter().map(|&l| cluster_of[l as usize]));
    hit as f64 / distinct(&mut cluster_of.iter().copied()) as f64
}

#[test]
fn hashing_reaches_more_clusters_than_chance() {
    let mean = |sampler: Sampler| {
        let config = SampleConfig { sampler, ratio_of: RatioOf::Labels, ..Default::default() };
        (0..5).map(|seed| clusters_hit(&config, seed)).sum::<f64>() / 5.0
    };
    let random = mean(Sampler::Random);
    let (simhash, race) = (mean(Sampler::Simhash), mean(Sampler::Race));
    println!("clusters hit: random {random:.3}, simhash {simhash:.3}, race {race:.3}");
    assert!(simhash >= random + 0.12, "random {random}, simhash {simhash}");
    assert!(race >= random + 0.12, "random {random}, race {race}");
}

#[test]
fn the_fewest_bits_with_enough_buckets_are_chosen() {
    let (features, _) = clusters(0);
    let y = one_row_each(4000);
    let config = SampleConfig { ratio_of: RatioOf::Labels, ..Default::default() };
    let buckets = |bits: Option<u32>| {
        let config = SampleConfig { bits, ..config.clone() };
        sample(&y, Some(&features), &config, 0, 0).unwrap().report.hashing.unwrap()
    };
    let chosen = buckets(None);
    assert!(chosen.buckets >= 1000 && buckets(Some(chosen.bits - 1)).buckets < 1000, "{chosen:?}");
    assert_eq!((chosen.quota, chosen.extra), (0, 1000));
    let coarse = buckets(Some(6));
    assert!(coarse.buckets <= 64 && coarse.quota > 0, "{coarse:?}");
    assert!((coarse.coverage - 1.0).abs() < 1e-9);
    let fixed = SampleConfig { per_bucket: Some(2), bits: Some(6), ..config };
    let sample = sample(&y, Some(&features), &fixed, 0, 0).unwrap();
    let hashing = sample.report.hashing.unwrap();
    assert_eq!((hashing.quota, hashing.extra), (2, 0));
    assert!(sample.labels.len() as u64 <= 2 * hashing.buckets);
}

/// 500 labels, label l with about 3000 / (l + 10) of 2000 rows; label 499 with none.
fn zipf() -> Csr {
    let mut draws = Draws::new(5, Purpose::Order, 0);
    let mut rows = vec![Vec::new(); 2000];
    for l in 0..499u32 {
        for row in draws.distinct(3000 / (l as usize + 10) + 1, rows.len()) {
            rows[row as usize].push((l, 1.0 + l as f32));
        }
    }
    let mut y = CsrBuilder::new();
    for row in rows {
        y.push(row);
    }
    y.finish(500).unwrap()
}

fn names() -> Strings {
    let words = ["sea", "mountain", "river", "forest", "desert", "island", "valley"];
    Strings::new((0..500).map(|l| format!("{} {} {}", words[l % 7], words[l / 7 % 7], l / 49)))
}

#[test]
fn a_quarter_of_the_pairs_is_met_to_within_one_label() {
    let (y, names) = (zipf(), names());
    let most = *frequencies(&y).iter().max().unwrap() as f64;
    for sampler in [Sampler::Simhash, Sampler::Minhash, Sampler::Race, Sampler::Random] {
        for (ratio_of, slack) in [(RatioOf::Pairs, most), (RatioOf::Documents, most), (RatioOf::Labels, 1.0)]
        {
            let config = SampleConfig { ratio_of, sampler, ..Default::default() };
            let features = label_features(&config, &names, None).unwrap();
            let sample = sample(&y, features.as_ref(), &config, 3, 0).unwrap();
            let report = sample.report;
            let volume = match ratio_of {
                RatioOf::Pairs => report.pairs,
                RatioOf::Documents => report.documents,
                RatioOf::Labels => report.labels,
            };
            assert!((volume.kept as f64 - 0.25 * volume.of as f64).abs() <= slack, "{config:?} {report:?}");
            assert_eq!((report.labels.of, report.labels_without_rows), (499, 1));
            // What the report says is what is there.
            assert_eq!(report.labels.kept, sample.labels.len() as u64);
            let kept = y.filter(|_, l, _| sample.labels.binary_search(&l).is_ok());
            assert_eq!(report.pairs, Volume { kept: kept.nnz() as u64, of: y.nnz() as u64 });
            let with_labels = |y: &Csr| y.iter().filter(|row| !row.is_empty()).count() as u64;
            assert_eq!(report.documents, Volume { kept: with_labels(&kept), of: with_labels(&y) });
        }
    }
}

#[test]
fn a_sample_is_the_same_at_any_number_of_threads_and_another_for_another_seed() {
    let (y, names) = (zipf(), names());
    for sampler in [Sampler::Simhash, Sampler::Minhash, Sampler::Race, Sampler::Random] {
        let config = SampleConfig { sampler, ..Default::default() };
        let drawn = |threads: usize, seed: u64| {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
                let features = label_features(&config, &names, None).unwrap();
                sample(&y, features.as_ref(), &config, seed, 0).unwrap()
            })
        };
        assert_eq!(drawn(1, 1), drawn(3, 1));
        assert_ne!(drawn(1, 1).labels, drawn(1, 2).labels);
    }
}

#[test]
fn an_epoch_changes_labels_only_if_asked() {
    let (y, names) = (zipf(), names());
    let of = |resample: bool, epoch: u64| {
        let config = SampleConfig { resample, ..Default::default() };
        let features = label_features(&config, &names, None).unwrap();
        sample(&y, features.as_ref(), &config, 1, epoch).unwrap()
    };
    assert_eq!(of(false, 0), of(false, 4));
    assert_eq!(of(true, 0).labels, of(false, 0).labels);
    assert_ne!(of(true, 0).labels, of(true, 4).labels);
    // Positives of a row change with the epoch in any case.
    let sample = of(false, 0);
    let capped = Sample { settings: SampleConfig { max_positives: 1, ..sample.settings.clone() }, ..sample };
    assert_eq!(capped.pairs(&y, 1, 2), capped.pairs(&y, 1, 2));
    assert_ne!(capped.pairs(&y, 1, 2), capped.pairs(&y, 1, 3));
}

#[test]
fn heads_and_tails_of_buckets_are_the_frequent_and_the_rare() {
    let (y, names) = (zipf(), names());
    let frequency = frequencies(&y);
    let mean = |within: Within| {
        let config = SampleConfig { within, bits: Some(4), ratio_of: RatioOf::Labels, ..Default::default() };
        let features = label_features(&config, &names, None).unwrap();
        let sample = sample(&y, features.as_ref(), &config, 1, 0).unwrap();
        let rows: u32 = sample.labels.iter().map(|&l| frequency[l as usize]).sum();
        f64::from(rows) / sample.labels.len() as f64
    };
    let (head, random, tail) = (mean(Within::Head), mean(Within::Random), mean(Within::Tail));
    assert!(head > 1.5 * random && random > 1.5 * tail, "{head} {random} {tail}");
    assert!(mean(Within::Medoid) > tail);
}

#[test]
fn all_labels_need_no_features() {
    let y = zipf();
    let config = SampleConfig { ratio: 1.0, max_positives: 0, ..Default::default() };
    assert!(label_features(&config, &names(), None).unwrap().is_none());
    let sample = sample(&y, None, &config, 0, 0).unwrap();
    assert_eq!(sample.labels, (0..499).collect::<Vec<u32>>());
    assert_eq!(sample.pairs(&y, 0, 0), y);
}

#[test]
fn what_does_not_fit_is_said() {
    let y = zipf();
    let config = SampleConfig::default();
    let message = |y: &Csr, features: Option<&LabelFeatures>| {
        sample(y, features, &config, 0, 0).unwrap_err().to_string()
    };
    assert!(message(&y, None).contains("needs label features"));
    let few = LabelFeatures::tfidf(&Strings::new(["a", "b"])).unwrap();
    assert!(message(&y, Some(&few)).contains("features of 2 labels, but there are 500 labels"));
    assert!(message(&Csr::empty(3, 2), Some(&few)).contains("no training row has a label"));
}

#[test]
fn rows_of_a_file_are_label_features() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.npy");
    let rows = xmc_data::Dense::new(2, 2, vec![3.0, 4.0, 0.0, 0.0]).unwrap();
    xmc_data::formats::npy::write_dense(&path, &rows).unwrap();
    let features = HashFeatures::File;
    let config = SampleConfig { features, features_file: Some(path), ..Default::default() };
    let Some(LabelFeatures::Dense(read)) = label_features(&config, &Strings::new(["a", "b"]), None).unwrap()
    else {
        panic!("dense");
    };
    assert_eq!(read.values(), [0.6, 0.8, 0.0, 0.0]);
    let message = label_features(&config, &Strings::new(["a"]), None).unwrap_err().to_string();
    assert!(message.contains("rows.npy: 2 rows, but 1 labels"), "{message}");
}

#[test]
fn signs_agree_as_the_angle_says() {
    let words = 128;
    for degrees in [30f64, 60.0, 90.0] {
        let angle = degrees.to_radians();
        let rows = vec![1.0, 0.0, 0.0, angle.cos() as f32, angle.sin() as f32, 0.0];
        let pair = LabelFeatures::dense(2, 3, rows).unwrap();
        let agreeing: u32 = (0..words)
            .map(|word| {
                let signs = simhash::signatures(&pair, &[0.0; 3], 11, word);
                (!(signs[0] ^ signs[1])).count_ones()
            })
            .sum();
        let (n, p) = (f64::from(words as u32 * 32), 1.0 - degrees / 180.0);
        let off = (f64::from(agreeing) - n * p).abs() / (n * p * (1.0 - p)).sqrt();
        assert!(off < 3.0, "{degrees} degrees: {agreeing} of {n} bits agree, {off} sigma off");
    }
}

#[test]
fn signs_of_a_label_do_not_depend_on_other_labels_and_are_those_of_plain_projections() {
    let (features, _) = clusters(1);
    let LabelFeatures::Dense(all) = &features else { panic!("dense") };
    let mean = features.mean();
    let signatures = simhash::signatures(&features, &mean, 3, 1);
    let alone = LabelFeatures::dense(1, 64, all.row(2500).to_vec()).unwrap();
    assert_eq!(simhash::signatures(&alone, &mean, 3, 1), [signatures[2500]]);
    // g_j written out, with the same draws.
    let directions: Vec<Vec<f32>> = (0..64u64)
        .map(|c| {
            let mut draws = Draws::new(3, Purpose::Directions, 1 << 40 | c);
            (0..32).map(|_| draws.normal()).collect()
        })
        .collect();
    for l in 0..200 {
        for j in 0..32 {
            let centred = |c: usize| f64::from(all.row(l)[c]) - mean[c];
            let product: f64 = (0..64).map(|c| centred(c) * f64::from(directions[c][j])).sum();
            if product.abs() > 1e-4 {
                assert_eq!(signatures[l] >> j & 1 == 1, product > 0.0, "label {l}, bit {j}");
            }
        }
    }
}

#[test]
fn least_hashes_agree_as_often_as_words_are_shared() {
    // 6 of 10 words shared.
    let words = |ids: std::ops::Range<u32>| ids.map(|id| (id * 7919, 1.0)).collect::<Vec<_>>();
    let mut sets = CsrBuilder::new();
    sets.push(words(0..8));
    sets.push(words(2..10));
    let sets = LabelFeatures::Sparse(sets.finish(1 << 20).unwrap());
    let (mut agreeing, mut n) = (0, 0);
    for seed in 0..200 {
        let values = minhash::values(&sets, seed);
        agreeing += values[0].iter().zip(&values[1]).filter(|(a, b)| a == b).count();
        n += values[0].len();
    }
    let (n, p) = (n as f64, 0.6);
    let off = (agreeing as f64 - n * p).abs() / (n * p * (1.0 - p)).sqrt();
    assert!(off < 4.0, "{agreeing} of {n} agree, {off} sigma off");
}

#[test]
fn buckets_of_minhash_are_connected_by_equal_bands_and_finer_with_more_words() {
    let names = names();
    let values = minhash::values(&LabelFeatures::words(&names).unwrap(), 1);
    let labels: Vec<u32> = (0..500).rev().collect();
    let mut coarser: Option<Vec<u32>> = None;
    for words in 1..=8u32 {
        let buckets = minhash::buckets(&values, &labels, words);
        // The slow way: walk over all pairs until nothing changes.
        let mut slow: Vec<u32> = (0..500).collect();
        let alike = |a: usize, b: usize| {
            let (a, b) = (&values[labels[a] as usize], &values[labels[b] as usize]);
            (0..4).any(|band| a[band * 8..][..words as usize] == b[band * 8..][..words as usize])
        };
        let mut changed = true;
        while changed {
            changed = false;
            for a in 0..500 {
                for b in 0..a {
                    if slow[a] != slow[b] && alike(a, b) {
                        let least = slow[a].min(slow[b]);
                        (slow[a], slow[b], changed) = (least, least, true);
                    }
                }
            }
        }
        assert_eq!(buckets, slow, "{words} words");
        if let Some(coarser) = coarser {
            let parents: std::collections::HashSet<(u32, u32)> =
                buckets.iter().copied().zip(coarser).collect();
            let count = buckets.iter().collect::<std::collections::HashSet<_>>().len();
            assert_eq!(parents.len(), count, "a bucket of {words} words lies in one of fewer");
        }
        coarser = Some(buckets);
    }
}

proptest! {
    #[test]
    fn kept_pairs_are_those_that_the_rules_say(
        labels in proptest::collection::btree_set(0u32..500, 1..300),
        max_positives in 0usize..4,
        first in any::<bool>(),
        keep_orphans in any::<bool>(),
        epoch in 0u64..3,
    ) {
        let y = zipf();
        let frequency = frequencies(&y);
        let positives = if first { PositivesKept::First } else { PositivesKept::Random };
        let config = SampleConfig { max_positives, positives, keep_orphans, ..Default::default() };
        let labels: Vec<u32> = labels.into_iter().collect();
        let kept = pairs(&labels, &config, &y, 4, epoch);
        let most = if max_positives == 0 { usize::MAX } else { max_positives };
        for (whole, kept) in y.iter().zip(kept.iter()) {
            let sampled: Vec<u32> =
                whole.indices.iter().copied().filter(|l| labels.contains(l)).collect();
            if sampled.is_empty() {
                let rarest = whole.indices.iter().copied().min_by_key(|&l| (frequency[l as usize], l));
                let expected: Vec<u32> = rarest.into_iter().filter(|_| keep_orphans).collect();
                prop_assert_eq!(kept.indices, &expected[..]);
            } else {
                prop_assert_eq!(kept.len(), sampled.len().min(most));
                prop_assert!(kept.indices.iter().all(|l| sampled.contains(l)));
                if first {
                    prop_assert_eq!(kept.indices, &sampled[..kept.len()]);
                }
            }
            prop_assert!(kept.iter().all(|(l, weight)| whole.get(l) == weight));
        }
    }
}
