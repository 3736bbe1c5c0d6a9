//! Reports of stages as tables: every number with its name, lists of objects as tables of their own.

use serde_json::{Map, Value};

use crate::table::{Align, Table};

/// A report as text.
pub(super) fn show(report: &Value) -> String {
    let (mut plain, mut lists) = (Vec::new(), Vec::new());
    flatten("", report, &mut plain, &mut lists);
    let mut table = Table::new(&[("", Align::Left), ("", Align::Right)]);
    for (name, value) in &plain {
        table.row([name.as_str(), value.as_str()]);
    }
    let mut text = if plain.is_empty() { String::new() } else { table.render() };
    for (name, rows) in lists {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&list(&name, rows));
    }
    text
}

fn flatten<'v>(
    prefix: &str,
    value: &'v Value,
    plain: &mut Vec<(String, String)>,
    lists: &mut Vec<(String, &'v [Value])>,
) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let dot = if prefix.is_empty() { "" } else { "." };
                flatten(&format!("{prefix}{dot}{}", spoken(name)), value, plain, lists);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => lists.push((prefix.to_owned(), items)),
        Value::Null => {}
        scalar => plain.push((prefix.to_owned(), cell(scalar))),
    }
}

/// A list of objects: a column for each of their fields, in the order in which they come first.
fn list(name: &str, rows: &[Value]) -> String {
    let objects: Vec<Map<String, Value>> = rows.iter().map(flat).collect();
    let mut columns: Vec<&str> = Vec::new();
    for key in objects.iter().flat_map(Map::keys) {
        if !columns.contains(&key.as_str()) {
            columns.push(key);
        }
    }
    let aligned = |column: &&str| {
        let words = objects.iter().any(|object| object.get(*column).is_some_and(Value::is_string));
        (spoken(column), if words { Align::Left } else { Align::Right })
    };
    let header: Vec<(String, Align)> = columns.iter().map(aligned).collect();
    let header: Vec<(&str, Align)> = header.iter().map(|(name, align)| (name.as_str(), *align)).collect();
    let mut table = Table::new(&header);
    for object in &objects {
        table.row(columns.iter().map(|column| object.get(*column).map_or_else(String::new, cell)));
    }
    format!("{name}\n{}", table.render())
}

/// The fields of an object, those of objects in it with both names.
fn flat(value: &Value) -> Map<String, Value> {
    let mut fields = Map::new();
    for (name, value) in value.as_object().into_iter().flatten() {
        match value {
            Value::Object(_) => {
                fields
                    .extend(flat(value).into_iter().map(|(inner, value)| (format!("{name}.{inner}"), value)));
            }
            _ => drop(fields.insert(name.clone(), value.clone())),
        }
    }
    fields
}

/// `new_pairs` to `new pairs`.
fn spoken(name: &str) -> String {
    name.replace('_', " ")
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => {
            let number = number.as_f64().unwrap_or(0.0);
            if number != 0.0 && number.abs() < 1e-3 {
                format!("{number:.2e}")
            } else {
                format!("{number:.4}")
            }
        }
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(" "),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_have_names_and_lists_have_columns() {
        let report = json!({
            "new_pairs": 3, "labels": { "gained": 2, "gini": 0.5 }, "none": null,
            "recovery": [{ "hiding": "uniform", "recall": 0.25 }, { "hiding": "systematic", "recall": 0.00001, "more": 1 }],
        });
        let text = show(&report);
        for line in ["new pairs", "labels.gained", "0.5000", "recovery", "systematic", "1.00e-5", "more"] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        assert!(!text.contains("none"));
    }
}
