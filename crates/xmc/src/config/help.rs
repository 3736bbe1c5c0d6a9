//! The complete configuration file of a method: every setting with its meaning, its allowed values and its default.

use std::fmt::Write;

use toml::{Table, Value};

use super::{Group, Key, Settings};

/// Comments are wrapped at this column.
const WIDTH: usize = 100;

/// A TOML file that says what `C::default()` says, commented.
pub fn help<C: Settings>() -> String {
    let mut text = format!("# Every setting of {} with its default.\n", C::METHOD);
    comment(
        &mut text,
        "Save what you change as FILE.toml and train with --config FILE.toml, or give single values with \
         --set key=value. A line that begins with `# name =` shows a setting that is unset by default.",
    );
    text + &file(&C::default())
}

/// A TOML file that says what `config` says, commented.
pub fn file<C: Settings>(config: &C) -> String {
    let values = Table::try_from(config).unwrap_or_default();
    let mut text = String::new();
    for group in C::GROUPS {
        let list = matches!(values.get(group.name), Some(Value::Array(_)));
        text.push('\n');
        comment(&mut text, group.meaning);
        match (group.name, list) {
            ("", _) => {}
            (name, true) => writeln!(text, "[[{name}]]").unwrap_or(()),
            (name, false) => writeln!(text, "[{name}]").unwrap_or(()),
        }
        for key in group.keys {
            write_key(&mut text, key, default_of(&values, group, key));
        }
    }
    text
}

fn default_of<'a>(defaults: &'a Table, group: &Group, key: &Key) -> Option<&'a Value> {
    if group.name.is_empty() {
        return defaults.get(key.name);
    }
    match defaults.get(group.name)? {
        Value::Array(list) => list.first()?.get(key.name),
        table => table.get(key.name),
    }
}

fn write_key(text: &mut String, key: &Key, default: Option<&Value>) {
    comment(text, &format!("{} Allowed: {}.", key.meaning, key.allowed));
    match default {
        Some(value) => writeln!(text, "{} = {}", key.name, show(value)).unwrap_or(()),
        None => writeln!(text, "# {} =", key.name).unwrap_or(()),
    }
}

/// A value as a person would write it: a float that came from f32 with the digits of f32.
fn show(value: &Value) -> String {
    match value {
        Value::Float(x) if f64::from(*x as f32) == *x => format!("{:?}", *x as f32),
        Value::Array(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", ")),
        _ => value.to_string(),
    }
}

fn comment(text: &mut String, words: &str) {
    let mut line = "#".to_owned();
    for word in words.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            "#".clone_into(&mut line);
        }
        line.push(' ');
        line.push_str(word);
    }
    if line.len() > 1 {
        text.push_str(&line);
        text.push('\n');
    }
}
