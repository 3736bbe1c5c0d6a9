//! How does a user tell a method what to do?
//!
//! A method has one configuration struct that mirrors a TOML file. [`load`] lays a file and `key=value` settings over
//! the defaults and names the line of whatever is wrong; [`help`] prints the complete file. The result is
//! [`Checked`], and only a checked configuration can train.

#[cfg(test)]
pub(crate) mod checks;
mod help;
mod keys;
mod load;

use std::ops::Deref;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use help::{file, help};
pub use keys::{Group, Key};
pub use load::{Preset, load, load_over, load_preset, look};

/// A configuration that TOML and `key=value` can fill in.
pub trait Settings: Clone + Default + Serialize + DeserializeOwned {
    /// Name of the method as the command line spells it.
    const METHOD: &'static str;
    /// Every setting with its meaning; the first group holds the ungrouped ones and has an empty name.
    const GROUPS: &'static [Group];

    /// Whether every value, looked at alone, is in its range; an error names the key.
    fn check_each(&self) -> xmc_data::Result<()> {
        self.check_values()
    }

    /// Whether every value is in its range and the values fit together; an error names the key.
    fn check_values(&self) -> xmc_data::Result<()>;

    /// Makes the configuration usable, or says what is wrong with it.
    fn check(self) -> xmc_data::Result<Checked<Self>> {
        self.check_values()?;
        Ok(Checked(self))
    }
}

/// A configuration that passed its check.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked<C>(C);

impl<C> Deref for Checked<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use serde::Deserialize;

    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Toy {
        weights: String,
        words: Vec<Words>,
        tree: Tree,
    }

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Words {
        ngram: Vec<u32>,
        cap: Option<u32>,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Tree {
        leaf: u32,
        eps: f32,
    }

    impl Default for Tree {
        fn default() -> Self {
            Tree { leaf: 100, eps: 0.1 }
        }
    }

    impl Default for Toy {
        fn default() -> Self {
            Toy { weights: "f16".into(), words: vec![Words::default()], tree: Tree::default() }
        }
    }

    impl Settings for Toy {
        const METHOD: &'static str = "toy";
        const GROUPS: &'static [Group] = &[
            Group {
                name: "",
                meaning: "",
                keys: &[Key { name: "weights", meaning: "Precision.", allowed: "a string" }],
            },
            Group {
                name: "words",
                meaning: "Words; repeat the table for more.",
                keys: &[
                    Key { name: "ngram", meaning: "Lengths.", allowed: "a list of numbers" },
                    Key { name: "cap", meaning: "Most words.", allowed: "a whole number" },
                ],
            },
            Group {
                name: "tree",
                meaning: "The tree.",
                keys: &[
                    Key { name: "leaf", meaning: "Labels per leaf.", allowed: "a whole number, 1 or more" },
                    Key { name: "eps", meaning: "Tolerance.", allowed: "a number" },
                ],
            },
        ];

        fn check_values(&self) -> xmc_data::Result<()> {
            match self.tree.leaf {
                0 => Err(xmc_data::Error::config("tree.leaf", 0, "1 or more")),
                _ => Ok(()),
            }
        }
    }

    fn from_file(text: &str, sets: &[&str]) -> std::result::Result<Checked<Toy>, String> {
        let tmp = tempfile::tempdir().unwrap();
        let path: PathBuf = tmp.path().join("c.toml");
        fs::write(&path, text).unwrap();
        let sets: Vec<String> = sets.iter().map(|&s| s.to_owned()).collect();
        let shown = format!("{}/", tmp.path().display());
        load::<Toy>(Some(&path), &sets).map_err(|e| e.to_string().replace(&shown, ""))
    }

    #[test]
    fn options_win_over_the_file_and_the_file_over_the_defaults() {
        let config = from_file(
            "weights = 'f32'\n[tree]\nleaf = 7\n[[words]]\n[[words]]\nngram = [1, 2]\n",
            &["tree.leaf=9", "words.1.cap=5", "words.2.cap=6", "words.ngram=[3]"],
        )
        .unwrap();
        assert_eq!((config.weights.as_str(), config.tree.leaf, config.tree.eps), ("f32", 9, 0.1));
        let words = |ngram: &[u32], cap| Words { ngram: ngram.to_vec(), cap };
        assert_eq!(config.words, [words(&[3], None), words(&[1, 2], Some(5)), words(&[], Some(6))]);
    }

    #[test]
    fn every_mistake_is_named_with_its_place() {
        let cases: &[(&str, &[&str], &str)] = &[
            ("[tree]\nleav = 7", &[], "c.toml:2: unknown setting `tree.leav`; did you mean `tree.leaf`?"),
            ("leaf = 7", &[], "c.toml:1: unknown setting `leaf`; did you mean `tree.leaf`?"),
            ("[trees]\nleaf = 7", &[], "c.toml:2: unknown setting `trees.leaf`; did you mean `tree.leaf`?"),
            (
                "",
                &["zzzzzz=1"],
                "--set zzzzzz=1: unknown setting `zzzzzz`; `xmc help-config toy` lists all settings",
            ),
            (
                "[tree]\n\nleaf = 'x'",
                &[],
                "c.toml:3: `tree.leaf` = \"x\": expected a whole number, 1 or more",
            ),
            ("[tree]\nleaf = 0", &[], "c.toml:2: `tree.leaf` = 0: expected 1 or more"),
            ("", &["tree.leaf=0"], "--set tree.leaf=0: `tree.leaf` = 0: expected 1 or more"),
            (
                "",
                &["tree.leaf=-1"],
                "--set tree.leaf=-1: `tree.leaf` = -1: expected a whole number, 1 or more",
            ),
            ("", &["tree=3"], "--set tree=3: `tree` = 3: expected a table with any of leaf, eps"),
            (
                "",
                &["weights.a=3"],
                "--set weights.a=3: unknown setting `weights.a`; `xmc help-config toy` lists all settings",
            ),
            (
                "",
                &["words.2.cap=3"],
                "--set words.2.cap=3: `words.2.cap` = 3: expected position 1 next: the list has no gaps",
            ),
            ("", &["tree.leaf"], "--set tree.leaf: expected key=value, as in --set cluster.max_leaf_size=50"),
            ("words = 3", &[], "c.toml:1: `words` = 3: expected a table with any of ngram, cap"),
            ("[tree]\nleaf = ", &[], "c.toml: line 2: string values must be quoted, expected literal string"),
        ];
        for (file, sets, message) in cases {
            assert_eq!(from_file(file, sets).unwrap_err(), *message, "{file:?} {sets:?}");
        }
    }

    #[test]
    fn the_printed_file_says_what_the_defaults_say() {
        let text = help::<Toy>();
        assert_eq!(from_file(&text, &[]).unwrap(), Toy::default().check().unwrap());
        for line in
            ["weights = \"f16\"", "[[words]]", "ngram = []", "# cap =", "[tree]", "leaf = 100", "eps = 0.1"]
        {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
    }
}
