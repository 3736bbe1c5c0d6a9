//! How are settings taken out of a JSON file of Hugging Face so that every mistake names its key?

use std::path::Path;
use std::result::Result;

use serde_json::{Map, Value};

use crate::error::Error;

/// Keys of a JSON object with errors that name them. A key that is null counts as missing.
pub(crate) struct Keys<'a>(&'a Map<String, Value>);

impl<'a> Keys<'a> {
    pub(crate) fn of(json: &'a Value) -> Result<Self, String> {
        json.as_object().map(Keys).ok_or_else(|| "expected an object".to_owned())
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    pub(crate) fn required(&self, key: &str) -> Result<usize, String> {
        let value = self.get(key).ok_or_else(|| format!("key `{key}` is missing"))?;
        value
            .as_u64()
            .map(|n| n as usize)
            .ok_or_else(|| format!("key `{key}` is {value}; expected a whole number"))
    }

    pub(crate) fn size(&self, key: &str, default: usize) -> Result<usize, String> {
        if self.get(key).is_none() { Ok(default) } else { self.required(key) }
    }

    /// A number from 0 to below 1.
    pub(crate) fn fraction(&self, key: &str, default: f32) -> Result<f32, String> {
        let Some(value) = self.get(key) else { return Ok(default) };
        let number = value.as_f64().filter(|&x| (0.0..1.0).contains(&x));
        number.map(|x| x as f32).ok_or_else(|| format!("key `{key}` is {value}; expected a number in [0, 1)"))
    }

    pub(crate) fn positive(&self, key: &str, default: Option<f32>) -> Result<f32, String> {
        let Some(value) = self.get(key) else {
            return default.ok_or_else(|| format!("key `{key}` is missing"));
        };
        let number = value.as_f64().filter(|&x| x > 0.0 && x <= f64::from(f32::MAX));
        number.map(|x| x as f32).ok_or_else(|| format!("key `{key}` is {value}; expected a positive number"))
    }

    pub(crate) fn flag(&self, key: &str, default: bool) -> Result<bool, String> {
        let Some(value) = self.get(key) else { return Ok(default) };
        value.as_bool().ok_or_else(|| format!("key `{key}` is {value}; expected true or false"))
    }

    pub(crate) fn text(&self, key: &str, default: &'a str) -> Result<&'a str, String> {
        let Some(value) = self.get(key) else { return Ok(default) };
        value.as_str().ok_or_else(|| format!("key `{key}` is {value}; expected a text"))
    }

    pub(crate) fn expect_text(&self, key: &str, only: &'static str) -> Result<(), String> {
        match self.text(key, only)? {
            found if found == only => Ok(()),
            other => Err(format!("{key} `{other}` is not supported; expected `{only}`")),
        }
    }

    pub(crate) fn expect_false(&self, key: &str, why: &str) -> Result<(), String> {
        match self.get(key) {
            None | Some(Value::Bool(false)) => Ok(()),
            Some(other) => Err(format!("{key} is {other}; {why}")),
        }
    }
}

/// The content of a JSON file.
pub(crate) fn read_json(path: &Path) -> crate::Result<Value> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    serde_json::from_str(&text).map_err(|e| Error::file(path, format!("not JSON: {e}")))
}
