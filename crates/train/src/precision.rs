//! `train.precision` in a recipe: a precision, or `auto` for what the device is fastest with (`None`).

use std::borrow::Cow;

use model::Precision;
use schemars::{JsonSchema, SchemaGenerator, json_schema};
use serde::de::{Error, IntoDeserializer, value};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const AUTO: &str = "auto";

/// The form in a recipe: that of [`Precision`], and `auto`.
pub(crate) struct Schema;

impl JsonSchema for Schema {
    fn schema_name() -> Cow<'static, str> {
        "Precision".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> schemars::Schema {
        let mut schema = Precision::json_schema(generator);
        let description = "The fastest precision on this machine.";
        let auto = json_schema!({ "const": AUTO, "type": "string", "description": description });
        if let Some(alternatives) = schema.get_mut("oneOf").and_then(|value| value.as_array_mut()) {
            alternatives.insert(0, auto.to_value());
        }
        schema
    }
}

pub(crate) fn serialize<S: Serializer>(value: &Option<Precision>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        None => serializer.serialize_str(AUTO),
        Some(precision) => precision.serialize(serializer),
    }
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Precision>, D::Error> {
    let word = String::deserialize(deserializer)?;
    if word == AUTO {
        return Ok(None);
    }
    let known: Result<_, value::Error> = Precision::deserialize(word.as_str().into_deserializer());
    known.map(Some).map_err(|_| D::Error::unknown_variant(&word, &[AUTO, "f32", "bf16"]))
}
