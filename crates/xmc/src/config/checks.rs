//! What must hold for the settings of every method: the tests of their configurations ask here.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Settings, help, load};

/// Dotted names of all settings, also of those that are unset by default.
fn names(prefix: &str, value: &Value, out: &mut BTreeSet<String>) {
    match value {
        Value::Object(table) => {
            for (name, value) in table {
                let dot = if prefix.is_empty() { "" } else { "." };
                names(&format!("{prefix}{dot}{name}"), value, out);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for item in items {
                names(prefix, item, out);
            }
        }
        _ => drop(out.insert(prefix.to_owned())),
    }
}

/// What is wrong with one setting alone.
pub(crate) fn message<C: Settings + std::fmt::Debug>(set: &str) -> String {
    load::<C>(None, &[set.to_owned()]).unwrap_err().to_string()
}

/// Every setting is documented, and every documented setting exists.
pub(crate) fn documentation_is_complete<C: Settings>() {
    let mut existing = BTreeSet::new();
    names("", &serde_json::to_value(C::default()).unwrap(), &mut existing);
    let documented: BTreeSet<String> =
        C::GROUPS.iter().flat_map(|g| g.keys.iter().map(|k| g.path(k))).collect();
    assert_eq!(existing, documented);
}

/// The printed file gives the defaults, in lines that fit a screen.
pub(crate) fn printed_file_gives_the_defaults<C: Settings + PartialEq + std::fmt::Debug>() {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("defaults.toml");
    let text = help::<C>();
    std::fs::write(&path, &text).unwrap();
    assert_eq!(*load::<C>(Some(&path), &[]).unwrap(), C::default());
    assert!(text.lines().all(|line| line.chars().count() <= 110), "{text}");
}

/// A value of the wrong kind is refused for every setting, with its name and what it may be.
pub(crate) fn wrong_kinds_are_refused<C: Settings + std::fmt::Debug>() {
    for group in C::GROUPS {
        for key in group.keys {
            let path = group.path(key);
            // A date is a fine name for a file, and a fine text.
            let values = ["[[1]]", "{ a = 1 }", "1979-05-27"];
            for value in &values[..if ["a path", "a text"].contains(&key.allowed) { 2 } else { 3 }] {
                let set = format!("{path}={value}");
                let message = message::<C>(&set);
                assert!(message.starts_with(&format!("--set {set}: ")), "{message}");
                assert!(message.contains(key.allowed) || message.contains("unknown setting"), "{message}");
            }
        }
    }
}

/// Each of these is refused by its name, with what is expected.
pub(crate) fn are_refused<C: Settings + std::fmt::Debug>(sets: &[&str]) {
    for set in sets {
        let message = message::<C>(set);
        assert!(message.starts_with(&format!("--set {set}: `")) && message.contains("expected"), "{message}");
    }
}
