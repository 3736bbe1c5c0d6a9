use super::*;
use crate::labels::LabelId;

/// Files by name in a folder of their own.
struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(dir.path().join(name), content).unwrap();
        }
        Files(dir)
    }

    fn paths(&self, names: &[&str]) -> Vec<PathBuf> {
        names.iter().map(|name| self.0.path().join(name)).collect()
    }

    fn load(&self, names: &[&str], options: &ImportOptions) -> Result<(Dataset, ImportSummary)> {
        load(&self.paths(names), options)
    }
}

fn labels_of(data: &Dataset, part: &Part, row: usize) -> Vec<String> {
    part.y.row(row).indices.iter().map(|&l| data.labels.get(LabelId(l)).unwrap().to_owned()).collect()
}

#[test]
fn a_csv_becomes_a_folder_that_opens_as_the_same_data() {
    let files = Files::new(&[
        ("train.csv", "text,tags\nred apple,fruit;red\nsea,\n,blue\n"),
        ("test.csv", "text,tags\nplum,fruit;plum\n"),
    ]);
    let out = files.0.path().join("out");
    let options = ImportOptions { packing: Packing::Zstd, ..ImportOptions::default() };
    let summary = import(&files.paths(&["train.csv", "test.csv"]), &options, &out).unwrap();
    assert_eq!((summary.train_rows, summary.test_rows, summary.labels), (3, 1, 4));
    assert_eq!((summary.rows_without_labels, summary.empty_rows), (1, 1));
    assert_eq!(
        summary.guesses[0].to_string().rsplit('/').next().unwrap(),
        "train.csv: csv, text `text`, labels `tags`, separator `;`"
    );
    let data = Dataset::open(&out).unwrap();
    assert_eq!(data.labels.iter().collect::<Vec<_>>(), ["blue", "fruit", "plum", "red"]);
    assert_eq!(labels_of(&data, &data.train, 0), ["fruit", "red"]);
    assert_eq!(labels_of(&data, data.test_part().unwrap(), 0), ["fruit", "plum"]);
}

#[test]
fn the_order_of_rows_does_not_change_the_ids() {
    let files = Files::new(&[("a.csv", "text,tags\nx,b\ny,a\n"), ("b.csv", "text,tags\ny,a\nx,b\n")]);
    let options = ImportOptions::default();
    let a = files.load(&["a.csv"], &options).unwrap().0;
    let b = files.load(&["b.csv"], &options).unwrap().0;
    assert_eq!(a.labels, b.labels);
    assert_eq!(a.train.y.row(0), b.train.y.row(1));
}

#[test]
fn numbers_as_names_are_sorted_as_numbers() {
    let files = Files::new(&[("a.jsonl", "{\"text\":\"x\",\"labels\":[10,9]}\n")]);
    let data = files.load(&["a.jsonl"], &ImportOptions::default()).unwrap().0;
    assert_eq!(data.labels.iter().collect::<Vec<_>>(), ["9", "10"]);
}

#[test]
fn the_files_of_the_xmc_repository_find_their_roles() {
    let files = Files::new(&[
        ("trn.json", "{\"title\":\"A\",\"content\":\"b\",\"target_ind\":[2,0],\"target_rel\":[0.5,1]}\n"),
        ("tst.json", "{\"title\":\"C\",\"content\":\"\",\"target_ind\":[1],\"target_rel\":[1]}\n"),
        ("lbl.json", "{\"title\":\"zero\"}\n{\"title\":\"one\"}\n{\"title\":\"two\"}\n"),
    ]);
    let (data, _) = files.load(&["trn.json", "tst.json", "lbl.json"], &ImportOptions::default()).unwrap();
    assert_eq!(data.labels.iter().collect::<Vec<_>>(), ["zero", "one", "two"]);
    assert_eq!(data.train.y.row(0).iter().collect::<Vec<_>>(), [(0, 1.0), (2, 0.5)]);
    assert_eq!(labels_of(&data, data.test_part().unwrap(), 0), ["one"]);
}

#[test]
fn names_in_the_rows_are_looked_up_in_the_given_list() {
    let files = Files::new(&[
        ("a.tsv", "one two three\tsea\n"),
        ("names.txt", "mountain\nsea\n"),
        ("ids.tsv", "1,0\tone two three\n"),
        ("other.tsv", "one two three\triver\n"),
    ]);
    let options =
        ImportOptions { label_names: Some(files.0.path().join("names.txt")), ..ImportOptions::default() };
    assert_eq!(files.load(&["a.tsv"], &options).unwrap().0.train.y.row(0).indices, [1]);
    assert_eq!(files.load(&["ids.tsv"], &options).unwrap().0.train.y.row(0).indices, [0, 1]);
    let message = files.load(&["other.tsv"], &options).unwrap_err().to_string();
    assert!(message.contains("label `river` of the rows is none of the 2 names"), "{message}");
}

#[test]
fn files_of_features_are_stacked_to_common_widths() {
    let files = Files::new(&[("a.svm", "0 1:1\n2 2:0.5\n"), ("b.svm", "1 5:1\n"), ("test.svm", "7 1:1\n")]);
    let (data, summary) = files.load(&["a.svm", "b.svm", "test.svm"], &ImportOptions::default()).unwrap();
    assert_eq!((summary.train_rows, summary.test_rows, summary.labels, summary.features), (3, 1, 8, Some(5)));
    assert_eq!(data.train.features.unwrap().row(2).indices, [4]);
}

#[test]
fn where_features_start_is_settled_over_all_files() {
    let files = Files::new(&[("a.svm", "0 0:1 2:1\n"), ("b.svm", "0 1:1 2:1\n"), ("test.svm", "0 1:2\n")]);
    let (data, _) = files.load(&["a.svm", "test.svm"], &ImportOptions::default()).unwrap();
    assert_eq!(data.test_part().unwrap().features.as_ref().unwrap().row(0).indices, [1]);
    let (data, _) = files.load(&["b.svm", "test.svm"], &ImportOptions::default()).unwrap();
    assert_eq!(data.test_part().unwrap().features.as_ref().unwrap().row(0).indices, [0]);
}

#[test]
fn rows_are_set_aside_by_their_content() {
    let rows: Vec<String> = (0..200).map(|i| format!("text number {},x", i % 100)).collect();
    let content = format!("text,label\n{}\n", rows.join("\n"));
    let backwards = format!("text,label\n{}\n", rows.iter().rev().cloned().collect::<Vec<_>>().join("\n"));
    let files = Files::new(&[("a.csv", &content), ("b.csv", &backwards)]);
    let options = ImportOptions { test_fraction: 0.25, ..ImportOptions::default() };
    let sorted_test = |name: &str, options: &ImportOptions| {
        let data = files.load(&[name], options).unwrap().0;
        let test = data.test_part().unwrap().texts.clone().unwrap();
        let mut texts: Vec<String> = test.iter().map(str::to_owned).collect();
        texts.sort();
        texts
    };
    let test = sorted_test("a.csv", &options);
    assert!((20..90).contains(&test.len()), "{}", test.len());
    assert!(test.chunks(2).all(|pair| pair[0] == pair[1]), "copies of a text stay together");
    assert_eq!(sorted_test("b.csv", &options), test);
    assert_ne!(sorted_test("a.csv", &ImportOptions { seed: 1, ..options }), test);
}

#[test]
fn names_that_begin_or_end_with_the_word_are_test_rows() {
    let row = "text,labels\nx,y\n";
    let names = [
        "train.csv",
        "lab-test-reports.csv",
        "latest.csv",
        "testimony.csv",
        "test_a.csv",
        "TST2.csv",
        "law_test.csv",
    ];
    let files = Files::new(&names.map(|name| (name, row)));
    let summary = files.load(&names, &ImportOptions::default()).unwrap().1;
    assert_eq!((summary.train_rows, summary.test_rows), (4, 3));
}

#[test]
fn a_single_file_is_training_data_whatever_its_name() {
    let files = Files::new(&[("test.csv", "text,labels\nx,y\n"), ("labels.csv", "text,labels\nx,y\n")]);
    for name in ["test.csv", "labels.csv"] {
        let summary = files.load(&[name], &ImportOptions::default()).unwrap().1;
        assert_eq!((summary.train_rows, summary.test_rows), (1, 0), "{name}");
    }
}

#[test]
fn a_single_file_opens_as_a_dataset() {
    let files = Files::new(&[("a.jsonl", "{\"text\":\"x\",\"labels\":[\"sea\"]}\n")]);
    let data = Dataset::open(&files.0.path().join("a.jsonl")).unwrap();
    assert_eq!((data.name.as_str(), data.train.rows(), data.test), ("a.jsonl", 1, None));
}

#[test]
fn what_cannot_be_imported_is_said() {
    let files = Files::new(&[
        ("a.txt", "just words\n"),
        ("m.txt", "2 3\n0:1\n1:1\n"),
        ("a.csv", "text,labels\nx,\n"),
        ("b.csv", "text,labels\nx,y\n"),
        ("test.csv", "text,labels\nx,y\n"),
        ("a.svm", "0 1:1\n"),
        ("trn.txt", "1 2 3\n0 1:1\n"),
        ("tst.txt", "1 2 4\n0 1:1\n"),
    ]);
    let half = ImportOptions { test_fraction: 0.5, ..ImportOptions::default() };
    let all = ImportOptions { test_fraction: 1.0, ..ImportOptions::default() };
    let plain = ImportOptions::default();
    for (names, options, expected) in [
        (&["a.txt"][..], &plain, "a.txt:1: found `just words`"),
        (&["m.txt"], &plain, "a matrix without labels"),
        (&["a.csv"], &plain, "no labels"),
        (&["b.csv", "a.svm"], &plain, "cannot be imported together"),
        (&["trn.txt", "tst.txt"], &plain, "2 features and 3 labels, but the test rows have 2 and 4"),
        (&["test.csv", "test.csv"], &plain, "no training rows"),
        (&["b.csv", "test.csv"], &half, "bring test rows of their own"),
        (&["b.csv"], &half, "leaves rows on both sides of 1"),
        (&["b.csv"], &all, "at least 0 and less than 1"),
        (&[], &plain, "one file or more"),
        (&["missing.csv"], &plain, "missing.csv: No such file"),
    ] {
        let message = files.load(names, options).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}
