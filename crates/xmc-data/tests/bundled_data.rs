//! The data that come with the program open as their READMEs say.

use std::path::Path;

use xmc_data::LabelId;
use xmc_data::dataset::Dataset;

#[test]
fn the_bundled_data_set_has_the_counts_of_its_readme() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/debian-debtags");
    let data = Dataset::open(&path).unwrap();
    let test = data.test_part().unwrap();
    assert_eq!(data.name, "debian-debtags");
    assert_eq!((data.train.rows(), test.rows(), data.labels.len()), (16_530, 4_092, 592));
    assert_eq!(data.labels.get(LabelId(0)), Some("accessibility TODO"));
    assert_eq!(data.labels.repeated(), 0);
    let per_row = |part: &xmc_data::dataset::Part| part.y.nnz() as f64 / part.rows() as f64;
    assert!((per_row(&data.train) - 4.961).abs() < 5e-4);
    assert!((per_row(test) - 4.986).abs() < 5e-4);
    let texts = data.train.texts.as_ref().unwrap();
    assert!(texts.get(0).starts_with("Real-time strategy game of ancient warfare"));
    assert!(texts.iter().all(|text| !text.is_empty()));
}

#[test]
fn the_table_that_the_readme_walks_through_is_understood_without_help() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/packages.csv.gz");
    let data = Dataset::open(&path).unwrap();
    assert_eq!((data.train.rows(), data.labels.len()), (2_686, 492));
    assert_eq!(data.labels.repeated(), 0);
    assert!((0..492).all(|label| data.labels.get(LabelId(label)).is_some_and(|name| name.trim() == name)));
}
