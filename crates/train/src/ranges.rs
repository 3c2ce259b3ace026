//! The ranges of `[train]`, read from its schema: the one place that states them.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::options::TrainOptions;

/// An invalid value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key within `[train]`, such as `steps` or `phase[0].share`.
    pub key: String,
    /// The mistake and its correction.
    pub message: String,
}

/// The JSON Schema of [`TrainOptions`], with every part written in place.
pub(crate) fn schema() -> &'static Value {
    static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
        let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
        settings.into_generator().into_root_schema_for::<TrainOptions>().to_value()
    });
    &SCHEMA
}

/// All numbers outside the ranges of the schema.
pub(crate) fn problems(options: &TrainOptions) -> Vec<Problem> {
    let mut found = Vec::new();
    if let Ok(values) = serde_json::to_value(options) {
        check(&values, schema(), "", &mut found);
    }
    found
}

fn check(value: &Value, schema: &Value, key: &str, found: &mut Vec<Problem>) {
    match value {
        Value::Object(values) => {
            for (name, value) in values {
                let inner = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                if let Some(schema) = schema["properties"].get(name) {
                    check(value, schema, &inner, found);
                }
            }
        }
        Value::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                check(value, &schema["items"], &format!("{key}[{index}]"), found);
            }
        }
        // JSON writes a non-finite number as null, which is valid for an optional key.
        Value::Null if schema["type"] == "number" => {
            found.push(Problem { key: key.to_owned(), message: "must be a finite number".to_owned() });
        }
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or(f64::NAN);
            let (least, most) = (schema["minimum"].as_f64(), schema["maximum"].as_f64());
            if least.is_some_and(|least| number < least) || most.is_some_and(|most| number > most) {
                let message = match (least, most) {
                    (Some(least), Some(most)) => format!("must be from {least} to {most}, not {number}"),
                    (Some(least), None) => format!("must be at least {least}, not {number}"),
                    (_, most) => format!("must be at most {}, not {number}", most.unwrap_or_default()),
                };
                found.push(Problem { key: key.to_owned(), message });
            }
        }
        _ => {}
    }
}
