//! Lays a TOML file and `key=value` settings over the defaults.
//!
//! Settings are added one by one and the whole is read after each, so an error names the one line or option it comes
//! from.

use std::fs;
use std::path::Path;

use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::keys::{find, nearest};
use super::{Checked, Settings};
use crate::error::{Error, Result};

/// One value given by the user.
struct Setting {
    /// Dotted, with positions in lists of tables: `vectorizer.0.analyzer`.
    key: String,
    /// An empty table stands for an element of a list of tables.
    value: Value,
    /// Where it was given.
    place: String,
}

/// A configuration file that is part of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// What users call it.
    pub name: &'static str,
    /// What it says, in TOML.
    pub text: &'static str,
}

/// The defaults, overlaid by `file`, overlaid by `sets` (`key=value`) in their order; checked.
pub fn load<C: Settings>(file: Option<&Path>, sets: &[String]) -> Result<Checked<C>> {
    load_over(C::default(), file, sets)
}

/// A first look at the settings, each for itself: what they are laid over, and so whether they fit together, is not
/// known yet.
pub fn look<C: Settings>(file: Option<&Path>, sets: &[String]) -> Result<C> {
    let (config, settings) = overlaid(C::default(), file, sets)?;
    match config.check_each() {
        Ok(()) => Ok(config),
        Err(problem) => Err(name_place(problem, &settings)),
    }
}

/// The same as [`load`] over other values than the defaults, for example those of a preset.
pub fn load_over<C: Settings>(base: C, file: Option<&Path>, sets: &[String]) -> Result<Checked<C>> {
    let (config, settings) = overlaid(base, file, sets)?;
    config.check().map_err(|problem| name_place(problem, &settings))
}

/// The same as [`load`] with `preset` between the defaults and the file.
pub fn load_preset<C: Settings>(preset: &Preset, file: Option<&Path>, sets: &[String]) -> Result<Checked<C>> {
    let mut settings = of_text(preset.text, Path::new(&format!("preset {}", preset.name)))?;
    settings.extend(given(file, sets)?);
    let (config, settings) = lay(C::default(), settings)?;
    config.check().map_err(|problem| name_place(problem, &settings))
}

fn overlaid<C: Settings>(base: C, file: Option<&Path>, sets: &[String]) -> Result<(C, Vec<Setting>)> {
    lay(base, given(file, sets)?)
}

/// What a user says in a file and in options, in this order.
fn given(file: Option<&Path>, sets: &[String]) -> Result<Vec<Setting>> {
    let mut settings = file.map(of_file).transpose()?.unwrap_or_default();
    for set in sets {
        of_option(set, &mut settings)?;
    }
    Ok(settings)
}

/// Lays settings over `base`, one by one.
fn lay<C: Settings>(base: C, settings: Vec<Setting>) -> Result<(C, Vec<Setting>)> {
    let mut merged = Table::try_from(&base).map_err(|e| Error::Mismatch(e.to_string()))?;
    // The tables of a list may have presets, so what is not set in them is left to them.
    for tables in merged.iter_mut().filter_map(|(_, value)| value.as_array_mut()) {
        tables.iter_mut().filter_map(Value::as_table_mut).for_each(Table::clear);
    }
    let mut config = base;
    for setting in &settings {
        let expected = allowed::<C>(setting)?;
        insert(&mut merged, setting)?;
        config = C::deserialize(merged.clone()).map_err(|_| wrong(setting, &setting.key, expected))?;
    }
    Ok((config, settings))
}

/// Reads a file into settings with their lines.
fn of_file(path: &Path) -> Result<Vec<Setting>> {
    of_text(&fs::read_to_string(path).map_err(Error::io(path))?, path)
}

/// The same of what stands in a file.
fn of_text(text: &str, path: &Path) -> Result<Vec<Setting>> {
    let table = DeTable::parse(text).map_err(|problem| {
        let line = line_of(text, problem.span().map_or(0, |span| span.start));
        Error::file(path, format!("line {line}: {}", problem.message()))
    })?;
    let mut settings = Vec::new();
    let place = |at: usize| format!("{}:{}", path.display(), line_of(text, at));
    flatten_table(text, "", table.get_ref(), &place, &mut settings);
    Ok(settings)
}

/// Reads `key=value` into settings; a value that is not TOML is a string.
fn of_option(set: &str, settings: &mut Vec<Setting>) -> Result<()> {
    let place = format!("--set {set}");
    let Some((key, text)) = set.split_once('=') else {
        return Err(Error::Mismatch(format!(
            "{place}: expected key=value, as in --set cluster.max_leaf_size=50"
        )));
    };
    let key = key.trim();
    match DeValue::parse(text.trim()) {
        Ok(value) => flatten(text.trim(), key, &value, &|_| place.clone(), settings),
        Err(_) => settings.push(Setting { key: key.to_owned(), value: text.trim().into(), place }),
    }
    Ok(())
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|&b| b == b'\n').count()
}

fn flatten_table(
    text: &str,
    prefix: &str,
    table: &DeTable<'_>,
    place: &impl Fn(usize) -> String,
    out: &mut Vec<Setting>,
) {
    for (name, value) in table {
        let dot = if prefix.is_empty() { "" } else { "." };
        flatten(text, &format!("{prefix}{dot}{}", name.get_ref()), value, place, out);
    }
}

fn flatten(
    text: &str,
    key: &str,
    value: &Spanned<DeValue<'_>>,
    place: &impl Fn(usize) -> String,
    out: &mut Vec<Setting>,
) {
    let span = value.span();
    match value.get_ref() {
        DeValue::Table(table) => flatten_table(text, key, table, place, out),
        DeValue::Array(items) if items.iter().any(|item| matches!(item.get_ref(), DeValue::Table(_))) => {
            for (i, item) in items.iter().enumerate() {
                let (key, place_of_item) = (format!("{key}.{i}"), place(item.span().start));
                out.push(Setting { key: key.clone(), value: Table::new().into(), place: place_of_item });
                flatten(text, &key, item, place, out);
            }
        }
        _ => {
            let written = text.get(span.clone()).unwrap_or_default();
            let value = written.parse().unwrap_or_else(|_| Value::from(written));
            out.push(Setting { key: key.to_owned(), value, place: place(span.start) });
        }
    }
}

/// `vectorizer.0.analyzer` to `vectorizer.analyzer`.
fn without_positions(key: &str) -> String {
    key.split('.').filter(|part| part.parse::<usize>().is_err()).collect::<Vec<_>>().join(".")
}

/// What the setting may be, or that there is no such setting.
fn allowed<C: Settings>(setting: &Setting) -> Result<String> {
    let path = without_positions(&setting.key);
    let list_element = setting.value.as_table().is_some_and(Table::is_empty);
    let empty_list = setting.value.as_array().is_some_and(Vec::is_empty);
    let group = C::GROUPS.iter().find(|group| group.name == path && !path.is_empty());
    match (find(C::GROUPS, &path), group) {
        (Some(key), _) => Ok(key.allowed.to_owned()),
        (None, Some(_)) if list_element || empty_list => Ok("a table of settings".to_owned()),
        (None, Some(group)) => {
            let names: Vec<_> = group.keys.iter().map(|key| key.name).collect();
            Err(wrong(setting, &setting.key, format!("a table with any of {}", names.join(", "))))
        }
        (None, None) => {
            let hint = nearest(C::GROUPS, &path).map_or_else(
                || format!("; `xmc help-config {}` lists all settings", C::METHOD),
                |key| format!("; did you mean `{key}`?"),
            );
            let (place, key) = (setting.place.clone(), setting.key.clone());
            Err(Error::UnknownSetting { place, key, hint })
        }
    }
}

fn wrong(setting: &Setting, key: &str, expected: String) -> Error {
    let (place, value) = (setting.place.clone(), setting.value.to_string());
    Error::Setting { place, key: key.to_owned(), value, expected }
}

/// Sets one value in `table`. In a list of tables a key without a position means the first.
fn insert(table: &mut Table, setting: &Setting) -> Result<()> {
    let (group, rest) = setting.key.split_once('.').unwrap_or((&setting.key, ""));
    let Some(Value::Array(list)) = table.get_mut(group).filter(|_| !rest.is_empty()) else {
        let target = match rest {
            "" => table,
            _ => table
                .entry(group)
                .or_insert_with(|| Table::new().into())
                .as_table_mut()
                .ok_or_else(|| wrong(setting, group, "a value, not a table".to_owned()))?,
        };
        let name = if rest.is_empty() { group } else { rest };
        target.insert(name.to_owned(), setting.value.clone());
        return Ok(());
    };
    let (position, name) = match rest.split_once('.') {
        Some((position, name)) if position.parse::<usize>().is_ok() => (position, name),
        _ if rest.parse::<usize>().is_ok() => (rest, ""),
        _ => ("0", rest),
    };
    let position: usize = position.parse().unwrap_or(0);
    if position > list.len() {
        return Err(wrong(
            setting,
            &setting.key,
            format!("position {} next: the list has no gaps", list.len()),
        ));
    }
    if position == list.len() {
        list.push(Table::new().into());
    }
    match list.get_mut(position).and_then(Value::as_table_mut) {
        Some(element) if !name.is_empty() => {
            element.insert(name.to_owned(), setting.value.clone());
        }
        _ => {}
    }
    Ok(())
}

/// Adds to an error of the check where the value was given: the last setting of that name.
fn name_place(problem: xmc_data::Error, settings: &[Setting]) -> Error {
    let xmc_data::Error::Config { key, value, expected } = problem else { return problem.into() };
    let given =
        settings.iter().rev().find(|setting| without_positions(&setting.key) == without_positions(&key));
    match given {
        Some(setting) => Error::Setting { place: setting.place.clone(), key, value, expected },
        None => Error::Data(xmc_data::Error::Config { key, value, expected }),
    }
}
