//! `train.precision` in a recipe: a precision, or `auto` for what the device is fastest with (`None`).

use std::borrow::Cow;

use model::Precision;
use schemars::{JsonSchema, SchemaGenerator, json_schema};
use serde::de::value::{CowStrDeserializer, Error as Refused};
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
        let auto = json_schema!({ "const": AUTO, "type": "string", "description": "The fastest precision on this machine." });
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
    let precision = Precision::deserialize(CowStrDeserializer::<Refused>::new(Cow::Borrowed(&word)));
    let refuse = |_| serde::de::Error::unknown_variant(&word, &[AUTO, "f32", "bf16"]);
    precision.map(Some).map_err(refuse)
}
