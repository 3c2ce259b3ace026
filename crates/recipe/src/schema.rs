//! The recipe's JSON Schema, generated from the types, and what the checks read from it.
//!
//! The schema is the single source of names, types and ranges: the same document checks a recipe, completes
//! keys in an editor and is printed by `text2llm schema`.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::sections::Recipe;

/// The recipe's JSON Schema (draft 2020-12), with all references inlined.
pub fn json_schema() -> &'static Value {
    static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
        let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
        settings.into_generator().into_root_schema_for::<Recipe>().to_value()
    });
    &SCHEMA
}

/// Names of the recipe's sections (`data`, `train`, …).
pub(crate) fn sections() -> Vec<String> {
    let Some(Value::Object(properties)) = json_schema().get("properties") else { return Vec::new() };
    properties
        .iter()
        .filter(|(_, schema)| alternatives(schema).iter().any(|s| s.get("properties").is_some()))
        .map(|(name, _)| name.clone())
        .collect()
}

/// The schema of the key at a dotted path.
pub(crate) fn at(path: &str) -> Option<&'static Value> {
    let mut schema = json_schema();
    for part in path.split('.') {
        schema = alternatives(schema).into_iter().find_map(|s| s.get("properties")?.get(part))?;
    }
    Some(schema)
}

/// Whether the key at `path` takes text and nothing else.
pub(crate) fn takes_text(path: &str) -> bool {
    at(path).is_some_and(|schema| {
        alternatives(schema)
            .iter()
            .all(|s| s.get("enum").is_some() || s.get("const").is_some() || types(s) == ["string"])
    })
}

/// The non-null alternatives of a schema: itself, or the members of its `anyOf`/`oneOf`.
pub(crate) fn alternatives(schema: &Value) -> Vec<&Value> {
    for word in ["anyOf", "oneOf"] {
        if let Some(Value::Array(members)) = schema.get(word) {
            return members.iter().flat_map(alternatives).collect();
        }
    }
    if types(schema).is_empty() && schema.get("type").is_some() { Vec::new() } else { vec![schema] }
}

/// The JSON types a schema names, without `null`: TOML leaves a key out instead.
pub(crate) fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
    .into_iter()
    .filter(|name| *name != "null")
    .collect()
}

/// The values of an enumeration, if the schema is one.
pub(crate) fn words(schema: &Value) -> Option<Vec<&str>> {
    let mut words = Vec::new();
    for alternative in alternatives(schema) {
        match (alternative.get("enum"), alternative.get("const")) {
            (Some(Value::Array(values)), _) => words.extend(values.iter().filter_map(Value::as_str)),
            (_, Some(Value::String(value))) => words.push(value.as_str()),
            _ => return None,
        }
    }
    (!words.is_empty()).then_some(words)
}
