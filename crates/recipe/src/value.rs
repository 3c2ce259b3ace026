//! A recipe as a JSON value, and from one: the only form that its types are converted to. Each further format
//! would compile a second copy of all sections' code, in every crate that uses it.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Number, Value};

use crate::Recipe;

/// For fields of other types, with serde's `with`.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(recipe: &Recipe, serializer: S) -> Result<S::Ok, S::Error> {
    recipe.to_value().serialize(serializer)
}

/// For fields of other types, with serde's `with`.
///
/// # Errors
/// A value that is not a recipe.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Recipe, D::Error> {
    Recipe::from_value(Value::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

impl Recipe {
    /// All values, defaults included.
    pub fn to_value(&self) -> Value {
        serde_json::to_value(self).expect("invariant: a recipe is plain data")
    }

    /// The recipe as TOML, with all defaults.
    pub fn to_toml(&self) -> String {
        to_toml(self.to_value()).and_then(|value| toml::to_string_pretty(&value).ok()).unwrap_or_default()
    }

    /// A recipe from [`Recipe::to_value`]; omitted keys have their defaults.
    ///
    /// # Errors
    /// An unknown key, or a value of another type.
    pub fn from_value(value: Value) -> serde_json::Result<Recipe> {
        serde_json::from_value(value)
    }
}

/// Dates, which no key has, become strings, and numbers that are not finite `null`.
pub(crate) fn of_toml(value: &toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::String(text.clone()),
        toml::Value::Integer(number) => Value::Number((*number).into()),
        toml::Value::Float(number) => Number::from_f64(*number).map_or(Value::Null, Value::Number),
        toml::Value::Boolean(flag) => Value::Bool(*flag),
        toml::Value::Datetime(date) => Value::String(date.to_string()),
        toml::Value::Array(items) => items.iter().map(of_toml).collect(),
        toml::Value::Table(table) => Value::Object(of_table(table)),
    }
}

pub(crate) fn of_table(table: &toml::Table) -> Map<String, Value> {
    table.iter().map(|(key, value)| (key.clone(), of_toml(value))).collect()
}

/// TOML has no `null`: such keys are left out.
pub(crate) fn to_toml(value: Value) -> Option<toml::Value> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(flag) => toml::Value::Boolean(flag),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => toml::Value::Integer(integer),
            None => toml::Value::Float(number.as_f64()?),
        },
        Value::String(text) => toml::Value::String(text),
        Value::Array(items) => toml::Value::Array(items.into_iter().filter_map(to_toml).collect()),
        Value::Object(map) => {
            let entries = map.into_iter().filter_map(|(key, value)| Some((key, to_toml(value)?)));
            toml::Value::Table(entries.collect())
        }
    })
}
